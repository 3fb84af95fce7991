package request_test

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ropeway/connectors"
	"ropeway/connectors/request"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A source counts: record i holds the number i and text of some size.
type source struct {
	records int
	text    int           // bytes
	step    time.Duration // by which the clock moves per record
	failAt  int           // 0 = never
	now     atomic.Int64  // nanoseconds
}

var errBroken = fault.Of("E_INTERMITTENT").WithCause("broken")

func (s *source) kind() *connectors.Type {
	shape := page.NewShape("id", "text")
	text := strings.Repeat("x", s.text)
	return &connectors.Type{Name: "counter", Read: func(_ context.Context, _ connectors.Conn,
		_ connectors.Query, after []byte, w *connectors.Writer) (connectors.ReadEnd, error) {
		at := 0
		if after != nil {
			at = int(binary.BigEndian.Uint64(after))
		}
		cursor := func() []byte { return binary.BigEndian.AppendUint64(nil, uint64(at)) }
		for at < s.records {
			at++
			if at == s.failAt {
				return connectors.ReadEnd{}, errBroken
			}
			s.now.Add(int64(s.step))
			e := w.Record(shape)
			e.Int64(int64(at))
			e.String(text)
			if more, err := w.Done(cursor); err != nil || !more {
				return connectors.ReadEnd{}, err
			}
		}
		return connectors.ReadEnd{Exhausted: true}, nil
	}}
}

func (s *source) read(key ...string) request.Read {
	return request.Read{
		Type: s.kind(), Query: connectors.Query{SQL: "count", Key: key}, Epoch: page.NewEpoch(),
		Header: page.Header{Chain: page.Chain{Job: page.NewID(), Step: "export"}},
		Clock:  func() time.Time { return time.Unix(0, s.now.Load()) },
	}
}

func collect(t *testing.T, r request.Read) ([]*page.Page, request.End, error) {
	t.Helper()
	var pages []*page.Page
	end, err := r.Run(t.Context(), func(_ context.Context, p *page.Page) error {
		pages = append(pages, p)
		return nil
	})
	return pages, end, err
}

func TestDelivery_1_1_ReadEndsAfterItsPagesOrItsTime(t *testing.T) {
	for _, test := range []struct {
		name      string
		source    *source
		limits    request.Limits
		pages     int
		records   uint64
		exhausted bool
	}{
		{"16 pages", &source{records: 1000}, request.Limits{PageRecords: 10}, 16, 160, false},
		{"exactly 16 pages", &source{records: 160}, request.Limits{PageRecords: 10}, 16, 160, true},
		{"one more than 16 pages", &source{records: 161}, request.Limits{PageRecords: 10}, 16, 160, false},
		{"10 s are over within the first page", &source{records: 1000, step: time.Second},
			request.Limits{PageRecords: 100}, 1, 100, false},
		{"10 s are over within a later page", &source{records: 1000, step: 10 * time.Second / 150},
			request.Limits{PageRecords: 100}, 2, 164, false},
		{"bytes", &source{records: 10, text: 1000}, request.Limits{PageBytes: 3000}, 4, 10, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := test.source.read("id")
			r.Limits = test.limits
			pages, end, err := collect(t, r)
			if err != nil {
				t.Fatal(err)
			}
			if len(pages) != test.pages || end.Records != test.records || end.Exhausted != test.exhausted {
				t.Fatalf("%d pages, end %+v", len(pages), end)
			}
			if last := pages[len(pages)-1].Header; last.Last != test.exhausted {
				t.Errorf("last page: %+v", last)
			}
		})
	}
}

func TestDelivery_1_1_RequestsJoinWithoutGapOrOverlap(t *testing.T) {
	s := source{records: 1234}
	r := s.read("id")
	r.Limits = request.Limits{Pages: 3, PageRecords: 50}
	next := int64(1)
	var before page.Hash
	for {
		pages, end, err := collect(t, r)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pages {
			if p.Header.Prev != before {
				t.Fatalf("page %d does not follow the page before", p.Header.Seq)
			}
			before = p.Header.Hash()
			d, err := p.Decode()
			if err != nil {
				t.Fatal(err)
			}
			for ; d.Next(); next++ {
				if got := d.Record().Values[0].Int(); got != next {
					t.Fatalf("record %d where %d is due", got, next)
				}
			}
		}
		r.Cursor, r.Seq, r.Prev, r.Pages, r.Records = end.Cursor, end.Seq, end.Prev, end.Pages, end.Records
		if end.Exhausted {
			break
		}
		r.Epoch = page.NewEpoch()
	}
	if next != 1235 || r.Pages != 25 || r.Records != 1234 {
		t.Errorf("ended before record %d with %d pages, %d records", next, r.Pages, r.Records)
	}
}

