package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/page"
)

// ScopedState is the state of a connection of any tenant.
type ScopedState struct {
	Scope Scope
	model.ConnectionState
}

// ConnectionState returns the state of a connection; one without a row is online.
func (s *Store) ConnectionState(
	ctx context.Context, scope Scope, id page.ID,
) (model.ConnectionState, error) {
	state, err := connectionState(s.read(ctx), scope, id)
	if err != nil {
		return model.ConnectionState{}, fmt.Errorf("read state of connection %s: %w", id, err)
	}
	return state, nil
}

func connectionState(q querier, scope Scope, id page.ID) (model.ConnectionState, error) {
	state := model.ConnectionState{Connection: id, State: model.Online}
	var body string
	found, err := q.row(`SELECT body FROM connection_states WHERE connection = ? AND tenant = ? AND
		environment = ?`,
		[]any{id.String(), scope.Tenant.String(), scope.Environment.String()}, &body)
	if err != nil || !found {
		return state, err
	}
	err = json.Unmarshal([]byte(body), &state)
	return state, err
}

// ChangeConnection reads a state, lets change decide, and writes what it returns
// with true, all in one transaction: of many replicas each sees what the other
// wrote. It returns the state afterwards and whether it was written. change must
// not block.
func (s *Store) ChangeConnection(
	ctx context.Context, scope Scope, id page.ID,
	change func(model.ConnectionState) (model.ConnectionState, bool),
) (state model.ConnectionState, written bool, err error) {
	err = s.write(ctx, func(t *tx) error {
		old, err := connectionState(t, scope, id)
		if err != nil {
			return err
		}
		if state, written = change(old); !written {
			state = old
			return nil
		}
		state.Connection = id
		return saveConnectionState(t, scope, &state)
	})
	if err != nil {
		return model.ConnectionState{}, false, fmt.Errorf("change state of connection %s: %w", id, err)
	}
	return state, written, nil
}

func saveConnectionState(t *tx, scope Scope, state *model.ConnectionState) error {
	body, err := json.Marshal(state)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO connection_states (connection, tenant, environment, state,
		next_probe, body)
		VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (connection) DO UPDATE SET
		state = excluded.state, next_probe = excluded.next_probe, body = excluded.body`,
		state.Connection.String(), scope.Tenant.String(), scope.Environment.String(), string(state.State),
		microsOf(state.NextProbe), string(body))
	return err
}

// OfflineConnections lists, over all tenants, the connections that are not
// online, by their next probe. It is the engine's own call.
func (s *Store) OfflineConnections(ctx context.Context) ([]ScopedState, error) {
	return s.connectionStates(ctx, `state <> 'online' ORDER BY next_probe`)
}

// DueProbes lists, over all tenants, the connections whose next probe is due. It
// is the engine's own call.
func (s *Store) DueProbes(ctx context.Context, now time.Time) ([]ScopedState, error) {
	return s.connectionStates(ctx, `state <> 'online' AND next_probe > 0 AND next_probe <= ? ORDER BY
		next_probe`,
		micros(now))
}

// ConnectionStates lists the states of a scope that were ever written.
func (s *Store) ConnectionStates(ctx context.Context, scope Scope) ([]ScopedState, error) {
	return s.connectionStates(ctx, `tenant = ? AND environment = ? ORDER BY connection`,
		scope.Tenant.String(), scope.Environment.String())
}

func (s *Store) connectionStates(
	ctx context.Context, where string, args ...any,
) ([]ScopedState, error) {
	list := []ScopedState{}
	rows, err := s.read(ctx).query(`SELECT tenant, environment, body FROM connection_states WHERE
		`+where, args...)
	err = each(rows, err, func(r rowScanner) error {
		var st ScopedState
		var body string
		if err := r.Scan(idScan{&st.Scope.Tenant}, idScan{&st.Scope.Environment}, &body); err != nil {
			return err
		}
		err := json.Unmarshal([]byte(body), &st.ConnectionState)
		list = append(list, st)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list connection states: %w", err)
	}
	return list, nil
}
