package api

import (
	"context"
	"net/http"
	"time"

	"ropeway/hub/internal/access"
	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
)

type pingOutput struct{ Body model.PingResult }

type queueOutput struct{ Body model.ConnectionQueue }

// pingTimeout bounds a ping (a request may wait for its slot).
const pingTimeout = 60 * time.Second

func (s *server) connectionRoutes() {
	base := "/api/v1/connections/{name}"
	route(s, op{id: "connection-queue", method: http.MethodGet, path: base + "/queue", right: access.View,
		summary: "Show the queue and the state of a connection"},
		func(ctx context.Context, in *Named) (*queueOutput, error) { return s.steer(ctx, in, nil) })
	route(s, op{id: "ping-connection", method: http.MethodPost, path: base + "/ping", right: access.Operate,
		summary: "Try whether a connection works"}, s.ping)
	route(s, op{id: "pause-connection", method: http.MethodPost, path: base + "/pause", right: access.Operate,
		summary: "Take a connection offline by hand; nothing is lost"},
		func(ctx context.Context, in *Named) (*queueOutput, error) {
			return s.steer(ctx, in, s.Connections.Pause)
		})
	route(s, op{id: "resume-connection", method: http.MethodPost, path: base + "/resume", right: access.Operate,
		summary: "Take a connection online again; its jobs go on"},
		func(ctx context.Context, in *Named) (*queueOutput, error) {
			return s.steer(ctx, in, s.Connections.Resume)
		})
}

// steer does something to a connection, or nothing, and shows its queue.
func (s *server) steer(ctx context.Context, in *Named,
	do func(ctx context.Context, scope store.Scope, name, actor string) error) (*queueOutput, error) {
	_, scope, err := s.object(ctx, in.Where, model.KindConnection, in.Name)
	if err != nil {
		return nil, err
	}
	if do != nil {
		if err := do(ctx, scope, in.Name, callerOf(ctx).Name); err != nil {
			return nil, err
		}
	}
	queue, err := s.Connections.QueueOf(ctx, scope, in.Name)
	if queue.Borrowers == nil {
		queue.Borrowers = []string{}
	}
	return &queueOutput{Body: queue}, err
}

func (s *server) ping(ctx context.Context, in *Named) (*pingOutput, error) {
	_, scope, err := s.object(ctx, in.Where, model.KindConnection, in.Name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	start := s.Clock()
	err = s.Connections.Ping(ctx, scope, in.Name)
	return &pingOutput{Body: model.PingResult{Name: in.Name, OK: err == nil, Fault: fault.From(err),
		Duration: s.Clock().Sub(start).Seconds()}}, nil
}
