-- +goose Up
-- One schema for SQLite and PostgreSQL: TEXT, BIGINT, BLOB and plain constraints only.
-- (PostgreSQL gets `CREATE DOMAIN blob AS bytea` before the first migration.)
-- Ids are the 26-character text form; times are microseconds UTC; 0 or '' means none.

CREATE TABLE meta (
	name  TEXT NOT NULL PRIMARY KEY,
	value TEXT NOT NULL
);

CREATE TABLE tenants (
	id      TEXT NOT NULL PRIMARY KEY,
	name    TEXT NOT NULL UNIQUE,
	egress  TEXT NOT NULL,
	created BIGINT NOT NULL
);

CREATE TABLE environments (
	id      TEXT NOT NULL PRIMARY KEY,
	tenant  TEXT NOT NULL REFERENCES tenants (id),
	name    TEXT NOT NULL,
	created BIGINT NOT NULL,
	UNIQUE (tenant, name)
);

CREATE TABLE api_tokens (
	id           TEXT NOT NULL PRIMARY KEY,
	hash         BLOB NOT NULL UNIQUE,
	tenant       TEXT NOT NULL REFERENCES tenants (id),
	name         TEXT NOT NULL,
	role         TEXT NOT NULL,
	environments TEXT NOT NULL,
	created      BIGINT NOT NULL,
	expires      BIGINT NOT NULL,
	last_used    BIGINT NOT NULL,
	revoked      BIGINT NOT NULL,
	UNIQUE (tenant, name)
);

CREATE TABLE enroll_tokens (
	id          TEXT NOT NULL PRIMARY KEY,
	hash        BLOB NOT NULL UNIQUE,
	tenant      TEXT NOT NULL REFERENCES tenants (id),
	environment TEXT NOT NULL REFERENCES environments (id),
	agent_group TEXT NOT NULL,
	group_name  TEXT NOT NULL,
	agent_name  TEXT NOT NULL,
	uses        BIGINT NOT NULL,
	used        BIGINT NOT NULL,
	created_by  TEXT NOT NULL,
	created     BIGINT NOT NULL,
	expires     BIGINT NOT NULL,
	revoked     BIGINT NOT NULL
);
CREATE INDEX enroll_tokens_place ON enroll_tokens (tenant, environment, created);

CREATE TABLE redemptions (
	token      TEXT NOT NULL REFERENCES enroll_tokens (id),
	public_key BLOB NOT NULL,
	agent      TEXT NOT NULL,
	at         BIGINT NOT NULL,
	PRIMARY KEY (token, public_key)
);

CREATE TABLE agents (
	id           TEXT NOT NULL PRIMARY KEY,
	tenant       TEXT NOT NULL REFERENCES tenants (id),
	environment  TEXT NOT NULL REFERENCES environments (id),
	agent_group  TEXT NOT NULL,
	name         TEXT NOT NULL,
	state        TEXT NOT NULL,
	facts        TEXT NOT NULL,
	public_key   BLOB NOT NULL,
	process      BLOB NOT NULL,
	epoch        BIGINT NOT NULL,
	enrolled     BIGINT NOT NULL,
	last_seen    BIGINT NOT NULL,
	revoked      BIGINT NOT NULL,
	UNIQUE (tenant, environment, name)
);
CREATE INDEX agents_group ON agents (tenant, environment, agent_group);

CREATE TABLE agent_processes (
	agent   TEXT NOT NULL REFERENCES agents (id),
	process BLOB NOT NULL,
	epoch   BIGINT NOT NULL,
	at      BIGINT NOT NULL,
	PRIMARY KEY (agent, process)
);

CREATE TABLE key_changes (
	agent      TEXT NOT NULL PRIMARY KEY REFERENCES agents (id),
	tenant     TEXT NOT NULL,
	key_now    BLOB NOT NULL,
	key_before BLOB NOT NULL,
	at         BIGINT NOT NULL
);

