package preview

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"billdrop/ingest"
	"billdrop/ingest/billfile"
	"billdrop/ingest/durable"
	"billdrop/ingest/transfer"
)

// source is a bill file that can be opened many times.
type source struct {
	name string
	path string
	sum  string // SHA-256, hex; "" of a file that exceeds the size limit, which is not read beyond it
	temp string // a copy of standard input, to be removed; "" = none
}

func openSource(c Check) (*source, error) {
	if c.In == nil {
		return &source{name: filepath.Base(c.Path), path: c.Path}, nil
	}
	f, err := os.CreateTemp("", "billdrop-stdin-*.csv") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("copy standard input: %w", err)
	}
	s := &source{name: "stdin", path: f.Name(), temp: f.Name()}
	s.sum, err = digest(io.TeeReader(c.In, f), c.Format.MaxFileSize)
	if err = errors.Join(err, f.Close()); err != nil {
		s.close()
		return nil, fmt.Errorf("copy standard input: %w", err)
	}
	return s, nil
}

func (s *source) open() (io.ReadCloser, error) { return durable.OpenRegular(s.path) }

func (s *source) close() {
	if s.temp != "" {
		os.Remove(s.temp)
	}
}

// survey reads the file through, lists the problems of its rows, and hashes
// the file at the same time. The second result is what is wrong with the file as a whole,
// as a run would find it.
func (s *source) survey(ctx context.Context, c Check, v *Validation) (*billfile.Survey, *billfile.FileError, error) {
	limit := c.Format.MaxFileSize
	if info, err := os.Stat(s.path); err == nil && s.temp == "" && info.Mode().IsRegular() && limit > 0 && info.Size() > limit {
		return nil, billfile.TooLarge(limit), nil // as a run refuses it: unread
	}
	var survey *billfile.Survey
	var refusal *billfile.FileError
	g, gctx := errgroup.WithContext(ctx)
	if s.temp == "" {
		g.Go(func() (err error) {
			s.sum, err = s.hash(gctx, limit)
			return err
		})
	}
	g.Go(func() (err error) {
		survey, err = billfile.TakeSurvey(gctx, s.open, c.Format, func(rec *billfile.Record) error {
			if rec.Row == 1 {
				v.reset() // rows that had to be compared come again, with all their problems
			}
			v.list(rec, c.MaxProblems)
			return nil
		})
		if errors.As(err, &refusal) {
			return nil
		}
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, nil, fmt.Errorf("validate %s: %w", s.name, err)
	}
	v.SHA256 = s.sum
	if s.temp == "" {
		companion, err := transfer.Local{}.Companion(ctx, transfer.File{Path: s.path}, transfer.ChecksumSuffix)
		if err != nil && !errors.Is(err, transfer.ErrUnusableCompanion) { // such a file would be held, not refused
			return nil, nil, err
		}
		if wrong := ingest.ChecksumMismatch(s.name, s.sum, companion); wrong != nil && s.sum != "" {
			return nil, wrong, nil
		}
	}
	return survey, refusal, nil
}

// digest returns the SHA-256 of what r has (hex), "" if that is more bytes than limit (0 =
// none). It reads no more than one byte beyond the limit.
func digest(r io.Reader, limit int64) (string, error) {
	if limit > 0 {
		r = io.LimitReader(r, limit+1)
	}
	sum := sha256.New()
	n, err := io.Copy(sum, r)
	if err != nil || limit > 0 && n > limit {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// hash returns the digest of the file, which may have grown since its size was looked at.
func (s *source) hash(ctx context.Context, limit int64) (string, error) {
	f, err := durable.OpenRegular(s.path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.Close() }) // the other reader failed, or ctx was cancelled
	defer stop()
	sum, err := digest(f, limit)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return sum, err
}

// read opens a surveyed file for another reading.
func (s *source) read(survey *billfile.Survey, use func(*billfile.Decoder) error) error {
	f, err := s.open()
	if err != nil {
		return err
	}
	defer f.Close()
	recs, err := survey.Decode(f)
	if err != nil {
		return err
	}
	return use(recs)
}
