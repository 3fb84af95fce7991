package mysql

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
)

// A wire is the network connection that the driver sees. It stands between the
// driver and the server for three reasons. It makes the TLS connection itself,
// so that it sees what the server says in clear. It takes out of the server's
// greeting what is not wanted: LOAD DATA LOCAL, which lets a server ask for
// files of this machine. And it refuses packets that no honest server sends,
// before the driver makes room for them (guard.go).
type wire struct {
	net.Conn          // the server; another goroutine may close it at any time
	stream   net.Conn // the same, or TLS over it

	tls      *tls.Config // nil = none
	greeting []byte      // what the driver has not read of it
	shift    byte        // packets that the driver does not know of
	guard    guard

	id      uint32 // of the connection, as KILL names it
	version string
	err     error // why the connection is of no use; the driver hides it
}

// Bits of the capabilities in greeting and answer.
const (
	capLocalFiles = 1 << 7
	capTLS        = 1 << 11
)

const (
	maxGreeting = 4 << 10
	header      = 4 // bytes before a packet: length (3), number (1)
)

var errNoTLS = errors.New("the server does not offer TLS")

// dialWire connects and reads the greeting.
func dialWire(ctx context.Context, dial func(context.Context) (net.Conn, error), t *tls.Config) (*wire, error) {
	c, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: c, stream: c, tls: t}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	err = w.greet()
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		c.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	return w, nil
}

func (w *wire) greet() error {
	var head [header]byte
	if _, err := io.ReadFull(w.Conn, head[:]); err != nil {
		return fmt.Errorf("read the server's greeting: %w", err)
	}
	n := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
	if n == 0 || n > maxGreeting {
		return badWire("greeting")
	}
	w.greeting = make([]byte, header+n)
	copy(w.greeting, head[:])
	if _, err := io.ReadFull(w.Conn, w.greeting[header:]); err != nil {
		return fmt.Errorf("read the server's greeting: %w", err)
	}
	return w.change(w.greeting[header:])
}

// change takes unwanted capabilities out of the greeting: protocol (1), version,
// 0, connection id (4), salt (8), 0, capabilities (2), character set (1), status
// (2), capabilities (2), length of salt (1), 0 (6), capabilities of MariaDB (4),
// salt. An error message in its place is left to the driver.
func (w *wire) change(body []byte) error {
	if body[0] == packetError {
		if len(body) < 3 {
			return badWire("greeting")
		}
		w.tls = nil
		return nil
	}
	end := bytes.IndexByte(body, 0)
	if body[0] != 10 || end < 0 || len(body) < end+1+4+8+1+2+1+2+2+1+6+4+13 {
		return badWire("greeting")
	}
	w.version = string(body[1:end])
	rest := body[end+1:]
	w.id = binary.LittleEndian.Uint32(rest)
	capabilities := binary.LittleEndian.Uint16(rest[13:])
	if capabilities&capTLS == 0 && w.tls != nil {
		return errNoTLS
	}
	binary.LittleEndian.PutUint16(rest[13:], capabilities&^capLocalFiles)
	if capabilities&1 == 0 { // MariaDB: its own extensions are of no use here
		clear(rest[24:28])
	}
	return nil
}

// mariaDB reports whether the server is one. Some put a version of MySQL in
// front, for old clients.
func (w *wire) mariaDB() bool { return strings.Contains(strings.ToLower(w.version), "mariadb") }

// Read gives the driver what the server sent, if it may see it.
func (w *wire) Read(p []byte) (int, error) {
	if len(w.greeting) > 0 {
		n := copy(p, w.greeting)
		w.greeting = w.greeting[n:]
		return n, nil
	}
	n, err := w.stream.Read(p)
	if bad := w.guard.received(p[:n], w.shift); bad != nil {
		w.err = bad
		return 0, bad
	}
	if err != nil && w.err == nil {
		w.err = err
	}
	return n, err
}

// Write sends a packet of the driver. Its first is the answer to the greeting.
func (w *wire) Write(p []byte) (int, error) {
	n, err := w.write(p)
	if err != nil && w.err == nil {
		w.err = err
	}
	return n, err
}

func (w *wire) write(p []byte) (int, error) {
	if w.tls != nil {
		return w.secure(p)
	}
	if len(p) >= header && p[3] == 0 { // a command begins
		w.shift = 0
		w.guard.sent(p)
	}
	if w.shift == 0 {
		return w.stream.Write(p)
	}
	changed := bytes.Clone(p)
	changed[3] += w.shift
	return w.stream.Write(changed)
}

// tlsRequest is the length of the begin of the answer that asks for TLS.
const tlsRequest = header + 32

// secure asks for TLS and sends the answer to the greeting by way of it. From
// here on until the first command the packets of both sides have numbers that
// are higher by one than the driver thinks.
func (w *wire) secure(answer []byte) (int, error) {
	if len(answer) < tlsRequest {
		return 0, badWire("answer")
	}
	answer = bytes.Clone(answer)
	binary.LittleEndian.PutUint32(answer[header:], binary.LittleEndian.Uint32(answer[header:])|capTLS)
	request := bytes.Clone(answer[:tlsRequest])
	request[0], request[1], request[2] = tlsRequest-header, 0, 0
	if _, err := w.Conn.Write(request); err != nil {
		return 0, err
	}
	c := tls.Client(w.Conn, w.tls)
	if err := c.Handshake(); err != nil {
		return 0, err
	}
	w.stream, w.tls, w.shift = c, nil, 1
	answer[3] += w.shift
	return c.Write(answer)
}

func badWire(what string) error {
	return fmt.Errorf("the server sent a malformed %s", what)
}
