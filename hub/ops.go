package hub

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// opsServer answers /metrics, /healthz and /readyz for the operator's tools.
func (h *hub) opsServer() *http.Server {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ropeway_agents_online", Help: "Agents with a tunnel to this process.",
		}, func() float64 { return float64(len(h.gateway.Agents())) }),
	)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { report(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { report(w, h.health(r.Context())) })
	return &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
}

// health asks the parts that a hub cannot work without.
func (h *hub) health(ctx context.Context) map[string]error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return map[string]error{
		"store": h.store.Health(ctx), "queue": h.queue.Space(), "secrets": h.secrets.Health(ctx),
	}
}

func report(w http.ResponseWriter, parts map[string]error) {
	answer, status := map[string]string{"status": "ok"}, http.StatusOK
	for name, err := range parts {
		answer[name] = "ok"
		if err != nil {
			answer[name], answer["status"], status = err.Error(), "not ready", http.StatusServiceUnavailable
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

// serveUntil runs a server on l until ctx ends, then lets requests finish.
func serveUntil(ctx context.Context, s *http.Server, l net.Listener) error {
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		limited, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		stopped <- s.Shutdown(limited)
	})
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return err
	}
	if ctx.Err() == nil {
		return nil
	}
	if err := <-stopped; errors.Is(err, context.DeadlineExceeded) {
		return s.Close() // someone follows a job; they reconnect elsewhere
	}
	return nil
}
