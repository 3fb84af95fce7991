package secret

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestCacheIsBounded(t *testing.T) {
	c := newCache[int](3, time.Hour)
	for i := range 10 {
		c.put(fmt.Sprint(i), i, c.mark())
		c.get("0") // used all the time, so it stays
	}
	for key, want := range map[string]bool{"0": true, "8": true, "9": true, "7": false} {
		if _, found := c.get(key); found != want {
			t.Errorf("%s is kept: %t", key, found)
		}
	}
	if c.order.Len() != 3 || len(c.items) != 3 {
		t.Errorf("keeps %d and %d", c.order.Len(), len(c.items))
	}
}

func TestCacheForgetsWhatIsOldOrDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache[int](3, time.Minute)
		c.put("a", 1, c.mark())
		time.Sleep(time.Minute + 1)
		if _, found := c.get("a"); found || len(c.items) != 0 {
			t.Error("what is too old is kept")
		}
		mark := c.mark()
		c.drop("a") // replaced while it was being fetched
		c.put("a", 1, mark)
		if _, found := c.get("a"); found {
			t.Error("a value from before the drop is kept")
		}
	})
}
