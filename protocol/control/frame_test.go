package control_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func samplePage(payload []byte) *page.Page {
	return &page.Page{
		Header: page.Header{
			Version: 1,
			Tenant:  page.NewID(), Environment: page.NewID(), Flow: page.NewID(), FlowVersion: 3,
			Chain: page.Chain{Job: page.NewID(), Step: "export"},
			Epoch: page.NewEpoch(), Seq: 7,
			Records: 1, PayloadSize: uint32(len(payload)),
			Created: time.UnixMicro(1_800_000_000_000_000).UTC(),
		},
		Payload: payload,
	}
}

func TestFrames_RoundTrip(t *testing.T) {
	var wire bytes.Buffer
	w := control.NewFrameWriter(&wire)
	pages := []*page.Page{samplePage(nil), samplePage([]byte("x")), samplePage(bytes.Repeat([]byte("y"), 5<<20))}
	for _, p := range pages {
		if err := w.Page(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	for name, reader := range map[string]io.Reader{
		"at once":            bytes.NewReader(wire.Bytes()),
		"one byte at a time": iotest.OneByteReader(bytes.NewReader(wire.Bytes())),
	} {
		r := control.NewFrameReader(reader)
		for i, want := range pages {
			got, err := r.Page()
			if err != nil {
				t.Fatalf("%s: page %d: %v", name, i, err)
			}
			if got.Header.Hash() != want.Header.Hash() || !bytes.Equal(got.Payload, want.Payload) {
				t.Errorf("%s: page %d differs", name, i)
			}
		}
		for range 2 {
			if _, err := r.Page(); err != io.EOF {
				t.Errorf("%s: after the end: %v", name, err)
			}
		}
	}
}

func TestFrames_Acks(t *testing.T) {
	long := strings.Repeat("\x00", fault.MaxText)
	acks := []control.Ack{
		{Seq: 0, Status: control.Accepted},
		{Seq: 1<<64 - 1, Status: control.Already},
		{Seq: 2, Status: control.Refused, Fault: &fault.Error{Code: "E_CHECKSUM", Class: fault.Internal, Sentence: "no"}},
		{Seq: 3, Status: control.Conflict, Fault: &fault.Error{Code: "E_PAGE_CONFLICT", Class: fault.Internal}},
		{Seq: 4, Status: control.Superseded, Fault: &fault.Error{
			Code: "E_SUPERSEDED", Class: fault.Internal, Sentence: long, Cause: long, Fix: long}},
	}
	var wire bytes.Buffer
	w := control.NewFrameWriter(&wire)
	for _, a := range acks {
		if err := w.Ack(a); err != nil {
			t.Fatal(err)
		}
	}
	r := control.NewFrameReader(&wire)
	for _, want := range acks {
		got, err := r.Ack()
		if err != nil || got.Seq != want.Seq || got.Status != want.Status {
			t.Fatalf("read %+v, %v, want %+v", got, err, want)
		}
		if want.Fault != nil && (got.Fault.Code != want.Fault.Code || got.Fault.Class != want.Fault.Class) {
			t.Errorf("fault %+v, want %+v", got.Fault, want.Fault)
		}
	}
	if _, err := r.Ack(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a cut stream gave %v", err)
	}
}

func TestFrames_TruncatedAtEveryByte(t *testing.T) {
	var wire bytes.Buffer
	w := control.NewFrameWriter(&wire)
	if err := w.Page(samplePage([]byte("payload"))); err != nil {
		t.Fatal(err)
	}
	for n := range wire.Len() {
		_, err := control.NewFrameReader(bytes.NewReader(wire.Bytes()[:n])).Page()
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d of %d bytes gave %v", n, wire.Len(), err)
		}
	}
}

func TestHostile_3_LengthsOfFrames(t *testing.T) {
	lengths := func(header, payload uint32) []byte {
		b := binary.BigEndian.AppendUint32([]byte{'P'}, header)
		return binary.BigEndian.AppendUint32(b, payload)
	}
	ack := func(status byte, n uint32) []byte {
		return binary.BigEndian.AppendUint32(append([]byte("A12345678"), status), n)
	}
	cases := map[string]struct {
		b   []byte
		ack bool
	}{
		"header of 0":           {b: lengths(0, 0)},
		"header of max+1":       {b: lengths(control.MaxHeader+1, 0)},
		"header of 2^32-1":      {b: lengths(1<<32-1, 0)},
		"payload of max+1":      {b: lengths(10, control.MaxPayload+1)},
		"payload of 2^31-1":     {b: lengths(10, 1<<31-1)},
		"unknown type":          {b: []byte("X")},
		"an ack for a page":     {b: ack(1, 0)},
		"a page for an ack":     {b: lengths(1, 1), ack: true},
		"status 0":              {b: ack(0, 0), ack: true},
		"status 6":              {b: ack(6, 0), ack: true},
		"fault of max+1":        {b: ack(5, control.MaxFault+1), ack: true},
		"fault that is no JSON": {b: append(ack(5, 3), "{]}"...), ack: true},
	}
	for name, c := range cases {
		r := control.NewFrameReader(bytes.NewReader(c.b))
		var err error
		if c.ack {
			_, err = r.Ack()
		} else {
			_, err = r.Page()
		}
		if !errors.Is(err, control.ErrFrame) {
			t.Errorf("%s: %v, want %v", name, err, control.ErrFrame)
		}
	}
	big := samplePage(make([]byte, control.MaxPayload+1))
	if err := control.NewFrameWriter(io.Discard).Page(big); fault.CodeOf(err) != "E_TOO_LARGE" {
		t.Errorf("a page too large was written: %v", err)
	}
}

// A length of 8 MiB with nothing behind it must not cost 8 MiB.
func TestFrames_MemoryFollowsTheBytes(t *testing.T) {
	var wire bytes.Buffer
	if err := control.NewFrameWriter(&wire).Page(samplePage(make([]byte, control.MaxPayload))); err != nil {
		t.Fatal(err)
	}
	head := wire.Bytes()[:wire.Len()-control.MaxPayload+10]
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := control.NewFrameReader(bytes.NewReader(head)).Page(); err == nil {
		t.Fatal("a page without its end was read")
	}
	runtime.ReadMemStats(&after)
	got := after.TotalAlloc - before.TotalAlloc
	if got > 2<<20 {
		t.Errorf("%d bytes were taken for a page that never came", got)
	}
}

func TestFault_CrossesTheWire(t *testing.T) {
	want := &fault.Error{Code: "E_VALUE", Class: fault.Value, Source: "postgres", Sentence: "s",
		Cause: "c", Fix: "f", Field: "amount", RetryAfter: 1500 * time.Millisecond}
	got := control.ToError(control.FromError(want.Wrap(io.EOF)))
	if got.Unwrap() != nil {
		t.Error("what an error wraps crossed the wire")
	}
	if diff := cmp.Diff(*want, *got, cmp.Comparer(func(a, b fault.Error) bool {
		return a.Error() == b.Error() &&
			a.Code == b.Code && a.Class == b.Class && a.Field == b.Field && a.RetryAfter == b.RetryAfter
	})); diff != "" {
		t.Error(diff)
	}
	if control.FromError(nil) != nil || control.ToError(nil) != nil {
		t.Error("nil did not stay nil")
	}
	odd := control.ToError(&control.Fault{Class: "catastrophe", Cause: strings.Repeat("x", 1<<20), RetryAfterMs: -1})
	if odd.Code != "E_INTERNAL" || odd.Class != fault.Internal || len(odd.Cause) != fault.MaxText || odd.RetryAfter != 0 {
		t.Errorf("an odd fault was read as %.100v", odd)
	}
}

func TestSpeaks_RefusesUnknownVersions(t *testing.T) {
	cases := []struct {
		control, page []uint32
		ok            bool
	}{
		{[]uint32{1}, []uint32{1}, true},
		{[]uint32{2, 1}, []uint32{1, 9}, true},
		{[]uint32{2}, []uint32{1}, false},
		{[]uint32{1}, []uint32{2}, false},
		{nil, nil, false},
	}
	for _, c := range cases {
		err := control.Speaks("agent", c.control, c.page)
		if c.ok != (err == nil) || !c.ok && err.Code != "E_FORMAT_VERSION" {
			t.Errorf("%v and %v: %v", c.control, c.page, err)
		}
	}
}

func TestOutbox_KeepsOrderAndEnds(t *testing.T) {
	o := control.NewOutbox[int]()
	got := make(chan int, 100)
	done := make(chan error, 1)
	go func() { done <- o.Run(t.Context(), func(n int) error { got <- n; return nil }) }()
	for n := range 100 {
		o.Put(n)
	}
	o.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for n := range 100 {
		if m := <-got; m != n {
			t.Fatalf("got %d, want %d", m, n)
		}
	}
	if o.Put(1) {
		t.Error("a closed outbox took a message")
	}
}

func FuzzFrames(f *testing.F) {
	var wire bytes.Buffer
	w := control.NewFrameWriter(&wire)
	_ = w.Page(samplePage([]byte("payload")))
	_ = w.Ack(control.Ack{Seq: 1, Status: control.Refused, Fault: fault.Of("E_CHECKSUM")})
	_ = w.End()
	f.Add(wire.Bytes(), false)
	f.Add(wire.Bytes(), true)
	f.Fuzz(func(t *testing.T, b []byte, acks bool) {
		r, again := control.NewFrameReader(bytes.NewReader(b)), new(bytes.Buffer)
		w := control.NewFrameWriter(again)
		for {
			if acks {
				a, err := r.Ack()
				if err != nil {
					return
				}
				if err := w.Ack(a); err != nil {
					t.Fatalf("ack %+v was read and cannot be written: %v", a, err)
				}
				continue
			}
			before := again.Len()
			p, err := r.Page()
			if err != nil {
				return
			}
			if err := w.Page(p); err != nil {
				t.Fatalf("a page was read and cannot be written: %v", err)
			}
			if !bytes.Equal(again.Bytes()[before:], b[before:again.Len()]) {
				t.Fatal("a page was read that would be written otherwise")
			}
		}
	})
}
