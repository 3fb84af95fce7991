// Package store keeps what the hub must not forget: objects and their versions,
// jobs, chains of pages, receipts, parked records, agents, tokens and the audit
// log. It owns the SQL schema and the transactions of DELIVERY §2–§4 and §7. It
// knows no queue, no agent and no key: record data and cursors reach it sealed.
package store
