package objects

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/versity/versitygw/s3api"
	"github.com/versity/versitygw/s3api/middlewares"
	"github.com/versity/versitygw/s3api/utils"
	"github.com/versity/versitygw/s3event"
)

// A regional is S3 in one region: a versitygw server on a socket of ours, over
// the one backend.
type regional struct {
	name   string
	server *s3api.S3ApiServer
	conns  *http.Transport // to the socket
	served chan error      // what serving ended with
}

// maxRegions bounds the servers a holder of a key can make us start. AWS has
// fewer than forty regions.
const maxRegions = 64

var regionName = regexp.MustCompile(`^[a-z]{2}(-[a-z]{2,12}){1,3}-[0-9]{1,2}$`)

// regions starts a server when a region is first used.
type regions struct {
	mu   sync.Mutex // held while a server starts
	open map[string]*regional
	done bool
}

// find returns the server of a region that has been used before, or nil.
func (rs *regions) find(name string) *regional {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return rs.open[name]
}

var errTooManyRegions = errors.New("too many regions in use")

func (rs *regions) get(g *Gateway, name string) (*regional, error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r := rs.open[name]; r != nil {
		return r, nil
	}
	if rs.done {
		return nil, net.ErrClosed
	}
	if len(rs.open) >= maxRegions {
		return nil, errTooManyRegions
	}
	r, err := g.serveRegion(name)
	if err != nil {
		return nil, fmt.Errorf("serve S3 in %s: %w", name, err)
	}
	if rs.open == nil {
		rs.open = make(map[string]*regional)
	}
	rs.open[name] = r
	return r, nil
}

func (rs *regions) close() error {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.done = true
	ended := make(chan error)
	for _, r := range rs.open {
		go func() {
			r.conns.CloseIdleConnections()
			err := r.server.ShutDown()
			<-r.served // says that its listener was closed
			ended <- err
		}()
	}
	var err error
	for range rs.open {
		err = errors.Join(err, <-ended)
	}
	rs.open = nil
	return err
}

// serveRegion starts versitygw for one region. Nothing of its administration
// is mounted, ACLs are off, and its root is a key nobody has: 256 random bits
// as the name, and as the secret.
func (g *Gateway) serveRegion(name string) (*regional, error) {
	utils.SetBucketNameValidationStrict(true)
	be := &backend{Posix: g.posix, g: g, region: name}
	root := middlewares.RootUserConfig{Access: rand.Text() + rand.Text(), Secret: rand.Text() + rand.Text()}
	// Below the working directory, because a socket's path is at most 107
	// bytes and the data directory's may be longer.
	socket := filepath.Join("..", dirRun, name+".sock")
	ready := make(chan struct{})
	var events s3event.S3EventSender
	if g.cfg.Events != nil {
		events = &sender{g: g, region: name}
	}
	srv, err := s3api.New(be, root, name, g.keys, nil, nil, events, nil,
		s3api.WithQuiet(),
		s3api.WithKeepAlive(),
		s3api.WithConcurrencyLimiter(maxRequests, maxRequests),
		s3api.WithMpMaxParts(10_000),
		s3api.WithDisableACL(),
		s3api.WithSocketPerm(0o600),
		s3api.WithOnListen(func() { close(ready) }),
		s3api.WithMiddleware("/", middlewares.SetDefaultValues(root, name)),
		s3api.WithMiddleware("/", g.listBuckets(root, name)),
		s3api.WithMiddleware("/:bucket", g.settings(be, root, name)),
	)
	if err != nil {
		return nil, err
	}
	r := &regional{name: name, server: srv, served: make(chan error, 1)}
	go func() { r.served <- srv.ServeMultiPort([]string{socket}) }()
	select {
	case err := <-r.served:
		return nil, err
	case <-ready:
	}
	r.conns = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
		DisableCompression:    true, // Accept-Encoding may be signed
		MaxIdleConnsPerHost:   32,
		IdleConnTimeout:       30 * time.Second,
		ExpectContinueTimeout: 10 * time.Second,
		WriteBufferSize:       64 << 10,
		ReadBufferSize:        64 << 10,
	}
	return r, nil
}

// maxRequests is how many requests of one region are answered at once; more
// get 503 SlowDown.
const maxRequests = 1024
