package page_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func testKeys(t testing.TB) (*page.Key, page.Keys) {
	t.Helper()
	k, err := page.NewKey("tenant/1", [32]byte{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	return k, func(id string) (*page.Key, error) {
		if id != k.ID() {
			return nil, fault.Of("E_NOT_FOUND").WithCause(id)
		}
		return k, nil
	}
}

func samplePage(t testing.TB) *page.Page {
	e := page.NewEncoder()
	for i := range 20 {
		e.Begin(page.NewShape("a", "b"))
		e.Int64(int64(i))
		e.String(strings.Repeat("customer data ", 5))
		if err := e.EndKeyed(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	return page.New(chainedHeader(), e.Finish([]byte("cursor")), e.Records())
}

func TestPageOpens(t *testing.T) {
	p := samplePage(t)
	d, err := p.Decode()
	if err != nil || d.Records() != 20 {
		t.Fatal(err)
	}
	tests := map[string]func(p *page.Page){
		"size too small":    func(p *page.Page) { p.Header.PayloadSize-- },
		"size too large":    func(p *page.Page) { p.Header.PayloadSize++ },
		"size beyond":       func(p *page.Page) { p.Header.PayloadSize = 1<<32 - 1 },
		"other hash":        func(p *page.Page) { p.Header.PayloadHash[0]++ },
		"other count":       func(p *page.Page) { p.Header.Records++ },
		"cut":               func(p *page.Page) { p.Payload = p.Payload[:len(p.Payload)-1] },
		"empty":             func(p *page.Page) { p.Payload = nil },
		"trailing junk":     func(p *page.Page) { p.Payload = append(p.Payload, 0) },
		"two frames":        func(p *page.Page) { p.Payload = append(p.Payload, page.Compress(nil)...) },
		"skippable frame":   func(p *page.Page) { p.Payload = append(p.Payload, 0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0) },
		"flipped last byte": func(p *page.Page) { p.Payload[len(p.Payload)-1] ^= 1 },
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			p := samplePage(t)
			p.Payload = bytes.Clone(p.Payload)
			damage(p)
			if _, err := p.Decode(); fault.CodeOf(err) != "E_CHECKSUM" {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestCompressSurvives(t *testing.T) {
	random := make([]byte, 1<<20)
	for i := range random {
		random[i] = byte(i * i >> 7)
	}
	for _, b := range [][]byte{nil, {1}, make([]byte, 255), make([]byte, 257), make([]byte, page.MaxPayload), random} {
		got, err := page.Decompress(page.Compress(b), page.MaxPayload)
		if err != nil || !bytes.Equal(got, b) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
}

func TestDecompressStopsBombs(t *testing.T) {
	bomb := page.Compress(make([]byte, page.MaxPayload))
	if len(bomb) > 2048 {
		t.Fatalf("the bomb has %d bytes", len(bomb))
	}
	if _, err := page.Decompress(bomb, page.MaxPayload-1); fault.CodeOf(err) != "E_CHECKSUM" {
		t.Errorf("beyond max: %v", err)
	}
	// One frame that says 1 GiB, one that says less than it holds, one silent.
	huge := []byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x40}
	liar := bytes.Clone(bomb)
	if liar[4]>>6 != 2 {
		t.Fatalf("descriptor %x", liar[4])
	}
	binary.LittleEndian.PutUint32(liar[5:], 1000)
	silent := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58, 0x03, 0x00, 0x01, 0x78}
	for name, b := range map[string][]byte{"huge": huge, "liar": liar, "silent": silent} {
		before := testing.AllocsPerRun(1, func() { _, _ = page.Decompress(b, page.MaxPayload) })
		if _, err := page.Decompress(b, page.MaxPayload); fault.CodeOf(err) != "E_CHECKSUM" || before > 200 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The vectors of the C2SP specification of XAES-256-GCM, through a page key.
func TestSealIsXAES256GCM(t *testing.T) {
	tests := []struct {
		key       byte
		aad, want string
	}{
		{1, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{3, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	}
	for _, test := range tests {
		k, err := page.NewKey("k", [32]byte(bytes.Repeat([]byte{test.key}, 32)))
		if err != nil {
			t.Fatal(err)
		}
		got := page.SealWithNonce(k, []byte("ABCDEFGHIJKLMNOPQRSTUVWX"), []byte("XAES-256-GCM"), []byte(test.aad))
		if hex.EncodeToString(got) != test.want {
			t.Errorf("key %d: %x", test.key, got)
		}
	}
}

func TestSealedPageOpens(t *testing.T) {
	k, keys := testKeys(t)
	p := samplePage(t)
	sealed := page.SealPage(k, p, 3)
	if bytes.Contains(sealed, p.Payload[:16]) {
		t.Error("the payload is in clear")
	}
	h, err := page.PeekHeader(sealed)
	if diff := cmp.Diff(p.Header, h); err != nil || diff != "" {
		t.Errorf("peek: %v %s", err, diff)
	}
	if env, err := page.PeekEnvelope(sealed); err != nil || env.Attempt != 3 {
		t.Errorf("peek: %+v, %v", env, err)
	}
	got, env, err := page.OpenPage(sealed, keys)
	if err != nil || env != (page.Envelope{KeyID: "tenant/1", Attempt: 3}) {
		t.Fatalf("%+v, %v", env, err)
	}
	if diff := cmp.Diff(p, got); diff != "" {
		t.Error(diff)
	}
	if bytes.Equal(sealed, page.SealPage(k, p, 3)) {
		t.Error("the nonce repeats")
	}
}

func TestHostile_3_EveryFlippedBitOfASealedPageIsNoticed(t *testing.T) {
	k, keys := testKeys(t)
	sealed := page.SealPage(k, samplePage(t), 3)
	for i := range sealed {
		if _, _, err := page.OpenPage(sealed[:i], keys); err == nil {
			t.Fatalf("the first %d bytes open", i)
		}
		for bit := range 8 {
			sealed[i] ^= 1 << bit
			if _, _, err := page.OpenPage(sealed, keys); err == nil {
				t.Fatalf("opens with bit %d of byte %d changed", bit, i)
			}
			sealed[i] ^= 1 << bit
		}
	}
	if _, _, err := page.OpenPage(append(sealed, 0), keys); fault.CodeOf(err) != "E_CHECKSUM" {
		t.Errorf("with a trailing byte: %v", err)
	}
}

func TestSealedBytesAreBound(t *testing.T) {
	k, keys := testKeys(t)
	plain, aad := []byte("cursor of a customer"), []byte("chain/read.1")
	sealed := page.SealBytes(k, plain, aad)
	got, err := page.OpenBytes(sealed, aad, keys)
	if err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("%q, %v", got, err)
	}
	if empty, err := page.OpenBytes(page.SealBytes(k, nil, nil), nil, keys); err != nil || len(empty) != 0 {
		t.Errorf("empty: %v", err)
	}
	tests := map[string]struct {
		sealed, aad []byte
		code        string
	}{
		"other place":   {sealed, []byte("chain/read.2"), "E_CHECKSUM"},
		"no place":      {sealed, nil, "E_CHECKSUM"},
		"empty":         {nil, aad, "E_CHECKSUM"},
		"cut":           {sealed[:len(sealed)-1], aad, "E_CHECKSUM"},
		"a page":        {page.SealPage(k, samplePage(t), 0), aad, "E_CHECKSUM"},
		"other version": {append([]byte{'B', 2}, sealed[2:]...), aad, "E_FORMAT_VERSION"},
		"no key id":     {[]byte{'B', 1, 0, 1, 2, 3}, aad, "E_CHECKSUM"},
		"unknown key":   {append([]byte{'B', 1, 1, 'x'}, sealed[4:]...), aad, "E_NOT_FOUND"},
	}
	for name, test := range tests {
		if _, err := page.OpenBytes(test.sealed, test.aad, keys); fault.CodeOf(err) != test.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	boom := errors.New("sealed key store")
	if _, err := page.OpenBytes(sealed, aad, func(string) (*page.Key, error) { return nil, boom }); !errors.Is(err, boom) {
		t.Errorf("the key store's error is lost: %v", err)
	}
	if _, err := page.OpenBytes(sealed, aad, func(string) (*page.Key, error) { return nil, nil }); fault.CodeOf(err) != "E_SEALED" {
		t.Errorf("without a key: %v", err)
	}
}

func TestKeysDoNotPrint(t *testing.T) {
	raw := [32]byte([]byte("0123456789abcdef0123456789abcdef"))
	k, err := page.NewKey("k1", raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(format, k); s != "key k1 ***" {
			t.Errorf("%s prints %s", format, s)
		}
	}
	for _, id := range []string{"", "a b", "a\n", strings.Repeat("k", 129), "ü"} {
		if _, err := page.NewKey(id, raw); err == nil {
			t.Errorf("key id %q passes", id)
		}
	}
}
