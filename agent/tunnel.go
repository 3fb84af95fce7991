package agent

import (
	"context"
	"os"
	"runtime"

	"ropeway/certs"
	"ropeway/certs/enroll"
	"ropeway/connectors/builtin"
	"ropeway/protocol/control"
	"ropeway/protocol/tunnel"
	"ropeway/protocol/tunnel/tcp"
)

// dial makes one session with the hub, with the certificate as it is now.
func (a *running) dial(ctx context.Context) (tunnel.Session, error) {
	address, err := enroll.Address(a.identity.Facts().Hub)
	if err != nil {
		return nil, err
	}
	cfg := certs.AgentTLS(a.identity.ClientCertificate, a.identity.Roots(), a.identity.TrustDomain())
	return tcp.Dial(ctx, address, cfg, tcp.Options{Log: a.log.With("part", "tunnel")})
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
