// Package hub is the composition root of the cloud side: it opens the parts,
// joins them and runs them until it is told to stop. It knows every part by name
// and does none of their work.
package hub

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"ropeway/certs"
	"ropeway/certs/ca"
	wire "ropeway/certs/enroll"
	"ropeway/hub/internal/access"
	"ropeway/hub/internal/connection"
	"ropeway/hub/internal/enroll"
	"ropeway/hub/internal/flow"
	"ropeway/hub/internal/gateway"
	"ropeway/hub/internal/model"
	"ropeway/hub/internal/queue"
	"ropeway/hub/internal/secret"
	"ropeway/hub/internal/store"
	"ropeway/protocol/page"
	"ropeway/protocol/tunnel"
	"ropeway/protocol/tunnel/tcp"
)

// drainTimeout bounds how long running steps may take to end at SIGTERM.
const drainTimeout = 30 * time.Second

// hub is one running hub process.
type hub struct {
	config      Config
	log         *slog.Logger
	listener    net.Listener
	ops         net.Listener
	local       net.Listener
	store       *store.Store
	queue       *queue.Queue
	secrets     secret.Engine
	authority   *ca.Authority
	certificate certs.ServerCertificate
	gateway     *gateway.Gateway
	connections *connection.Manager
	engine      *flow.Engine
	issuer      *enroll.Issuer
	access      *access.Gate
	version     string
}

// Run serves until ctx ends, then drains. It writes the line "ready URL" to out
// when it accepts work.
func Run(ctx context.Context, c Config, version string, out io.Writer, log *slog.Logger) error {
	if err := c.Validate(); err != nil {
		return err
	}
	private()
	release, err := lockData(c.Data)
	if err != nil {
		return err
	}
	defer release()
	if err := checkData(c.Data, log); err != nil {
		return err
	}
	h := &hub{config: c, log: log, version: version}
	defer h.close()
	for _, open := range []func(context.Context) error{
		h.listen, h.openSecrets, h.openStore, h.openAuthority, h.openQueue, h.compose,
	} {
		if err := open(ctx); err != nil {
			return err
		}
	}
	return h.run(ctx, out)
}

// listen takes the ports first: a hub that cannot be reached should touch nothing.
func (h *hub) listen(context.Context) error {
	var err error
	if h.listener, err = listen(h.config.Listen); err != nil {
		return err
	}
	if h.ops, err = listen(h.config.OpsListen); err != nil {
		return err
	}
	if h.local, err = h.listenLocal(); err != nil {
		// A disk that cannot hold a socket is no reason to stop: only `admin` needs it.
		h.log.Warn("local administration is off", "error", err)
		h.local = newWebListener(h.ops.Addr())
	}
	return nil
}

func (h *hub) openSecrets(context.Context) error {
	var err error
	h.secrets, err = openSecrets(h.config, h.log)
	return err
}

func (h *hub) openStore(ctx context.Context) error {
	s, err := store.Open(ctx, h.config.storeURL(), store.WithAuditSigner(newSigner(h.secrets).sign))
	if err != nil {
		return err
	}
	h.store = s
	h.access = access.New(s, time.Now)
	path, err := bootstrap(ctx, h.config, s, h.access)
	if err == nil && path != "" {
		h.log.Info("first start: the administrator signs in with the token in this file", "file", path)
	}
	return err
}

func (h *hub) openAuthority(context.Context) error {
	authority, err := ca.Open(filepath.Join(h.config.Data, "ca"), time.Now)
	if err != nil {
		return err
	}
	h.authority = authority
	if h.certificate, err = authority.HubCertificates(h.names()); err != nil {
		return err
	}
	return writeFile(filepath.Join(h.config.Data, "ca.pem"), authority.RootPEM(), 0o644)
}

// names are what the hub certificate is good for: where it listens, this host,
// and what the operator adds.
func (h *hub) names() []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if host, _, err := net.SplitHostPort(h.config.Listen); err == nil && host != "" {
		if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
			names = append(names, host)
		}
	}
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	return append(names, h.config.Names...)
}

func (h *hub) openQueue(ctx context.Context) error {
	q, err := queue.Open(ctx, queue.Config{
		Dir: filepath.Join(h.config.Data, "queue"), Log: h.log.With("part", "queue"), SyncAlways: true,
	})
	h.queue = q
	return err
}

