package hub

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// TestWatchdogAnswers: each answer waits for the parts.
func TestWatchdogAnswers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "40000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	ctx, cancel := context.WithCancel(t.Context())
	asked, free, ended := make(chan struct{}, 100), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		answerWatchdog(ctx, slog.New(slog.DiscardHandler), func() { asked <- struct{}{}; <-free })
	}()
	<-asked
	buf := make([]byte, 100)
	_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := conn.Read(buf); err == nil {
		t.Errorf("told %q while a part was stuck", buf[:n])
	}
	close(free)
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := conn.Read(buf); err != nil || string(buf[:n]) != "WATCHDOG=1" {
		t.Errorf("told %q, %v", buf[:n], err)
	}
	cancel()
	<-ended
}
