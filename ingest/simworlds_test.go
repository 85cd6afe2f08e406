package ingest

import (
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
)

// worlds is a simulator: worlds of one kind, each made from its seed.
type worlds[C any] struct {
	only   uint64 // run this seed alone, and say more; 0 = all
	enough int    // losses to go through
	losses string // what they are called
	of     func(seed uint64) C
	run    func(*testing.T, C) (losses int, wrong []string)
}

// test runs one world after another, on each core, until there were enough losses. It stops
// after five worlds with violations.
func (s worlds[C]) test(t *testing.T) {
	if s.only != 0 {
		n, wrong := s.run(t, s.of(s.only))
		t.Logf("seed %d: %+v, %d %s", s.only, s.of(s.only), n, s.losses)
		for _, w := range wrong {
			t.Error(w)
		}
		return
	}
	shards := uint64(runtime.GOMAXPROCS(0))
	var losses, seeds, failed atomic.Int64
	t.Run("worlds", func(t *testing.T) {
		for shard := range shards {
			t.Run(fmt.Sprint(shard), func(t *testing.T) {
				t.Parallel()
				for seed := 1 + shard; losses.Load() < int64(s.enough) && failed.Load() < 5; seed += shards {
					n, wrong := s.run(t, s.of(seed))
					losses.Add(int64(n))
					seeds.Add(1)
					if len(wrong) > 0 {
						failed.Add(1)
						t.Errorf("seed %d (%+v), %d %s:\n  %s", seed, s.of(seed), n, s.losses, strings.Join(wrong, "\n  "))
					}
				}
			})
		}
	})
	t.Logf("%d worlds, %d %s, %d worlds with violations", seeds.Load(), losses.Load(), s.losses, failed.Load())
}
