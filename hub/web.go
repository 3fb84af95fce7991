package hub

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Bounds of HTTP. A request is there within readTime, whoever sends it; whoever
// has not shown a token yet must also take its answer in time and may not idle.
const (
	headerTime  = 10 * time.Second
	readTime    = 20 * time.Second
	idleTime    = 2 * time.Minute
	strangeRead = 10 * time.Second
	strangeIdle = 10 * time.Second
	strangeTake = 10 * time.Second
	maxHeader   = 32 << 10
	maxStreams  = 100 // requests at once on one HTTP/2 connection
	maxStrange  = 8   // of a stranger: each costs some 20 KiB until its answer is taken
)

// webServer serves the API. Connections of strangers are visitors: they take
// room of theirs until a request on them has shown a good token.
func (h *hub) webServer(strangers *visitors) *http.Server {
	return &http.Server{
		Handler: politely(h.handler()), ReadHeaderTimeout: headerTime, ReadTimeout: readTime, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerStream: 256 << 10, WriteByteTimeout: 3 * strangeTake,
		},
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, visitorKey{}, strangers.of(conn))
		},
		ConnState: func(conn net.Conn, state http.ConnState) {
			v := strangers.of(conn)
			switch state {
			case http.StateNew, http.StateIdle:
				v.waits(strangeIdle)
			case http.StateActive:
				v.speaks()
			case http.StateClosed, http.StateHijacked:
				v.known()
			}
		},
	}
}

type (
	visitorKey struct{}
	requestKey struct{}
)

// request is one HTTP request on its way to prove who sends it.
type request struct {
	visitor *visitor
	limits  *http.ResponseController
	body    bool
	caller  string // name of its token, once it is known
}

// politely bounds how long a stranger's request may take on the wire.
func politely(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, _ := r.Context().Value(visitorKey{}).(*visitor)
		if !v.ask() {
			return
		}
		defer v.answered()
		limits := http.NewResponseController(w)
		now := time.Now()
		_ = limits.SetWriteDeadline(now.Add(strangeTake)) // both kinds of connection can
		body := r.ContentLength != 0
		if body {
			_ = limits.SetReadDeadline(now.Add(strangeRead))
		}
		ctx := context.WithValue(r.Context(), requestKey{}, &request{visitor: v, limits: limits, body: body})
		next.ServeHTTP(w, r.WithContext(ctx))
		if r.ProtoMajor == 2 && v.isStrange() {
			_ = limits.Flush() // it is under way until the stranger has taken the answer
		}
	})
}

// callerOf is who makes the request of ctx, for the audit log.
func callerOf(ctx context.Context) string {
	if r, ok := ctx.Value(requestKey{}).(*request); ok && r.caller != "" {
		return r.caller
	}
	return "hub"
}

// proved says that the request of ctx comes from a caller of this hub: the
// bounds of strangers end.
func proved(ctx context.Context, caller string) {
	r, ok := ctx.Value(requestKey{}).(*request)
	if !ok {
		return
	}
	r.caller = caller
	r.visitor.known()
	_ = r.limits.SetWriteDeadline(time.Time{})
	if r.body { // without one the server itself waits for the end of the connection
		_ = r.limits.SetReadDeadline(time.Now().Add(readTime))
	}
}
