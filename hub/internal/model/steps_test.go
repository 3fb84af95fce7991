package model

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func flowOf(t *testing.T, steps string) *Flow {
	t.Helper()
	return parse(t, "kind: Flow\nname: f\nexport: {connection: a, query: q}\nsteps: "+steps)[0].Spec.(*Flow)
}

func names(f *Flow) []string {
	var out []string
	for _, s := range f.Steps {
		out = append(out, s.Name)
	}
	return out
}

// TestDelivery_2_6_StepNamesAreKept: inserting, removing or editing a step
// renames no other step.
func TestDelivery_2_6_StepNamesAreKept(t *testing.T) {
	old := `[{filter: a}, {filter: b}, {map: {x: y}}, {import: {connection: c, table: t}}]`
	tests := []struct {
		name, new string
		want      []string
	}{
		{"unchanged", old, []string{"filter-1", "filter-2", "map-1", "import-1"}},
		{"inserted first", `[{filter: n}, {filter: a}, {filter: b}, {map: {x: y}}, {import: {connection: c, table: t}}]`,
			[]string{"filter-3", "filter-1", "filter-2", "map-1", "import-1"}},
		{"inserted between", `[{filter: a}, {set: {k: v}}, {filter: b}, {map: {x: y}}, {import: {connection: c, table: t}}]`,
			[]string{"filter-1", "set-1", "filter-2", "map-1", "import-1"}},
		{"removed", `[{filter: b}, {map: {x: y}}, {import: {connection: c, table: t}}]`,
			[]string{"filter-2", "map-1", "import-1"}},
		{"edited", `[{filter: a}, {filter: bb}, {map: {x: z}}, {import: {connection: c, table: t}}]`,
			[]string{"filter-1", "filter-2", "map-1", "import-1"}},
		{"swapped", `[{filter: b}, {filter: a}, {map: {x: y}}, {import: {connection: c, table: t}}]`,
			[]string{"filter-2", "filter-3", "map-1", "import-1"}},
		{"named", `[{filter: a, name: first}, {filter: b}, {map: {x: y}}, {import: {connection: c, table: t}}]`,
			[]string{"first", "filter-2", "map-1", "import-1"}},
		{"given the name of another", `[{filter: a, name: filter-2}, {filter: b}, {map: {x: y}}, {import: {connection: c, table: t}}]`,
			[]string{"filter-2", "filter-3", "map-1", "import-1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := stored(t, flowOf(t, old))
			after := flowOf(t, tt.new)
			KeepStepNames(before, after)
			if diff := cmp.Diff(tt.want, names(after)); diff != "" {
				t.Error(diff)
			}
			seen := map[string]bool{}
			for _, n := range names(after) {
				if seen[n] {
					t.Errorf("%s is used twice", n)
				}
				seen[n] = true
			}
		})
	}
}

// stored is the flow as it comes back from the store.
func stored(t *testing.T, f *Flow) *Flow {
	t.Helper()
	raw, err := EncodeSpec(f)
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeSpec(KindFlow, raw)
	if err != nil {
		t.Fatal(err)
	}
	return back.(*Flow)
}

func TestPlanCutsAtConnections(t *testing.T) {
	f := flowOf(t, `[{filter: a}, {map: {x: y}}, {import: {connection: c, table: t}}, {set: {k: v}}, {import: {connection: d, table: t}}]`)
	type hop struct {
		Head, Connection string
		Pure             int
	}
	var got []hop
	for _, h := range f.Plan() {
		got = append(got, hop{h.Head, h.Connection, len(h.Pure)})
	}
	want := []hop{{"export", "a", 2}, {"import-1", "c", 1}, {"import-2", "d", 0}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if i, ok := f.HopOf("set-1"); !ok || i != 1 {
		t.Errorf("set-1 is in hop %d", i)
	}
}

func TestAssignmentsKeepTheirOrder(t *testing.T) {
	in := Assignments{{"z", "1"}, {"a", `record["x"]`}, {"m", "nil"}}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out Assignments
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(in, out); diff != "" {
		t.Error(diff)
	}
	if err := json.Unmarshal([]byte(`{"a":"1","a":"2"}`), &out); err == nil {
		t.Error("a field given twice was accepted")
	}
}
