package quic

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/quic-go/quic-go"

	"ropeway/protocol/tunnel"
)

// What the sides tell each other when they end streams and connections. Numbers
// are part of the protocol.
const (
	codeClosed quic.StreamErrorCode = 0 // nobody reads this stream any more
	codeReset  quic.StreamErrorCode = 1 // both directions are over
	codeEnding quic.StreamErrorCode = 2 // the session ends

	codeBye     quic.ApplicationErrorCode = 0 // everything was said and read
	codeRefused quic.ApplicationErrorCode = 1 // this is no tunnel
)

// cryptoError is where QUIC puts the alerts of TLS (RFC 9001, section 4.8).
const cryptoError quic.TransportErrorCode = 0x100

// cause reads why a connection ended.
func cause(err error) error {
	var (
		silence *quic.IdleTimeoutError
		bye     *quic.ApplicationError
		fault   *quic.TransportError
		reset   *quic.StatelessResetError
	)
	switch {
	case errors.As(err, &silence):
		return fmt.Errorf("%w: %w", tunnel.ErrDead, err)
	case errors.As(err, &bye) && bye.Remote && bye.ErrorCode == codeBye:
		return tunnel.ErrPeerClosed
	case errors.As(err, &bye) && bye.Remote:
		return fmt.Errorf("%w: code %d", tunnel.ErrPeerClosed, uint64(bye.ErrorCode))
	case errors.As(err, &fault) && fault.Remote && fault.ErrorCode >= cryptoError && fault.ErrorCode < 2*cryptoError:
		// The words of crypto/tls over TCP: the other side refuses who we are.
		return &net.OpError{Op: "remote error", Err: tls.AlertError(uint8(fault.ErrorCode - cryptoError))}
	case errors.As(err, &reset):
		return fmt.Errorf("tunnel broken: the other side knows nothing of it any more: %w", err)
	}
	return fmt.Errorf("tunnel broken: %w", err)
}
