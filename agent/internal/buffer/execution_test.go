package buffer_test

import (
	"testing"
	"time"

	"ropeway/agent/internal/buffer"
	"ropeway/protocol/page"
)

func TestDelivery_1_4_ExecutionsAreListedUntilTheyEnd(t *testing.T) {
	b, err := buffer.Open(t.Context(), buffer.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	begun := time.Now()
	for i, name := range []string{"b", "a"} {
		err := b.BeginExecution(t.Context(), buffer.Execution{Name: name, Epoch: page.NewEpoch(),
			Chain: page.Chain{Job: page.NewID(), Step: "export"}, Begun: begun.Add(time.Duration(i) * time.Second)})
		if err != nil {
			t.Fatal(err)
		}
	}
	if names, err := b.Executions(t.Context()); err != nil || len(names) != 2 || names[0] != "b" {
		t.Fatalf("%v, %v", names, err)
	}
	if err := b.EndExecution(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if names, err := b.Executions(t.Context()); err != nil || len(names) != 1 || names[0] != "a" {
		t.Fatalf("%v, %v", names, err)
	}
}
