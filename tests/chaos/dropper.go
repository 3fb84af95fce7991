package chaos

import (
	"bufio"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
)

// dropper is a relay in front of PostgreSQL that breaks the connection instead
// of passing on the answer to some COMMITs: the data is committed, and the
// client cannot know.
type dropper struct {
	listener net.Listener
	target   string
	percent  int
	dropped  atomic.Int64

	mu  sync.Mutex
	rnd *rand.Rand
}

func newDropper(target string, percent int, seed uint64) (*dropper, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &dropper{listener: l, target: target, percent: percent, rnd: rand.New(rand.NewPCG(seed, 1))}
	go d.accept()
	return d, nil
}

func (d *dropper) port() int { return d.listener.Addr().(*net.TCPAddr).Port }

func (d *dropper) close() { d.listener.Close() }

func (d *dropper) accept() {
	for {
		client, err := d.listener.Accept()
		if err != nil {
			return
		}
		go d.forward(client)
	}
}

func (d *dropper) forward(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", d.target)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		defer server.Close()
		_, _ = io.Copy(server, client)
	}()
	d.answers(client, bufio.NewReaderSize(server, 64<<10))
}

// answers passes the server's messages on, one by one: type, length, body
// (PostgreSQL protocol 3.0; with tls: disable there is no answer to SSLRequest).
func (d *dropper) answers(client io.Writer, server *bufio.Reader) {
	for {
		head, err := server.Peek(5)
		if err != nil {
			return
		}
		size := int(binary.BigEndian.Uint32(head[1:])) + 1
		message := make([]byte, size)
		if _, err := io.ReadFull(server, message); err != nil {
			return
		}
		if message[0] == 'C' && string(message[5:]) == "COMMIT\x00" && d.roll() {
			d.dropped.Add(1)
			return
		}
		if _, err := client.Write(message); err != nil {
			return
		}
	}
}

func (d *dropper) roll() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rnd.IntN(100) < d.percent
}
