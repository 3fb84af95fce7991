#!/bin/sh
# Runs before @NAME@ is removed (dpkg: remove, rpm: 0) or upgraded. An upgrade leaves
# the running service alone: it goes on until the new version takes its place.
set -e
case "$1" in
remove)
    if [ -d /run/systemd/system ]; then
        deb-systemd-invoke stop @NAME@.service || true
        systemctl stop '@NAME@@*.service' || true
    fi
    ;;
0)
    if [ -d /run/systemd/system ]; then
        systemctl disable --now @NAME@.service || true
        systemctl stop '@NAME@@*.service' || true
    fi
    ;;
esac
exit 0
