//go:build !linux

package sqlite

import "os"

// takeFile does nothing: elsewhere, a lock of the whole file would meet those of SQLite.
// NAME.lock beside the real file also covers symbolic links, and a ledger with
// hard links is refused.
func (k *lock) takeFile(string) error { return nil }

func dropFile(f *os.File) error { return f.Close() }
