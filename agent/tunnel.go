package agent

import (
	"context"
	"crypto/tls"
	"os"
	"runtime"
	"time"

	"ropeway/agent/internal/transport"
	"ropeway/certs"
	"ropeway/certs/enroll"
	"ropeway/connectors/builtin"
	"ropeway/protocol/control"
	"ropeway/protocol/tunnel"
	"ropeway/protocol/tunnel/quic"
	"ropeway/protocol/tunnel/tcp"
)

// quicKeepalive lets an agent notice within 3 s that UDP or its hub has died
// (PROMISES T7).
const quicKeepalive = time.Second

// transport chooses between the two ways to make a session with the hub.
func (a *running) transport() *transport.Choice {
	log := a.log.With("part", "tunnel")
	return transport.New(transport.Config{
		Setting: a.config.Transport,
		TCP: a.dial(func(ctx context.Context, address string, cfg *tls.Config) (tunnel.Session, error) {
			return tcp.Dial(ctx, address, cfg, tcp.Options{Log: log})
		}),
		QUIC: a.dial(func(ctx context.Context, address string, cfg *tls.Config) (tunnel.Session, error) {
			return quic.Dial(ctx, address, cfg, quic.Options{Keepalive: quicKeepalive, Log: log})
		}),
		Log: log,
	})
}

// dial gives a way to the hub, with the certificate as it is at the time.
func (a *running) dial(over func(ctx context.Context, address string, cfg *tls.Config) (tunnel.Session, error)) transport.Dial {
	return func(ctx context.Context) (tunnel.Session, error) {
		address, err := enroll.Address(a.identity.Facts().Hub)
		if err != nil {
			return nil, err
		}
		return over(ctx, address, certs.AgentTLS(a.identity.ClientCertificate, a.identity.Roots(), a.identity.TrustDomain()))
	}
}

// hello describes this agent to the hub.
func hello() *control.AgentHello {
	host, _ := os.Hostname() // a machine may have no name
	return &control.AgentHello{
		Version: Version(), Os: runtime.GOOS, Arch: runtime.GOARCH, Hostname: host, Connectors: connectorNames(),
	}
}

// connectorNames are the connectors this program was built with.
func connectorNames() []string {
	var names []string
	for _, t := range builtin.Types() {
		names = append(names, t.Name)
	}
	return names
}

// bufferState is what the hub is told about the buffer; nil when it is not known.
func (a *running) bufferState() *control.BufferState {
	s, err := a.buffer.Stats(context.Background())
	if err != nil {
		return nil
	}
	state := &control.BufferState{
		Pages: uint64(s.Pages), Bytes: uint64(s.Bytes), Unacked: uint64(s.Unacked), Quota: uint64(s.Quota),
	}
	if !s.Oldest.IsZero() {
		state.OldestUs = s.Oldest.UnixMicro()
	}
	return state
}
