package httpapi

import (
	"net/http"
	"sync"
	"time"
)

const (
	maxCookies = 50
	maxCookie  = 4 << 10 // bytes of a name and value
)

// cookies are those of one origin. Path and domain play no part: nothing is
// ever sent elsewhere, and a session that was lost is made anew.
type cookies struct {
	mu   sync.Mutex
	held []cookie
}

type cookie struct {
	name, value string
	ends        time.Time // zero = with the session
}

// take keeps what an answer sets.
func (c *cookies) take(header http.Header, clock func() time.Time) {
	if len(header["Set-Cookie"]) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, set := range (&http.Response{Header: header}).Cookies() {
		c.set(set, clock())
	}
}

func (c *cookies) set(set *http.Cookie, now time.Time) {
	for i := range c.held {
		if c.held[i].name == set.Name {
			c.held = append(c.held[:i], c.held[i+1:]...)
			break
		}
	}
	next := cookie{name: set.Name, value: set.Value, ends: set.Expires}
	if set.MaxAge > 0 {
		next.ends = now.Add(time.Duration(min(set.MaxAge, 1<<30)) * time.Second)
	}
	dead := set.MaxAge < 0 || !next.ends.IsZero() && !next.ends.After(now)
	if dead || len(set.Name)+len(set.Value) > maxCookie {
		return
	}
	if len(c.held) == maxCookies {
		c.held = c.held[1:]
	}
	c.held = append(c.held, next)
}

// put adds the cookies to a request.
func (c *cookies) put(header http.Header, clock func() time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.held) == 0 {
		return
	}
	r := http.Request{Header: header}
	now := clock()
	for _, k := range c.held {
		if k.ends.IsZero() || k.ends.After(now) {
			r.AddCookie(&http.Cookie{Name: k.name, Value: k.value})
		}
	}
}
