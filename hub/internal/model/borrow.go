package model

import "strings"

// borrowing holds the rules of SEMANTICS §3.3: same connector, same place, the
// lender has a level, no chains, and never from itself.
func (s *set) borrowing(m *Manifest, c *Connection) {
	users := s.borrowers(m.Name)
	if c.BorrowFrom == "" {
		if len(users) > 0 {
			s.lender(m, c, users)
		}
		return
	}
	if c.BorrowFrom == m.Name {
		s.fail(m, "E_MANIFEST", "borrowFrom", "remove borrowFrom", "a connection cannot borrow from itself")
		return
	}
	if c.Concurrency != 0 {
		s.fail(m, "E_MANIFEST", "concurrency", "remove concurrency; the lender's level counts",
			"a borrower shares the slots of %s and has no level of its own", clip(c.BorrowFrom))
	}
	if users = s.untouched(users); len(users) > 0 { // those of the set are told themselves
		s.fail(m, "E_MANIFEST", "borrowFrom", "let them borrow from "+clip(c.BorrowFrom)+" directly",
			"a lender cannot borrow: %s borrow from %s", strings.Join(users, ", "), m.Name)
	}
	s.refers(m, "borrowFrom", KindConnection, c.BorrowFrom)
	spec, _ := s.spec(KindConnection, c.BorrowFrom)
	lender, _ := spec.(*Connection)
	if lender == nil {
		return
	}
	if _, changed := s.new[KindConnection][c.BorrowFrom]; !changed || lender.BorrowFrom != "" {
		s.pair(m, c, m.Name, c.BorrowFrom, lender)
	}
}

// lender checks a lender of this set against everybody who borrows from it.
func (s *set) lender(m *Manifest, c *Connection, users []string) {
	for _, name := range users {
		spec, _ := s.spec(KindConnection, name)
		if borrower, _ := spec.(*Connection); borrower != nil {
			s.pair(m, borrower, name, m.Name, c)
		}
	}
}

// pair checks one borrower against its lender; m is the manifest to blame.
func (s *set) pair(m *Manifest, borrower *Connection, name, lenderName string, lender *Connection) {
	switch {
	case lender.BorrowFrom != "":
		s.fail(m, "E_MANIFEST", "borrowFrom", "borrow from "+clip(lender.BorrowFrom)+" instead",
			"no chains: %s borrows from %s, which borrows from %s", name, lenderName, clip(lender.BorrowFrom))
	case lender.Concurrency == 0:
		s.fail(m, "E_MANIFEST", "concurrency", "set concurrency of "+lenderName,
			"%s borrows from %s, which has no level set", name, lenderName)
	case lender.Connector != borrower.Connector:
		s.fail(m, "E_MANIFEST", "borrowFrom", "borrow from a connection of the same connector",
			"%s uses %s and %s uses %s", name, borrower.Connector, lenderName, lender.Connector)
	case lender.AgentGroup != borrower.AgentGroup:
		s.fail(m, "E_MANIFEST", "borrowFrom", "borrow from a connection in the same agent group, or in the hub too",
			"%s runs in %s and %s in %s", name, runsIn(borrower), lenderName, runsIn(lender))
	}
}

func runsIn(c *Connection) string {
	if c.AgentGroup == "" {
		return "the hub"
	}
	return "agent group " + c.AgentGroup
}

// borrowers returns who borrows from a connection, after the set.
func (s *set) borrowers(name string) []string {
	var out []string
	for _, other := range s.names(KindConnection) {
		spec, _ := s.spec(KindConnection, other)
		if c, _ := spec.(*Connection); c != nil && c.BorrowFrom == name && other != name {
			out = append(out, other)
		}
	}
	return out
}

// untouched keeps the connections that the set does not contain.
func (s *set) untouched(names []string) []string {
	var out []string
	for _, name := range names {
		if s.new[KindConnection][name] == nil {
			out = append(out, name)
		}
	}
	return out
}

// UsedBy returns what refers to an object, as "Kind name", sorted by kind and
// name: what stands in the way of deleting it.
func UsedBy(kind Kind, name string, existing Lookup) []string {
	var out []string
	for _, other := range Kinds() {
		for _, n := range existing.Names(other) {
			spec, ok := existing.Spec(other, n)
			if ok && !(other == kind && n == name) && refersTo(spec, kind, name) {
				out = append(out, string(other)+" "+n)
			}
		}
	}
	return out
}

func refersTo(spec any, kind Kind, name string) bool {
	switch s := spec.(type) {
	case *Connection:
		return kind == KindAgentGroup && s.AgentGroup == name ||
			kind == KindCredential && s.Credential == name ||
			kind == KindConnection && s.BorrowFrom == name
	case *Flow:
		if kind != KindConnection {
			return false
		}
		for _, c := range s.Connections() {
			if c == name {
				return true
			}
		}
	case *Route:
		return kind == KindAgentGroup && s.AgentGroup == name
	case *Listener:
		return kind == KindAgentGroup && s.AgentGroup == name || kind == KindFlow && s.Flow == name ||
			kind == KindCredential && s.Verify != nil && s.Verify.Credential == name
	}
	return false
}
