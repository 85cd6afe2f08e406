package sftpserver

import (
	"encoding/binary"
	"io"

	"golang.org/x/crypto/ssh"
)

// Packet types of SFTP version 3 (draft-ietf-secsh-filexfer-02) and extensions of OpenSSH (its
// PROTOCOL file).
const (
	fxpVersion  = 2
	fxpFsetstat = 10
	fxpExtended = 200

	extFsync       = "fsync@openssh.com"
	extPosixRename = "posix-rename@openssh.com"

	// maxExtended bounds the extended requests that are read, in bytes. Longer ones pass unread.
	maxExtended = 64 << 10
)

// frames is between a session and the library's server, which cannot choose the extensions of
// each server and does not serve fsync. On the way out it rewrites the announcement of the
// extensions. On the way in it turns a request to sync a handle into a request to set none of
// the handle's attributes, which files serves as a sync. Read and Write are each called from
// one goroutine.
type frames struct {
	ssh.Channel
	extensions []string

	announced bool   // the version packet was written
	ready     []byte // bytes of the current packet that were read ahead
	rest      int    // bytes of the current packet that pass unread
}

func (f *frames) Write(p []byte) (int, error) {
	if f.announced {
		return f.Channel.Write(p)
	}
	f.announced = true // the version packet is the first, and is written in one piece
	if len(p) < 9 || p[4] != fxpVersion {
		return f.Channel.Write(p)
	}
	out := append([]byte{0, 0, 0, 0}, p[4:9]...) // type, and version
	for _, name := range f.extensions {
		out = appendString(out, name)
		out = appendString(out, "1")
	}
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	if _, err := f.Channel.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *frames) Read(p []byte) (int, error) {
	if len(f.ready) == 0 && f.rest == 0 {
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	if len(f.ready) > 0 {
		n := copy(p, f.ready)
		f.ready = f.ready[n:]
		return n, nil
	}
	n, err := f.Channel.Read(p[:min(len(p), f.rest)])
	f.rest -= n
	return n, err
}

// next reads the head of the next packet, and the whole packet if it is a short extended
// request.
func (f *frames) next() error {
	head := make([]byte, 5)
	if _, err := io.ReadFull(f.Channel, head); err != nil {
		return err
	}
	size := int(binary.BigEndian.Uint32(head))
	if head[4] != fxpExtended || size < 1 || size > maxExtended {
		f.ready, f.rest = head, max(size-1, 0)
		return nil
	}
	body := make([]byte, size-1)
	if _, err := io.ReadFull(f.Channel, body); err != nil {
		return err
	}
	f.ready = rewriteFsync(append(head, body...))
	return nil
}

// rewriteFsync turns "extended, id, fsync, handle" into "fsetstat, id, handle, no attributes".
// It returns every other packet as it is.
func rewriteFsync(packet []byte) []byte {
	if len(packet) < 9 {
		return packet
	}
	id := packet[5:9]
	name, rest, ok := cutString(packet[9:])
	if !ok || name != extFsync {
		return packet
	}
	handle, _, ok := cutString(rest)
	if !ok {
		return packet
	}
	out := append([]byte{0, 0, 0, 0, fxpFsetstat}, id...)
	out = appendString(out, handle)
	out = append(out, 0, 0, 0, 0)
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

func cutString(b []byte) (s string, rest []byte, ok bool) {
	if len(b) < 4 {
		return "", nil, false
	}
	n := int(binary.BigEndian.Uint32(b))
	if n < 0 || n > len(b)-4 {
		return "", nil, false
	}
	return string(b[4 : 4+n]), b[4+n:], true
}
