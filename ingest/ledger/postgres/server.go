package postgres

import (
	"context"
	"time"
)

// Server is what a database says of itself.
type Server struct {
	Version   string        // "15.18"
	Encrypted bool          // the connection is, by TLS
	Local     bool          // the connection leads to this machine
	Durable   bool          // it syncs commits, whole pages included, to the disk
	Ahead     time.Duration // of its clock to this machine's, within half of the time that an answer takes
	Schema    int           // number of the ledger's latest migration; 0 = there is no ledger
	Newest    int           // that this program knows
	// MayMake: the user may make tables in the schema that new ones go into. MayWrite: the user may read
	// and write the tables of the ledger; true if there are none.
	MayMake, MayWrite bool
}

// AskServer asks the database at url. It changes nothing, and needs no ledger there. Its errors are
// those of Open, except that any version will do.
func AskServer(ctx context.Context, url string, o Options) (s Server, err error) {
	l, err := connect(ctx, url, o)
	if err != nil {
		return s, err
	}
	defer l.pool.Close()
	err = l.patiently(ctx, func(ctx context.Context) error {
		s, err = l.askServer(ctx)
		return err
	})
	if err != nil {
		return s, l.openError(ctx, err)
	}
	return s, nil
}

func (l *Ledger) askServer(ctx context.Context) (s Server, err error) {
	if s.Schema, err = schemaOf(ctx, l.pool); err != nil {
		return s, err
	}
	s.Newest = schemaVersion
	var now time.Time
	began := time.Now()
	if err := l.pool.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
		return s, err
	}
	s.Ahead = now.Sub(began.Add(time.Since(began) / 2))
	err = l.pool.QueryRow(ctx, `SELECT current_setting('server_version'),
		coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false),
		inet_server_addr() IS NULL OR inet_client_addr() = inet_server_addr(),
		current_setting('fsync')::boolean AND current_setting('full_page_writes')::boolean,
		current_schema() IS NOT NULL AND has_schema_privilege(current_schema(), 'CREATE'),
		NOT EXISTS (SELECT FROM unnest(ARRAY['files', 'bills', 'outcomes', 'attempts', 'parties', 'workers', 'leases', 'parts']) AS t
			WHERE to_regclass(t) IS NOT NULL AND NOT (has_table_privilege(t, 'SELECT') AND has_table_privilege(t, 'INSERT')
				AND has_table_privilege(t, 'UPDATE') AND has_table_privilege(t, 'DELETE')))`).
		Scan(&s.Version, &s.Encrypted, &s.Local, &s.Durable, &s.MayMake, &s.MayWrite)
	return s, err
}
