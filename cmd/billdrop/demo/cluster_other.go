//go:build !unix

package demo

import (
	"context"
	"errors"
	"io"

	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/sandbox"
)

// Cluster is for systems on which a PostgreSQL server can be started and killed.
type Cluster struct {
	Box    *sandbox.Sandbox
	Out    io.Writer
	Binary string
}

// Show returns an error.
func (c *Cluster) Show(context.Context) error {
	return describe.Advise(errors.New("the demo of a cluster does not run on this system"), "run it on Linux; a cluster itself runs here")
}
