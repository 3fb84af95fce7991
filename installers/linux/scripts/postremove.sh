#!/bin/sh
# Runs after @NAME@ was removed. Identity, certificate and waiting pages stay, so that
# a new installation goes on where this one ended; purge (dpkg only) wipes them. The
# account stays: another user of its number must not inherit its files.
set -e
case "$1" in
remove)
    if command -v deb-systemd-helper >/dev/null; then
        deb-systemd-helper mask @NAME@.service >/dev/null || true
    fi
    ;;
purge)
    if command -v deb-systemd-helper >/dev/null; then
        deb-systemd-helper purge @NAME@.service >/dev/null || true
        deb-systemd-helper unmask @NAME@.service >/dev/null || true
    fi
    rm -rf @PURGE@
    rmdir --ignore-fail-on-non-empty /etc/ropeway 2>/dev/null || true
    ;;
esac
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
fi
exit 0
