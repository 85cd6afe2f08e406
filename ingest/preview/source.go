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
	in := c.In
	if limit := c.Format.MaxFileSize; limit > 0 {
		in = io.LimitReader(in, limit+1)
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), in)
	if err = errors.Join(err, f.Close()); err != nil {
		s.close()
		return nil, fmt.Errorf("copy standard input: %w", err)
	}
	if limit := c.Format.MaxFileSize; limit <= 0 || n <= limit {
		s.sum = hex.EncodeToString(sum.Sum(nil))
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

// hash returns the SHA-256 of the file (hex), "" if it has more bytes than limit (0 = none).
func (s *source) hash(ctx context.Context, limit int64) (string, error) {
	f, err := durable.OpenRegular(s.path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.Close() }) // the other reader failed, or ctx was cancelled
	defer stop()
	in := io.Reader(f)
	if limit > 0 {
		in = io.LimitReader(f, limit+1)
	}
	sum := sha256.New()
	n, err := io.Copy(sum, in)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return "", err
	}
	if limit > 0 && n > limit { // it grew since its size was looked at
		return "", nil
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
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
