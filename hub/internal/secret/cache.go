package secret

import (
	"container/list"
	"sync"
	"time"
)

// cache keeps values in memory for a while: at most size of them, each no longer
// than age (0 = for ever). What was used longest ago goes first.
type cache[V any] struct {
	size int
	age  time.Duration

	mu    sync.Mutex
	items map[string]*list.Element
	order *list.List // of *cached[V], the last used in front
	drops uint64
}

type cached[V any] struct {
	key   string
	value V
	until time.Time
}

func newCache[V any](size int, age time.Duration) *cache[V] {
	return &cache[V]{size: size, age: age, items: map[string]*list.Element{}, order: list.New()}
}

func (c *cache[V]) get(key string) (value V, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, found := c.items[key]
	if !found {
		return value, false
	}
	item := element.Value.(*cached[V])
	if c.age > 0 && time.Now().After(item.until) {
		c.remove(element)
		return value, false
	}
	c.order.MoveToFront(element)
	return item.value, true
}

// mark is taken before a value is fetched and given to put with it.
func (c *cache[V]) mark() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drops
}

// put keeps a value, unless something was dropped since the mark was taken: the
// value may be what was replaced meanwhile.
func (c *cache[V]) put(key string, value V, mark uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drops != mark {
		return
	}
	if element, found := c.items[key]; found {
		c.remove(element)
	}
	c.items[key] = c.order.PushFront(&cached[V]{key, value, time.Now().Add(c.age)})
	for c.order.Len() > c.size {
		c.remove(c.order.Back())
	}
}

// drop forgets a value and refuses those that are being fetched.
func (c *cache[V]) drop(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drops++
	if element, found := c.items[key]; found {
		c.remove(element)
	}
}

func (c *cache[V]) remove(element *list.Element) {
	c.order.Remove(element)
	delete(c.items, element.Value.(*cached[V]).key)
}
