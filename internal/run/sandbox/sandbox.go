// Package sandbox is the contract between the platform and what keeps a
// function apart from the machine and from other functions.
//
// A Driver starts guests. A guest has one process of ours, the init, which
// talks to the platform over a pipe and starts the function's runtime. Nothing
// of the host is visible inside but what Spec lists, and that is read-only.
// The platform trusts the driver to keep that promise and trusts nothing that
// comes out of a guest.
package sandbox

import (
	"context"
	"io"
)

// A Spec says what one guest is made of. Every path named Host is absolute,
// on this machine; every path named Guest is absolute, inside.
type Spec struct {
	// ID is unique among live guests: 1 to 40 of [a-z0-9-].
	ID string
	// Init is the command of process 1. Its first element is a path inside.
	// The driver gives it the control connection as file descriptors 3 (read)
	// and 4 (write).
	Init []string
	// Env is the whole environment of process 1, as "K=V".
	Env []string
	// Mounts are host trees shown inside, all of them read-only. A parent
	// comes before its children. The driver itself adds /proc, a minimal /dev
	// and a writable /tmp.
	Mounts []Mount
	// TmpBytes is the size of /tmp.
	TmpBytes int64
	// Limits bound the guest as a whole.
	Limits Limits
	// Stderr receives what process 1 writes to file descriptors 1 and 2: the
	// init's own complaints, never the function's output. May be nil.
	Stderr io.Writer
}

// A Mount shows a host file or folder inside, read-only.
type Mount struct{ Host, Guest string }

// Limits bound a guest. A zero field means no limit of that kind.
type Limits struct {
	MemoryBytes int64
	CPUs        float64 // share of processors: 1.0 is one processor's worth
	PIDs        int
}

// A Driver starts guests of one kind. Safe for concurrent use.
type Driver interface {
	// Name is the word used for the driver in flags and logs: "gvisor".
	Name() string
	// Isolates reports whether guests are kept from the host. A driver that
	// answers false has to be asked for by name.
	Isolates() bool
	// Missing names, one sentence each, the limits this machine or user
	// cannot enforce ("memory: needs root or a delegated cgroup").
	Missing() []string
	// Start returns when process 1 runs or has failed to start. Cancelling
	// ctx after that does not end the guest.
	Start(ctx context.Context, s Spec) (Guest, error)
	// Close kills every guest and frees what they held. What an earlier
	// process of ours left behind is freed when a Driver is made.
	Close() error
}

// A Guest is one running sandbox.
type Guest interface {
	// Control is the two-way byte stream to process 1. It ends when the guest
	// does. It is not safe for concurrent reads, nor for concurrent writes.
	Control() io.ReadWriteCloser
	// Done is closed when the guest is gone, for whatever reason.
	Done() <-chan struct{}
	// Exit tells how it ended, after Done.
	Exit() Exit
	// Usage is what the guest uses now.
	Usage() Usage
	// Kill ends every process in the guest and returns when Done is closed.
	// Killing what is gone already succeeds.
	Kill() error
}

// An Exit says how process 1 ended.
type Exit struct {
	Code        int  // 128+n for signal n
	OutOfMemory bool // the memory limit ended it
	Err         error
}

// Usage is a guest's consumption.
type Usage struct {
	MemoryBytes     int64 // now
	PeakMemoryBytes int64 // highest since start
}
