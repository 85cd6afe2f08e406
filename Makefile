# billdrop. `make` alone lists what there is.

SHELL   := /bin/bash
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
# The race detector needs cgo, and cgo a C compiler; billdrop itself needs neither.
CC_HERE := $(shell command -v $$($(GO) env CC) 2>/dev/null)
FUZZTIME ?= 20s
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0

.DEFAULT_GOAL := help
.PHONY: help build demo demo-cluster test test-servers lint soak bench profile fuzz release reproduce vuln clean

help: ## List what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build bin/billdrop, a static binary
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o bin/billdrop ./cmd/billdrop

demo: build ## See it work: local servers, sample bill files, one run
	@bin/billdrop demo

demo-cluster: build ## See three workers share a ledger, and one of them killed (needs PostgreSQL)
	@bin/billdrop demo --cluster

# What only tests the program is built sooner without its profile (see profile).
test test-servers lint soak fuzz: export GOFLAGS += -pgo=off
# Under the race detector a process sleeps for a second before it ends, and the tests start hundreds.
test: export GORACE ?= atexit_sleep_ms=20
test: ## Run all tests, with the race detector where there is a C compiler
ifeq ($(CC_HERE),)
	@echo 'notice: no C compiler, so the tests run without the race detector' >&2
	CGO_ENABLED=0 $(GO) test -timeout 30m ./...
else
	CGO_ENABLED=1 $(GO) test -race -timeout 30m ./...
endif

# A few minutes. Each server is started in the foreground, on loopback ports, under a configuration of its own.
test-servers: ## Test with the real servers of other people's networks: OpenSSH, ProFTPD, rclone, asyncssh, paramiko, nginx, Caddy, HAProxy, squid, PgBouncer
	$(GO) test -tags servers -run '^TestServers' -count 1 -timeout 30m ./...

lint: ## Check format, vet and staticcheck
	@unformatted=$$(gofmt -l .); \
	if [ -n "$$unformatted" ]; then echo "error: not formatted; run gofmt -w on:" >&2; echo "$$unformatted" >&2; exit 1; fi
	$(GO) vet ./...
	$(GO) vet -tags bench,servers ./...
	$(GO) tool staticcheck ./...

# About three quarters of an hour on two cores.
soak: ## Long simulations: a million crashes, 200,000 losses of one of several workers, a thousand kills of the real binary, all amounts
	$(GO) test ./ingest -run '^TestSimulator$$' -v -timeout 0 -sim.crashes 1000000
	$(GO) test ./ingest -run '^TestClusterSimulator$$' -v -timeout 0 -sim.losses 200000
	$(GO) test ./cmd/billdrop -run '^TestKillLoop$$' -v -timeout 0 -kills 1000
	$(GO) test ./ingest/billfile -run '^TestAmountsRoundTrip$$' -v -timeout 0 -amounts.all

# The second command starts a fast local API and needs OpenSSH's server and client.
bench: ## Measure the parts, and the whole program beside bare loops
	$(GO) test -run '^$$' -bench . -benchtime 1x ./ingest/... ./client/...
	$(GO) test -tags bench ./cmd/billdrop -run '^TestBench$$' -v -timeout 0

# The compiler makes what is hot faster by this profile (https://go.dev/doc/pgo). Measure anew when the way of a row through
# the program has changed, on a machine that does nothing else.
profile: ## Measure where billdrop spends its time, for the compiler: cmd/billdrop/default.pgo
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && set -e; \
	$(GO) test ./ingest -run '^$$' -bench '^BenchmarkImport$$' -benchtime 2x -cpuprofile "$$dir/import.pprof" -o "$$dir/test"; \
	$(GO) test ./ingest/billfile -run '^$$' -bench '^Benchmark(Survey|Decode)$$' -cpuprofile "$$dir/validate.pprof" -o "$$dir/test"; \
	$(GO) test ./client -run '^$$' -bench '^BenchmarkExchange$$' -benchtime 3s -cpuprofile "$$dir/send.pprof" -o "$$dir/test"; \
	$(GO) tool pprof -proto -output cmd/billdrop/default.pgo "$$dir"/*.pprof

fuzz: ## Fuzz each fuzz test for a while (FUZZTIME=20s)
	@set -e; for pkg in $$($(GO) list ./...); do \
		for name in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$name"; $(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done

release: ## Build static binaries for four platforms into dist, with checksums and lists of what is in them
	VERSION='$(VERSION)' GO='$(GO)' .ci/release dist
	@echo 'dist is ready; on the machine that gets a binary: sha256sum --check --ignore-missing SHA256SUMS'

# The second build is of the last commit, in another directory and from an empty cache: some minutes.
reproduce: release ## Build the release once more, elsewhere, and compare the checksums
	@case '$(VERSION)' in *-dirty) echo 'error: there are changes that are not committed, so two builds cannot be the same; commit them first' >&2; exit 1;; esac
	@elsewhere=$$(mktemp -d) && trap 'rm -rf "$$elsewhere"' EXIT && git clone -q --no-local . "$$elsewhere/clone" && \
	GOCACHE="$$elsewhere/cache" VERSION='$(VERSION)' GO='$(GO)' "$$elsewhere/clone/.ci/release" "$$elsewhere/dist" && \
	diff dist/SHA256SUMS "$$elsewhere/dist/SHA256SUMS" && echo 'both builds are the same, byte for byte'

# Not part of continuous integration: the answer changes without a commit, and the database may be out of reach.
vuln: ## Look up known vulnerabilities that billdrop's code can reach (asks vuln.go.dev)
	@$(GO) run $(GOVULNCHECK) ./... || { code=$$?; \
	echo 'error: govulncheck found vulnerabilities, or could not look; what it printed above says which' >&2; \
	echo 'hint: found some: update the modules that it names. No answer from vuln.go.dev: run this where it can be reached, or with a copy of the database: $(GO) run $(GOVULNCHECK) -db file:///DIR ./...' >&2; \
	exit $$code; }

clean: ## Remove what was built
	rm -rf bin dist
