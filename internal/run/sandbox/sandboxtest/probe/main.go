// Go's runtime would keep the host's cgroup files open in guests that see
// them, and Descriptors would count those.
//
//go:debug containermaxprocs=0

// Command probe is process 1 of the guests that package sandboxtest starts.
//
// It does what it is told over its control stream, one [Ask] after another,
// and reports what came of it. Much of what it is told is what an attacker
// would try.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"countersign/internal/run/sandbox/sandboxtest/ask"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "wait" {
		select {} // a child that forks leaves behind
	}
	if len(os.Args) > 1 && os.Args[1] == "pong" {
		pong()
	}
	in, out := json.NewDecoder(os.NewFile(3, "control")), os.NewFile(4, "control")
	for {
		var a ask.Ask
		if err := in.Decode(&a); err != nil {
			if errors.Is(err, io.EOF) {
				os.Exit(0)
			}
			fmt.Fprintln(os.Stderr, "probe:", err)
			os.Exit(3)
		}
		r := ask.Reply{}
		text, err := do(a)
		r.Text = text
		if err != nil {
			r.Err = err.Error()
		}
		b, _ := json.Marshal(r)
		if _, err := out.Write(append(b, '\n')); err != nil {
			os.Exit(4)
		}
	}
}

// pong returns what it gets, for benchmarks: without Go's poller, which would
// be measured too.
func pong() {
	b := make([]byte, 64<<10)
	for {
		n, err := syscall.Read(3, b)
		if err != nil || n == 0 {
			os.Exit(0)
		}
		if _, err := syscall.Write(4, b[:n]); err != nil {
			os.Exit(0)
		}
	}
}

func do(a ask.Ask) (string, error) {
	switch a.Do {
	case ask.Echo:
		return a.Arg, nil
	case ask.Exit:
		os.Exit(a.N)
	case ask.Say:
		fmt.Fprint(os.Stdout, a.Arg)
		_, err := fmt.Fprint(os.Stderr, a.Arg)
		return "", err
	case ask.Die:
		return "", syscall.Kill(os.Getpid(), syscall.Signal(a.N))
	case ask.Env:
		return strings.Join(os.Environ(), "\n"), nil
	case ask.Identity:
		return fmt.Sprintf("pid %d uid %d gid %d", os.Getpid(), os.Getuid(), os.Getgid()), nil
	case ask.Read:
		b, err := os.ReadFile(a.Arg)
		return string(b), err
	case ask.List:
		return list(a.Arg)
	case ask.Write:
		return "", os.WriteFile(a.Arg, bytes.Repeat([]byte("x"), a.N), 0o600)
	case ask.Descriptors:
		return descriptors()
	case ask.Dial:
		return "", dial(a.Arg)
	case ask.Loopback:
		return loopback(a.Arg)
	case ask.Signal:
		return "", syscall.Kill(a.N, syscall.SIGKILL)
	case ask.Allocate:
		return "", allocate(a.N)
	case ask.Fork:
		return fork(a.N)
	case ask.Spin:
		return spin(time.Duration(a.N) * time.Millisecond), nil
	}
	return "", fmt.Errorf("probe cannot %q", a.Do)
}

func list(dir string) (string, error) {
	es, err := os.ReadDir(dir)
	var names []string
	for _, e := range es {
		names = append(names, e.Name())
	}
	return strings.Join(names, "\n"), err
}

// descriptors lists the open ones without opening any.
func descriptors() (string, error) {
	var open []string
	for fd := range 1024 {
		var st syscall.Stat_t
		if syscall.Fstat(fd, &st) != nil {
			continue
		}
		// Go's runtime makes an epoll instance and an eventfd for itself;
		// they have no file type.
		if st.Mode&syscall.S_IFMT != 0 {
			open = append(open, strconv.Itoa(fd))
		}
	}
	return strings.Join(open, " "), nil
}

func dial(addr string) error {
	network, addr, _ := strings.Cut(addr, " ")
	c, err := net.DialTimeout(network, addr, 3*time.Second)
	if err == nil {
		c.Close()
	}
	return err
}

// loopback sends text to itself over the guest's own 127.0.0.1.
func loopback(text string) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err == nil {
			io.Copy(c, c)
			c.Close()
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		return "", err
	}
	c.(*net.TCPConn).CloseWrite()
	b, err := io.ReadAll(c)
	return string(b), err
}

// allocate touches n megabytes and keeps them.
func allocate(n int) error {
	debug.SetGCPercent(-1)
	for range n {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		kept = append(kept, b)
	}
	return nil
}

var kept [][]byte

// fork starts up to n children that do nothing and never end, and says how
// many it got and why it stopped.
func fork(n int) (string, error) {
	for i := range n {
		c := exec.Command("/proc/self/exe", "wait")
		if err := c.Start(); err != nil {
			return strconv.Itoa(i), err
		}
		children = append(children, c)
	}
	return strconv.Itoa(n), nil
}

var children []*exec.Cmd

// spin counts for d.
func spin(d time.Duration) string {
	end := time.Now().Add(d)
	n := 0
	for time.Now().Before(end) {
		n++
	}
	return strconv.Itoa(n)
}
