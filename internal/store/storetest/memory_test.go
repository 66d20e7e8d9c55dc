package storetest_test

import (
	"testing"

	"countersign/internal/store"
	"countersign/internal/store/storetest"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store {
		s := storetest.Memory()
		t.Cleanup(func() { _ = s.Close() })
		return s
	})
}
