package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
)

// Patience with a hub that is away while a job is followed.
const (
	firstRetry = 250 * time.Millisecond
	lastRetry  = 5 * time.Second
	maxEvent   = 4 << 20
)

// errStreamEnded means that the hub ended the stream before the job ended.
var errStreamEnded = errors.New("the event stream ended")

// WatchJob calls see with every snapshot of a job until it returns false, the
// job ends or ctx does. A hub that goes away for less than patience is waited
// for. It returns the last snapshot.
func (c *Client) WatchJob(ctx context.Context, id string, patience time.Duration, see func(model.Job) bool) (model.Job, error) {
	w := &watcher{see: see}
	pause := firstRetry
	lost := time.Now()
	for {
		err := c.stream(ctx, id, w)
		if w.done || ctx.Err() != nil {
			return w.last, ctx.Err()
		}
		if w.fresh {
			w.fresh, pause, lost = false, firstRetry, time.Now()
		}
		if err != nil && !waits(err) || time.Since(lost) > patience {
			return w.last, err
		}
		select {
		case <-ctx.Done():
			return w.last, ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, lastRetry)
	}
}

// waits reports whether the same request may succeed later.
func waits(err error) bool {
	switch fault.ClassOf(err) {
	case fault.Connection, fault.Intermittent, fault.RateLimit:
		return fault.From(err).Code != "E_TLS"
	}
	return errors.Is(err, errStreamEnded)
}

type watcher struct {
	see   func(model.Job) bool
	last  model.Job
	done  bool // the job ended, or see has enough
	fresh bool // something came since the last break
}

func (w *watcher) job(j model.Job) {
	w.last, w.fresh = j, true
	if !w.see(j) || j.State.Terminal() {
		w.done = true
	}
}

// stream reads one event stream to its end.
func (c *Client) stream(parent context.Context, id string, w *watcher) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	resp, err := c.send(ctx, request{method: http.MethodGet, path: at("jobs", id, "events"), accept: "text/event-stream"})
	if err != nil {
		return err
	}
	defer closeQuietly(resp.Body)
	silence := time.AfterFunc(silenceLimit, cancel)
	defer silence.Stop()
	events := bufio.NewScanner(resp.Body)
	events.Buffer(make([]byte, 64<<10), maxEvent)
	name := "message"
	for events.Scan() {
		silence.Reset(silenceLimit)
		field, value, _ := strings.Cut(events.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			name = value
		case "data":
			if err := w.event(name, value); err != nil || w.done {
				return err
			}
			name = "message"
		}
	}
	if err := events.Err(); err != nil && parent.Err() == nil && ctx.Err() == nil && !errors.Is(err, io.EOF) {
		return unreachable(c.base.Host, fmt.Errorf("read events: %w", err))
	}
	return errStreamEnded
}

// silenceLimit is three beats of the hub: then the stream is dead.
const silenceLimit = 45 * time.Second

func (w *watcher) event(name, data string) error {
	if name == "problem" {
		var p model.Problem
		if err := json.Unmarshal([]byte(data), &p); err != nil {
			return fmt.Errorf("read event: %w", err)
		}
		return (&fault.Error{Code: p.Code, Class: fault.Class(p.Class), Sentence: p.Title, Cause: p.Cause, Fix: p.Fix}).Wrap(&p)
	}
	var j model.Job
	if err := json.Unmarshal([]byte(data), &j); err != nil {
		return fmt.Errorf("read event: %w", err)
	}
	w.job(j)
	return nil
}
