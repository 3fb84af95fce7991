package quic

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"time"
)

const (
	maxTargets = 4
	headStart  = 300 * time.Millisecond // of one address before the next
)

// resolve gives the addresses behind addr, at most maxTargets.
func resolve(ctx context.Context, addr string) ([]netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, err
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var targets []netip.AddrPort
	for _, ip := range found[:min(len(found), maxTargets)] {
		targets = append(targets, netip.AddrPortFrom(ip.Unmap(), uint16(port)))
	}
	return targets, nil
}

type arrival struct {
	session *session
	err     error
}

// race dials the addresses one after the other, each with a head start or until
// it has failed, and takes the first session; it waits for the others to give up.
func race(ctx context.Context, targets []netip.AddrPort, dial func(context.Context, netip.AddrPort) (*session, error)) (*session, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	arrivals := make(chan arrival)
	start := func(to netip.AddrPort) {
		go func() {
			s, err := dial(ctx, to)
			arrivals <- arrival{s, err}
		}()
	}
	var winner *session
	var failures []error
	running, next := 0, time.NewTimer(0)
	defer next.Stop()
	for len(targets) > 0 && winner == nil || running > 0 {
		select {
		case <-next.C:
			if len(targets) > 0 && winner == nil {
				start(targets[0])
				targets, running = targets[1:], running+1
				next.Reset(headStart)
			}
		case a := <-arrivals:
			running--
			switch {
			case a.err != nil:
				failures = append(failures, a.err)
				next.Reset(0)
			case winner != nil:
				a.session.Close()
			default:
				winner = a.session
				cancel()
			}
		}
	}
	if winner != nil {
		return winner, nil
	}
	if len(failures) == 0 {
		return nil, errors.New("the name has no address")
	}
	return nil, failures[0]
}
