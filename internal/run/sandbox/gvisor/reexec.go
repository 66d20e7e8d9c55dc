package gvisor

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/runsc/cmd"
	"gvisor.dev/gvisor/runsc/cmd/sentry/sentrycmd"
	"gvisor.dev/gvisor/runsc/cmd/util"
	"gvisor.dev/gvisor/runsc/config"
	"gvisor.dev/gvisor/runsc/flag"
	"gvisor.dev/gvisor/runsc/specutils"
)

// What the processes of a guest are called, as their argv[0] and so in ps.
// A person who starts our binary under one of these names reaches gVisor's
// command instead of ours, as himself and with no right he did not have.
const (
	sentryName = "countersign-sentry"
	goferName  = "countersign-gofer"

	trialCommand = "trial" // end at once: see Driver.trial
)

// settings is gVisor's configuration, the same for every guest and compiled
// in, so that nobody can pass a weaker one. What is not listed has gVisor's
// default.
var settings = [...]struct{ flag, value string }{
	{"platform", "systrap"},             // needs no device; works in virtual machines and unprivileged
	{"network", "none"},                 // a loopback of its own and nothing else
	{"directfs", "true"},                // the sentry reads mounts through the gofer's descriptors, without a round trip per call
	{"file-access", "exclusive"},        // the root is an empty tree of ours
	{"file-access-mounts", "exclusive"}, // artifacts never change; runtime trees may be cached for a guest's short life
	{"overlay2", "none"},                // nothing mounted is writable, so nothing needs an upper layer
	{"host-uds", "none"},                // no socket of the host
	{"host-fifo", "none"},               // no pipe of the host
	{"ignore-cgroups", "true"},          // ours are made before the processes are: see cgroup.go
	{"control-rpc-stop-timeout", "0s"},  // a guest that ends is gone at once
	{"watchdog-action", "panic"},        // a stuck guest kernel ends rather than hangs
	{"app-huge-pages", "false"},         // a small function must not be charged for 2 MB pages it never touched
	{"character-device-policy", "emulated-only"},
}

// Reexec runs gVisor's part of the program and does not return, when this
// process was started to be one of a guest's. Otherwise it returns at once.
//
// It has to be the first statement of main, and of TestMain in packages that
// start guests: a guest's processes are this same binary.
func Reexec() {
	switch {
	case len(os.Args) < 2:
	case os.Args[0] == sentryName && os.Args[1] == trialCommand:
		os.Exit(0)
	case os.Args[0] == sentryName && os.Args[1] == "boot":
		run(new(sentrycmd.Boot), os.Args[2:])
	case os.Args[0] == goferName && os.Args[1] == "gofer":
		run(new(cmd.Gofer), os.Args[2:])
	case os.Args[0] == specutils.ExePath && os.Args[1] == "umount":
		// The sentry starts this one itself, to take /proc away once it is locked in.
		run(new(sentrycmd.Umount), os.Args[2:])
	}
}

// run executes one of gVisor's internal commands. It is what gVisor's own
// command line does for them, without the fifty other commands.
func run(c util.SubCommand, args []string) {
	// A kernel that starts allocates and keeps: collecting then finds little.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(startingBytes)
	time.AfterFunc(settled, func() {
		debug.SetGCPercent(100)
		debug.SetMemoryLimit(math.MaxInt64)
	})
	// Standard error is for last words: fatal errors and panics.
	log.SetTarget(log.GoogleEmitter{Writer: &log.Writer{Next: io.Discard}})
	log.SetLevel(log.Warning)
	_ = time.Local.String() // reads the zone's file now: there is no file system later

	name(c.Name())

	conf, err := configuration()
	if err != nil {
		util.Fatalf("configuration: %v", err)
	}
	fs := flag.NewFlagSet(c.Name(), flag.ContinueOnError)
	c.SetFlags(fs)
	tasks := fs.Int(tasksFlag, 0, "how many processes and threads the guest may have; 0 is no limit")
	if err := fs.Parse(args); err != nil {
		util.Fatalf("flags of %s: %v", c.Name(), err)
	}
	limitTasks(*tasks)
	var ws unix.WaitStatus
	if c.Execute(context.Background(), fs, conf, &ws) != 0 {
		os.Exit(exitBroken)
	}
	if ws.Signaled() {
		os.Exit(128 + int(ws.Signal()))
	}
	os.Exit(ws.ExitStatus())
}

// name has the process show as what it is; executed by descriptor, it would
// show as a number.
func name(command string) {
	b := append([]byte(filepath.Base(os.Args[0])), 0)
	if command == "umount" {
		b = []byte("umount\x00")
	}
	unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&b[0])), 0, 0, 0) // the kernel keeps 15 bytes of it
}

// settled is when a guest has long started and its kernel collects garbage
// like any program.
const settled = 2 * time.Second

// startingBytes is where a kernel that starts collects garbage all the same.
// It is well below sentryBytes and well above what a start takes, 15 MB.
const startingBytes = 48 << 20

// exitBroken is how gVisor itself ends when it cannot go on.
const exitBroken = 128

// configuration turns settings into what gVisor's commands take.
func configuration() (*config.Config, error) {
	fs := flag.NewFlagSet("settings", flag.ContinueOnError)
	config.RegisterFlags(fs)
	for _, s := range settings {
		if err := fs.Set(s.flag, s.value); err != nil {
			return nil, fmt.Errorf("%s=%s: %w", s.flag, s.value, err)
		}
	}
	return config.NewFromFlags(fs)
}
