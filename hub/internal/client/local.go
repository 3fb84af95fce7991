package client

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"syscall"
	"time"
)

// A hub on this machine may still be starting: a script that starts it goes on at
// once. How long a client waits for its files and its port.
const (
	startPatience = 5 * time.Second
	startPoll     = 50 * time.Millisecond
)

func onThisMachine(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// awaitFiles waits until the files that a starting hub writes are there. A
// missing one is reported by whoever reads it.
func awaitFiles(paths ...string) {
	end := time.Now().Add(startPatience)
	for _, path := range paths {
		for path != "" && time.Now().Before(end) {
			if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
				break
			}
			time.Sleep(startPoll)
		}
	}
}

// patient dials again while the port is closed.
func patient(dial func(ctx context.Context, network, address string) (net.Conn, error)) func(
	ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		for end := time.Now().Add(startPatience); ; {
			conn, err := dial(ctx, network, address)
			if !errors.Is(err, syscall.ECONNREFUSED) || time.Now().After(end) {
				return conn, err
			}
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(startPoll):
			}
		}
	}
}
