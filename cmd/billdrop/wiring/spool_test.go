package wiring

import (
	"errors"
	"testing"
)

func TestSpoolOfOneWorker(t *testing.T) {
	dir := t.TempDir()
	first, err := TakeSpool(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := TakeSpool(dir); !errors.Is(err, ErrSpoolTaken) {
		t.Errorf("a second worker: %v", err)
	}
	if err := first.Release(); err != nil {
		t.Error(err)
	}
	again, err := TakeSpool(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Release(); err != nil {
		t.Error(err)
	}
}
