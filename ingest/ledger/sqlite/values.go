package sqlite

import (
	"crypto/sha256"
	"database/sql"
	"time"

	"github.com/google/uuid"

	"billdrop/ingest/ledger"
)

// micros is how a time is stored: microseconds since 1970 UTC, NULL for the zero time.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

func fromMicros(v sql.NullInt64) time.Time {
	if !v.Valid {
		return time.Time{}
	}
	return time.UnixMicro(v.Int64).UTC()
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// packKey is how an idempotency key is stored: a UUID in its one canonical spelling as 16 bytes, anything
// else as it is, none as NULL.
func packKey(key string) any {
	if key == "" {
		return nil
	}
	if u, ok := canonical(key); ok {
		return u[:]
	}
	return key
}

// canonical is key as a UUID, if it is one in its canonical spelling: then the bytes give the key back.
func canonical(key string) (uuid.UUID, bool) {
	u, err := uuid.Parse(key)
	return u, err == nil && u.String() == key
}

func unpackKey(v any) string {
	switch v := v.(type) {
	case []byte:
		if u, err := uuid.FromBytes(v); err == nil {
			return u.String()
		}
		return string(v)
	case string:
		return v
	}
	return ""
}

// digestOf identifies a party without telling its reference. The parts are separated by a byte that none of them holds.
func digestOf(s ledger.Scope, r ledger.PartyRef) ledger.Digest {
	b := make([]byte, 0, 128)
	b = append(b, s.Merchant...)
	b = append(b, 0)
	b = append(b, s.Mode...)
	b = append(b, 0, byte(r.Kind))
	b = append(b, r.Reference...)
	sum := sha256.Sum256(b)
	return ledger.Digest(sum[:16])
}

// outcomeID is the key of an outcome: a file's rows lie together, in order.
func outcomeID(file int64, row int) int64 { return file<<32 | int64(row) }
