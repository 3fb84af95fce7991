package quic

import (
	"encoding/binary"
	"io"
	"time"

	"ropeway/protocol/tunnel"
)

// closeLimit is for the last words of Close, on either side.
const closeLimit = 500 * time.Millisecond

// Close implements tunnel.Session. QUIC forgets what is under way, and what the
// other side has not read yet, as soon as either side closes the connection. So
// the side that leaves says goodbye, and the other one closes the connection when
// it has taken everything in.
func (s *session) Close() error {
	s.finish.Do(func() {
		if s.end(tunnel.ErrClosed) {
			s.sayGoodbye()
		}
		_ = s.conn.CloseWithError(codeBye, "")
	})
	s.work.Wait()
	return nil
}

// sayGoodbye ends all streams after what was written on them, says how many there
// were, and waits shortly for the other side to close.
func (s *session) sayGoodbye() {
	for _, st := range s.live() {
		st.abandon()
	}
	bye, err := s.conn.OpenUniStream()
	if err != nil {
		return // said before, or the connection is gone
	}
	s.mu.Lock()
	opened := s.opened
	s.mu.Unlock()
	_, _ = bye.Write(binary.BigEndian.AppendUint64(nil, opened))
	_ = bye.Close()
	wait := time.NewTimer(closeLimit)
	defer wait.Stop()
	select {
	case <-s.conn.Context().Done():
	case <-s.byeSeen: // both leave: nobody reads any more
	case <-wait.C:
	}
}

// hearGoodbye waits for the goodbye of the other side, takes in what it wrote and
// closes the connection. Readers find in memory what they had not read.
func (s *session) hearGoodbye() {
	ctx := s.conn.Context()
	bye, err := s.conn.AcceptUniStream(ctx)
	if err != nil {
		return
	}
	deadline := time.Now().Add(closeLimit)
	_ = bye.SetReadDeadline(deadline)
	var opened [8]byte
	_, err = io.ReadFull(bye, opened[:])
	close(s.byeSeen)
	if s.Err() == nil && err == nil {
		s.takeIn(binary.BigEndian.Uint64(opened[:]), deadline)
	}
	s.end(tunnel.ErrPeerClosed)
	_ = s.conn.CloseWithError(codeBye, "")
}

// takeIn waits until all streams of the other side are here and moves what they
// carry into memory. There is no more of it than the windows let through.
func (s *session) takeIn(opened uint64, deadline time.Time) {
	late := time.NewTimer(time.Until(deadline))
	defer late.Stop()
	for {
		s.mu.Lock()
		here, news := s.arrived >= opened, s.news
		s.mu.Unlock()
		if here {
			break
		}
		select {
		case <-news:
		case <-late.C:
			return
		case <-s.done:
			return
		}
	}
	for _, st := range s.live() {
		st.takeIn(deadline)
	}
}