func TestDelivery_2_4_NothingFoundIsOneEmptyLastPage(t *testing.T) {
	s := source{records: 5}
	r := s.read("id")
	r.Cursor = binary.BigEndian.AppendUint64(nil, 5) // the requests before took everything
	r.Seq, r.Pages, r.Records, r.Prev = 7, 7, 5, page.Hash{1}
	pages, end, err := collect(t, r)
	if err != nil {
		t.Fatal(err)
	}
	h := pages[0].Header
	if len(pages) != 1 || h.Records != 0 || !h.Last || h.TotalPages != 8 || h.TotalRecords != 5 || h.Prev != r.Prev {
		t.Fatalf("%d pages, header %+v", len(pages), h)
	}
	if !end.Exhausted || string(end.Cursor) != string(r.Cursor) {
		t.Errorf("end %+v", end)
	}
}

func TestDelivery_1_4_ReadWithoutKeyIsNotBounded(t *testing.T) {
	s := source{records: 1000, step: time.Minute}
	r := s.read()
	r.Limits = request.Limits{PageRecords: 10}
	pages, end, err := collect(t, r)
	if err != nil || len(pages) != 100 || !end.Exhausted {
		t.Errorf("%d pages, end %+v, %v", len(pages), end, err)
	}
}

func TestErrorKeepsFullPages(t *testing.T) {
	s := source{records: 100, failAt: 25}
	r := s.read("id")
	r.Limits = request.Limits{PageRecords: 10}
	pages, end, err := collect(t, r)
	if !errors.Is(err, errBroken) || len(pages) != 2 || end.Records != 20 || end.Exhausted {
		t.Errorf("%d pages, end %+v, %v", len(pages), end, err)
	}
	if got := binary.BigEndian.Uint64(end.Cursor); got != 20 {
		t.Errorf("the cursor is at %d", got)
	}
}

func TestSendErrorStopsTheRead(t *testing.T) {
	s := source{records: 1_000_000}
	r := s.read("id")
	r.Limits = request.Limits{PageRecords: 10, Pages: 1000}
	sent := 0
	refused := errors.New("refused")
	end, err := r.Run(t.Context(), func(context.Context, *page.Page) error {
		if sent++; sent == 3 {
			return refused
		}
		return nil
	})
	if !errors.Is(err, refused) || sent != 3 || end.Pages != 2 {
		t.Errorf("%d sent, end %+v, %v", sent, end, err)
	}
}

func TestRecordLargerThanTheLimit(t *testing.T) {
	s := source{records: 3, text: page.MaxRecord + 1}
	_, _, err := collect(t, s.read("id"))
	if fault.CodeOf(err) != "E_TOO_LARGE" {
		t.Errorf("got %v", err)
	}
}

func TestCancelEndsABlockedSend(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := source{records: 1_000_000}
	r := s.read("id")
	r.Limits = request.Limits{PageRecords: 10, Pages: 1000}
	_, err := r.Run(ctx, func(ctx context.Context, _ *page.Page) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestImportChecksTheAnswer(t *testing.T) {
	s := source{records: 3}
	pages, _, err := collect(t, s.read("id"))
	if err != nil {
		t.Fatal(err)
	}
	f := fault.Of("E_VALUE")
	for _, test := range []struct {
		answer connectors.Answer
		good   bool
	}{
		{connectors.Answer{Applied: 3}, true},
		{connectors.Answer{Applied: 2, Failed: []connectors.Failure{{Index: 1, Fault: f}}}, true},
		{connectors.Answer{Applied: 2}, false},
		{connectors.Answer{Applied: 2, Failed: []connectors.Failure{{Index: 3, Fault: f}}}, false},
		{connectors.Answer{Applied: 2, Failed: []connectors.Failure{{Index: 0}}}, false},
		{connectors.Answer{Applied: 1, Failed: []connectors.Failure{{Index: 1, Fault: f}, {Index: 1, Fault: f}}}, false},
	} {
		kind := &connectors.Type{Name: "test", Import: func(_ context.Context, _ connectors.Conn, _ connectors.ImportSpec,
			in connectors.Batch) (connectors.Answer, error) {
			if in.Page != pages[0].Header.Name() || in.Step != "load" || in.Records != 3 {
				t.Errorf("batch %+v", in)
			}
			return test.answer, nil
		}}
		_, err := request.Import{Type: kind, Step: "load"}.Run(t.Context(), pages[0])
		if (err == nil) != test.good {
			t.Errorf("%+v: %v", test.answer, err)
		}
	}
	if _, err := (request.Import{Type: &connectors.Type{}}).Run(t.Context(), pages[0]); fault.CodeOf(err) != "E_UNSUPPORTED" {
		t.Errorf("a type without import: %v", err)
	}
}