CREATE TABLE revoked_certs (
	tenant      TEXT NOT NULL REFERENCES tenants (id),
	environment TEXT NOT NULL,
	agent       TEXT NOT NULL,
	kind        TEXT NOT NULL,
	value       TEXT NOT NULL,
	reason      TEXT NOT NULL,
	at          BIGINT NOT NULL,
	PRIMARY KEY (tenant, kind, value)
);
CREATE INDEX revoked_certs_at ON revoked_certs (at);

CREATE TABLE objects (
	id          TEXT NOT NULL PRIMARY KEY,
	tenant      TEXT NOT NULL REFERENCES tenants (id),
	environment TEXT NOT NULL REFERENCES environments (id),
	kind        TEXT NOT NULL,
	name        TEXT NOT NULL,
	labels      TEXT NOT NULL,
	version     BIGINT NOT NULL,
	spec        TEXT NOT NULL,
	created     BIGINT NOT NULL,
	updated     BIGINT NOT NULL,
	UNIQUE (tenant, environment, kind, name)
);

CREATE TABLE flow_versions (
	flow        TEXT NOT NULL,
	version     BIGINT NOT NULL,
	tenant      TEXT NOT NULL,
	environment TEXT NOT NULL,
	name        TEXT NOT NULL,
	spec        TEXT NOT NULL,
	actor       TEXT NOT NULL,
	created     BIGINT NOT NULL,
	PRIMARY KEY (flow, version)
);

CREATE TABLE connection_states (
	connection  TEXT NOT NULL PRIMARY KEY,
	tenant      TEXT NOT NULL,
	environment TEXT NOT NULL,
	state       TEXT NOT NULL,
	next_probe  BIGINT NOT NULL,
	body        TEXT NOT NULL
);
CREATE INDEX connection_states_off ON connection_states (next_probe) WHERE state <> 'online';
CREATE INDEX connection_states_place ON connection_states (tenant, environment);

CREATE TABLE jobs (
	id           TEXT NOT NULL PRIMARY KEY,
	tenant       TEXT NOT NULL,
	environment  TEXT NOT NULL,
	flow         TEXT NOT NULL,
	flow_name    TEXT NOT NULL,
	flow_version BIGINT NOT NULL,
	kind         TEXT NOT NULL,
	state        TEXT NOT NULL,
	cause        TEXT NOT NULL,
	paused_by    TEXT NOT NULL,
	retry_at     BIGINT NOT NULL,
	vars         TEXT NOT NULL,
	guarantee    TEXT NOT NULL,
	created      BIGINT NOT NULL,
	started      BIGINT NOT NULL,
	ended        BIGINT NOT NULL,
	exported     BIGINT NOT NULL,
	delivered    BIGINT NOT NULL,
	filtered     BIGINT NOT NULL,
	parked       BIGINT NOT NULL,
	expired      BIGINT NOT NULL,
	pages        BIGINT NOT NULL,
	settled      BIGINT NOT NULL,
	bytes        BIGINT NOT NULL
);
CREATE INDEX jobs_place ON jobs (tenant, environment, created, id);
CREATE INDEX jobs_flow ON jobs (tenant, environment, flow, created, id);
CREATE INDEX jobs_state ON jobs (tenant, environment, state, created, id);
CREATE INDEX jobs_open ON jobs (tenant, environment, state, created, id) WHERE ended = 0;
CREATE INDEX jobs_paused ON jobs (paused_by, id) WHERE state = 'paused';
CREATE INDEX jobs_ended ON jobs (ended, id) WHERE ended > 0;
CREATE INDEX jobs_retry ON jobs (retry_at, id) WHERE state = 'paused';

CREATE TABLE job_steps (
	job      TEXT NOT NULL REFERENCES jobs (id),
	step     TEXT NOT NULL,
	place    BIGINT NOT NULL,
	n_in       BIGINT NOT NULL,
	n_out      BIGINT NOT NULL,
	n_filtered BIGINT NOT NULL,
	n_parked   BIGINT NOT NULL,
	n_merged   BIGINT NOT NULL,
	n_created  BIGINT NOT NULL,
	PRIMARY KEY (job, step)
);

