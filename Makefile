# Ropeway. `make help` lists what there is.
SHELL   := /bin/bash
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
TAGS    := netgo,osusergo,sqlite_omit_load_extension
LDFLAGS := -s -w -X ropeway/protocol/control.Version=$(VERSION) -extldflags '-static'
GOBUILD := CGO_ENABLED=1 go build -trimpath -tags $(TAGS) -ldflags "$(LDFLAGS)"

.DEFAULT_GOAL := help
.PHONY: help build test test-short test-system test-install test-all packages lint bench demo demo-stop generate clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-13s %s\n", $$1, $$2}'

build: ## static binaries in bin/
	@tests/run.sh deps
	@mkdir -p bin
	$(GOBUILD) -o bin/ ./hub/cmd/ropeway-hub ./hub/cmd/ropeway ./agent/cmd/ropeway-agent

test: ## install what the tests need, vet, and run all of them with -race
	@tests/run.sh all

test-short: ## unit and contract tests only, without -race
	go test -short ./...

test-system: ## kill loops, power cuts and process tests alone
	@tests/run.sh system

test-install: ## install the packages in a booted systemd (root; about 5 minutes)
	ROPEWAY_INSTALL_TESTS=1 go test -timeout 20m ./tests/installers/...

test-all: ## every tier, a real Vault core included
	@ROPEWAY_VAULT=1 ROPEWAY_INSTALL_TESTS=1 tests/run.sh all

packages: build ## deb and rpm in dist/
	@installers/linux/build.sh $(VERSION)

lint: ## gofmt, go vet, staticcheck
	@tests/run.sh lint

bench: build ## measure P1, P11 and P15 beside their peers and write docs/performance.md
	go run ./tests/bench

demo: build ## real rows through the tunnel, with faults; CI=true runs once, DETACH=1 returns
	@go run ./tests/demo $(if $(DETACH),--detach)

demo-stop: ## end a detached demo
	@go run ./tests/demo --stop

generate: ## protobuf code and sample configuration files
	go generate ./...

clean: ## remove what the build and the demo made
	rm -rf bin dist demo-data
