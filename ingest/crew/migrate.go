package crew

import (
	"context"
	"fmt"

	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// migrateLock is the advisory lock under which one process at a time makes River's tables.
const migrateLock = 0x62647270_00000002

// migrate makes River's tables, or brings them up to date, once in the life of d.
func (d *Dispatcher) migrate(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.migrated {
		return nil
	}
	if err := d.migrateNow(ctx); err != nil {
		return fmt.Errorf("prepare River's tables: %w", err)
	}
	d.migrated = true
	return nil
}

func (d *Dispatcher) migrateNow(ctx context.Context) error {
	migrator, err := rivermigrate.New(riverpgxv5.New(d.pool), &rivermigrate.Config{Logger: d.log})
	if err != nil {
		return err
	}
	upToDate := func() (bool, error) {
		have, err := migrator.ExistingVersions(ctx)
		return len(have) >= len(migrator.AllVersions()), err
	}
	if ok, err := upToDate(); ok || err != nil {
		return err
	}
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(migrateLock)); err != nil {
		return err
	}
	// The lock is the connection's, and must not go back into the pool with it.
	defer conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", int64(migrateLock))
	if ok, err := upToDate(); ok || err != nil {
		return err
	}
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}
