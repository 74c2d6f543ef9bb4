"""The table of an outbox, as DDL for each dialect that can hold one.

A row is visible to the relay when its transaction has committed, and the relay deletes what it has published, so a row
that commits late is found like any other: there is no position up to which everything counts as read.

The order of a key is that of the commits. SQLite has one writer at a time, so its row numbers are in that order by
themselves. A sequence of PostgreSQL is not, since a transaction may draw early and commit late; there the writers of one
key take turns: a trigger takes a lock that PostgreSQL holds until the transaction ends, and only then draws the position.
"""

import re

from tenterhook.errors import Invalid

TABLE = "tenterhook_outbox"
CHANNEL = "tenterhook_outbox"
"""Where PostgreSQL notifies the relay, for all outboxes of a database."""
RESTING = 7_465_101
"""The first half of the advisory lock that a relay holds while it waits for a hint; the second is the table."""

_NAME = re.compile(r"(?:([a-z_][a-z0-9_]{0,47})\.)?([a-z_][a-z0-9_]{0,47})")
"""Names made from that of the table stay below PostgreSQL's limit of 63 bytes."""

_SQLITE = """\
-- The outbox of Tenterhook for SQLite. Running this again changes nothing.
CREATE TABLE IF NOT EXISTS {table} (
    position INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE DEFAULT ('out_' || lower(hex(randomblob(16))))
        CHECK (id GLOB 'out_*' AND id NOT GLOB '*[^0-9A-Za-z_]*' AND length(id) BETWEEN 31 AND 68),
    application TEXT NOT NULL,
    event_type TEXT NOT NULL,
    payload TEXT NOT NULL,
    key TEXT,
    event_id TEXT,
    channels TEXT NOT NULL DEFAULT '[]',
    tags TEXT NOT NULL DEFAULT '[]',
    created_at INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)),
    attempts INTEGER NOT NULL DEFAULT 0,
    retry_at INTEGER,
    error TEXT
);
"""

_POSTGRESQL = """\
-- The outbox of Tenterhook for PostgreSQL 14 or newer. Running this again changes nothing.
CREATE TABLE IF NOT EXISTS {table} (
    id text PRIMARY KEY DEFAULT 'out_' || replace(gen_random_uuid()::text, '-', '')
        CHECK (id ~ '^out_[0-9A-Za-z]{{27,64}}$'),
    position bigint NOT NULL,
    application text NOT NULL,
    event_type text NOT NULL,
    payload text NOT NULL,
    key text,
    event_id text,
    channels text NOT NULL DEFAULT '[]',
    tags text NOT NULL DEFAULT '[]',
    created_at bigint NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
    attempts integer NOT NULL DEFAULT 0,
    retry_at bigint,
    error text
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE SEQUENCE IF NOT EXISTS {schema}"{name}_sequence" OWNED BY {table}.position;
-- Writers of one key take turns until they commit, and draw the position in their turn: so it is in commit order.
CREATE OR REPLACE FUNCTION {schema}"{name}_place"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.key IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(hashtextextended(NEW.application || ' ' || NEW.key, TG_RELID::bigint));
    END IF;
    NEW.position := nextval(pg_get_serial_sequence(TG_RELID::regclass::text, 'position'));
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER "{name}_place" BEFORE INSERT ON {table}
    FOR EACH ROW EXECUTE FUNCTION {schema}"{name}_place"();

-- A hint that there is something to do, to a relay that rests: commits that notify take turns in PostgreSQL, so a relay that
-- looks anyway is told nothing. Who did not tell holds the lock until its commit, and as long the relay does not rest.
CREATE OR REPLACE FUNCTION {schema}"{name}_hint"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock_shared({resting}, TG_RELID::int) THEN
        PERFORM pg_notify('{channel}', '');
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER "{name}_hint" AFTER INSERT ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}"{name}_hint"();
"""

_INDEXES = """\
CREATE INDEX IF NOT EXISTS "{name}_fresh" ON {table} (position) WHERE retry_at IS NULL AND error IS NULL;
CREATE INDEX IF NOT EXISTS "{name}_late" ON {table} (retry_at, position) WHERE retry_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS "{name}_ahead" ON {table} (application, key, position) WHERE retry_at IS NOT NULL;
"""

DIALECTS = {"postgresql": _POSTGRESQL + _INDEXES, "sqlite": _SQLITE + _INDEXES}


def parts(table: str) -> tuple[str, str]:
    """(`"schema".` or nothing, bare name). Raises Invalid unless it is `table` or `schema.table`, in lower case."""
    found = _NAME.fullmatch(table)
    if found is None:
        raise Invalid(
            f"{table!r} cannot be the table of an outbox: take lower-case letters, digits and underscores, at most 48;"
            " in PostgreSQL the schema may stand before it, with a full stop"
        )
    return f'"{found[1]}".' if found[1] else "", found[2]


def quoted(table: str) -> str:
    """A table's name for a statement. Raises Invalid."""
    schema, name = parts(table)
    return f'{schema}"{name}"'


def ddl(dialect: str, table: str = TABLE) -> str:
    """The statements that make the table, for a migration of yours; running them again changes nothing.

    `dialect` is "postgresql" or "sqlite". Raises Invalid for another one, and for a name that no table may have.
    """
    if dialect not in DIALECTS:
        raise Invalid(f"there is no outbox for {dialect!r}: take {' or '.join(DIALECTS)}")
    schema, name = parts(table)
    if schema and dialect == "sqlite":
        raise Invalid("a table of SQLite is in no schema: leave out what stands before the full stop")
    return DIALECTS[dialect].format(table=quoted(table), schema=schema, name=name, channel=CHANNEL, resting=RESTING)
