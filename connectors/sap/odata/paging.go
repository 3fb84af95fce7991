package odata

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"net/url"
	"strings"

	"ropeway/protocol/fault"
)

// streamed reads without a key, following the links of the server's paging as
// long as they stay with the service.
func (r *reader) streamed(ctx context.Context) error {
	u := r.ask(r.where, "", 0)
	if len(u.RawQuery) > maxFilter {
		return badQuery(fmt.Sprintf("the address of the request would have more than %d bytes; ask for less in where and columns", maxFilter))
	}
	seen, empty := map[uint64]bool{}, 0
	for {
		records, link, err := r.fetch(ctx, u)
		if err != nil {
			return err
		}
		for _, raw := range records {
			if more, err := r.record(raw); err != nil || !more {
				return err
			}
		}
		if link == "" {
			r.exhausted = true
			return nil
		}
		if u, err = r.conn.follow(u, link); err != nil {
			return err
		}
		if empty++; len(records) > 0 {
			empty = 0
		}
		if at := linkHash(u); seen[at] || empty > maxEmpty {
			return fault.New(fault.Internal, "E_FOREIGN_LINK", "the pages of the endpoint run in a circle").
				WithSource(name).WithFix("give the export a key, so that it does not need the endpoint's own paging")
		} else {
			seen[at] = true
		}
	}
}

const maxEmpty = 1000 // pages without a record, one after the other

func linkHash(u *url.URL) uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, u.Path+"?"+u.RawQuery)
	return h.Sum64()
}

// follow checks the link to the next page: it must lead to the same origin and
// below the service's root.
func (c *conn) follow(base *url.URL, link string) (*url.URL, error) {
	next, err := c.client.Resolve(base, link)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(next.Path, c.root.Path) {
		return nil, fault.New(fault.Internal, "E_FOREIGN_LINK", "the endpoint's answer points outside of the service").
			WithSource(name).WithFix("correct the endpoint, or give the export a key, so that it does not need the endpoint's own paging")
	}
	return c.logon(next), nil
}

// parseCollection reads {"value": […], "@odata.nextLink": …} of version 4 and
// {"d": {"results": […], "__next": …}} or {"d": […]} of version 2.
func parseCollection(body []byte) ([]json.RawMessage, string, error) {
	var doc struct {
		Value  *[]json.RawMessage `json:"value"`
		Next   string             `json:"@odata.nextLink"`
		Next41 string             `json:"@nextLink"`
		D      json.RawMessage    `json:"d"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, "", fmt.Errorf("it is not JSON of an OData answer")
	}
	if doc.Value != nil {
		return *doc.Value, firstOf(doc.Next, doc.Next41), nil
	}
	var list []json.RawMessage
	if len(doc.D) > 0 && json.Unmarshal(doc.D, &list) == nil {
		return list, "", nil
	}
	var results struct {
		Results *[]json.RawMessage `json:"results"`
		Next    string             `json:"__next"`
	}
	if len(doc.D) == 0 || json.Unmarshal(doc.D, &results) != nil || results.Results == nil {
		return nil, "", fmt.Errorf("it holds no collection")
	}
	return *results.Results, results.Next, nil
}
