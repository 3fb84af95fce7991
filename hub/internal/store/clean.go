package store

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/page"
)

// Retention (DELIVERY §9, SEMANTICS §5.5, §5.6).
const (
	// keptLedger is how long the ledger of a job and its parked records outlive
	// its end.
	keptLedger = 30 * 24 * time.Hour
	// warnBefore is how long before their end records that still wait are counted.
	warnBefore = 7 * 24 * time.Hour
	// cleanStep bounds how far the retention clock moves at a time. Clean is called
	// every hour, so a wall clock that jumps years ahead deletes nothing at once,
	// and a hub that was down for a month catches up within days.
	cleanStep = 6 * time.Hour
	// cleanRows bounds the rows of one transaction, cleanJobs the jobs of one call.
	cleanRows = 500
	cleanJobs = 1000
)

// Cleaned says what one Clean has removed.
type Cleaned struct {
	Jobs    int // whose ledger is gone
	Rows    int
	Parked  int // records
	Waiting int // of those, that nobody had retried, resolved or ignored
	// Expiring counts the records that wait and will be removed within a week.
	Expiring int
	More     bool // call again soon
}

// Clean removes what is 30 days old: the ledger of jobs that have ended (chains,
// roots, receipts, claims, epochs) and their parked records. Jobs and their
// counters stay, and nothing of a job that has not ended is touched. It works in
// small transactions, so that deliveries go on beside it.
func (s *Store) Clean(ctx context.Context, now time.Time) (Cleaned, error) {
	var out Cleaned
	clock, err := s.moveRetentionClock(ctx, now)
	if err == nil {
		err = s.cleanParked(ctx, clock, &out)
	}
	for err == nil && !out.More {
		var found bool
		if found, err = s.cleanJob(ctx, clock.Add(-keptLedger), &out); !found {
			break
		}
		out.More = out.Jobs >= cleanJobs
	}
	if err != nil {
		return out, fmt.Errorf("clean store: %w", err)
	}
	return out, nil
}

// Names in the table meta.
const (
	retentionClock = "retention clock"   // µs; what is meant by "now" when rows are removed
	cleanedTo      = "ledger cleaned to" // "<ended> <job>" of the last job cleaned
)

func (s *Store) moveRetentionClock(ctx context.Context, now time.Time) (clock time.Time, err error) {
	err = s.write(ctx, func(t *tx) error {
		last, found, err := readRetentionClock(t)
		if err != nil {
			return err
		}
		clock = now
		if limit := last.Add(cleanStep); found && clock.After(limit) {
			clock = limit
		}
		return writeMeta(t, retentionClock, strconv.FormatInt(micros(clock), 10))
	})
	return clock, err
}

