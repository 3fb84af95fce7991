package sqldb

import (
	"errors"

	"ropeway/connectors"
	"ropeway/protocol/fault"
)

// ErrSplit says that rows cannot be applied together but perhaps apart, for
// example two records of one key in one upsert.
var ErrSplit = errors.New("the rows must be applied apart")

// A Bisection applies rows in order so that one bad row never takes others
// down (SEMANTICS §5.3).
type Bisection struct {
	// Attempt applies rows [lo, hi) as a whole or not at all. An error of a
	// class that parks, or ErrSplit, is followed by attempts of the halves;
	// any other ends the bisection.
	Attempt func(lo, hi int) error
	// Failed takes the fault of one row, in ascending order. Its error ends
	// the bisection.
	Failed func(row int, f *fault.Error) error
}

// Run applies n rows.
func (b Bisection) Run(n int) error {
	if n == 0 {
		return nil
	}
	return b.apply(0, n)
}

func (b Bisection) apply(lo, hi int) error {
	err := b.Attempt(lo, hi)
	switch {
	case err == nil:
		return nil
	case hi-lo > 1 && Divisible(err):
		middle := lo + (hi-lo)/2
		if err := b.apply(lo, middle); err != nil {
			return err
		}
		return b.apply(middle, hi)
	case fault.ClassOf(err).Parks():
		return b.Failed(lo, fault.From(err))
	}
	return err
}

// Divisible reports whether an error may be the fault of single rows.
func Divisible(err error) bool {
	return errors.Is(err, ErrSplit) || fault.ClassOf(err).Parks()
}

// SortFailures puts failures in ascending order of their records.
func SortFailures(list []connectors.Failure) []connectors.Failure {
	sortByIndex(list)
	return list
}
