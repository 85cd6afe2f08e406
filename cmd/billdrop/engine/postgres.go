package engine

import (
	"context"
	"fmt"

	"billdrop/cmd/billdrop/describe"
	"billdrop/ingest/ledger"
)

// openDatabase opens a ledger in PostgreSQL.
func (l Location) openDatabase(ctx context.Context, readOnly bool) (ledger.Ledger, error) {
	return nil, describe.Advise(fmt.Errorf("%w: PostgreSQL is not built in yet", ledger.ErrUnusable), "use sqlite:")
}
