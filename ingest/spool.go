package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"billdrop/ingest/delivery"
	"billdrop/ingest/durable"
	"billdrop/ingest/ledger"
)

// spool is the local directory of the copies that are read, one a file, from its claim
// until it is archived. A copy under its final name is whole and synced.
type spool struct{ dir string }

func (s spool) path(id string) string { return filepath.Join(s.dir, id+".csv") }

// report is the path of a report that is not published yet.
func (s spool) report(id, kind string) string { return filepath.Join(s.dir, id+"."+kind+".part") }

// create makes or empties a report that is not published yet.
func (s spool) create(id, kind string) (*os.File, error) {
	return durable.Create(s.report(id, kind))
}

// errCopyDiffers: the copy in the spool is not what was fetched.
var errCopyDiffers = errors.New("the copy in the spool was changed")

// open opens the copy of a file, and checks that it still is what was fetched: every user who
// may write to the spool could change what is sent. A copy that differs is errCopyDiffers.
func (s spool) open(f *ledger.File) (*os.File, error) {
	file, err := durable.OpenRegular(s.path(f.ID))
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	_, err = io.Copy(sum, file)
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); err == nil && got != f.SHA256 {
		err = &Error{
			Err:  fmt.Errorf("%w: %s has the SHA-256 %s, and what was fetched had %s", errCopyDiffers, s.path(f.ID), got, f.SHA256),
			Hint: "find out who can write to the spool; the next run fetches the file again",
		}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func (s spool) remove(id string) error {
	for _, p := range []string{s.path(id), s.path(id) + ".part", s.report(id, "results"), s.report(id, "rejects")} {
		if err := os.Remove(p); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("clear spool: %w", err)
		}
	}
	return nil
}

// take spools what fetch writes, and returns its SHA-256 (hex) and size. The copy is
// written under a temporary name, synced and renamed. A file larger than limit (bytes; 0 =
// none) is errTooLarge as soon as that is seen, and not kept.
func (s spool) take(ctx context.Context, id string, limit int64, fetch func(context.Context, io.Writer) error) (sum string, size int64, err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return "", 0, fmt.Errorf("spool: %w", err)
	}
	temporary := s.path(id) + ".part"
	w := &spoolWriter{hash: sha256.New(), limit: limit}
	err = durable.Write(temporary, func(file io.Writer) error {
		w.file = file
		return fetch(ctx, w)
	})
	switch {
	case w.err != nil:
		err = &delivery.Stop{Reason: fmt.Sprintf("spool in %s: %v", s.dir, w.err), Hint: "free some space"}
	case w.over:
		err = errTooLarge
	case err == nil:
		if err = durable.Rename(temporary, s.path(id)); err != nil {
			os.Remove(temporary)
		}
	}
	if err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(w.hash.Sum(nil)), w.size, nil
}

// errTooLarge: a file has more bytes than max_file_size of its feed.
var errTooLarge = errors.New("it is larger than max_file_size")

// spoolWriter hashes and keeps what is within the limit.
type spoolWriter struct {
	file  io.Writer
	hash  hash.Hash
	size  int64
	limit int64
	over  bool
	err   error // of the local disk
}

func (w *spoolWriter) Write(p []byte) (int, error) {
	w.size += int64(len(p))
	if w.over = w.limit > 0 && w.size > w.limit; w.over {
		return 0, errTooLarge
	}
	w.hash.Write(p)
	n, err := w.file.Write(p)
	if err != nil {
		w.err = err
	}
	return n, err
}

// orphanAge is the least age of a copy that is not in the ledger and is removed: a killed
// import left it. A younger one may be the copy of an import that has just begun.
const orphanAge = 24 * time.Hour

// sweep removes the copies that a crash between the end of their file and their removal
// left. Copies hold personal data, so they do not outlive their file.
func (s spool) sweep(ctx context.Context, led ledger.Ledger) error {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sweep spool: %w", err)
	}
	swept := make(map[string]bool)
	for _, e := range entries {
		id, _, ok := strings.Cut(e.Name(), ".")
		if !ok || swept[id] || !strings.HasPrefix(e.Name(), id+".csv") && !strings.HasSuffix(e.Name(), ".part") {
			continue
		}
		f, err := led.File(ctx, id)
		switch {
		case errors.Is(err, ledger.ErrNotFound):
			if info, err := e.Info(); err != nil || time.Since(info.ModTime()) < orphanAge {
				continue
			}
		case err != nil:
			return fmt.Errorf("sweep spool: %w", err)
		case !f.State.Finished():
			continue
		}
		swept[id] = true
		if err := s.remove(id); err != nil {
			return err
		}
	}
	return nil
}
