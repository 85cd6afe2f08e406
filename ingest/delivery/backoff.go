package delivery

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"
)

// backoff returns the wait before try n+1 (n from 1). It lies between BackoffMin and the n-th
// exponential step, at most BackoffMax, with full jitter. The jitter is computed from who waits
// and from n, not from a source of randomness: a run can be repeated exactly, and different rows
// still spread out.
func (p Policy) backoff(who string, n int) time.Duration {
	top := p.BackoffMin
	for range min(n, 64) {
		top = min(2*top, p.BackoffMax)
	}
	h := sha256.Sum256(fmt.Appendf(nil, "%s/%d", who, n))
	spread := uint64(max(0, top-p.BackoffMin))
	return p.BackoffMin + time.Duration(binary.BigEndian.Uint64(h[:])%(spread+1))
}
