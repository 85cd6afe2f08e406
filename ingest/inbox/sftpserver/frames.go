package sftpserver

import (
	"encoding/binary"
	"io"

	"golang.org/x/crypto/ssh"
)

// The packet types and names of the SFTP protocol, version 3, that frames looks at (draft-ietf-secsh-filexfer-02,
// and OpenSSH's PROTOCOL for the extensions).
const (
	fxpVersion  = 2
	fxpFsetstat = 10
	fxpExtended = 200

	extFsync       = "fsync@openssh.com"
	extPosixRename = "posix-rename@openssh.com"

	// maxExtended bounds the extended requests that are looked into, in bytes; longer ones pass as they are.
	maxExtended = 64 << 10
)

// frames stands between a session and the library's server, which can neither choose its extensions per server nor serve fsync:
// it rewrites the announcement on its way out, and on its way in turns a request to sync a handle into one to set
// no attribute of it at all, which files takes to mean just that. Read and Write are each called from one goroutine.
type frames struct {
	ssh.Channel
	extensions []string

	announced bool   // the version packet is out
	ready     []byte // bytes of a packet that was looked into, still to be read
	rest      int    // bytes of the current packet that pass as they come
}

func (f *frames) Write(p []byte) (int, error) {
	if f.announced {
		return f.Channel.Write(p)
	}
	f.announced = true // the version packet is the first, and comes in one piece
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

// next reads the head of the next packet, and all of it where it is an extended request of reasonable size.
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

// rewriteFsync turns "extended, id, fsync, handle" into "fsetstat, id, handle, no attributes"; any other packet stays.
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
