#!/usr/bin/env bash
# Runs the checks: tests/run.sh all | system | lint | deps. Installs what they need when it may;
# deps installs only what the build needs.
set -euo pipefail
cd "$(dirname "$0")/.."
STATICCHECK=honnef.co/go/tools/cmd/staticcheck@v0.8.2

# need COMMAND-OR-FILE PACKAGE installs a Debian package when what it brings is missing.
need() {
  [ -e "$1" ] || command -v "$1" >/dev/null 2>&1 && return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing: $1 (package $2); tests that need it will say that they skip"
    return 0
  fi
  echo "installing $2"
  # Packages must not start their services on this machine.
  [ -e /usr/sbin/policy-rc.d ] || { printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; }
  [ -n "${APT_UPDATED:-}" ] || { apt-get update -q >/dev/null; APT_UPDATED=1; }
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$2" >/dev/null
}

build_deps() {
  need gcc gcc
  need /usr/lib/"$(uname -m)"-linux-gnu/libc.a libc6-dev
}

install_all() {
  build_deps
  need /usr/lib/postgresql/15/bin/postgres postgresql
  need mariadbd mariadb-server
  need curl curl
  need fusermount3 fuse3
}

lint() {
  local unformatted
  unformatted=$(git ls-files '*.go' | grep -v '\.pb\.go$' | xargs -r gofmt -l)
  if [ -n "$unformatted" ]; then echo "not formatted:"; echo "$unformatted"; exit 1; fi
  go vet ./...
  go run "$STATICCHECK" ./...
}

case "${1:-all}" in
lint) lint ;;
deps) build_deps ;;
system)
  install_all
  go test -race -timeout 25m ./tests/...
  ;;
all)
  install_all
  lint
  go test -race -timeout 25m ./...
  ;;
*) echo "usage: tests/run.sh all|system|lint|deps" >&2; exit 2 ;;
esac
