//go:build !bench

package main

// benchCommands are the programs that `make bench` compares with billdrop; see
// bench_test.go.
func benchCommands() map[string]func() { return nil }
