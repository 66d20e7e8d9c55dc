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
	home, _ := os.UserHomeDir() // without one, there is nothing below it
	for _, dir := range []string{
		os.Getenv(MirrorVariable), os.Getenv("TF_PLUGIN_CACHE_DIR"), "/opt/*", "/usr/share/terraform/plugins", "/usr/local/share/terraform/plugins",
		filepath.Join(home, ".terraform.d", "plugins"), filepath.Join(home, ".local", "share", "terraform", "plugins"),
	} {
		if dir == "" {
			continue
		}
		// A mirror has one folder per registry, then the provider's owner and name.
		if found, _ := filepath.Glob(filepath.Join(dir, "registry.*", "hashicorp", "aws")); len(found) > 0 {
			return filepath.Dir(filepath.Dir(filepath.Dir(found[0]))), nil
		}
	}
	return "", errors.New("needs a folder registry.terraform.io with the AWS provider in it; " + MirrorVariable + " names its parent")
}

// Lacking skips the test for why, or fails it where CI may not skip.
func Lacking(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal("CI has to have it: " + why)
	}
	t.Skip(why)
}
