package mysql_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"math/big"
	"net"
	"testing"
	"time"

	"ropeway/connectors"
	"ropeway/connectors/mysql"
)

// TestMySQL8OverTLS plays the server of MySQL 8, which is not at hand: its
// caching_sha2_password asks for the password itself, inside TLS. Packets of both
// sides are numbered through, the request for TLS included.
func TestMySQL8OverTLS(t *testing.T) {
	certificate := selfSigned(t)
	said := make(chan []byte, 1)
	numbers := make(chan byte, 1)
	serve := func(raw net.Conn) {
		defer raw.Close()
		raw.SetDeadline(time.Now().Add(20 * time.Second))
		plain := bytes.Replace(greeting(), []byte("mysql_native_password"), []byte("caching_sha2_password"), 1)
		plain[len("\x0a8.4.0-false\x00")+4+8+1+1] |= 1 << 3 // TLS is bit 11
		send(raw, 0, plain)
		request, err := receive(raw)
		if err != nil || len(request) != 32 || binary.LittleEndian.Uint32(request)&(1<<11) == 0 {
			said <- request
			return
		}
		c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{certificate}})
		answer, number := receiveNumber(c)
		if number != 2 || !bytes.Equal(answer[:32], request) {
			said <- answer
			return
		}
		send(c, 3, []byte{1, 4}) // not known yet: the whole password, please
		password, number := receiveNumber(c)
		said <- password
		numbers <- number
		send(c, 5, []byte(okPacket))
		for {
			if command, err := receive(c); err != nil || bytes.HasPrefix(command, []byte("\x01")) {
				return
			}
			send(c, 1, []byte(okPacket))
		}
	}
	client, server := net.Pipe()
	go serve(server)
	env := plainEnv("geheim")
	env.Dial = func(context.Context, string, string) (net.Conn, error) { return client, nil }
	settings, err := mysql.Type().Settings.Validate(map[string]any{"host": "db", "database": "x", "tls": "require"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := mysql.Type().Open(t.Context(), env, settings)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := mysql.Type().Ping(t.Context(), c); err != nil {
		t.Error(err)
	}
	if got := <-said; string(got) != "geheim\x00" {
		t.Fatalf("the server was told %q", got)
	}
	if n := <-numbers; n != 4 {
		t.Errorf("the password has number %d, want 4", n)
	}
}

// plainEnv is an environment without a server.
func plainEnv(password string) connectors.Env {
	return connectors.Env{Clock: time.Now, Secret: func(context.Context) (map[string]string, error) {
		return map[string]string{"username": "u", "password": password}, nil
	}}
}

func receiveNumber(c net.Conn) ([]byte, byte) {
	var number byte
	p, _ := receive(numbered{c, &number})
	return p, number
}

// numbered notes the number of the packet whose head is read.
type numbered struct {
	net.Conn
	number *byte
}

func (n numbered) Read(b []byte) (int, error) {
	count, err := n.Conn.Read(b)
	if len(b) == 4 && count == 4 {
		*n.number = b[3]
	}
	return count, err
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
