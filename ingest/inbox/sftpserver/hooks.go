package sftpserver

import (
	"context"
	"sync/atomic"
	"syscall"
)

// Op is the operation that Hooks.Before gets.
type Op string

const (
	OpRead        Op = "read"         // open for reading
	OpWrite       Op = "write"        // open for writing
	OpReadAt      Op = "read-at"      // one read of an open file
	OpWriteAt     Op = "write-at"     // one write to an open file
	OpList        Op = "list"         // open a directory
	OpLstat       Op = "lstat"        // also stat and fstat
	OpSetstat     Op = "setstat"      // also fsetstat
	OpFsync       Op = "fsync"        //
	OpRename      Op = "rename"       // plain, path is the old name
	OpPosixRename Op = "posix-rename" // overwriting, path is the old name
	OpRemove      Op = "remove"       // of a file
	OpMkdir       Op = "mkdir"        //
	OpRmdir       Op = "rmdir"        //
)

// Hooks make a server misbehave. The zero value is a server without faults.
type Hooks struct {
	// Before is called before each operation, concurrently. path starts with a slash. A non-nil
	// error is the client's answer in place of the operation. To stall, it waits; ctx is done
	// when the server closes.
	Before func(ctx context.Context, op Op, path string) error

	// Extra names the i-th file that each directory lists beside its own, until ok is false; nil =
	// there are none.
	Extra func(i int64) (name string, ok bool)

	NoPosixRename bool  // the extension is neither announced nor served
	NoFsync       bool  // the same
	NoFstat       bool  // fstat is not served
	NoExcl        bool  // a file is not opened exclusively
	NoTypes       bool  // attributes do not say what kind of file it is
	VagueMissing  bool  // a missing file is answered by a bare failure
	ReadOnly      bool  // every change is refused: permission denied
	FullAfter     int64 // bytes that can still be written before the disk is full; 0 = no limit, negative = full now
}

// faults are the hooks in force and their counters.
type faults struct {
	Hooks
	written atomic.Int64 // bytes, towards FullAfter
}

// take counts n bytes, or returns an error if the disk has no room for them.
func (f *faults) take(n int) error {
	if f.FullAfter == 0 {
		return nil
	}
	for {
		written := f.written.Load()
		if written+int64(n) > f.FullAfter {
			return syscall.ENOSPC
		}
		if f.written.CompareAndSwap(written, written+int64(n)) {
			return nil
		}
	}
}

// extensions returns the names of the extensions that are announced to a client.
func (f *faults) extensions() []string {
	var names []string
	if !f.NoPosixRename {
		names = append(names, extPosixRename)
	}
	if !f.NoFsync {
		names = append(names, extFsync)
	}
	return names
}
