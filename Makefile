# billdrop. `make` alone lists what there is.

SHELL   := /bin/bash
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
# The race detector needs cgo, and cgo a C compiler; billdrop itself needs neither.
CC_HERE := $(shell command -v $$($(GO) env CC) 2>/dev/null)
FUZZTIME ?= 20s

.DEFAULT_GOAL := help
.PHONY: help build demo test lint soak bench fuzz clean

help: ## List what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build bin/billdrop, a static binary
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o bin/billdrop ./cmd/billdrop

demo: build ## See it work: local servers, sample bill files, one run
	@bin/billdrop demo

test: ## Run all tests, with the race detector where there is a C compiler
ifeq ($(CC_HERE),)
	@echo 'notice: no C compiler, so the tests run without the race detector' >&2
	CGO_ENABLED=0 $(GO) test ./...
else
	CGO_ENABLED=1 $(GO) test -race ./...
endif

lint: ## Check format, vet and staticcheck
	@unformatted=$$(gofmt -l .); \
	if [ -n "$$unformatted" ]; then echo "error: not formatted; run gofmt -w on:" >&2; echo "$$unformatted" >&2; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

# About half an hour on two cores.
soak: ## Long simulations: a million crashes, a thousand kills of the real binary, all amounts
	$(GO) test ./ingest -run '^TestSimulator$$' -v -timeout 0 -sim.crashes 1000000
	$(GO) test ./cmd/billdrop -run '^TestKillLoop$$' -v -timeout 0 -kills 1000
	$(GO) test ./ingest/billfile -run '^TestAmountsRoundTrip$$' -v -timeout 0 -amounts.all

# The second command starts a fast local API and needs OpenSSH's server and client.
bench: ## Measure the parts, and the whole program beside bare loops
	$(GO) test -run '^$$' -bench . -benchtime 1x ./ingest/... ./client/...
	$(GO) test -tags bench ./cmd/billdrop -run '^TestBench$$' -v -timeout 0

fuzz: ## Fuzz each fuzz test for a while (FUZZTIME=20s)
	@set -e; for pkg in $$($(GO) list ./...); do \
		for name in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$name"; $(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done

clean: ## Remove what was built
	rm -rf bin
