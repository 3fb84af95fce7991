// Package secrettest is the contract that every secret engine passes: the
// embedded one here, Vault behind the same seam. It knows an engine by its
// methods only.
package secrettest

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ropeway/hub/internal/secret"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// Open gives a test an empty engine. Calling again returns another one over the
// same data, as after a restart.
type Open func() secret.Engine

// Run runs the whole contract; open makes the data of one test.
func Run(t *testing.T, open func(t *testing.T) Open) {
	for name, test := range map[string]func(t *testing.T, open Open){
		"SecretsAreKept":         secretsAreKept,
		"VersionsOnlyRise":       versionsOnlyRise,
		"MissingSecrets":         missingSecrets,
		"PlacesAreApart":         placesAreApart,
		"BoundsAreKept":          boundsAreKept,
		"FieldsAreCopies":        fieldsAreCopies,
		"DataKeysAreKept":        dataKeysAreKept,
		"DataKeysOfTenants":      dataKeysOfTenants,
		"OneKeyForManyAtOnce":    oneKeyForManyAtOnce,
		"MACsAreKeyed":           macsAreKeyed,
		"HealthAnswers":          healthAnswers,
		"ConcurrentPutsAreWhole": concurrentPuts,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t, open(t)) })
	}
}

var ctx = context.Background()

// place is where one secret lives.
type place struct{ tenant, env, id page.ID }

func newPlace() place { return place{page.NewID(), page.NewID(), page.NewID()} }

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func refused(t *testing.T, err error, code string) {
	t.Helper()
	if got := fault.CodeOf(err); got != code {
		t.Fatalf("got %v, want a refusal with %s", err, code)
	}
}

func fields(t *testing.T, e secret.Engine, p place) (map[string]string, uint64) {
	t.Helper()
	f, version, err := e.Fields(ctx, p.tenant, p.env, p.id)
	ok(t, err)
	return f, version
}

func secretsAreKept(t *testing.T, open Open) {
	p := newPlace()
	want := map[string]string{"username": "erp", "password": "p\x00ä\n", "empty": ""}
	ok(t, open().Put(ctx, p.tenant, p.env, p.id, want))
	for range 2 {
		got, _ := fields(t, open(), p)
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal("other fields came back")
		}
	}
}

func versionsOnlyRise(t *testing.T, open Open) {
	e, p := open(), newPlace()
	var last uint64
	for i := range 6 {
		ok(t, e.Put(ctx, p.tenant, p.env, p.id, map[string]string{"n": strings.Repeat("x", i)}))
		got, version := fields(t, open(), p)
		if version <= last || len(got["n"]) != i {
			t.Fatalf("put %d has version %d after %d", i, version, last)
		}
		last = version
		if i%2 == 0 {
			ok(t, e.Delete(ctx, p.tenant, p.env, p.id))
			e = open()
		}
	}
}

func missingSecrets(t *testing.T, open Open) {
	e, p := open(), newPlace()
	_, _, err := e.Fields(ctx, p.tenant, p.env, p.id)
	refused(t, err, "E_NO_CREDENTIAL")
	ok(t, e.Delete(ctx, p.tenant, p.env, p.id))
	ok(t, e.Put(ctx, p.tenant, p.env, p.id, map[string]string{"a": "b"}))
	ok(t, e.Delete(ctx, p.tenant, p.env, p.id))
	_, _, err = open().Fields(ctx, p.tenant, p.env, p.id)
	refused(t, err, "E_NO_CREDENTIAL")
	_, err = e.KeyByID(ctx, p.tenant, "unknown")
	refused(t, err, "E_SEALED")
	_, err = e.KeyByID(ctx, p.tenant, "../../keys/x")
	refused(t, err, "E_SEALED")
}

func placesAreApart(t *testing.T, open Open) {
	e, p := open(), newPlace()
	ok(t, e.Put(ctx, p.tenant, p.env, p.id, map[string]string{"a": "b"}))
	for _, other := range []place{{page.NewID(), p.env, p.id}, {p.tenant, page.NewID(), p.id},
		{p.tenant, p.env, page.NewID()}} {
		_, _, err := e.Fields(ctx, other.tenant, other.env, other.id)
		refused(t, err, "E_NO_CREDENTIAL")
		ok(t, e.Delete(ctx, other.tenant, other.env, other.id))
	}
	fields(t, e, p)
}

