//go:build !windows

package sqlite

import (
	"errors"
	"os"
)

// syncDirectory makes a new name in dir survive power loss.
func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
