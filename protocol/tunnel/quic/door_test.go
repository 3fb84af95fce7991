package quic

import (
	"context"
	"net"
	"testing"

	"github.com/quic-go/quic-go"
)

func TestDoor_BoundsStrangersInAllAndByNetwork(t *testing.T) {
	d := &door{room: 10, perNetwork: 4}
	enter := func(ip string) (context.Context, context.CancelFunc, bool) {
		ctx, cancel := context.WithCancel(t.Context())
		ctx, err := d.enter(ctx, &quic.ClientInfo{RemoteAddr: &net.UDPAddr{IP: net.ParseIP(ip), Port: 1}})
		return ctx, cancel, err == nil
	}
	for i := range 4 {
		if _, _, ok := enter("192.0.2.1"); !ok {
			t.Fatalf("visitor %d was turned away", i)
		}
	}
	if _, _, ok := enter("192.0.2.1"); ok {
		t.Error("a fifth of one network came in")
	}
	if _, _, ok := enter("::ffff:192.0.2.1"); ok {
		t.Error("the same network in other clothes came in")
	}
	first, _, ok := enter("2001:db8::1")
	for _, ip := range []string{"2001:db8::2", "2001:db8::ffff:3", "2001:db8::4"} {
		if _, _, ok := enter(ip); !ok {
			t.Fatalf("%s was turned away", ip)
		}
	}
	if _, _, again := enter("2001:db8::5"); again || !ok {
		t.Error("a fifth of one /64 came in")
	}
	_, leave, _ := enter("192.0.2.2")
	if _, _, ok := enter("192.0.2.3"); !ok {
		t.Error("the tenth was turned away")
	}
	if _, _, ok := enter("192.0.2.4"); ok {
		t.Error("an eleventh came in")
	}
	known(first)
	known(first) // once is enough
	if _, _, ok := enter("2001:db8::5"); !ok {
		t.Error("a place that became free is not given again")
	}
	leave() // its handshake failed
	waitFor(t, func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.all == 9 && len(d.from) == 3 })
}

// waitFor waits for what another goroutine does at once.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for range 1_000_000 {
		if ok() {
			return
		}
		// yields to the goroutine that context.AfterFunc started
		done := make(chan struct{})
		go close(done)
		<-done
	}
	t.Fatal("it never happened")
}
