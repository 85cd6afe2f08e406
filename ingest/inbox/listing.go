package inbox

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"
)

// A server decides how much a directory lists, and may never come to an end. The library keeps
// all of it in memory, so a listing is cut at these bounds.
const (
	maxEntries      = 100_000
	maxListingBytes = 64 << 20 // of what the server sends: 640 bytes an entry, and names are shorter
	maxListingTime  = 10 * time.Minute
)

// ErrListingCut: a directory lists more than is read of it. The entries beside it were read.
var ErrListingCut = errors.New("the directory lists too much")

// readDir returns the entries of a directory, at most so many, in the server's order. If it cuts
// the listing, cut says why, and the entries are those that were read until then.
func (a *Account) readDir(dir string, most int) (infos []fs.FileInfo, cut string, err error) {
	ctx, cancel := context.WithCancel(context.Background()) // a.call ends the connection in time
	defer cancel()
	a.reading.Lock()
	defer a.reading.Unlock()
	a.listing.begin(most, cancel)
	infos, err = a.sftp.ReadDirContext(ctx, dir)
	cut = a.listing.end()
	if cut != "" && errors.Is(err, context.Canceled) {
		err = nil
	}
	if len(infos) > most {
		infos, cut = infos[:most], tooMany(most)
	}
	return infos, cut, err
}

func tooMany(most int) string { return fmt.Sprintf("it has more than %d entries", most) }

// Packet types of SFTP version 3 (draft-ietf-secsh-filexfer-02, section 3).
const (
	fxpReaddir = 12
	fxpName    = 104
)

// listing counts what the server sends of the one listing that a connection reads at a time. It
// is cut when the next part of it is asked for, so that all that came before is delivered.
type listing struct {
	mu      sync.Mutex
	cancel  func() // ends the listing; nil if none is read
	most    int    // entries
	began   time.Time
	entries int
	bytes   int
	cut     string // why it was cut; "" = it was not

	head []byte // of the packet that is being received: length, type, request, count
	rest int    // bytes of that packet still to come after head
}

func (l *listing) begin(most int, cancel func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel, l.most, l.began, l.entries, l.bytes, l.cut = cancel, most, time.Now(), 0, 0, ""
}

// end returns why the listing was cut, "" if it was not.
func (l *listing) end() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel = nil
	return l.cut
}

// sending looks at what is sent to the server: a packet, or the payload of one.
func (l *listing) sending(packet []byte) {
	if len(packet) < 5 || packet[4] != fxpReaddir {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cancel == nil {
		return
	}
	switch {
	case l.entries > l.most+2: // . and .. are listed too
		l.cut = tooMany(l.most)
	case l.bytes > maxListingBytes:
		l.cut = fmt.Sprintf("its names are longer than %d MiB together", maxListingBytes>>20)
	case time.Since(l.began) > maxListingTime:
		l.cut = fmt.Sprintf("it did not come to an end within %v", maxListingTime)
	default:
		return
	}
	l.cancel()
}

// received looks at what the server sends, in pieces of any length.
func (l *listing) received(b []byte) {
	const lengthSize, headSize = 4, 13
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(b) > 0 {
		if l.rest > 0 {
			n := min(l.rest, len(b))
			l.rest, b = l.rest-n, b[n:]
			continue
		}
		want := lengthSize
		if len(l.head) >= lengthSize {
			want = min(headSize, lengthSize+packetSize(l.head))
		}
		n := min(want-len(l.head), len(b))
		l.head, b = append(l.head, b[:n]...), b[n:]
		if len(l.head) < want || want == lengthSize && packetSize(l.head) > 0 {
			continue
		}
		if want == headSize && l.head[lengthSize] == fxpName {
			// An empty part counts as an entry, or a server might send such parts without end.
			l.entries += max(1, int(min(binary.BigEndian.Uint32(l.head[9:]), maxEntries+3)))
			l.bytes += packetSize(l.head)
		}
		l.rest, l.head = packetSize(l.head)-(want-lengthSize), l.head[:0]
	}
}

// packetSize returns the length of a packet without its length field.
func packetSize(head []byte) int { return int(binary.BigEndian.Uint32(head)) }
