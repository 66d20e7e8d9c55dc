// Command guestmain is the guests' part of the program and nothing else: the
// sandbox's processes outside, the init inside. See package twin.
package main

import (
	"fmt"
	"os"

	"countersign/internal/run/guest"
	"countersign/internal/run/sandbox/gvisor"
)

func main() {
	guest.Reexec()
	gvisor.Reexec()
	fmt.Fprintln(os.Stderr, "this program is started by countersign, not by hand")
	os.Exit(2)
}
