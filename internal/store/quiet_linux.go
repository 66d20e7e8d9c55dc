//go:build !race

package store

import _ "unsafe" // for the link name

// The embedded server's process statistics read /proc once a second, in every
// process that links it, beginning before main. A gVisor sentry is such a
// process, and its system call filter answers the first reading with death.
// Nobody asks for the statistics here, so the file they are read from is given
// a name that no system call is ever made for: one with a NUL in it. A reading
// that fails is the last.
//
// Under the race detector guests are another program (internal/run/twin).

//go:linkname statistics github.com/nats-io/nats-server/v2/server/pse.procStatFile
var statistics string

func init() { statistics = "\x00" }
