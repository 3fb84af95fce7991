package request

import (
	"context"
	"crypto/sha256"
	"time"

	"ropeway/protocol/page"
)

// A sealer turns full encoders into pages: it compresses, hashes, chains and
// sends page n while the connector reads page n+1.
type sealer struct {
	read Read
	send func(context.Context, *page.Page) error
	full chan unsealed
	free chan *page.Encoder

	end End   // of what was sent; read after run has returned
	err error // the first; likewise
}

type unsealed struct {
	encoder *page.Encoder
	cursor  []byte
	last    bool
}

// encoders is how many pages are in the making at once: one being filled, one
// waiting, one being sealed.
const encoders = 3

func newSealer(r Read, send func(context.Context, *page.Page) error) *sealer {
	s := &sealer{
		read: r, send: send, end: r.start(),
		full: make(chan unsealed, 1),
		free: make(chan *page.Encoder, encoders),
	}
	for range encoders {
		s.free <- page.NewEncoder()
	}
	return s
}

// run seals and sends until full is closed. After the first error, which stops
// the read through cancel, the rest is thrown away.
func (s *sealer) run(ctx context.Context, cancel context.CancelCauseFunc) {
	for u := range s.full {
		if s.err != nil {
			continue
		}
		if s.err = s.sendOne(ctx, u); s.err != nil {
			cancel(s.err)
			continue
		}
		u.encoder.Reset()
		s.free <- u.encoder
	}
}

func (s *sealer) sendOne(ctx context.Context, u unsealed) error {
	p, hash := s.seal(u)
	if err := s.send(ctx, p); err != nil {
		return err
	}
	s.end.Exhausted = u.last
	s.end.Cursor = u.cursor
	s.end.Seq++
	s.end.Prev = hash
	s.end.Pages++
	s.end.Records += uint64(p.Header.Records)
	return nil
}

func (s *sealer) seal(u unsealed) (*page.Page, page.Hash) {
	records := u.encoder.Records()
	payload := u.encoder.Finish(u.cursor)
	h := s.read.Header
	h.Version = page.Version
	h.Epoch = s.read.Epoch
	h.Seq = s.end.Seq
	h.Prev = s.end.Prev
	h.Records = uint32(records)
	h.PayloadSize = uint32(len(payload))
	h.PayloadHash = sha256.Sum256(payload)
	h.Created = s.read.Clock().UTC().Truncate(time.Microsecond)
	if u.last {
		h.Last = true
		h.TotalPages = s.end.Pages + 1
		h.TotalRecords = s.end.Records + uint64(records)
	}
	return &page.Page{Header: h, Payload: page.Compress(payload)}, h.Hash()
}
