package mysql_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"ropeway/connectors"
	"ropeway/connectors/mysql"
	"ropeway/protocol/fault"
)

// A script is what a false server answers, packet by packet, to the commands
// that come after a good start.
type script [][]byte

const okPacket = "\x00\x00\x00\x02\x00\x00\x00"

// greeting is what a server says first. Its capabilities offer everything but
// TLS.
func greeting() []byte {
	b := append([]byte("\x0a8.4.0-false\x00"), 1, 0, 0, 0)
	b = append(b, "12345678\x00"...)
	b = append(b, 0xff, 0xf7, 45, 2, 0, 0xff, 0xff, 21)
	b = append(b, make([]byte, 10)...)
	return append(b, "123456789012\x00mysql_native_password\x00"...)
}

// serve speaks to one client: greeting, ok, ok to every SET, then the script.
func (s script) serve(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	send(c, 0, greeting())
	if _, err := receive(c); err != nil {
		return
	}
	send(c, 2, []byte(okPacket))
	for {
		command, err := receive(c)
		if err != nil {
			return
		}
		if bytes.HasPrefix(command, []byte("\x03SET ")) {
			send(c, 1, []byte(okPacket))
			continue
		}
		for i, p := range s {
			send(c, byte(i+1), p)
		}
		io.Copy(io.Discard, c)
		return
	}
}

func send(c net.Conn, number byte, p []byte) {
	head := binary.LittleEndian.AppendUint32(nil, uint32(len(p))|uint32(number)<<24)
	c.Write(append(head, p...))
}

func receive(c net.Conn) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil, err
	}
	p := make([]byte, int(head[0])|int(head[1])<<8|int(head[2])<<16)
	_, err := io.ReadFull(c, p)
	return p, err
}

