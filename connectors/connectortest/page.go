package connectortest

import (
	"context"
	"crypto/sha256"
	"testing"
	"time"

	"ropeway/connectors"
	"ropeway/connectors/request"
	"ropeway/protocol/page"
)

// seal makes a page with a name of its own.
func seal(e *page.Encoder) *page.Page {
	records := e.Records()
	payload := e.Finish(nil)
	return &page.Page{
		Header: page.Header{
			Version: page.Version, Tenant: page.NewID(), Environment: page.NewID(), Flow: page.NewID(),
			Chain: page.Chain{Job: page.NewID(), Step: "export"}, Epoch: page.NewEpoch(),
			Records: uint32(records), PayloadSize: uint32(len(payload)),
			PayloadHash: sha256.Sum256(payload), Created: time.UnixMicro(1_700_000_000_000_000).UTC(),
		},
		Payload: page.Compress(payload),
	}
}

// load imports a page at step "load".
func (s *suite) load(ctx context.Context, c connectors.Conn, spec connectors.ImportSpec, p *page.Page) (connectors.Answer, error) {
	return request.Import{Type: s.Type, Conn: c, Spec: spec, Step: "load"}.Run(ctx, p)
}

// mustLoad imports and fails the test on an error.
func (s *suite) mustLoad(t testing.TB, c connectors.Conn, spec connectors.ImportSpec, p *page.Page) connectors.Answer {
	t.Helper()
	answer, err := s.load(t.Context(), c, spec, p)
	if err != nil {
		t.Fatalf("import: %v", err)
	}
	return answer
}
