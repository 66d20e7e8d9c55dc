package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"countersign/internal/platform"
)

// serverCmd runs everything in this process, until it is told to stop. Every
// flag has a COUNTERSIGN_* twin.
type serverCmd struct {
	Listen  string `help:"Address of the one endpoint." default:"127.0.0.1:4566" env:"COUNTERSIGN_LISTEN"`
	Data    string `help:"Directory that holds all state; made if missing." required:"" placeholder:"DIR" env:"COUNTERSIGN_DATA"`
	Sandbox string `help:"How functions are isolated: gvisor, or process, which gives up isolation and says so." enum:"gvisor,process" default:"gvisor" env:"COUNTERSIGN_SANDBOX"`
	NATS    string `name:"nats" help:"URL of an outside NATS cluster with JetStream; default is one inside this process." placeholder:"URL" env:"COUNTERSIGN_NATS"`
	Strict  bool   `help:"Refuse a function whose exact runtime version is not installed, instead of running it on the nearest one." env:"COUNTERSIGN_STRICT"`
	Log     string `help:"Least level of log lines on stderr: debug, info, warn, error." enum:"debug,info,warn,error" default:"info" env:"COUNTERSIGN_LOG"`

	// The root of the account. Both or neither.
	RootAccessKeyID     string `name:"root-access-key-id" help:"Root access key id; default is made on the first start and kept under DIR." placeholder:"ID" env:"COUNTERSIGN_ROOT_ACCESS_KEY_ID"`
	MasterKey           string `name:"master-key" help:"Key that seals the authority's private keys, 32 bytes in base64; give it by environment. Default is made on the first start and kept under DIR." placeholder:"KEY" env:"COUNTERSIGN_MASTER_KEY"`
	RootSecretAccessKey string `name:"root-secret-access-key" help:"Root secret; give it by environment, not on a command line others can list." placeholder:"SECRET" env:"COUNTERSIGN_ROOT_SECRET_ACCESS_KEY"`
}

func (serverCmd) Help() string {
	return `Ready is one line on stderr, and 200 from GET /_countersign/health.

  countersign server --data ./data &
  eval "$(countersign env --data ./data)"
  aws lambda list-functions

SIGTERM and SIGINT stop it gracefully; SIGKILL loses nothing acknowledged.`
}

// readyPrefix begins the line that says the server answers; its address
// follows. Scripts and the tour wait for it.
const readyPrefix = "countersign: ready on "

// stopLimit bounds a graceful stop: AWS's longest function runs 15 minutes,
// but nobody waits that long for a server to go down.
const stopLimit = 20 * time.Second

func (c serverCmd) Run(ctx context.Context, s *streams) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Log)); err != nil {
		return err
	}
	// Objects are kept under a working directory of their own; whatever is
	// named relative to ours has to be named for good before that.
	data, err := filepath.Abs(c.Data)
	if err != nil {
		return err
	}
	c.Data = data
	log := slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: level}))

	// The address first: a second server should fail before it touches data.
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return hint(fmt.Errorf("listen: %w", err), "--listen ADDRESS chooses another address; port 0 any free one")
	}
	defer l.Close()
	url := "http://" + l.Addr().String()

	p, err := platform.Open(ctx, platform.Config{
		Dir: c.Data, NATS: c.NATS, Sandbox: c.Sandbox, StrictRuntimes: c.Strict,
		MasterKey: c.MasterKey, RootAccessKeyID: c.RootAccessKeyID, RootSecretAccessKey: c.RootSecretAccessKey,
		Log: log,
	})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	for _, m := range p.Missing() {
		fmt.Fprintln(s.err, "countersign: note:", m)
	}
	srv := &http.Server{
		Handler:           p,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       5 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	if err := writeEndpoint(c.Data, url); err != nil {
		return errors.Join(err, p.Close())
	}
	fmt.Fprintln(s.err, readyPrefix+url)

	select {
	case err = <-failed:
		err = fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
		fmt.Fprintln(s.err, "countersign: stopping")
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
		defer cancel()
		if err = srv.Shutdown(stop); errors.Is(err, context.DeadlineExceeded) {
			err = errors.Join(fmt.Errorf("calls still ran after %s and were cut off", stopLimit), srv.Close())
		}
	}
	return errors.Join(err, p.Close())
}

// endpointFile tells `countersign env` where the server of a data directory
// listens. It is a convenience and nothing trusts it.
const endpointFile = "endpoint"

func writeEndpoint(dir, url string) error {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer r.Close()
	return r.WriteFile(endpointFile, []byte(url+"\n"), 0o644)
}
