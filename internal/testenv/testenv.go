// Package testenv says what a test's machine has to have: strangers' clients
// and interpreters. Where one is missing the test skips with a reason; with CI
// set, which promises to have installed them all, it fails.
package testenv

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Tool returns the path of a program.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Lacking(t, "needs "+name+" on the PATH")
	}
	return path
}

// PythonModule asks for a module of python3.
func PythonModule(t testing.TB, name string) {
	t.Helper()
	if err := exec.Command(Tool(t, "python3"), "-c", "import "+name).Run(); err != nil {
		Lacking(t, "needs python3 with "+name)
	}
}

// ProviderMirror returns a folder in which registry.terraform.io holds
// Terraform's providers.
func ProviderMirror(t testing.TB) string {
	t.Helper()
	dir, err := FindProviderMirror()
	if err != nil {
		Lacking(t, err.Error())
	}
	return dir
}

// MirrorVariable names the mirror where it is not in a usual place.
const MirrorVariable = "COUNTERSIGN_TF_MIRROR"

// FindProviderMirror is ProviderMirror without a test.
func FindProviderMirror() (string, error) {
	for _, dir := range []string{os.Getenv(MirrorVariable), "/opt/tf-plugins", "/usr/share/terraform/plugins", "/usr/local/share/terraform/plugins"} {
		if dir == "" {
			continue
		}
		if fi, err := os.Stat(filepath.Join(dir, "registry.terraform.io")); err == nil && fi.IsDir() {
			return dir, nil
		}
	}
	return "", errors.New("no folder with registry.terraform.io found; " + MirrorVariable + " names one")
}

// Lacking skips the test for why, or fails it where CI may not skip.
func Lacking(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal("CI has to have it: " + why)
	}
	t.Skip(why)
}
