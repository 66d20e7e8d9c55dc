// Package ask is what sandboxtest and its probe say to each other: JSON, one
// value after another, an Ask and then its Reply.
package ask

// An Ask tells the probe to do one thing.
type Ask struct {
	Do  string
	Arg string
	N   int
}

// A Reply says what came of it.
type Reply struct {
	Text string
	Err  string // empty when it went well
}

// What the probe can do.
const (
	Echo        = "echo"        // reply with Arg
	Exit        = "exit"        // with code N; no reply
	Say         = "say"         // write Arg to standard output and error
	Die         = "die"         // of signal N; no reply
	Env         = "env"         // reply with the environment, a line each
	Identity    = "identity"    // reply "pid P uid U gid G"
	Read        = "read"        // reply with the file Arg
	List        = "list"        // reply with the names in the folder Arg, a line each
	Write       = "write"       // N bytes to the file Arg
	Descriptors = "descriptors" // reply with the numbers of the open ones
	Dial        = "dial"        // Arg, "tcp 127.0.0.1:80"
	Loopback    = "loopback"    // send Arg through the guest's own 127.0.0.1 and reply with what arrived
	Signal      = "signal"      // kill process N
	Allocate    = "allocate"    // N megabytes
	Fork        = "fork"        // N children; reply with how many there are
	Spin        = "spin"        // count for N milliseconds; reply with the count
)
