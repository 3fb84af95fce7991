#!/usr/bin/env bash
# Makes deb and rpm packages of the three static programs.
#   installers/linux/build.sh VERSION [BIN-DIR] [OUT-DIR]
# The same programs and commit give the same bytes (SOURCE_DATE_EPOCH).
set -euo pipefail
NFPM=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.0 # a tool: it has no place in go.mod

[ $# -ge 1 ] || { echo "usage: $0 VERSION [BIN-DIR] [OUT-DIR]" >&2; exit 2; }
HERE=$(cd "$(dirname "$0")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
BIN=$(realpath "${2:-$ROOT/bin}")
mkdir -p "${3:-$ROOT/dist}"
OUT=$(realpath "${3:-$ROOT/dist}")
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

# package_version VERSION: packages sort by it, so it begins with a number and has no
# dash. v1.4.0 → 1.4.0, its pre-release v1.4.0-rc.1 → 1.4.0~rc.1, a later commit
# v1.4.0-3-gabc1234 → 1.4.0+3.gabc1234, a commit without version → 0.0.0+abc1234.
package_version() {
  local v=${1#v} head tail sign=+
  [[ $v =~ ^[0-9]+\.[0-9]+ ]] || v=0.0.0-$v
  head=${v%%-*} tail=${v#"${v%%-*}"} tail=${tail#-}
  case $head-$tail in
  0.0.0-* | $head-dirty | $head-[0-9]*-g*) ;;
  *) sign='~' ;;
  esac
  tail=${tail//[^A-Za-z0-9.]/.}
  echo "$head${tail:+$sign$tail}"
}

# scripts NAME PURGE: the maintainer scripts of one service.
scripts() {
  mkdir -p "$WORK/$1"
  for s in postinstall preremove postremove; do
    sed -e "s|@NAME@|$1|g" -e "s|@PURGE@|$2|g" "$HERE/scripts/$s.sh" >"$WORK/$1/$s.sh"
  done
}

VERSION=$(package_version "$1")
ARCH=$(go env GOARCH)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$ROOT" log -1 --format=%ct 2>/dev/null || echo 0)}
export HERE ROOT BIN WORK VERSION ARCH SOURCE_DATE_EPOCH

scripts ropeway-agent "/var/lib/ropeway-agent /var/lib/ropeway-agent-* /etc/ropeway/agent-*.yaml \
/etc/ropeway/policy.yaml /etc/ropeway/policy-*.yaml /etc/ropeway/enroll-token /etc/ropeway/enroll-token-*"
scripts ropeway-hub "/var/lib/ropeway-hub"

for name in ropeway-agent ropeway-hub ropeway; do
  [ -x "$BIN/$name" ] || { echo "$BIN/$name is missing; run make build first" >&2; exit 1; }
  # nfpm fills variables into some fields only; here all of them are filled in.
  awk '{ while (match($0, /\$\{[A-Z]+\}/)) {
           $0 = substr($0, 1, RSTART-1) ENVIRON[substr($0, RSTART+2, RLENGTH-3)] substr($0, RSTART+RLENGTH) }
         print }' "$HERE/$name.yaml" >"$WORK/$name.yaml"
  for format in deb rpm; do
    (cd "$WORK" && GOFLAGS= go run "$NFPM" package --config "$WORK/$name.yaml" --packager "$format" --target "$OUT/") |
      sed -n 's/^created package: //p'
  done
done
