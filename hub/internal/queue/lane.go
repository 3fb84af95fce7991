package queue

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ropeway/protocol/page"
)

// Lane is the queue of a connection that lends slots (usually only to itself).
type Lane struct {
	Place
	Connection page.ID
	// Borrowers are the connections whose messages also come through this lane
	// and share its slots. They have no lane of their own.
	Borrowers []page.ID
	// Level is the number of messages in flight over all replicas; 0 is burst
	// (BurstLevel), BurstLevel the most.
	Level int
	// Paused is the desired state as the store has it; it is applied whenever
	// the consumer has to be made again.
	Paused bool
}

func (l Lane) validate() error {
	if err := l.Place.valid(); err != nil {
		return err
	}
	if l.Connection.IsZero() {
		return fmt.Errorf("lane without a connection: %w", ErrInvalid)
	}
	if l.Level < 0 || l.Level > BurstLevel {
		return fmt.Errorf("level %d of connection %s: %w", l.Level, l.Connection, ErrInvalid)
	}
	for i, b := range l.Borrowers {
		if b.IsZero() || b == l.Connection || slices.Contains(l.Borrowers[:i], b) {
			return fmt.Errorf("borrower %s of connection %s: %w", b, l.Connection, ErrInvalid)
		}
	}
	return nil
}

func (l Lane) level() int {
	if l.Level == 0 {
		return BurstLevel
	}
	return l.Level
}

// consumer is the name of the lane's durable consumer of a generation.
func (l Lane) consumer(generation int64) string {
	return "C_" + l.Connection.String() + "_" + strconv.FormatInt(generation, 10)
}

// parseGeneration reads the generation out of a consumer's name.
func parseGeneration(consumer string) (int64, error) {
	n, err := strconv.ParseInt(consumer[strings.LastIndexByte(consumer, '_')+1:], 10, 64)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("consumer %q: %w", consumer, ErrInvalid)
	}
	return n, nil
}

// key names the lane within the engine.
func (l Lane) key() string { return l.stream() + "." + l.Connection.String() }

// filters are the lane's subjects in a fixed order.
func (l Lane) filters() []string {
	out := make([]string, 0, len(l.Borrowers)+1)
	for _, c := range append([]page.ID{l.Connection}, l.Borrowers...) {
		out = append(out, l.subject("pages", c.String(), "*"))
	}
	slices.Sort(out)
	return out
}
