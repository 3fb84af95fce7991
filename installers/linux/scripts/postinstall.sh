#!/bin/sh
# Runs after @NAME@ was unpacked. dpkg says `configure [OLD-VERSION]`, rpm says 1 for
# the first installation and 2 for an upgrade. Running it twice does no harm.
set -e

if ! getent group @NAME@ >/dev/null; then
    groupadd --system @NAME@
fi
if ! getent passwd @NAME@ >/dev/null; then
    useradd --system --gid @NAME@ --home-dir /var/lib/@NAME@ --no-create-home \
        --shell /usr/sbin/nologin --comment "Ropeway" @NAME@
fi
# The service makes this too; made here, commands work before its first start.
install -d -o @NAME@ -g @NAME@ -m 0700 /var/lib/@NAME@

running() { [ -d /run/systemd/system ]; }

case "$1" in
configure)
    if command -v deb-systemd-helper >/dev/null; then
        deb-systemd-helper unmask @NAME@.service >/dev/null || true
        if deb-systemd-helper --quiet was-enabled @NAME@.service; then
            deb-systemd-helper enable @NAME@.service >/dev/null || true
        else
            deb-systemd-helper update-state @NAME@.service >/dev/null || true
        fi
    fi
    if running; then
        systemctl daemon-reload || true
        if [ -n "$2" ]; then action=restart; else action=start; fi
        deb-systemd-invoke "$action" @NAME@.service || true
        systemctl try-restart '@NAME@@*.service' || true
    fi
    ;;
1)
    if running; then
        systemctl daemon-reload || true
        systemctl preset @NAME@.service || true
    fi
    ;;
2)
    if running; then
        systemctl daemon-reload || true
        systemctl try-restart @NAME@.service '@NAME@@*.service' || true
    fi
    ;;
esac
exit 0
