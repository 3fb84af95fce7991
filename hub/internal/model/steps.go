package model

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// MaxSteps bounds the steps of one flow.
const MaxSteps = 200

// ExportName is the step token of an export that has no name of its own.
const ExportName = "export"

var stepToken = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)

// ValidStepName reports whether name can be a step token: it becomes part of
// page names and of queue subjects.
func ValidStepName(name string) bool { return stepToken.MatchString(name) }

// Kind returns what the step does: filter, map, set or import; "" when empty.
func (s Step) Kind() string {
	switch {
	case s.Filter != "":
		return "filter"
	case s.Map != nil:
		return "map"
	case s.Set != nil:
		return "set"
	case s.Import != nil:
		return "import"
	}
	return ""
}

// nameSteps gives every step without a name one made of its kind and its
// ordinal among the steps of that kind: filter-1, import-2.
func nameSteps(f *Flow) {
	if f.Export != nil && f.Export.Name == "" {
		f.Export.Name = ExportName
	}
	taken := f.tokens()
	for i := range f.Steps {
		if f.Steps[i].Name == "" {
			f.Steps[i].Name = freshName(f.Steps[i].Kind(), taken)
			f.Steps[i].Derived = true
			taken[f.Steps[i].Name] = true
		}
	}
}

func (f *Flow) tokens() map[string]bool {
	taken := map[string]bool{ExportName: true}
	if f.Export != nil {
		taken[f.Export.Name] = true
	}
	for _, s := range f.Steps {
		if s.Name != "" {
			taken[s.Name] = true
		}
	}
	return taken
}

func freshName(kind string, taken map[string]bool) string {
	for n := 1; ; n++ {
		if name := fmt.Sprintf("%s-%d", kind, n); !taken[name] {
			return name
		}
	}
}

// KeepStepNames gives the derived names of the old version of a flow to the
// same steps of the new one, so that inserting, removing or editing a step
// renames no other (DELIVERY §2.6). A step is the same when its content is; an
// edited step is the one of its kind at the same place between two such steps.
// A new step never takes a name the old version used.
func KeepStepNames(old, new *Flow) {
	if old == nil || new == nil {
		return
	}
	k := keeper{old: old.Steps, new: new.Steps}
	k.match()
	taken := map[string]bool{ExportName: true}
	for name := range old.tokens() {
		taken[name] = true
	}
	given := map[string]bool{}
	if new.Export != nil {
		given[new.Export.Name] = true
	}
	for _, s := range new.Steps {
		if !s.Derived {
			given[s.Name], taken[s.Name] = true, true
		}
	}
	for i := range new.Steps {
		s := &new.Steps[i]
		if !s.Derived {
			continue
		}
		if j := k.from[i]; j >= 0 && !given[old.Steps[j].Name] {
			s.Name = old.Steps[j].Name
			given[s.Name] = true
			continue
		}
		s.Name = freshName(s.Kind(), taken)
		taken[s.Name] = true
	}
}

// keeper pairs the steps of two versions; from[i] is the old index of new step
// i, or -1.
type keeper struct {
	old, new []Step
	from     []int
}

func (k *keeper) match() {
	k.from = make([]int, len(k.new))
	for i := range k.from {
		k.from[i] = -1
	}
	oldPrints, newPrints := prints(k.old), prints(k.new)
	lastOld, lastNew := 0, 0
	for _, p := range common(oldPrints, newPrints) {
		k.from[p[1]] = p[0]
		k.pairEdited(lastOld, p[0], lastNew, p[1])
		lastOld, lastNew = p[0]+1, p[1]+1
	}
	k.pairEdited(lastOld, len(k.old), lastNew, len(k.new))
}

// pairEdited pairs the steps of one gap by kind, in order.
func (k *keeper) pairEdited(oldFrom, oldTo, newFrom, newTo int) {
	next := oldFrom
	for i := newFrom; i < newTo; i++ {
		if !k.new[i].Derived {
			continue
		}
		for j := next; j < oldTo; j++ {
			if k.old[j].Kind() == k.new[i].Kind() {
				k.from[i], next = j, j+1
				break
			}
		}
	}
}

// prints returns the content of each step without its name.
func prints(steps []Step) []string {
	out := make([]string, len(steps))
	for i, s := range steps {
		s.Name = ""
		b, err := json.Marshal(s)
		if err != nil {
			b = []byte(s.Kind())
		}
		out[i] = strings.TrimSpace(string(b))
	}
	return out
}

// common returns the pairs of the longest common subsequence of a and b.
func common(a, b []string) [][2]int {
	length := make([][]int, len(a)+1)
	for i := range length {
		length[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				length[i][j] = length[i+1][j+1] + 1
			} else {
				length[i][j] = max(length[i+1][j], length[i][j+1])
			}
		}
	}
	var pairs [][2]int
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] == b[j]:
			pairs = append(pairs, [2]int{i, j})
			i, j = i+1, j+1
		case length[i+1][j] >= length[i][j+1]:
			i++
		default:
			j++
		}
	}
	return pairs
}
