// Package guest is process 1 inside a sandbox: it starts the function's
// runtime, serves it the Lambda Runtime API on the loopback, and carries
// invocations, answers and log bytes over the control connection (package
// frame).
//
// It promises that a payload passes through byte for byte, that what the
// runtime wrote before it answered is sent before the answer, and that the
// end of the runtime is reported once, after its last output. It trusts the
// platform at the other end of the connection and nothing else: the runtime
// is a stranger's program. An attacker who runs code in the guest can talk to
// the Runtime API, and so can answer or fail its own function's invocations
// and no others.
//
// It follows the Runtime API of 2018-06-01 as "Using the Lambda runtime API for custom
// runtimes" in the AWS Lambda developer guide describes it.
//
// One thread does everything, in an epoll loop over raw descriptors. A warm
// invocation costs it two waits, two reads from its peers, one look at the log
// pipe, and two writes before the answer is on its way; goroutines and
// net/http would double that, and inside a sandbox system calls are dear.
//
// Only the standard library is imported, and little of it, so that this
// package is initialised before the rest of the program it is linked into.
package guest

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
)

// The control connection, as the sandbox contract numbers it.
const (
	controlIn  = 3
	controlOut = 4
)

// What makes a process an init: its one argument, and a variable, so that a
// person who types the argument gets an ordinary answer.
const (
	Command  = "init"
	Variable = "COUNTERSIGN_GUEST=1"
)

// An init starts here, before the packages that come after this one in the
// order of initialisation (the language's: by import path, dependencies
// first), which is most of what the platform's binary links. They are worth
// tens of milliseconds of every cold start, and the init needs none of them.
func init() { Reexec() }

// Reexec runs the init and does not return, when this process was started to
// be one. Otherwise it returns at once. A program that links this package has
// no need to call it, and may, to say so.
func Reexec() {
	name, value, _ := strings.Cut(Variable, "=")
	if len(os.Args) == 2 && os.Args[1] == Command && os.Getenv(name) == value {
		serve()
	}
}

// serve is the whole life of an init.
func serve() {
	// One processor's worth is all the loop needs; more would only wake
	// threads that find nothing to do.
	runtime.GOMAXPROCS(1)
	// The runtime process dies with the thread that forked it.
	runtime.LockOSThread()
	l, err := newLoop(controlIn, controlOut)
	if err == nil {
		err = l.run()
	}
	if l != nil {
		l.killRuntime()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "init: %v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// childEnded makes the read end of a pipe readable whenever a child ends.
func childEnded() (fd int, err error) {
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_NONBLOCK|syscall.O_CLOEXEC); err != nil {
		return 0, os.NewSyscallError("pipe2", err)
	}
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGCHLD)
	go func() {
		for range c {
			// A full pipe says the same as one more byte would.
			_, _ = syscall.Write(p[1], []byte{0})
		}
	}()
	return p[0], nil
}
