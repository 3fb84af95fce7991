package hub

import (
	"context"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notify tells the service manager that started this process (systemd), if any,
// how the hub is: one of the words of sd_notify.
func notify(log *slog.Logger, word string) {
	if _, err := daemon.SdNotify(false, word); err != nil {
		log.Debug("service manager not told", "error", err)
	}
}

// answerWatchdog tells the service manager twice in its time that the hub lives,
// until ctx ends. alive must touch locks only: a full disk is no reason to start
// again, a deadlock is. Without a watchdog it returns at once.
func answerWatchdog(ctx context.Context, log *slog.Logger, alive func()) {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil || limit == 0 {
		return
	}
	tick := time.NewTicker(limit / 2)
	defer tick.Stop()
	for {
		alive()
		notify(log, daemon.SdNotifyWatchdog)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
