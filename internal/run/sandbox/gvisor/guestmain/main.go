// Command guestmain is a guest's processes and nothing else: a static twin
// for programs that cannot be one themselves, such as tests under the race
// detector. See Config.Exe in package gvisor.
package main

import (
	"fmt"
	"os"

	"countersign/internal/run/sandbox/gvisor"
)

func main() {
	gvisor.Reexec()
	fmt.Fprintln(os.Stderr, "this program is started by countersign, not by hand")
	os.Exit(2)
}
