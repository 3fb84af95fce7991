package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"ropeway/protocol/fault"
)

// host is the only Host a request may name. A browser that was tricked into
// calling this socket through some bridge would name another and send an Origin.
const host = "ropeway-agent.local"

const (
	maxBody    = 64 << 10
	readTime   = 10 * time.Second
	finishTime = 3 * time.Second
)

// Source gives what the API shows and does. A nil function means that this agent
// cannot do it.
type Source struct {
	Status       func(ctx context.Context) (Status, error)
	Identity     func(ctx context.Context) (IdentityStatus, error)
	Policy       func(ctx context.Context) (Policy, error)
	BufferStatus func(ctx context.Context) (BufferStatus, error)
	BufferList   func(ctx context.Context, limit int) ([]BufferPage, error)
	BufferVerify func(ctx context.Context) (BufferCheck, error)
	BufferPurge  func(ctx context.Context, r PurgeRequest) (BufferPurge, error)
	Suspend      func(ctx context.Context, on bool) error // the policy
	Approve      func(ctx context.Context, r ApproveRequest) (Statement, error)
	RotateKey    func(ctx context.Context) (IdentityStatus, error)
	Drain        func(ctx context.Context) error
}

// A Server answers on one socket.
type Server struct {
	path   string
	source Source
	log    *slog.Logger
}

// New makes a server for the socket at path.
func New(path string, source Source, log *slog.Logger) *Server {
	return &Server{path: path, source: source, log: log}
}

// Run listens until ctx ends, then lets running calls finish and removes the
// socket. ready, which may be nil, is called once calls are taken.
func (s *Server) Run(ctx context.Context, ready func()) error {
	listener, err := listen(s.path)
	if err != nil {
		return fault.Of("E_STATE").WithSentence("the local socket cannot be made").WithCause(err).
			WithFix("choose another path with `socket:` in the configuration file")
	}
	defer listener.remove()
	server := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: readTime,
		ReadTimeout:       readTime,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	if ready != nil {
		ready()
	}
	select {
	case err := <-done:
		return fmt.Errorf("serve local socket: %w", err)
	case <-ctx.Done():
	}
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTime)
	defer cancel()
	err = server.Shutdown(finish)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	<-done
	return err
}

// Handler is the API itself.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	src := s.source
	route(mux, "GET /v1/status", src.Status)
	route(mux, "GET /v1/identity", src.Identity)
	route(mux, "GET /v1/policy", src.Policy)
	route(mux, "GET /v1/buffer", src.BufferStatus)
	if list := src.BufferList; list != nil {
		route(mux, "GET /v1/buffer/pages", func(ctx context.Context) ([]BufferPage, error) { return list(ctx, ListLimit) })
	}
	route(mux, "POST /v1/buffer/verify", src.BufferVerify)
	if purge := src.BufferPurge; purge != nil {
		routeBody(mux, "POST /v1/buffer/purge", func(ctx context.Context, r PurgeRequest) (BufferPurge, error) {
			if !r.Valid() {
				return BufferPurge{}, fault.Of("E_REQUEST").WithCause("want one of all, damaged and names")
			}
			return purge(ctx, r)
		})
	}
	routeBody(mux, "POST /v1/policy/approve", src.Approve)
	route(mux, "POST /v1/rotate-key", src.RotateKey)
	if suspend := src.Suspend; suspend != nil {
		route(mux, "POST /v1/policy/suspend", func(ctx context.Context) (none, error) { return none{}, suspend(ctx, true) })
		route(mux, "POST /v1/policy/resume", func(ctx context.Context) (none, error) { return none{}, suspend(ctx, false) })
	}
	if drain := src.Drain; drain != nil {
		route(mux, "POST /v1/drain", func(ctx context.Context) (none, error) { return none{}, drain(ctx) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, fault.Of("E_NOT_FOUND").WithCause("the agent has no "+r.Method+" "+r.URL.Path))
	})
	return guard(mux)
}

// guard lets only calls of a program through that means this socket.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cause := ""
		switch {
		case r.Host != host:
			cause = "the Host header is not " + host
		case len(r.Header["Origin"]) > 0 || len(r.Header["Sec-Fetch-Site"]) > 0:
			cause = "browsers may not call the local API"
		case r.Method != http.MethodGet && !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json"):
			cause = "the body is not application/json"
		}
		if cause != "" {
			refuse(w, http.StatusForbidden, fault.Of("E_FORBIDDEN").WithCause(cause).WithFix("use ropeway-agent on this machine"))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

// none is an answer that says no more than that it was done.
type none struct{}

func route[T any](mux *http.ServeMux, pattern string, call func(context.Context) (T, error)) {
	if call == nil {
		return
	}
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		answer, err := call(r.Context())
		reply(w, answer, err)
	})
}

func routeBody[B, T any](mux *http.ServeMux, pattern string, call func(context.Context, B) (T, error)) {
	if call == nil {
		return
	}
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		var body B
		decoder := json.NewDecoder(r.Body)
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&body); err != nil {
			refuse(w, http.StatusBadRequest, fault.Of("E_REQUEST").WithCause(err))
			return
		}
		answer, err := call(r.Context(), body)
		reply(w, answer, err)
	})
}

func reply(w http.ResponseWriter, answer any, err error) {
	if err != nil {
		refuse(w, http.StatusConflict, fault.From(err))
		return
	}
	write(w, http.StatusOK, answer)
}

func refuse(w http.ResponseWriter, status int, f *fault.Error) { write(w, status, f) }

func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the caller is gone when this fails
}
