"""The schema of both databases, as forward migrations: entry n brings a database from version n to n + 1.

Never change an entry that was released; add one. `document` holds an object's fields as JSON, `sealed` its secret ones
encrypted. `answered` is where SQLite keeps the answers of committed batches, a page for each, in the order of expiry;
`idempotency` has those of other requests, and on PostgreSQL all. Keys that must be unique over the whole history are tables
of their own. Partial indexes keep the hot path small: a delivery is in `delivery_due` only while something can still happen
to it, and one that goes straight from acceptance to success never enters `delivery_lapse`. `copying` has rows while a copy
into this database is not complete.

`sweep` remembers how far the payloads of an application have been removed; `retired` are the applications that are gone
while something that happened in them is still there.

Tables are written in the words of SQLite and translated for PostgreSQL. The history (messages, attempts, received
requests) has its own text for each, because PostgreSQL keeps it in parts by time: an id begins with its instant, so a
range of ids is a range of time.
"""

import re

from msgspec import Struct


class Migration(Struct, frozen=True):
    """One step. `both` is for either database, in the words of SQLite, the others for one.

    Nodes of the version before must be able to go on beside it: `old_nodes` False says that they cannot.
    """

    both: str = ""
    sqlite: str = ""
    postgres: str = ""
    old_nodes: bool = True


