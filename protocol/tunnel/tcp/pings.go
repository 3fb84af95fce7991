package tcp

import "time"

// pingLimit lets 16 pings a second pass, and 64 at once.
type pingLimit struct {
	tokens float64
	last   time.Time
}

func (p *pingLimit) allow(now time.Time) bool {
	if p.last.IsZero() {
		p.tokens = 64
	} else {
		p.tokens = min(64, p.tokens+16*now.Sub(p.last).Seconds())
	}
	p.last = now
	if p.tokens < 1 {
		return false
	}
	p.tokens--
	return true
}
