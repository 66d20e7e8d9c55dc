package run_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"countersign/internal/run/runtest"
)

func TestHold(t *testing.T) {
	if os.Getenv("HOLD") == "" {
		t.Skip("x")
	}
	f := runtest.New(t, kind).Deploy("provided.al2", "x", runtest.Files{"bootstrap": func() string { b, _ := os.ReadFile(runtest.Build(t, "countersign/internal/run/runtest/echo")); return string(b) }()})
	f.Invoke("{}")
	time.Sleep(3 * time.Second)
	for range 1000 {
		f.Invoke("{}")
	}
	fmt.Println("done")
	time.Sleep(time.Second)
}
