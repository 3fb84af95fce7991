package transform

import (
	"context"
	"fmt"
)

// Bounds of one evaluation over one record. They count, so that the same record
// meets them the same way every time.
const (
	maxWork    = 1_000_000 // calls of functions and rounds of loops
	maxMemory  = 64 << 20  // bytes of texts and lists made
	maxText    = 4 << 20   // bytes of one text
	vmMemory   = 200_000   // elements of lists and maps made by the language itself
	checkEvery = 4096      // rounds between looks at the context
)

var errTextTooLong = fmt.Errorf("the text is longer than %d MiB", maxText>>20)

// budget is what is left of one evaluation.
type budget struct {
	ctx    context.Context
	work   int
	memory int
}

func (b *budget) reset() { b.work, b.memory = maxWork, maxMemory }

// spend takes n units of work.
func (b *budget) spend(n int) error {
	before := b.work
	b.work -= n
	if b.work < 0 {
		return fmt.Errorf("the expression does too much work on one record (limit %d steps)", maxWork)
	}
	if b.ctx != nil && before/checkEvery != b.work/checkEvery {
		return b.ctx.Err()
	}
	return nil
}

// charge takes the memory of n bytes made, and the work to make them.
func (b *budget) charge(n int) error {
	b.memory -= n
	if b.memory < 0 {
		return fmt.Errorf("the expression uses too much memory on one record (limit %d MiB)", maxMemory>>20)
	}
	return b.spend(1 + n/256)
}

// text returns s if it is within the bounds.
func (b *budget) text(s string) (any, error) {
	if len(s) > maxText {
		return nil, errTextTooLong
	}
	return s, b.charge(len(s))
}