CREATE TABLE job_connections (
	job        TEXT NOT NULL REFERENCES jobs (id),
	connection TEXT NOT NULL,
	open       BIGINT NOT NULL,
	PRIMARY KEY (job, connection)
);
CREATE INDEX job_connections_open ON job_connections (connection, job) WHERE open = 1;

CREATE TABLE chains (
	job             TEXT NOT NULL REFERENCES jobs (id),
	step            TEXT NOT NULL,
	tenant          TEXT NOT NULL,
	environment     TEXT NOT NULL,
	connection      TEXT NOT NULL,
	resumable       BIGINT NOT NULL,
	open            BIGINT NOT NULL,
	ended           BIGINT NOT NULL,
	total_pages     BIGINT NOT NULL,
	total_records   BIGINT NOT NULL,
	accepted        BIGINT NOT NULL,
	records         BIGINT NOT NULL,
	last_hash       BLOB NOT NULL,
	last_cursor     BLOB NOT NULL,
	epoch           BLOB NOT NULL,
	base_seq        BIGINT NOT NULL,
	base_hash       BLOB NOT NULL,
	base_cursor     BLOB NOT NULL,
	base_records    BIGINT NOT NULL,
	next_read       BIGINT NOT NULL,
	published_read  BIGINT NOT NULL,
	published_at    BIGINT NOT NULL,
	continuation    BLOB NOT NULL,
	out_pages       BIGINT NOT NULL,
	out_bytes       BIGINT NOT NULL,
	settled         BIGINT NOT NULL,
	settled_to      BIGINT NOT NULL,
	PRIMARY KEY (job, step)
);
CREATE INDEX chains_unkeyed ON chains (connection) WHERE resumable = 0 AND accepted > 0;
CREATE INDEX chains_open ON chains (published_at, job, step) WHERE open = 1;

CREATE TABLE epochs (
	job     TEXT NOT NULL,
	step    TEXT NOT NULL,
	epoch   BLOB NOT NULL,
	request BIGINT NOT NULL,
	at      BIGINT NOT NULL,
	PRIMARY KEY (job, step, epoch)
);

CREATE TABLE roots (
	name        TEXT NOT NULL PRIMARY KEY,
	tenant      TEXT NOT NULL,
	environment TEXT NOT NULL,
	job         TEXT NOT NULL,
	step        TEXT NOT NULL,
	seq         BIGINT NOT NULL,
	accepted    BIGINT NOT NULL,
	settled     BIGINT NOT NULL,
	settled_at  BIGINT NOT NULL,
	hash        BLOB NOT NULL,
	prev        BLOB NOT NULL,
	out_xor     BIGINT NOT NULL,
	records     BIGINT NOT NULL,
	bytes       BIGINT NOT NULL,
	last_cursor BLOB NOT NULL
);
CREATE INDEX roots_chain ON roots (job, step, seq);
CREATE INDEX roots_unsettled ON roots (job, step, seq) WHERE settled = 0;

CREATE TABLE claims (
	name     TEXT NOT NULL PRIMARY KEY,
	job      TEXT NOT NULL,
	created  BIGINT NOT NULL,
	delivery BIGINT NOT NULL,
	answer   BLOB NOT NULL,
	at       BIGINT NOT NULL
);
CREATE INDEX claims_job ON claims (job);

CREATE TABLE receipts (
	name        TEXT NOT NULL PRIMARY KEY,
	tenant      TEXT NOT NULL,
	environment TEXT NOT NULL,
	job         TEXT NOT NULL,
	step        TEXT NOT NULL,
	root        TEXT NOT NULL,
	exported    BIGINT NOT NULL,
	delivered   BIGINT NOT NULL,
	filtered    BIGINT NOT NULL,
	parked      BIGINT NOT NULL,
	expired     BIGINT NOT NULL,
	counts      TEXT NOT NULL,
	published   TEXT NOT NULL,
	result      BLOB NOT NULL,
	claim_created  BIGINT NOT NULL,
	claim_delivery BIGINT NOT NULL,
	at          BIGINT NOT NULL
);
CREATE INDEX receipts_job ON receipts (job, name);

