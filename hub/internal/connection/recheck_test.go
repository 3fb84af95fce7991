package connection_test

import (
	"testing"
	"testing/synctest"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
)

func TestSemantics_3_7_RecheckProbesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		m := b.run()
		b.says(fault.Of("E_UNREACHABLE"))
		b.report(m, fault.Of("E_UNREACHABLE"))
		b.after(time.Hour) // the probes are far apart by now
		b.says(nil)
		if err := m.Recheck(t.Context(), b.scope, b.id); err != nil {
			t.Fatal(err)
		}
		if n := len(b.after(time.Second)); n != 1 {
			t.Errorf("%d probes at once", n)
		}
		b.expect(model.Online, "")
	})
}

func TestSemantics_3_7_RecheckNeverLocksAnAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		m := b.run()
		b.says(fault.Of("E_AUTH_REJECTED"))
		b.report(m, fault.Of("E_AUTH_REJECTED"))
		tries := 1
		for range 100 {
			if err := m.Recheck(t.Context(), b.scope, b.id); err != nil {
				t.Fatal(err)
			}
			tries += len(b.after(10 * time.Second))
		}
		if tries > 3 {
			t.Errorf("%d tries with a rejected credential in 17 minutes", tries)
		}
	})
}