// against opens a connection to a false server.
func against(t *testing.T, serve func(net.Conn)) connectors.Conn {
	t.Helper()
	env := connectors.Env{
		Clock: time.Now, Log: slog.New(slog.DiscardHandler),
		Secret: func(context.Context) (map[string]string, error) {
			return map[string]string{"username": "u", "password": "p"}, nil
		},
		Dial: func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go serve(server)
			return client, nil
		},
	}
	settings, err := mysql.Type().Settings.Validate(map[string]any{"host": "db", "database": "x", "tls": "disable", "connectTimeout": "200ms"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := mysql.Type().Open(t.Context(), env, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestHostile_3_FalseServers: a server that lies is refused with a clear reason,
// without a crash, without a file, and without memory for what it claims.
func TestHostile_3_FalseServers(t *testing.T) {
	number := func(n uint64) []byte { return binary.LittleEndian.AppendUint64([]byte{0xfe}, n) }
	column := "\x03def\x01d\x01t\x01t\x01c\x01c\x0c\x21\x00\xff\x00\x00\x00\xfd\x00\x00\x00\x00\x00"
	for name, s := range map[string]script{
		"asks for a file":            {[]byte("\xfb/etc/passwd")},
		"2^40 columns":               {number(1 << 40)},
		"2^63 columns":               {number(1 << 63)},
		"65,535 columns":             {{0xfc, 0xff, 0xff}},
		"no columns but a name":      {{1}, []byte("\x03def")},
		"a column with a long name":  {{1}, []byte(column + strings.Repeat("x", 9000))},
		"a row that is cut off":      {{1}, []byte(column), []byte("\xfc\xff\xffabc")},
		"an empty packet":            {{}},
		"a cut off answer":           {{0}},
		"a cut off error":            {{0xff}},
		"two results":                {[]byte("\x00\x00\x00\x0a\x00\x00\x00"), number(1 << 40)},
		"a cut off number":           {{0xfc, 1}},
		"a row of another type":      {{1}, []byte(strings.Replace(column, "\xfd", "\x03", 1)), []byte("\x03abc")},
		"a number out of the series": {{1}, {1}, {1}, {1}},
	} {
		began := time.Now()
		err := mysql.Type().Ping(t.Context(), against(t, s.serve))
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("%s: it took %v", name, took)
		}
		f := fault.From(err)
		if f == nil || f.Class == fault.Internal || f.Fix == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHostile_3_FalseGreetings: so is one that lies from its first byte on.
func TestHostile_3_FalseGreetings(t *testing.T) {
	for name, p := range map[string][]byte{
		"nothing":           nil,
		"a web server":      []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"zeroes":            make([]byte, 100),
		"a huge packet":     {0xff, 0xff, 0xff, 0},
		"a cut off packet":  {10, 0, 0, 0, 10},
		"a short greeting":  append([]byte{12, 0, 0, 0}, "\x0a5.5\x00123"...),
		"an old protocol":   append([]byte{12, 0, 0, 0}, "\x093.23\x0012345"...),
		"no version":        append([]byte{100, 0, 0, 0}, bytes.Repeat([]byte("\x0a"), 100)...),
		"a cut off error":   {1, 0, 0, 0, 0xff},
		"too many clients":  append([]byte{11, 0, 0, 0}, "\xff\x10\x04too many"...),
		"an unknown plugin": append([]byte{80, 0, 0, 0}, bytes.Replace(greeting(), []byte("mysql_native_password"), []byte("dialog\x00xxxxxxxxxxxxxx"), 1)...),
	} {
		c := against(t, func(c net.Conn) {
			c.SetDeadline(time.Now().Add(20 * time.Second))
			c.Write(p)
			c.Close()
		})
		err := mysql.Type().Ping(t.Context(), c)
		if class := fault.ClassOf(err); class != fault.Connection && class != fault.Intermittent {
			t.Errorf("%s: %v (%s)", name, err, class)
		}
	}
}

// TestHostile_3_SilentServers: a server that says nothing is left after the time
// that the settings allow, whenever it falls silent.
func TestHostile_3_SilentServers(t *testing.T) {
	for name, serve := range map[string]func(net.Conn){
		"from the start":        func(net.Conn) {},
		"in its greeting":       func(c net.Conn) { c.Write([]byte{90, 0, 0, 0, 10}) },
		"after its greeting":    func(c net.Conn) { send(c, 0, greeting()) },
		"after the first words": func(c net.Conn) { send(c, 0, greeting()); receive(c); send(c, 2, []byte(okPacket)) },
	} {
		c := against(t, func(c net.Conn) {
			serve(c)
			io.Copy(io.Discard, c)
			c.Close()
		})
		err := mysql.Type().Ping(t.Context(), c)
		if f := fault.From(err); f == nil || f.Code != "E_UNREACHABLE" || !strings.Contains(f.Cause, "connectTimeout") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHostile_3_FilesAreNotEvenOffered: the client does not claim to be able to
// send files.
func TestHostile_3_FilesAreNotEvenOffered(t *testing.T) {
	seen := make(chan []byte, 1)
	c := against(t, func(c net.Conn) {
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		send(c, 0, greeting())
		answer, _ := receive(c)
		seen <- answer
	})
	_ = mysql.Type().Ping(t.Context(), c)
	answer := <-seen
	capabilities := binary.LittleEndian.Uint32(answer)
	if capabilities&(1<<7) != 0 || capabilities&(1<<16) != 0 {
		t.Errorf("capabilities %#x offer local files or several statements", capabilities)
	}
	if bytes.Contains(answer, []byte("p\x00")) {
		t.Error("the password goes in clear")
	}
}

// TestHostile_3_TLSIsNotGivenUp: a server, or someone in between, that offers no
// TLS gets no answer.
func TestHostile_3_TLSIsNotGivenUp(t *testing.T) {
	d := newDatabase(t)
	env := d.env()
	said := make(chan []byte, 1)
	env.Dial = func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			server.SetDeadline(time.Now().Add(20 * time.Second))
			plain := greeting()
			plain[len("\x0a8.4.0-false\x00")+4+8+1+1] &^= 1 << 3 // TLS is bit 11
			send(server, 0, plain)
			b, _ := receive(server)
			said <- b
		}()
		return client, nil
	}
	for _, mode := range []string{"require", "verify-ca", "verify-full"} {
		c, err := d.openIn(t, env, map[string]any{"tls": mode, "ca": d.server.CA})
		if err != nil {
			t.Fatal(err)
		}
		if err := mysql.Type().Ping(t.Context(), c); fault.CodeOf(err) != "E_TLS" {
			t.Errorf("%s: %v", mode, err)
		}
		if b := <-said; len(b) > 0 {
			t.Errorf("%s: the client said %q", mode, b)
		}
	}
}
