package delivery

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/google/uuid"

	"billdrop/ingest/ledger"
)

// idempotencyKey derives the key of one generation of a row: a UUID (version 8) from SHA-256
// over mode, merchant, reference, content digest and generation. Every machine derives the same
// key, also after a restart. Each part is preceded by its length, so no two rows share an input.
func idempotencyKey(s ledger.Scope, reference string, content [32]byte, generation int) string {
	h := sha256.New()
	part := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	part([]byte("billdrop key 1"))
	part([]byte(s.Mode))
	part([]byte(s.Merchant))
	part([]byte(reference))
	part(content[:])
	part(binary.BigEndian.AppendUint64(nil, uint64(generation)))
	id := uuid.UUID(h.Sum(nil)[:16])
	id[6] = id[6]&0x0f | 0x80 // version 8: RFC 9562, section 5.8
	id[8] = id[8]&0x3f | 0x80 // variant
	return id.String()
}
