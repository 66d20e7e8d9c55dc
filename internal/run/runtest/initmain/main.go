// Command initmain is what the platform's binary is to a sandbox, and nothing
// else of it: gVisor's processes outside, the init inside.
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