// compose joins the parts. Each knows the others only by what it calls.
func (h *hub) compose(ctx context.Context) error {
	h.gateway = gateway.New(gateway.Config{
		Log: h.log, Version: h.version, Hello: h.hello, OnChange: h.agentsChanged,
	})
	h.connections = connection.New(connection.Config{
		Store: h.store, Log: h.log, Clock: time.Now, Facts: h.facts,
		Probe: func(ctx context.Context, s store.Scope, id page.ID) error { return h.engine.Probe(ctx, s, id) },
		OnChange: func(ctx context.Context, s store.Scope, state model.ConnectionState) error {
			return h.engine.StateChanged(ctx, s, state)
		},
	})
	h.engine = flow.New(flow.Config{
		Store: h.store, Queue: h.queue, Gateway: h.gateway, Secrets: h.secrets, Connections: h.connections,
		Types: findType, Egress: h.egress, Log: h.log, Clock: time.Now,
	})
	h.issuer = enroll.New(enroll.Config{
		Store: h.store, Authority: h.authority, Hub: h.publicURL(), Clock: time.Now, Log: h.log,
	})
	places, err := h.store.Places(ctx)
	if err != nil {
		return err
	}
	for _, s := range places {
		if err := h.queue.Ensure(ctx, queue.Place{Tenant: s.Tenant, Environment: s.Environment}); err != nil {
			return err
		}
	}
	return h.queue.RecreateAll(ctx)
}

// url is how this machine reaches the hub.
func (h *hub) url() string {
	host, port, _ := net.SplitHostPort(h.listener.Addr().String())
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "https://" + net.JoinHostPort(host, port)
}

// publicURL is what agents elsewhere dial: the first configured name, if any.
func (h *hub) publicURL() string {
	if len(h.config.Names) == 0 {
		return h.url()
	}
	_, port, _ := net.SplitHostPort(h.listener.Addr().String())
	return "https://" + net.JoinHostPort(h.config.Names[0], port)
}

// run serves everything. When ctx ends, agents and steps get time to finish
// before the parts below them stop.
func (h *hub) run(ctx context.Context, out io.Writer) error {
	working, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	group, working := errgroup.WithContext(working)
	group.Go(func() error { return h.engine.Run(working) })
	group.Go(func() error { return h.connections.Run(working) })
	group.Go(func() error { h.endRevoked(working); return nil })
	web, strangers := newWebListener(h.listener.Addr()), newVisitors(maxVisitors)
	group.Go(func() error { return h.port(web, strangers).run(working) })
	quic := h.listenQUIC()
	group.Go(func() error { h.serveQUIC(working, quic); return nil })
	group.Go(func() error { return serveUntil(working, h.webServer(strangers), web) })
	group.Go(func() error { return serveUntil(working, h.opsServer(), h.ops) })
	group.Go(func() error { return serveUntil(working, h.localServer(), h.local) })
	group.Go(func() error {
		select {
		case <-working.Done():
		case <-ctx.Done():
			h.drain()
			stopWork()
		}
		return nil
	})
	group.Go(func() error { answerWatchdog(working, h.log, func() { h.gateway.Agents() }); return nil })
	if _, err := fmt.Fprintln(out, "ready "+h.url()); err != nil {
		return err
	}
	notify(h.log, daemon.SdNotifyReady)
	return group.Wait()
}

// drain lets running steps end: agents are told to go elsewhere, the queue hands
// out nothing more.
func (h *hub) drain() {
	h.log.Info("draining")
	notify(h.log, daemon.SdNotifyStopping)
	limited, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	h.queue.Drain()
	h.gateway.Drain(limited)
}

func (h *hub) port(web *webListener, strangers *visitors) *port {
	roots := h.authority.Roots()
	enrollTLS := certs.HubEnrollTLS(h.certificate)
	return &port{
		listener: h.listener, log: h.log, enroll: enrollTLS, webConns: web, visitors: strangers,
		tunnel: certs.HubTunnelTLS(h.certificate, roots, h.authority.TrustDomain(), h.issuer.Revoked),
		web: &tls.Config{
			GetCertificate: h.certificate, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		},
		onTunnel: h.serveTunnel,
		onEnroll: func(ctx context.Context, conn *tls.Conn) {
			if err := wire.Serve(ctx, conn, h.issuer); err != nil {
				h.log.Info("enrollment refused", "remote", conn.RemoteAddr().String(), "error", err)
			}
		},
	}
}

func (h *hub) serveTunnel(ctx context.Context, conn *tls.Conn) {
	session, err := tcp.Server(conn, tcp.Options{})
	if err != nil {
		conn.Close()
		return
	}
	h.serveSession(ctx, session)
}

// serveSession serves a tunnel until it ends, whatever it runs over.
func (h *hub) serveSession(ctx context.Context, session tunnel.Session) {
	info := session.Info()
	if id, err := certs.PeerIdentity(info.TLS); err == nil {
		if err := h.issuer.Proved(ctx, info.TLS.PeerCertificates[0], id); err != nil {
			h.log.Warn("key of agent not noted", "agent", id.Agent, "error", err)
		}
	}
	if err := h.gateway.Serve(ctx, session); err != nil && ctx.Err() == nil {
		h.log.Info("tunnel ended", "remote", info.Remote, "cause", err)
	}
}

func (h *hub) close() {
	for _, l := range []net.Listener{h.listener, h.ops, h.local} {
		if l != nil {
			l.Close()
		}
	}
	if h.queue != nil {
		h.queue.Close()
	}
	if h.store != nil {
		h.store.Close()
	}
	closeSecrets(h.secrets)
}
