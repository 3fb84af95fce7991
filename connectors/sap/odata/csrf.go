package odata

import (
	"context"
	"net/http"
	"strings"
	"sync"

	"ropeway/connectors/internal/httpapi"
	"ropeway/protocol/fault"
)

// The header by which SAP hands out and demands tokens against cross-site
// requests. A token belongs to the session that the cookies name.
const csrfHeader = "X-Csrf-Token"

// A token is the one of this session.
type token struct {
	mu    sync.Mutex
	value string
	known bool // asked for; a service without tokens gives none
}

// csrf returns the token, asking for one when there is none or when it is the
// one that was refused.
func (c *conn) csrf(ctx context.Context, refused *string) (string, error) {
	c.token.mu.Lock()
	defer c.token.mu.Unlock()
	if c.token.known && (refused == nil || c.token.value != *refused) {
		return c.token.value, nil
	}
	a, err := c.get(ctx, c.at("", ""), http.Header{
		"Accept": {"application/json, application/atomsvc+xml;q=0.8"}, csrfHeader: {"Fetch"},
	})
	if err != nil {
		return "", err
	}
	if a.Status != http.StatusOK {
		return "", c.refused(a)
	}
	c.token.value, c.token.known = a.Header.Get(csrfHeader), true
	if strings.EqualFold(c.token.value, "required") {
		c.token.value = ""
	}
	return c.token.value, nil
}

const csrfTries = 3

// write sends a changing request with a token. A refused token means that
// nothing was done, so the request is sent again with a new one.
func (c *conn) write(ctx context.Context, r httpapi.Request) (*httpapi.Answer, error) {
	var refused *string
	for range csrfTries {
		value, err := c.csrf(ctx, refused)
		if err != nil {
			return nil, err
		}
		if value != "" {
			r.Header.Set(csrfHeader, value)
		}
		a, err := c.client.Do(ctx, r)
		if err != nil {
			return nil, err
		}
		if a.Status != http.StatusForbidden || !strings.EqualFold(a.Header.Get(csrfHeader), "required") {
			return a, nil
		}
		refused = &value
	}
	return nil, fault.Of("E_AUTH_REJECTED").WithSource(name).
		WithSentence("the endpoint keeps refusing the CSRF token that it has just given").
		WithFix("check that requests with the same cookies reach the same application server")
}
