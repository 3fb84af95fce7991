package flow

import (
	"context"
	"time"
)

// cleanEvery is how often what is past its retention is removed.
const cleanEvery = time.Hour

// clean removes what is past its retention (DELIVERY §9), until ctx ends.
func (e *Engine) clean(ctx context.Context) {
	timer := time.NewTimer(time.Minute) // a start has other things to do
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		wait := cleanEvery
		done, err := e.Store.Clean(ctx, e.Clock())
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			e.Log.Error("old data not removed", "error", err)
		case done.More:
			wait = time.Minute
		}
		if done.Jobs > 0 || done.Parked > 0 {
			e.Log.Info("old data removed", "jobs", done.Jobs, "rows", done.Rows, "parked", done.Parked)
		}
		if done.Waiting > 0 {
			e.Log.Warn("parked records reached the end of their 30 days and were removed", "records", done.Waiting)
		}
		if done.Expiring > 0 {
			e.Log.Warn("parked records wait and will be removed within a week", "records", done.Expiring)
		}
		timer.Reset(wait)
	}
}
