package tunnel

import "net"

// NetConn makes a stream look like a connection, for libraries that want one.
// Its addresses are those of the session. Closing it closes the stream.
func NetConn(s Stream, info Info) net.Conn {
	return netConn{Stream: s, info: info}
}

type netConn struct {
	Stream
	info Info
}

func (c netConn) LocalAddr() net.Addr  { return address{c.info.Transport, c.info.Local} }
func (c netConn) RemoteAddr() net.Addr { return address{c.info.Transport, c.info.Remote} }

type address struct{ transport, text string }

func (a address) Network() string { return "tunnel+" + a.transport }
func (a address) String() string  { return a.text }