func readRetentionClock(q querier) (time.Time, bool, error) {
	text, err := readMeta(q, retentionClock)
	if err != nil || text == "" {
		return time.Time{}, false, err
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return timeOf(n), err == nil, err
}

// ledgerKept refuses a job whose ledger may have been removed.
func ledgerKept(q querier, job *model.Job) error {
	clock, found, err := readRetentionClock(q)
	if err != nil || !found || job.Ended == nil || !job.Ended.Before(clock.Add(-keptLedger)) {
		return err
	}
	return notFound("ledger of job", job.ID.String()).
		WithCause("it was kept for 30 days after the job ended").WithFix("the counters of the job stay")
}

func readMeta(q querier, name string) (value string, err error) {
	_, err = q.row(`SELECT value FROM meta WHERE name = ?`, []any{name}, &value)
	return value, err
}

func writeMeta(t *tx, name, value string) error {
	_, err := t.exec(`INSERT INTO meta (name, value) VALUES (?, ?)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
	return err
}

// cleanParked removes the parked records that nothing changed for 30 days, of
// jobs that ended before that.
func (s *Store) cleanParked(ctx context.Context, clock time.Time, out *Cleaned) error {
	limit := micros(clock.Add(-keptLedger))
	for n := cleanRows; n == cleanRows; {
		err := s.write(ctx, func(t *tx) error {
			var ids []string
			var waiting int
			rows, err := t.query(`SELECT p.id, p.state = 'parked' FROM parked p JOIN jobs j ON j.id = p.job
				WHERE p.updated < ? AND p.state <> 'retrying' AND j.ended > 0 AND j.ended < ? LIMIT ?`,
				limit, limit, cleanRows)
			err = each(rows, err, func(r rowScanner) error {
				var id string
				var waits bool
				err := r.Scan(&id, &waits)
				ids = append(ids, id)
				if waits {
					waiting++
				}
				return err
			})
			for _, id := range ids {
				if err == nil {
					_, err = t.exec(`DELETE FROM parked WHERE id = ?`, id)
				}
			}
			n = len(ids)
			out.Parked += n
			out.Waiting += waiting
			return err
		})
		if err != nil {
			return err
		}
	}
	_, err := s.read(ctx).row(`SELECT count(*) FROM (SELECT 1 FROM parked WHERE updated < ? AND state = 'parked'
		LIMIT 10000)`, []any{limit + warnBefore.Microseconds()}, &out.Expiring)
	return err
}

// ledger lists what belongs to one job and can be removed with it. Each statement
// removes a bounded number of rows.
var ledger = []string{
	`DELETE FROM receipts WHERE name IN (SELECT name FROM receipts WHERE job = ? LIMIT ?)`,
	`DELETE FROM roots WHERE name IN (SELECT name FROM roots WHERE job = ? LIMIT ?)`,
	`DELETE FROM claims WHERE name IN (SELECT name FROM claims WHERE job = ? LIMIT ?)`,
	`DELETE FROM fixed_pages WHERE root IN (SELECT root FROM fixed_pages WHERE job = ? LIMIT ?)`,
	`DELETE FROM epochs WHERE (job, step, epoch) IN (SELECT job, step, epoch FROM epochs WHERE job = ? LIMIT ?)`,
	`DELETE FROM chains WHERE (job, step) IN (SELECT job, step FROM chains WHERE job = ? LIMIT ?)`,
}

// cleanJob removes the ledger of the next job that ended before limit; found is
// false when there is none.
func (s *Store) cleanJob(ctx context.Context, limit time.Time, out *Cleaned) (found bool, err error) {
	var id page.ID
	var ended int64
	q := s.read(ctx)
	mark, err := readMeta(q, cleanedTo)
	if err != nil {
		return false, err
	}
	var after int64
	var afterID string
	if _, err := fmt.Sscan(mark, &after, &afterID); err != nil && mark != "" {
		return false, fmt.Errorf("read mark %q: %w", mark, err)
	}
	found, err = q.row(`SELECT id, ended FROM jobs WHERE ended > 0 AND (ended, id) > (?, ?) AND ended < ?
		ORDER BY ended, id LIMIT 1`, []any{after, afterID, micros(limit)}, idScan{&id}, &ended)
	if err != nil || !found {
		return false, err
	}
	for _, statement := range ledger {
		for n := int64(cleanRows); n == cleanRows; {
			err := s.write(ctx, func(t *tx) (err error) {
				n, err = t.exec(statement, id.String(), cleanRows)
				return err
			})
			if err != nil {
				return true, err
			}
			out.Rows += int(n)
		}
	}
	out.Jobs++
	return true, s.write(ctx, func(t *tx) error {
		return writeMeta(t, cleanedTo, fmt.Sprintf("%d %s", ended, id))
	})
}

// UnkeyedMarks says how far the exports without a key that were read over a
// connection are settled: what an agent that was away may delete from its buffer.
// Of a job that has ended everything is.
func (s *Store) UnkeyedMarks(ctx context.Context, scope Scope, connection page.ID) ([]Settledness, error) {
	var out []Settledness
	rows, err := s.read(ctx).query(`SELECT c.job, c.step, c.epoch,
		CASE WHEN j.ended > 0 THEN c.accepted ELSE c.settled_to END
		FROM chains c JOIN jobs j ON j.id = c.job
		WHERE c.connection = ? AND c.resumable = 0 AND c.accepted > 0 AND c.tenant = ? AND c.environment = ?
		LIMIT 1000`, connection.String(), scope.Tenant.String(), scope.Environment.String())
	err = each(rows, err, func(r rowScanner) error {
		var m Settledness
		err := r.Scan(idScan{&m.Chain.Job}, &m.Chain.Step, bytesScan{m.Epoch[:]}, &m.SettledTo)
		out = append(out, m)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list marks of connection %s: %w", connection, err)
	}
	return out, nil
}