CREATE TABLE parked (
	id           TEXT NOT NULL PRIMARY KEY,
	tenant       TEXT NOT NULL,
	environment  TEXT NOT NULL,
	job          TEXT NOT NULL,
	flow         TEXT NOT NULL,
	flow_name    TEXT NOT NULL,
	flow_version BIGINT NOT NULL,
	step         TEXT NOT NULL,
	page         TEXT NOT NULL,
	page_index   BIGINT NOT NULL,
	origin_root  TEXT NOT NULL,
	origin_index BIGINT NOT NULL,
	class        TEXT NOT NULL,
	code         TEXT NOT NULL,
	fingerprint  TEXT NOT NULL,
	trace_hash   BLOB NOT NULL,
	record       BLOB NOT NULL,
	detail       BLOB NOT NULL,
	state        TEXT NOT NULL,
	retry_job    TEXT NOT NULL,
	retry_root   TEXT NOT NULL,
	retry_seq    BIGINT NOT NULL,
	retry_index  BIGINT NOT NULL,
	attempts     BIGINT NOT NULL,
	edited       BIGINT NOT NULL,
	created      BIGINT NOT NULL,
	updated      BIGINT NOT NULL
);
CREATE INDEX parked_place ON parked (tenant, environment, created, id);
CREATE INDEX parked_flow ON parked (tenant, environment, flow, state, created, id);
CREATE INDEX parked_state ON parked (tenant, environment, state, created, id);
CREATE INDEX parked_class ON parked (tenant, environment, class, created, id);
CREATE INDEX parked_code ON parked (tenant, environment, code, created, id);
CREATE INDEX parked_print ON parked (tenant, environment, fingerprint, created, id);
CREATE INDEX parked_age ON parked (updated);
CREATE INDEX parked_job ON parked (job, created, id);
CREATE INDEX parked_origin ON parked (job, origin_root, origin_index);
CREATE INDEX parked_retry ON parked (retry_root, retry_index) WHERE retry_root <> '';
CREATE INDEX parked_trace ON parked (tenant, environment, flow, trace_hash) WHERE state = 'parked';

CREATE TABLE fixed_pages (
	root        TEXT NOT NULL PRIMARY KEY,
	tenant      TEXT NOT NULL,
	environment TEXT NOT NULL,
	job         TEXT NOT NULL REFERENCES jobs (id),
	name        TEXT NOT NULL,
	published   BIGINT NOT NULL
);
CREATE INDEX fixed_pages_job ON fixed_pages (job);
CREATE INDEX fixed_pages_waiting ON fixed_pages (job, root) WHERE published = 0;

CREATE TABLE audit (
	tenant      TEXT NOT NULL,
	seq         BIGINT NOT NULL,
	environment TEXT NOT NULL,
	at          BIGINT NOT NULL,
	actor       TEXT NOT NULL,
	action      TEXT NOT NULL,
	kind        TEXT NOT NULL,
	object      TEXT NOT NULL,
	detail      TEXT NOT NULL,
	prev        BLOB NOT NULL,
	hash        BLOB NOT NULL,
	PRIMARY KEY (tenant, seq)
);

CREATE TABLE audit_heads (
	tenant    TEXT NOT NULL PRIMARY KEY,
	seq       BIGINT NOT NULL,
	hash      BLOB NOT NULL,
	signature BLOB NOT NULL
);

-- +goose Down
DROP TABLE audit_heads;
DROP TABLE audit;
DROP TABLE fixed_pages;
DROP TABLE parked;
DROP TABLE receipts;
DROP TABLE claims;
DROP TABLE roots;
DROP TABLE epochs;
DROP TABLE chains;
DROP TABLE job_connections;
DROP TABLE job_steps;
DROP TABLE jobs;
DROP TABLE connection_states;
DROP TABLE flow_versions;
DROP TABLE objects;
DROP TABLE revoked_certs;
DROP TABLE key_changes;
DROP TABLE agent_processes;
DROP TABLE agents;
DROP TABLE redemptions;
DROP TABLE enroll_tokens;
DROP TABLE api_tokens;
DROP TABLE environments;
DROP TABLE tenants;
DROP TABLE meta;
