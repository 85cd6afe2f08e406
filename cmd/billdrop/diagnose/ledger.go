package diagnose

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/engine"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/postgres"
)

const ledgerCheck = "ledger"

// ledger checks that the ledger can be used.
func (e *examiner) ledger(ctx context.Context, conf *config.Config) {
	location, err := engine.Configured(conf, nil)
	if err != nil {
		e.wrong(ledgerCheck, err)
		return
	}
	if location.Place.Shared() {
		e.database(ctx, location)
		return
	}
	e.file(ctx, location)
}

// mostApart is how far the clocks of this machine and of the database may be apart before it is
// told. Work is shared by the database's clock alone, but people compare times.
const mostApart = 5 * time.Second

// database checks the server that a ledger is on, what billdrop's user may do there, and what the
// ledger holds. It makes no tables.
func (e *examiner) database(ctx context.Context, location engine.Location) {
	s, err := location.Server(ctx)
	switch {
	case ctx.Err() != nil:
		e.report(ledgerCheck, Skipped, "interrupted")
		return
	case errors.Is(err, engine.ErrSetup):
		e.wrong(ledgerCheck, err)
		return
	case err != nil:
		e.failed(ledgerCheck, err)
		return
	}
	e.report("postgresql", OK, "%s: version %s", location.Place, s.Version)
	e.connection(location, s)
	if !s.Durable {
		e.report("ledger durability", Warning, "fsync or full_page_writes is off at the server, so a crash of its machine can lose or damage the ledger: switch both on")
	}
	if apart := s.Ahead.Abs().Round(time.Millisecond); apart > mostApart {
		e.report("ledger clock", Warning, "this machine's clock and the server's differ by %s: set them by NTP", apart)
	} else {
		e.report("ledger clock", OK, "this machine's clock and the server's differ by %s", apart)
	}
	switch {
	case !s.MayWrite:
		e.fail("ledger rights", "the user may not write the ledger's tables", "make it their owner, or use the user who is")
	case s.Schema < s.Newest && !s.MayMake:
		e.fail("ledger rights", "the user may not make tables", "make it the owner of the database: ALTER DATABASE … OWNER TO …")
	default:
		e.report("ledger rights", OK, "the user may make and write what the ledger needs")
	}
	switch {
	case s.Schema == 0:
		e.report(ledgerCheck, OK, "there is none in the database yet; the first run makes it")
	case s.Schema < s.Newest:
		e.report(ledgerCheck, OK, "schema %d; the next run brings it up to %d", s.Schema, s.Newest)
	default:
		e.inDatabase(ctx, location, s)
	}
}

// connection says whether others on the network can read what goes to the server.
func (e *examiner) connection(location engine.Location, s postgres.Server) {
	const check = "ledger connection"
	switch {
	case s.Encrypted:
		e.report(check, OK, "encrypted by TLS")
	case s.Local:
		e.report(check, OK, "within this machine")
	default:
		e.report(check, Warning, "not encrypted: references and amounts can be read on the way; write sslmode=verify-full into ledger")
	}
	if location.Place.HasPassword() {
		e.report("ledger password", Warning, "stands in the configuration; put it into a file of its own (mode 0600) and name that in ledger_password_file")
	}
}

// inDatabase counts the files under way, and lists the workers.
func (e *examiner) inDatabase(ctx context.Context, location engine.Location, s postgres.Server) {
	led, err := location.Read(ctx)
	if err != nil {
		e.failed(ledgerCheck, err)
		return
	}
	unfinished, err := led.Files(ctx, ledger.Query{Unfinished: true})
	var workers []describe.Worker
	if err == nil {
		workers, err = describe.ReadWorkers(ctx, led)
	}
	if err = errors.Join(err, led.Close()); err != nil {
		e.failed(ledgerCheck, err)
		return
	}
	e.report(ledgerCheck, OK, "schema %d, %s not finished", s.Schema, describe.Count(len(unfinished), "file"))
	names := make([]string, len(workers))
	for i, w := range workers {
		names[i] = fmt.Sprintf("%s on %s", w.Name, w.Machine)
	}
	e.report("workers", OK, "%s", cmp.Or(strings.Join(names, ", "), "none runs now"))
}

// file checks that a ledger of SQLite can be read, if there is one, and its directory written.
func (e *examiner) file(ctx context.Context, location engine.Location) {
	path := location.Place.Path
	dir := filepath.Dir(path)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		// Even Fix does not make it, because a disk may not be mounted.
		e.fail(ledgerCheck, fmt.Sprintf("there is no directory %s for it", dir),
			fmt.Sprintf("make it (mkdir -p -m 700 %s), or mount the disk that it is on", config.ShellWord(dir)))
		return
	}
	if err := tryFile(dir); err != nil {
		e.fail(ledgerCheck, err.Error(), "give billdrop's user the right to write in "+dir)
		return
	}
	led, err := location.Read(ctx)
	if errors.Is(err, ledger.ErrNotFound) {
		e.report(ledgerCheck, OK, "%s does not exist yet; the first run makes it", path)
		return
	}
	if err != nil {
		e.failed(ledgerCheck, err)
		return
	}
	unfinished, err := led.Files(ctx, ledger.Query{Unfinished: true})
	if err = errors.Join(err, led.Close()); err != nil {
		e.failed(ledgerCheck, err)
		return
	}
	e.report(ledgerCheck, OK, "%s, %s not finished%s", path, describe.Count(len(unfinished), "file"), holder(location))
}

// holder says which process uses the ledger, where the system shows it.
func holder(location engine.Location) string {
	switch pid, seen := location.Holder(); {
	case !seen:
		return ""
	case pid == 0:
		return "; no billdrop uses it now"
	default:
		return fmt.Sprintf("; a billdrop uses it now: process %d", pid)
	}
}
