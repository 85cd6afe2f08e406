package delivery

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"
)

// backoff is the wait before try n+1 (n from 1): full jitter between BackoffMin and the n-th exponential step,
// at most BackoffMax. The jitter comes from who waits, not from a source of randomness, so that a
// run can be repeated exactly while different rows still spread out.
func (p Policy) backoff(who string, n int) time.Duration {
	top := p.BackoffMin
	for range min(n, 64) {
		top = min(2*top, p.BackoffMax)
	}
	h := sha256.Sum256(fmt.Appendf(nil, "%s/%d", who, n))
	spread := uint64(max(0, top-p.BackoffMin))
	return p.BackoffMin + time.Duration(binary.BigEndian.Uint64(h[:])%(spread+1))
}
