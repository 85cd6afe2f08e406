package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set at link time: -ldflags "-X main.version=…".
var version = ""

type versionCmd struct{}

func (versionCmd) Help() string { return "Example: billdrop version" }

// Run prints the version of billdrop, of Go, and the platform.
func (versionCmd) Run(s *session) error {
	v, platform := buildVersion(), runtime.GOOS+"/"+runtime.GOARCH
	return s.print(map[string]string{"version": v, "go": runtime.Version(), "platform": platform}, func() string {
		return fmt.Sprintf("billdrop %s (%s, %s)\n", v, runtime.Version(), platform)
	})
}

// buildVersion is the version set at link time, else the module's, else "devel".
func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}
