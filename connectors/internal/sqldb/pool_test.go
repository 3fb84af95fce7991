package sqldb

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// fake is a session that counts what happens to it.
type fake struct{ dead, asked, ended bool }

func (f *fake) Alive(context.Context) bool { f.asked = true; return !f.dead }
func (f *fake) End()                       { f.ended = true }

func TestPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Pool[string, *fake]
		first, second := &fake{}, &fake{}
		p.Give("read", first)
		if _, ok := p.Take(t.Context(), "write"); ok {
			t.Error("a session of another role")
		}
		if s, ok := p.Take(t.Context(), "read"); !ok || s != first || first.asked {
			t.Error("a session that was just used is looked at or lost")
		}
		p.Give("read", first)
		p.Give("read", second)
		second.dead = true
		time.Sleep(2 * trustedFor)
		if s, ok := p.Take(t.Context(), "read"); !ok || s != first || !first.asked || !second.ended {
			t.Error("a dead session is given out")
		}
		p.Give("read", first)
		time.Sleep(2 * idleFor)
		p.Give("read", &fake{})
		if !first.ended {
			t.Error("a session is idle for long")
		}
		sessions := make([]*fake, maxIdle+1)
		for i := range sessions {
			sessions[i] = &fake{}
			p.Give("write", sessions[i])
		}
		if !sessions[maxIdle].ended || sessions[0].ended {
			t.Error("too many sessions are idle")
		}
		p.Close()
		late := &fake{}
		p.Give("write", late)
		if _, ok := p.Take(t.Context(), "write"); ok || !sessions[0].ended || !late.ended {
			t.Error("a session outlives the pool")
		}
	})
}
