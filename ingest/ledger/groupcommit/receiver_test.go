package groupcommit

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"billdrop/ingest/ledger"
)

// Payments that come during a commit share the next one. Each caller gets its own answer, and
// a failed commit is that of its own callers alone.
func TestReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken, proceed := errors.New("broken"), make(chan error)
		var batches []string
		r := NewReceiver(func(batch []*Received) error {
			var ids []string
			for _, b := range batch {
				ids = append(ids, b.WebhookID)
				b.Repeated = b.WebhookID == "again"
			}
			batches = append(batches, strings.Join(ids, " "))
			return <-proceed
		}, errClosed)
		var answered atomic.Int32
		receive := func(id string, repeated bool, want error) {
			go func() {
				got, err := r.Receive(t.Context(), ledger.Scope{}, id, ledger.Payment{})
				if got != repeated || !errors.Is(err, want) {
					t.Errorf("%s: %v, %v, want %v, %v", id, got, err, repeated, want)
				}
				answered.Add(1)
			}()
			synctest.Wait()
		}
		receive("first", false, broken)
		receive("new", false, nil)
		receive("again", true, nil)
		proceed <- broken
		proceed <- nil
		r.Close()
		if got := fmt.Sprintf("%q", batches); got != `["first" "new again"]` {
			t.Errorf("batches %s", got)
		}
		receive("late", false, errClosed)
		if n := answered.Load(); n != 4 {
			t.Errorf("%d answers, want 4", n)
		}
	})
}
