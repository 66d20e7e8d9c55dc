package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// tourCmd plays the main job against a server of its own: a child process,
// because the last act is to kill it.
type tourCmd struct {
	Sandbox string `help:"How functions are isolated: gvisor, or process for none." enum:"gvisor,process" default:"gvisor"`
	Keep    bool   `help:"Keep the data directory afterwards and say where it is."`
	Color   string `help:"auto, always or never." enum:"auto,always,never" default:"auto"`
}

func (tourCmd) Help() string {
	return `Starts a platform in a temporary directory, puts code in a bucket, runs it,
requires signatures, watches unsigned code be refused with AWS's words, signs,
deploys, tampers, kills the server with SIGKILL and finds everything as it was.
Every step shows the aws command that does the same by hand, what was expected
and what happened. Exits non-zero if any step is not as promised.`
}

func (c tourCmd) Run(ctx context.Context, s *streams) (err error) {
	dir, err := os.MkdirTemp("", "countersign-tour-")
	if err != nil {
		return err
	}
	if c.Keep {
		fmt.Fprintln(s.err, "countersign: data directory:", dir)
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	t := &tour{out: s.out, paint: painter(c.Color, s.out), began: time.Now()}
	t.server, err = startServer(ctx, filepath.Join(dir, "data"), c.Sandbox, s.err)
	if err != nil {
		return hint(fmt.Errorf("start a server: %w", err), "countersign server --data DIR shows its log; --sandbox=process plays the tour without isolation")
	}
	defer func() { t.server.stop() }()
	if err := t.prepare(ctx, dir); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%s\n\n", t.paint(bold, "A function runs only if its code was reviewed and signed."))
	fmt.Fprintf(s.out, "The platform listens on %s; a function in %s will show it.\n\n", t.server.url, t.code.runtime)
	t.play(ctx)
	return t.summary()
}

// A step is one promise: the command a user would type, what must come of it,
// and the doing. do returns what happened in a line; an error breaks the
// promise.
type step struct {
	title, command, expect string
	do                     func(context.Context) (string, error)
}

// play runs the steps in order. A broken promise ends the tour: what follows
// builds on it.
func (t *tour) play(ctx context.Context) {
	for i, s := range t.steps() {
		fmt.Fprintf(t.out, "%s %s\n", t.paint(bold, fmt.Sprintf("%2d.", i+1)), t.paint(bold, s.title))
		for line := range strings.Lines(s.command) {
			fmt.Fprintf(t.out, "    %s\n", t.paint(faint, "$ "+strings.TrimSuffix(line, "\n")))
		}
		fmt.Fprintf(t.out, "    expected  %s\n", s.expect)
		ctx, cancel := context.WithTimeout(ctx, stepLimit)
		got, err := s.do(ctx)
		cancel()
		if err != nil {
			fmt.Fprintf(t.out, "    %s %s\n\n", t.paint(red, "BROKEN   "), err)
			t.broken = s.title
			return
		}
		fmt.Fprintf(t.out, "    %s  %s\n\n", t.paint(green, "happened"), got)
		t.kept++
	}
}

// stepLimit is for a server that hangs, not for a slow machine.
const stepLimit = 2 * time.Minute

func (t *tour) summary() error {
	if t.broken != "" {
		return fmt.Errorf("after %d promises kept, one was broken: %s", t.kept, t.broken)
	}
	_, err := fmt.Fprintf(t.out, "%s in %.1f s. Unsigned code did not run.\n", t.paint(green, fmt.Sprintf("All %d promises kept", t.kept)), time.Since(t.began).Seconds())
	return err
}

// A paint is an ANSI attribute.
type paint string

const (
	bold  paint = "1"
	faint paint = "2"
	red   paint = "31;1"
	green paint = "32"
)

// painter colours for a terminal and leaves a pipe plain.
func painter(when string, w io.Writer) func(paint, string) string {
	on := when == "always"
	if f, ok := w.(*os.File); ok && when == "auto" && os.Getenv("NO_COLOR") == "" {
		st, err := f.Stat()
		on = err == nil && st.Mode()&os.ModeCharDevice != 0
	}
	return func(p paint, s string) string {
		if !on {
			return s
		}
		return "\x1b[" + string(p) + "m" + s + "\x1b[0m"
	}
}

// A childServer is `countersign server` as a process of its own.
type childServer struct {
	cmd     *exec.Cmd
	dir     string
	sandbox string
	url     string
	key     string
	secret  string
	talk    io.Writer
	env     []string
	mu      sync.Mutex
	log     strings.Builder // guarded by mu: what it said, for a failure
	done    chan struct{}
}

// startServer starts one with new root credentials on a port that is free and
// returns when it is ready.
func startServer(ctx context.Context, dir, sandbox string, talk io.Writer) (*childServer, error) {
	key, secret := "AKIA"+rand.Text()[:16], rand.Text()+rand.Text()[:14]
	s := &childServer{dir: dir, sandbox: sandbox, key: key, secret: secret, talk: talk, env: append(os.Environ(),
		"COUNTERSIGN_ROOT_ACCESS_KEY_ID="+key, "COUNTERSIGN_ROOT_SECRET_ACCESS_KEY="+secret)}
	return s, s.start(ctx, "127.0.0.1:0")
}

func (s *childServer) start(ctx context.Context, listen string) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	s.cmd = exec.Command(exe, "server", "--listen", listen, "--data", s.dir, "--sandbox", s.sandbox)
	s.cmd.Env = s.env
	// A tour that is killed takes its server along.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	pipe, err := s.cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	ready, done := make(chan string, 1), make(chan struct{})
	s.done = done
	go func() {
		defer close(done)
		for sc := bufio.NewScanner(pipe); sc.Scan(); {
			if url, ok := strings.CutPrefix(sc.Text(), readyPrefix); ok {
				ready <- url
				continue
			}
			if strings.Contains(sc.Text(), "level=WARN") {
				fmt.Fprintln(s.talk, sc.Text()) // such as work that takes a while
			}
			s.mu.Lock()
			fmt.Fprintln(&s.log, sc.Text())
			s.mu.Unlock()
		}
		s.cmd.Wait() // its status is not news: the log says more
	}()
	select {
	case s.url = <-ready:
		return nil
	case <-done:
		return fmt.Errorf("it ended at once:\n%s", s.said())
	case <-ctx.Done():
		s.kill()
		return ctx.Err()
	}
}

func (s *childServer) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// kill is SIGKILL: nothing in the server gets to tidy up.
func (s *childServer) kill() {
	s.cmd.Process.Kill() // an error means that it is gone already
	<-s.done
}

// stop lets the server tidy up, and does not wait for ever.
func (s *childServer) stop() {
	s.cmd.Process.Signal(syscall.SIGTERM) // an error means that it is gone already
	select {
	case <-s.done:
	case <-time.After(stopLimit):
		s.kill()
	}
}

// restart starts it again on the same directory and the same address.
func (s *childServer) restart(ctx context.Context) error {
	return s.start(ctx, strings.TrimPrefix(s.url, "http://"))
}
