package describe

import (
	"strings"

	"billdrop/ingest/report"
)

// FilesDocument is the JSON of `run --once`, `import`, `retry` and `reject`.
type FilesDocument struct {
	Files   []report.Summary `json:"files"`             // finished or held
	Ordered *Ordered         `json:"ordered,omitempty"` // left to the billdrop that holds the ledger
	Error   string           `json:"error,omitempty"`   // why the work could not be completed
}

// NewFilesDocument makes the document of files; err may be nil.
func NewFilesDocument(files []Finished, err error) FilesDocument {
	doc := FilesDocument{Files: make([]report.Summary, len(files))}
	for i, f := range files {
		doc.Files[i] = f.Summary
		if f.Amounts == nil {
			doc.Files[i].Amounts = report.Amounts{} // {} rather than null
		}
	}
	if err != nil {
		doc.Error = err.Error()
	}
	return doc
}

// Each describes the things of a list, with an empty line between them.
func Each[T any](list []T, text func(T) string) string {
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = text(v)
	}
	return strings.Join(texts, "\n")
}
