package connection

import (
	"context"

	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/page"
)

// Recheck makes an offline connection try again at once: its settings changed, or
// someone has seen that it works. A bad credential that has used up its tries is
// still left alone until its time, and a connection stopped by hand stays so.
func (m *Manager) Recheck(ctx context.Context, s store.Scope, id page.ID) error {
	return m.change(ctx, s, id, func(old model.ConnectionState) (model.ConnectionState, bool) {
		if old.State != model.Offline || byHand(old) {
			return old, false
		}
		now := m.Clock()
		if due := earliest(old, now); old.NextProbe == nil || due.Before(*old.NextProbe) {
			old.Probes, old.NextProbe = 0, at(due)
			return old, true
		}
		return old, false
	})
}
