package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
)

// speeds are MB/s of Go benchmarks by name, one of each run.
type speeds map[string][]float64

func (s speeds) names() []string { return slices.Sorted(maps.Keys(s)) }

// benchLine is a line of `go test -bench` of a benchmark that sets its bytes.
var benchLine = regexp.MustCompile(`(?m)^Benchmark(\S+?)(?:-\d+)?\s+\d+\s.*?([\d.]+) MB/s`)

// benchmarks runs Go benchmarks of a package three times in turn: the packages are
// internal, so that they cannot be called from here.
func benchmarks(ctx context.Context, pkg, pattern string) (speeds, error) {
	found := speeds{}
	for range 3 {
		cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", pattern, pkg)
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("%s: %w\n%s%s", cmd, err, out, said.String())
		}
		for _, m := range benchLine.FindAllSubmatch(out, -1) {
			speed, err := strconv.ParseFloat(string(m[2]), 64)
			if err != nil {
				return nil, fmt.Errorf("read %q: %w", m[0], err)
			}
			found[string(m[1])] = append(found[string(m[1])], speed)
		}
	}
	return found, nil
}