MIGRATIONS = [
    Migration(
        both="""
        CREATE TABLE application (id TEXT PRIMARY KEY, uid TEXT UNIQUE, revision INTEGER NOT NULL, rate_limit INTEGER,
            document BLOB NOT NULL) WITHOUT ROWID;
        INSERT INTO application (id, uid, revision, document) VALUES (
            'app_000000000000000000000000001', 'operational-webhooks', 0, CAST('{"id": "app_000000000000000000000000001",
            "uid": "operational-webhooks", "name": "Operational webhooks", "created_at": 0, "updated_at": 0}' AS BLOB)
        );
        CREATE TABLE installation (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
        CREATE TABLE event_type (name TEXT PRIMARY KEY, archived INTEGER NOT NULL, document BLOB NOT NULL) WITHOUT ROWID;
        CREATE TABLE endpoint (
            id TEXT PRIMARY KEY, app TEXT NOT NULL, uid TEXT, disabled INTEGER NOT NULL, disabled_reason TEXT,
            updated_at INTEGER NOT NULL, document BLOB NOT NULL, sealed BLOB NOT NULL
        ) WITHOUT ROWID;
        CREATE UNIQUE INDEX endpoint_app ON endpoint (app, id);
        CREATE UNIQUE INDEX endpoint_uid ON endpoint (app, uid) WHERE uid IS NOT NULL;
        CREATE TABLE health (
            endpoint TEXT PRIMARY KEY, failures INTEGER NOT NULL, failing_since INTEGER, open_until INTEGER,
            opened INTEGER NOT NULL
        ) WITHOUT ROWID;
        CREATE TABLE event_id (
            app TEXT NOT NULL, event_id TEXT NOT NULL, message TEXT NOT NULL, PRIMARY KEY (app, event_id)
        ) WITHOUT ROWID;
        CREATE INDEX event_id_message ON event_id (message);
        CREATE TABLE delivery (
            message TEXT NOT NULL, endpoint TEXT NOT NULL, app TEXT NOT NULL, state TEXT NOT NULL, due_at INTEGER,
            lease INTEGER NOT NULL, attempts INTEGER NOT NULL, step INTEGER NOT NULL, order_key TEXT,
            "trigger" TEXT NOT NULL, resume_at INTEGER, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL,
            PRIMARY KEY (message, endpoint)
        ) WITHOUT ROWID;
        CREATE INDEX delivery_due ON delivery (endpoint, due_at) WHERE due_at IS NOT NULL;
        CREATE INDEX delivery_lapse ON delivery (expires_at) WHERE state IN ('waiting', 'due');
        CREATE INDEX delivery_line ON delivery (endpoint, order_key, message)
            WHERE order_key IS NOT NULL AND state IN ('waiting', 'due', 'leased');
        CREATE INDEX delivery_head ON delivery (endpoint, order_key)
            WHERE order_key IS NOT NULL AND state IN ('due', 'leased');
        CREATE TABLE source (
            id TEXT PRIMARY KEY, app TEXT NOT NULL, uid TEXT, token TEXT NOT NULL UNIQUE, document BLOB NOT NULL,
            sealed BLOB NOT NULL
        ) WITHOUT ROWID;
        CREATE UNIQUE INDEX source_app ON source (app, id);
        CREATE UNIQUE INDEX source_uid ON source (app, uid) WHERE uid IS NOT NULL;
        CREATE TABLE received_key (
            source TEXT NOT NULL, dedup_key TEXT NOT NULL, message TEXT NOT NULL, PRIMARY KEY (source, dedup_key)
        ) WITHOUT ROWID;
        CREATE INDEX received_key_message ON received_key (message);
        CREATE TABLE token (
            id TEXT PRIMARY KEY, hash BLOB NOT NULL UNIQUE, app TEXT, drop_at INTEGER, document BLOB NOT NULL
        ) WITHOUT ROWID;
        CREATE INDEX token_app ON token (app, id);
        CREATE INDEX token_drop ON token (drop_at) WHERE drop_at IS NOT NULL;
        CREATE TABLE consumer (
            endpoint TEXT NOT NULL, name TEXT NOT NULL, position TEXT NOT NULL, PRIMARY KEY (endpoint, name)
        ) WITHOUT ROWID;
        CREATE TABLE integration (id TEXT PRIMARY KEY, app TEXT NOT NULL, token TEXT, document BLOB NOT NULL) WITHOUT ROWID;
        CREATE UNIQUE INDEX integration_app ON integration (app, id);
        CREATE TABLE idempotency (
            key BLOB PRIMARY KEY, body_hash BLOB NOT NULL, status INTEGER NOT NULL, answer BLOB NOT NULL,
            expires_at INTEGER NOT NULL
        ) WITHOUT ROWID;
        CREATE INDEX idempotency_expiry ON idempotency (expires_at);
        CREATE TABLE task (
            id TEXT PRIMARY KEY, kind TEXT NOT NULL, app TEXT, parameters BLOB NOT NULL, state TEXT NOT NULL, reached TEXT,
            data BLOB NOT NULL, error TEXT, tries INTEGER NOT NULL, created_at INTEGER NOT NULL,
            updated_at INTEGER NOT NULL, lease INTEGER NOT NULL, due_at INTEGER
        ) WITHOUT ROWID;
        CREATE INDEX task_due ON task (due_at) WHERE due_at IS NOT NULL;
        CREATE INDEX task_ended ON task (updated_at) WHERE due_at IS NULL;
        CREATE TABLE copying (name TEXT PRIMARY KEY, source TEXT NOT NULL, copied INTEGER NOT NULL, after BLOB)
            WITHOUT ROWID;
        CREATE TABLE sweep (app TEXT PRIMARY KEY, messages TEXT NOT NULL, received TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE retired (app TEXT PRIMARY KEY) WITHOUT ROWID;
        """,
        sqlite="""
        CREATE TABLE message (
            id TEXT NOT NULL, app TEXT NOT NULL, event_type TEXT NOT NULL, content_type TEXT NOT NULL, event_id TEXT,
            channels TEXT, tags TEXT, order_key TEXT, source TEXT, created_at INTEGER NOT NULL, deliver_at INTEGER,
            payload_until INTEGER, payload BLOB
        );
        CREATE UNIQUE INDEX message_id ON message (app, id);
        CREATE INDEX message_until ON message (payload_until) WHERE payload_until IS NOT NULL;
        CREATE TABLE attempt (
            id TEXT NOT NULL, app TEXT NOT NULL, message TEXT NOT NULL, endpoint TEXT NOT NULL, number INTEGER NOT NULL,
            "trigger" TEXT NOT NULL, started_at INTEGER NOT NULL, result TEXT NOT NULL, reason TEXT NOT NULL,
            status INTEGER NOT NULL, detail TEXT NOT NULL, retry_after INTEGER, url TEXT NOT NULL, request_head BLOB NOT NULL,
            request_body BLOB, response_head BLOB NOT NULL, response_body BLOB, response_cut INTEGER NOT NULL,
            total INTEGER NOT NULL, dns INTEGER, connect INTEGER, tls INTEGER, first_byte INTEGER
        );
        CREATE UNIQUE INDEX attempt_message ON attempt (message, id);
        CREATE INDEX attempt_endpoint ON attempt (endpoint, id);
        CREATE INDEX attempt_failed ON attempt (endpoint, id, result) WHERE result <> 'ok';
        CREATE TABLE received (
            id TEXT NOT NULL, app TEXT NOT NULL, source TEXT NOT NULL, verdict TEXT NOT NULL, reason TEXT NOT NULL,
            dedup_key TEXT, message TEXT, received_at INTEGER NOT NULL, method TEXT NOT NULL, path BLOB NOT NULL,
            query BLOB NOT NULL, headers BLOB NOT NULL, body BLOB
        );
        CREATE UNIQUE INDEX received_id ON received (app, id);
        CREATE INDEX received_source ON received (source, id);
        CREATE INDEX received_unusual ON received (source, verdict, id) WHERE verdict <> 'accepted';
        CREATE INDEX received_duplicate ON received (message) WHERE verdict = 'duplicate';
        CREATE TABLE answered (id INTEGER PRIMARY KEY, expires_at INTEGER NOT NULL, answers BLOB NOT NULL);
        CREATE TABLE answered_key (key BLOB PRIMARY KEY, id INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE answered_upto (id INTEGER NOT NULL);
        INSERT INTO answered_upto VALUES (0);
        """,
        postgres="""
        CREATE TABLE message (
            id TEXT NOT NULL, app TEXT NOT NULL, event_type TEXT NOT NULL, payload BLOB, content_type TEXT NOT NULL,
            event_id TEXT, channels TEXT, tags TEXT, order_key TEXT, source TEXT, created_at INTEGER NOT NULL,
            deliver_at INTEGER, payload_until INTEGER, PRIMARY KEY (app, id)
        ) PARTITION BY RANGE (id);
        CREATE INDEX message_until ON message (payload_until) WHERE payload_until IS NOT NULL;
        CREATE TABLE message_rest PARTITION OF message DEFAULT;

        CREATE TABLE attempt (
            id TEXT NOT NULL, app TEXT NOT NULL, message TEXT NOT NULL, endpoint TEXT NOT NULL, number INTEGER NOT NULL,
            "trigger" TEXT NOT NULL, started_at INTEGER NOT NULL, result TEXT NOT NULL, reason TEXT NOT NULL,
            status INTEGER NOT NULL, detail TEXT NOT NULL, retry_after INTEGER, url TEXT NOT NULL,
            request_head BLOB NOT NULL, request_body BLOB, response_head BLOB NOT NULL, response_body BLOB,
            response_cut INTEGER NOT NULL, total INTEGER NOT NULL, dns INTEGER, connect INTEGER, tls INTEGER,
            first_byte INTEGER, PRIMARY KEY (message, id)
        ) PARTITION BY RANGE (id);
        CREATE INDEX attempt_endpoint ON attempt (endpoint, id);
        CREATE INDEX attempt_failed ON attempt (endpoint, id, result) WHERE result <> 'ok';
        CREATE TABLE attempt_rest PARTITION OF attempt DEFAULT;

        CREATE TABLE received (
            id TEXT NOT NULL, app TEXT NOT NULL, source TEXT NOT NULL, verdict TEXT NOT NULL, reason TEXT NOT NULL,
            dedup_key TEXT, message TEXT, received_at INTEGER NOT NULL, method TEXT NOT NULL, path BLOB NOT NULL,
            query BLOB NOT NULL, headers BLOB NOT NULL, body BLOB, PRIMARY KEY (app, id)
        ) PARTITION BY RANGE (id);
        CREATE INDEX received_source ON received (source, id);
        CREATE INDEX received_unusual ON received (source, verdict, id) WHERE verdict <> 'accepted';
        CREATE INDEX received_duplicate ON received (message) WHERE verdict = 'duplicate';
        CREATE TABLE received_rest PARTITION OF received DEFAULT;

        CREATE TABLE pace (endpoint TEXT PRIMARY KEY, next_at INTEGER NOT NULL);

        CREATE TYPE answer AS (
            kind TEXT, n integer, a TEXT, i INTEGER, j INTEGER, k INTEGER, l INTEGER, x BLOB, y BLOB,
            d_message TEXT, d_endpoint TEXT, d_app TEXT, d_state TEXT, d_due_at INTEGER, d_lease INTEGER,
            d_attempts INTEGER, d_step INTEGER, d_order_key TEXT, d_trigger TEXT, d_resume_at INTEGER,
            d_created_at INTEGER, d_expires_at INTEGER, m_id TEXT, m_app TEXT, m_event_type TEXT, m_payload BLOB,
            m_content_type TEXT, m_event_id TEXT, m_channels TEXT, m_tags TEXT, m_order_key TEXT, m_source TEXT,
            m_created_at INTEGER, m_deliver_at INTEGER, m_payload_until INTEGER
        );
        """,
    ),
]

_IN_POSTGRES = {"BLOB": "bytea", "INTEGER": "bigint", "TEXT": 'text COLLATE "C"', " WITHOUT ROWID": ""}


def sqlite_statements(migration: Migration) -> list[str]:
    """What brings a SQLite database one version further."""
    return _statements(migration.both) + _statements(migration.sqlite)


def postgres_statements(migration: Migration) -> list[str]:
    """What brings a PostgreSQL database one version further: ids and names sort by their bytes, as in SQLite."""
    text = f"{migration.both};{migration.postgres}"
    for word, translated in _IN_POSTGRES.items():
        text = re.sub(rf"(?<!\w){word}\b", translated, text)
    return _statements(text)


def _statements(text: str) -> list[str]:
    return [statement.strip() for statement in text.split(";") if statement.strip()]
