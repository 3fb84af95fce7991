package tunnel_test

import (
	"bytes"
	"testing"
	"testing/iotest"

	"ropeway/protocol/tunnel"
)

func TestReadOpening(t *testing.T) {
	good := tunnel.Opening{Kind: tunnel.Route, ID: 1<<64 - 1}
	var b bytes.Buffer
	if err := tunnel.WriteOpening(&b, good); err != nil {
		t.Fatal(err)
	}
	wire := b.Bytes()
	got, err := tunnel.ReadOpening(iotest.OneByteReader(bytes.NewReader(wire)))
	if err != nil || got != good {
		t.Fatalf("read %+v, %v, want %+v", got, err, good)
	}
	for n := range wire {
		if _, err := tunnel.ReadOpening(bytes.NewReader(wire[:n])); err == nil {
			t.Errorf("an opening of %d bytes was read", n)
		}
	}
	for _, kind := range []byte{0, 5, 255, 'G'} {
		bad := append([]byte{kind}, wire[1:]...)
		if _, err := tunnel.ReadOpening(bytes.NewReader(bad)); err == nil {
			t.Errorf("kind %d was read", kind)
		}
	}
}

func FuzzReadOpening(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := tunnel.ReadOpening(bytes.NewReader(b))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := tunnel.WriteOpening(&again, o); err != nil || !bytes.Equal(again.Bytes(), b[:9]) {
			t.Errorf("read %+v from %x, wrote %x, %v", o, b, again.Bytes(), err)
		}
	})
}