func boundsAreKept(t *testing.T, open Open) {
	e, p := open(), newPlace()
	many := map[string]string{}
	for i := range secret.MaxFields + 1 {
		many[strings.Repeat("f", i+1)] = ""
	}
	for _, bad := range []map[string]string{nil, {}, {"": "x"}, many,
		{strings.Repeat("n", secret.MaxFieldName+1): ""}, {"v": strings.Repeat("canary",
			secret.MaxFieldBytes/6+1)}} {
		err := e.Put(ctx, p.tenant, p.env, p.id, bad)
		refused(t, err, "E_REQUEST")
		if strings.Contains(err.Error(), "canary") {
			t.Fatal("the refusal shows the secret")
		}
	}
	ok(t, e.Put(ctx, p.tenant, p.env, p.id, map[string]string{"v": strings.Repeat("x",
		secret.MaxFieldBytes-1)}))
}

func fieldsAreCopies(t *testing.T, open Open) {
	e, p := open(), newPlace()
	in := map[string]string{"a": "b"}
	ok(t, e.Put(ctx, p.tenant, p.env, p.id, in))
	in["a"] = "changed"
	got, _ := fields(t, e, p)
	got["a"] = "changed"
	if again, _ := fields(t, e, p); again["a"] != "b" {
		t.Fatal("a caller's map is the engine's own")
	}
}

func dataKeysAreKept(t *testing.T, open Open) {
	tenant := page.NewID()
	key, err := open().DataKey(ctx, tenant)
	ok(t, err)
	sealed := page.SealBytes(key, []byte("record"), []byte("aad"))
	e := open()
	again, err := e.DataKey(ctx, tenant)
	ok(t, err)
	if again.ID() != key.ID() {
		t.Fatalf("after a restart the current key is %s, was %s", again.ID(), key.ID())
	}
	plain, err := page.OpenBytes(sealed, []byte("aad"), func(id string) (*page.Key, error) {
		return e.KeyByID(ctx, tenant, id)
	})
	ok(t, err)
	if string(plain) != "record" {
		t.Fatal("the key kept is another one")
	}
}

func dataKeysOfTenants(t *testing.T, open Open) {
	e := open()
	a, b := page.NewID(), page.NewID()
	keyA, err := e.DataKey(ctx, a)
	ok(t, err)
	keyB, err := e.DataKey(ctx, b)
	ok(t, err)
	if keyA.ID() == keyB.ID() {
		t.Fatal("two tenants have one key")
	}
	_, err = e.KeyByID(ctx, b, keyA.ID())
	refused(t, err, "E_SEALED")
}

func oneKeyForManyAtOnce(t *testing.T, open Open) {
	e, tenant := open(), page.NewID()
	ids := make([]string, 32)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			key, err := e.DataKey(ctx, tenant)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = key.ID()
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("callers at once got the keys %v", ids)
		}
	}
}

func concurrentPuts(t *testing.T, open Open) {
	e, p := open(), newPlace()
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			text := strings.Repeat(string(rune('a'+i)), 1000)
			if err := e.Put(ctx, p.tenant, p.env, p.id, map[string]string{"a": text,
				"b": text}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got, _ := fields(t, open(), p); got["a"] != got["b"] || len(got["a"]) != 1000 {
		t.Fatal("a secret is mixed of two")
	}
}

func healthAnswers(t *testing.T, open Open) { ok(t, open().Health(ctx)) }

func macsAreKeyed(t *testing.T, open Open) {
	a, b := page.NewID(), page.NewID()
	mac := func(e secret.Engine, tenant page.ID, purpose, data string) page.Hash {
		h, err := e.MAC(ctx, tenant, purpose, []byte(data))
		ok(t, err)
		return h
	}
	first := mac(open(), a, "trace key", "4711")
	if again := mac(open(), a, "trace key", "4711"); again != first {
		t.Fatal("after a restart the hash is another one")
	}
	for name, other := range map[string]page.Hash{
		"another tenant":  mac(open(), b, "trace key", "4711"),
		"another purpose": mac(open(), a, "trace keys", "4711"),
		"moved border":    mac(open(), a, "trace key4", "711"),
		"other data":      mac(open(), a, "trace key", "4712"),
	} {
		if other == first || other.IsZero() {
			t.Errorf("%s gives the same hash, or none", name)
		}
	}
}
