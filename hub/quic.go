package hub

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"

	"ropeway/certs"
	"ropeway/protocol/tunnel/quic"
)

// resetKeyFile holds 32 random bytes in the data folder: what agents know a
// restarted hub by, see quic.Options.
const resetKeyFile = "quic-reset.key"

// listenQUIC takes tunnels over QUIC on UDP, on the port number of TCP. A hub
// without it works: agents stay with TCP. It is nil then.
func (h *hub) listenQUIC() *quic.Listener {
	l, err := h.openQUIC()
	if err != nil {
		h.log.Warn("quic is off; agents stay with tcp", "error", err)
		return nil
	}
	return l
}

func (h *hub) openQUIC() (*quic.Listener, error) {
	key, err := resetKey(filepath.Join(h.config.Data, resetKeyFile))
	if err != nil {
		return nil, err
	}
	socket, err := net.ListenPacket("udp", h.listener.Addr().String())
	if err != nil {
		return nil, err
	}
	cfg := certs.HubTunnelTLS(h.certificate, h.authority.Roots(), h.authority.TrustDomain(), h.issuer.Revoked)
	return quic.Listen(socket, cfg, quic.Options{ResetKey: key, Log: h.log.With("part", "quic")})
}

// serveQUIC serves tunnels until ctx ends, then waits for those that live.
func (h *hub) serveQUIC(ctx context.Context, l *quic.Listener) {
	if l == nil {
		return
	}
	defer l.Close()
	var sessions sync.WaitGroup
	defer sessions.Wait()
	for {
		session, err := l.Accept(ctx)
		if err != nil {
			if ctx.Err() == nil {
				h.log.Warn("quic has ended; agents go over to tcp", "error", err)
			}
			return
		}
		sessions.Go(func() { h.serveSession(ctx, session) })
	}
}

// resetKey reads the key, or makes it at the first start.
func resetKey(path string) (*[32]byte, error) {
	var key [32]byte
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		_, _ = rand.Read(key[:])
		return &key, writeFile(path, key[:], 0o600)
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, int64(len(key))+1))
	if err != nil {
		return nil, err
	}
	if len(text) != len(key) {
		return nil, fmt.Errorf("read %s: it is not a key of %d bytes; delete it and a new one is made", path, len(key))
	}
	return (*[32]byte)(text), nil
}
