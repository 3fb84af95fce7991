package agent

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// A manager is the service manager that started this process, told how the agent
// is by sd_notify. Where there is none (no NOTIFY_SOCKET), telling does nothing.
type manager struct {
	log   *slog.Logger
	alive atomic.Pointer[func()] // returns when the parts answer
}

// ready says that the service runs. text is what `systemctl status` shows.
func (m *manager) ready(text string) { m.tell(daemon.SdNotifyReady + "\nSTATUS=" + oneLine(text)) }

// status changes only the text.
func (m *manager) status(text string) { m.tell("STATUS=" + oneLine(text)) }

// reload runs read between the two words that frame it.
func (m *manager) reload(read func()) {
	m.tell(daemon.SdNotifyReloading)
	read()
	m.tell(daemon.SdNotifyReady)
}

// stopping says that the end has begun.
func (m *manager) stopping() { m.tell(daemon.SdNotifyStopping + "\nSTATUS=draining") }

func (m *manager) tell(words string) {
	if _, err := daemon.SdNotify(false, words); err != nil {
		m.log.Debug("service manager not told", "error", err)
	}
}

// watch answers the watchdog of the service manager, twice in its time, until
// the returned function is called. From ask on, an answer waits for the parts:
// a deadlock stops the answers, and the manager restarts the process.
func (m *manager) watch(ctx context.Context) (end func()) {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil || limit == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(limit / 2)
		defer tick.Stop()
		for {
			if alive := m.alive.Load(); alive != nil {
				(*alive)()
			}
			m.tell(daemon.SdNotifyWatchdog)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return func() { cancel(); <-done }
}

// ask makes every further answer wait for alive, which touches the locks of the
// parts and nothing that a slow disk or network could hold up.
func (m *manager) ask(alive func()) { m.alive.Store(&alive) }

// forget makes answers unconditional again: what is being closed answers late.
func (m *manager) forget() { m.alive.Store(nil) }

// oneLine keeps text from saying more words to the manager than one.
func oneLine(text string) string { return strings.ReplaceAll(text, "\n", " ") }
