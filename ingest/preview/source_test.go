package preview_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"billdrop/ingest/billfile"
	"billdrop/ingest/preview"
)

// TestSparseFileIsRefusedUnread: a file that is larger than max_file_size by its own account is
// refused at once, whatever it holds, and its reports say so.
func TestSparseFileIsRefusedUnread(t *testing.T) {
	path := drop(t, "sparse.csv", []byte(badBills))
	if err := os.Truncate(path, 100<<30); err != nil {
		t.Skipf("no sparse files here: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // reading it takes longer
	defer cancel()
	format := minorZAR
	format.MaxFileSize = 1 << 30
	out := t.TempDir()
	v, err := preview.Validate(ctx, preview.Check{Path: path, Format: format, Out: out})
	if err != nil {
		t.Fatal(err)
	}
	if v.Outcome != preview.OutcomeRejected || v.Code != billfile.CodeFileTooLarge || v.SHA256 != "" || !strings.Contains(v.Detail, "more than 1073741824 bytes") {
		t.Errorf("%+v", v)
	}
	if v.Stem != "sparse-unread" {
		t.Errorf("reports %q", v.Stem)
	} else if _, err := os.Stat(filepath.Join(out, v.Stem+".summary.json")); err != nil {
		t.Error(err)
	}
}
