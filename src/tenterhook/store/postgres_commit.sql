-- One committer batch on PostgreSQL: functions that one statement calls in order, so a batch is one round trip.
--
-- Arguments are arrays of rows: a driver and a server read rows faster than as many arrays of columns. `n` is the number
-- of the piece of work in the batch, which the answers refer to. An answer is a row with a `kind`; what went as expected
-- is not answered at all. The FIFO lines of the batch are locked before all else.
--
-- `again` says that some of it may have been kept by an earlier commit whose answer was lost: what is there already stays
-- as it is. Without it such a row is a unique violation, which costs less than to look for each.
--
-- The history is in parts, one for each day that is kept. A statement that reads it prepares to look into every one, unless
-- the range of ids is given by values, not by a join. So none of those stands in the way of an ordinary message.
--
-- These take the lock 1413836393 with others. A migration takes it alone: so it gets its turn between two commits,
-- instead of meeting one half-way that has some of the tables it wants and wants some that it has.
--
-- Names in braces get a digest of this text: nodes of different versions use each their own. Where a variable and a column
-- have one name the variable is meant: a later version may give a table a column of any name.

CREATE TYPE {settlement} AS (
    n int, message text, endpoint text, lease bigint, state text, due_at bigint, new_lease bigint, attempts bigint,
    step bigint, trigger text, resume_at bigint
);
CREATE TYPE {attempt} AS (
    id text, app text, message text, endpoint text, number bigint, trigger text, started_at bigint, result text,
    reason text, status bigint, detail text, retry_after bigint, url text, request_head bytea, request_body bytea,
    response_head bytea, response_body bytea, response_cut bigint, total bigint, dns bigint, connect bigint, tls bigint,
    first_byte bigint
);
-- what the attempt of a settlement adds to the health of its endpoint, or that it ends the record
CREATE TYPE {beat} AS (
    n int, endpoint text, heals boolean, failures bigint, since bigint, open_until bigint, opened bigint
);
-- an endpoint to switch off
CREATE TYPE {disabling} AS (n int, app text, endpoint text, reason text, now bigint);
-- a head of a FIFO line that has ended
CREATE TYPE {ending} AS (n int, endpoint text, order_key text, now bigint, lease bigint, until bigint);
-- the revision of an application that these pieces of work were planned for
CREATE TYPE {plan} AS (app text, revision bigint, numbers int[]);
-- an accept that goes with a settlement of the same batch
CREATE TYPE {companion} AS (n int, settlement int);
-- the instant after which a message is not taken any more
CREATE TYPE {deadline} AS (n int, at bigint);
CREATE TYPE {idempotency} AS (
    n int, key bytea, body_hash bytea, status bigint, answer bytea, expires_at bigint
);
CREATE TYPE {event_id} AS (n int, app text, event_id text, message text);
CREATE TYPE {received_key} AS (n int, source text, key text, message text);
CREATE TYPE {message} AS (
    n int, id text, app text, event_type text, payload bytea, content_type text, event_id text, channels text, tags text,
    order_key text, source text, created_at bigint, deliver_at bigint, payload_until bigint
);
CREATE TYPE {delivery} AS (
    n int, message text, endpoint text, app text, state text, due_at bigint, lease bigint, attempts bigint, step bigint,
    order_key text, trigger text, resume_at bigint, created_at bigint, expires_at bigint
);
CREATE TYPE {received} AS (
    n int, id text, app text, source text, verdict text, reason text, dedup_key text, message text, received_at bigint,
    method text, path bytea, query bytea, headers bytea, body bytea
);
-- `rate` is in attempts per second, NULL for no limit; so is that of the application. Both are given out until `paced_until`
CREATE TYPE {claim} AS (
    n int, endpoint text, most bigint, now bigint, lease bigint, until bigint, rate bigint, paced_until bigint,
    since bigint
);
CREATE TYPE {claimed} AS (
    n int, old_lease bigint, not_before bigint, message text, endpoint text, app text, state text, due_at bigint,
    lease bigint, attempts bigint, step bigint, order_key text, trigger text, resume_at bigint, created_at bigint,
    expires_at bigint
);

-- The end of every batch: what time it is. `replan` makes the session forget its plans: one that was made while a table was
-- small reads all of it.
CREATE FUNCTION {clock}(replan boolean) RETURNS SETOF answer LANGUAGE plpgsql AS $$
DECLARE
    a answer;
BEGIN
    IF replan THEN
        DISCARD PLANS;
    END IF;
    a.kind := 'clock';
    a.i := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
    RETURN NEXT a;
END $$;

-- Take FIFO lines for the transaction. Callers give them in ascending order, so that nobody waits in a circle.
CREATE FUNCTION {lock}(lines bigint[]) RETURNS SETOF answer LANGUAGE plpgsql AS $$
DECLARE
    line bigint;
BEGIN
    FOREACH line IN ARRAY lines LOOP
        PERFORM pg_advisory_xact_lock(line);
    END LOOP;
END $$;

CREATE FUNCTION {settle}(
    again boolean, settlements {settlement}[], tries {attempt}[], beats {beat}[], disablings {disabling}[],
    endings {ending}[],
    -- messages of which something else than the payload was sent, in ascending order
    rewritten text[],
    -- endpoints of what is handed back untried: another node may have room for it
    handed_back text[]
) RETURNS SETOF answer LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    kept int[];
    repeated int[] := '{}';  -- an earlier commit of these was kept: they are answered alike, and have no effect again
    healed text[];
    first text COLLATE "C";
    last text COLLATE "C";
    intact text[];  -- messages that still have a payload
    number int;
    line record;
    successor record;
    a answer;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1413836393);
    IF again THEN
        SELECT coalesce(array_agg(v), '{}') INTO tries FROM unnest(tries) AS v
        WHERE NOT EXISTS (SELECT FROM attempt AS t WHERE t.message = v.message AND t.id = v.id);
    END IF;
    IF cardinality(rewritten) > 0 THEN
        first := rewritten[1];
        last := rewritten[cardinality(rewritten)];
        -- what a message held does not come back with an attempt that was under way when it was expunged. Whoever expunges
        -- begins with the message: either this waits for that, or that waits for this and then finds the attempt
        SELECT coalesce(array_agg(l.id), '{}') INTO intact FROM (
            SELECT m.id FROM message AS m
            WHERE (m.app, m.id) IN (SELECT v.app, v.message FROM unnest(tries) AS v WHERE v.request_body IS NOT NULL)
                AND m.id >= first AND m.id <= last AND m.payload IS NOT NULL
            ORDER BY m.id FOR SHARE
        ) AS l;
        FOR number IN
            SELECT v.ordinality FROM unnest(tries) WITH ORDINALITY AS v
            WHERE v.request_body IS NOT NULL AND v.message <> ALL (intact)
        LOOP
            tries[number].request_body := NULL;
        END LOOP;
    END IF;
    INSERT INTO attempt (id, app, message, endpoint, number, trigger, started_at, result, reason, status, detail, retry_after,
        url, request_head, request_body, response_head, response_body, response_cut, total, dns, connect, tls, first_byte)
    SELECT * FROM unnest(tries);

    WITH written AS (
        UPDATE delivery AS d
        SET state = v.state, due_at = v.due_at, lease = v.new_lease, attempts = v.attempts, step = v.step,
            trigger = v.trigger, resume_at = v.resume_at
        FROM unnest(settlements) AS v
        WHERE d.message = v.message AND d.endpoint = v.endpoint AND d.lease = v.lease AND d.state = 'leased'
        RETURNING v.n
    )
    SELECT coalesce(array_agg(n), '{}') INTO kept FROM written;
    IF cardinality(kept) < cardinality(settlements) THEN
        SELECT coalesce(array_agg(v.n), '{}') INTO repeated FROM unnest(settlements) AS v
        JOIN delivery AS d ON d.message = v.message AND d.endpoint = v.endpoint
        WHERE v.n <> ALL (kept) AND d.state = v.state AND d.due_at IS NOT DISTINCT FROM v.due_at
            AND d.lease = v.new_lease AND d.attempts = v.attempts
            -- another attempt that came to the same end is not this one
            AND NOT EXISTS (SELECT FROM unnest(tries) AS t WHERE t.message = v.message AND t.endpoint = v.endpoint);
        -- the accepts of this batch that go with one of these are left out: where it is a repeat, they are there
        PERFORM set_config('tenterhook.lost', (
            SELECT string_agg(v.n::text, ',') FROM unnest(settlements) AS v WHERE v.n <> ALL (kept)), true);
        a.kind := 'lost';
        FOR number IN SELECT v.n FROM unnest(settlements) AS v WHERE v.n <> ALL (kept || repeated) LOOP
            a.n := number;
            RETURN NEXT a;
        END LOOP;
    END IF;

    IF cardinality(beats) > 0 THEN
        -- a success ends the record of an endpoint: what counts is what came after the last one
        SELECT coalesce(array_agg(DISTINCT v.endpoint), '{}') INTO healed
        FROM unnest(beats) AS v WHERE v.heals AND v.n = ANY (kept);
        DELETE FROM health WHERE endpoint = ANY (healed);
        INSERT INTO health AS h (endpoint, failures, failing_since, open_until, opened)
        SELECT b.endpoint, sum(b.failures), min(b.since), max(b.open_until), max(b.opened)
        FROM (
            SELECT v.*, max(v.n) FILTER (WHERE v.heals) OVER (PARTITION BY v.endpoint) AS healed_at
            FROM unnest(beats) AS v
            WHERE v.n = ANY (kept)
        ) AS b
        WHERE b.n > coalesce(b.healed_at, -1)
        GROUP BY b.endpoint ORDER BY b.endpoint
        ON CONFLICT (endpoint) DO UPDATE SET
            failures = h.failures + excluded.failures,
            failing_since = least(h.failing_since, excluded.failing_since),
            open_until = greatest(h.open_until, excluded.open_until),
            opened = greatest(h.opened, excluded.opened);
        FOR line IN
            SELECT v.endpoint, h.failures, h.failing_since, h.open_until, h.opened
            FROM (SELECT DISTINCT w.endpoint FROM unnest(beats) AS w WHERE w.n = ANY (kept)) AS v
            LEFT JOIN health AS h ON h.endpoint = v.endpoint
        LOOP
            a := NULL;
            a.kind := 'health'; a.a := line.endpoint;
            a.i := coalesce(line.failures, 0); a.j := line.failing_since;
            a.k := line.open_until; a.l := coalesce(line.opened, 0);
            RETURN NEXT a;
            IF line.failures IS NULL OR line.open_until IS NOT NULL THEN
                PERFORM pg_notify('tenterhook', 'health ' || line.endpoint);
            END IF;
        END LOOP;
    END IF;

    FOR line IN
        SELECT * FROM unnest(disablings) AS v WHERE v.n = ANY (kept) ORDER BY endpoint
    LOOP
        UPDATE endpoint SET disabled = 1, disabled_reason = line.reason, updated_at = line.now WHERE id = line.endpoint;
        UPDATE application SET revision = revision + 1 WHERE id = line.app;
        PERFORM pg_notify('tenterhook', 'endpoint ' || line.endpoint), pg_notify('tenterhook', 'application ' || line.app);
    END LOOP;

    FOR line IN
        SELECT * FROM unnest(endings) AS v WHERE v.n = ANY (kept || repeated) ORDER BY n
    LOOP
        -- nothing moves while another heads the line already, as after a replay
        SELECT d.* INTO successor FROM delivery AS d
        WHERE d.endpoint = line.endpoint AND d.order_key = line.order_key AND d.order_key IS NOT NULL
            AND d.state IN ('due', 'leased')
        ORDER BY d.lease = line.lease DESC LIMIT 1;
        IF FOUND THEN
            CONTINUE WHEN line.n <> ALL (repeated) OR successor.lease <> line.lease;
        ELSE
            SELECT d.* INTO successor FROM delivery AS d
            WHERE d.endpoint = line.endpoint AND d.order_key = line.order_key AND d.order_key IS NOT NULL
                AND d.state IN ('waiting', 'due', 'leased') AND d.state = 'waiting'
            ORDER BY d.message LIMIT 1;
            CONTINUE WHEN NOT FOUND;
            UPDATE delivery SET state = CASE WHEN line.lease = 0 THEN 'due' ELSE 'leased' END,
                due_at = CASE WHEN line.lease = 0 THEN line.now ELSE line.until END, lease = line.lease
            WHERE message = successor.message AND endpoint = successor.endpoint;
        END IF;
        RETURN QUERY SELECT
            'promoted', line.n, NULL::text, 0::bigint, e.updated_at, NULL::bigint, NULL::bigint, NULL::bytea,
            NULL::bytea, d.message, d.endpoint, d.app, d.state, d.due_at, d.lease, d.attempts, d.step, d.order_key,
            d.trigger, d.resume_at, d.created_at, d.expires_at, m.id, m.app, m.event_type, m.payload, m.content_type,
            m.event_id, m.channels, m.tags, m.order_key, m.source, m.created_at, m.deliver_at, m.payload_until
        FROM delivery AS d
        LEFT JOIN message AS m ON m.app = successor.app AND m.id = successor.message
        LEFT JOIN endpoint AS e ON e.id = d.endpoint
        WHERE d.message = successor.message AND d.endpoint = successor.endpoint AND line.lease <> 0;
    END LOOP;

    PERFORM pg_notify('tenterhook', 'due ' || v.id) FROM unnest(handed_back) AS v (id);
END $$;

CREATE FUNCTION {accept}(
    again boolean, plans {plan}[], companions {companion}[],
    -- `oldest` is the second in which the first id of the messages that have a deadline was made
    deadlines {deadline}[], oldest int,
    answered {idempotency}[], answered_at bigint,
    event_ids {event_id}[], keys {received_key}[], messages {message}[], deliveries {delivery}[], requests {received}[],
    -- whether any delivery has an order, and whether other nodes must be told what is due
    ordered boolean, tell boolean
) RETURNS SETOF answer LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    there int[] := '{}';     -- these have been written
    refused int[] := '{}';   -- nothing of these is written
    repeats int[] := '{}';   -- of these only the received request is, as a duplicate
    firsts text[] := '{}';   -- … of these messages
    waiting bigint[] := '{}';
    fresh bytea[];
    present bigint;
    hit record;
    a answer;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1413836393);
    IF again THEN
        SELECT coalesce(array_agg(v.n), '{}') INTO there
        FROM unnest(messages) AS v JOIN message AS m ON m.app = v.app AND m.id = v.id;
    END IF;

    -- Ids are made before they are committed, and a reader that follows them must not pass one by. It keeps clear of what is
    -- younger than its deadline; from then on it sees this lock until it sees the message; and no message comes too late.
    IF oldest IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock_shared(1413836392, oldest);
    END IF;
    present := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
    FOR hit IN
        SELECT 'outdated' AS kind, unnest(v.numbers) AS n FROM unnest(plans) AS v
        LEFT JOIN application AS p ON p.id = v.app
        WHERE p.revision IS DISTINCT FROM v.revision
        UNION ALL
        SELECT 'late', v.n FROM unnest(deadlines) AS v WHERE v.at < present
    LOOP
        CONTINUE WHEN hit.n = ANY (there);
        IF hit.kind = 'late' AND EXISTS (SELECT FROM unnest(companions) AS v WHERE v.n = hit.n) THEN
            RAISE EXCEPTION 'late';  -- nothing is written of what it tells of either: the caller comes with another id
        END IF;
        refused := refused || hit.n;
        a.kind := hit.kind;
        a.n := hit.n;
        RETURN NEXT a;
    END LOOP;

    IF cardinality(companions) > 0 THEN
        refused := refused || ARRAY(
            SELECT v.n FROM unnest(companions) AS v
            WHERE v.settlement::text = ANY (string_to_array(current_setting('tenterhook.lost', true), ',')));
    END IF;

    IF cardinality(answered) > 0 THEN
        -- the insertion is the lock: a node that is behind waits here for the answer of the one before
        WITH inserted AS (
            INSERT INTO idempotency AS i (key, body_hash, status, answer, expires_at)
            SELECT v.key, v.body_hash, v.status, v.answer, v.expires_at
            FROM unnest(answered) AS v
            WHERE v.n <> ALL (refused)
            ON CONFLICT (key) DO UPDATE SET body_hash = excluded.body_hash, status = excluded.status,
                answer = excluded.answer, expires_at = excluded.expires_at
            WHERE i.expires_at <= answered_at
            RETURNING key
        )
        SELECT coalesce(array_agg(key), '{}') INTO fresh FROM inserted;
        IF cardinality(fresh) < cardinality(answered) THEN
            FOR hit IN
                SELECT v.n, i.body_hash, i.status, i.answer
                FROM unnest(answered) AS v JOIN idempotency AS i ON i.key = v.key
                WHERE v.n <> ALL (refused) AND v.key <> ALL (fresh)
            LOOP
                refused := refused || hit.n;
                a := NULL;
                a.kind := 'remembered'; a.n := hit.n; a.i := hit.status; a.x := hit.body_hash; a.y := hit.answer;
                -- not another request, but this one: the answer to an earlier commit of it was lost
                SELECT count(*) INTO a.j FROM unnest(messages) AS v
                JOIN message AS m ON m.app = v.app AND m.id = v.id WHERE v.n = hit.n;
                RETURN NEXT a;
            END LOOP;
        END IF;
    END IF;

    IF cardinality(event_ids) > 0 THEN
        INSERT INTO event_id (app, event_id, message)
        SELECT v.app, v.event_id, v.message
        FROM unnest(event_ids) AS v
        WHERE v.n <> ALL (refused)
        ON CONFLICT (app, event_id) DO NOTHING;
        FOR hit IN
            SELECT v.n FROM unnest(event_ids) AS v
            JOIN event_id AS e ON e.app = v.app AND e.event_id = v.event_id
            WHERE v.n <> ALL (refused) AND e.message <> v.message
        LOOP
            refused := refused || hit.n;
            a := NULL;
            a.kind := 'taken'; a.n := hit.n;
            RETURN NEXT a;
            DELETE FROM idempotency WHERE key IN (SELECT v.key FROM unnest(answered) AS v WHERE v.n = hit.n);
        END LOOP;
    END IF;

    IF cardinality(keys) > 0 THEN
        INSERT INTO received_key (source, dedup_key, message)
        SELECT v.source, v.key, v.message
        FROM unnest(keys) AS v
        WHERE v.n <> ALL (refused)
        ON CONFLICT (source, dedup_key) DO NOTHING;
        FOR hit IN
            SELECT v.n, k.message FROM unnest(keys) AS v
            JOIN received_key AS k ON k.source = v.source AND k.dedup_key = v.key
            WHERE v.n <> ALL (refused) AND k.message <> v.message
        LOOP
            repeats := repeats || hit.n;
            firsts := firsts || hit.message;
            a := NULL;
            a.kind := 'duplicate'; a.n := hit.n; a.a := hit.message;
            RETURN NEXT a;
        END LOOP;
    END IF;

    IF cardinality(requests) > 0 THEN
        INSERT INTO received (id, app, source, verdict, reason, dedup_key, message, received_at, method, path, query,
            headers, body)
        SELECT v.id, v.app, v.source, CASE WHEN r.n IS NULL THEN v.verdict ELSE 'duplicate' END, v.reason, v.dedup_key,
            coalesce(r.message, v.message), v.received_at, v.method, v.path, v.query, v.headers,
            -- a duplicate becomes no message that would hold its body
            CASE WHEN r.n IS NULL THEN v.body
                ELSE (SELECT w.payload FROM unnest(messages) AS w WHERE w.n = v.n) END
        FROM unnest(requests) AS v
        LEFT JOIN unnest(repeats, firsts) AS r (n, message) ON r.n = v.n
        WHERE v.n <> ALL (refused)
        ON CONFLICT (app, id) DO NOTHING;
    END IF;
    refused := refused || repeats;

    INSERT INTO message (id, app, event_type, payload, content_type, event_id, channels, tags, order_key, source,
        created_at, deliver_at, payload_until)
    SELECT v.id, v.app, v.event_type, v.payload, v.content_type, v.event_id, v.channels, v.tags, v.order_key, v.source,
        v.created_at, v.deliver_at, v.payload_until
    FROM unnest(messages) AS v
    WHERE v.n <> ALL (refused) AND v.n <> ALL (there);

    IF ordered THEN
        -- only the head of a line can be due: the others go behind what is pending, and behind each other
        FOR hit IN
            SELECT v.place, v.n, v.endpoint FROM (
                SELECT u.*, u.ordinality AS place,
                    row_number() OVER (PARTITION BY u.endpoint, u.order_key ORDER BY u.ordinality) AS nth
                FROM unnest(deliveries) WITH ORDINALITY AS u
                WHERE u.order_key IS NOT NULL AND u.n <> ALL (refused)
                    AND NOT (again AND EXISTS (
                        SELECT FROM delivery AS d WHERE d.message = u.message AND d.endpoint = u.endpoint))
            ) AS v
            WHERE v.nth > 1 OR EXISTS (
                SELECT FROM delivery AS d
                WHERE d.endpoint = v.endpoint AND d.order_key = v.order_key AND d.order_key IS NOT NULL
                    AND d.state IN ('waiting', 'due', 'leased') AND d.message <> v.message)
        LOOP
            waiting := waiting || hit.place;
            a := NULL;
            a.kind := 'waiting'; a.n := hit.n; a.a := hit.endpoint;
            RETURN NEXT a;
        END LOOP;
    END IF;
    IF ordered AND again THEN
        -- what is kept already is as it is by now: the caller must not send what is not leased to him
        FOR hit IN
            SELECT u.n, u.endpoint FROM unnest(deliveries) AS u
            JOIN delivery AS d ON d.message = u.message AND d.endpoint = u.endpoint
            WHERE u.order_key IS NOT NULL AND (d.state <> u.state OR d.lease <> u.lease)
        LOOP
            a := NULL;
            a.kind := 'waiting'; a.n := hit.n; a.a := hit.endpoint;
            RETURN NEXT a;
        END LOOP;
    END IF;

    INSERT INTO delivery (message, endpoint, app, state, due_at, lease, attempts, step, order_key, trigger, resume_at,
        created_at, expires_at)
    SELECT v.message, v.endpoint, v.app,
        CASE WHEN v.ordinality = ANY (waiting) THEN 'waiting' ELSE v.state END,
        CASE WHEN v.ordinality = ANY (waiting) THEN NULL ELSE v.due_at END,
        CASE WHEN v.ordinality = ANY (waiting) THEN 0 ELSE v.lease END,
        v.attempts, v.step, v.order_key, v.trigger, v.resume_at, v.created_at, v.expires_at
    FROM unnest(deliveries) WITH ORDINALITY AS v
    WHERE v.n <> ALL (refused) AND v.n <> ALL (there);

    IF tell THEN
        PERFORM pg_notify('tenterhook', 'due ' || v.endpoint)
        FROM (SELECT DISTINCT u.endpoint FROM unnest(deliveries) AS u WHERE u.state = 'due') AS v;
    END IF;
END $$;

CREATE FUNCTION {claim}(again boolean, claims {claim}[]) RETURNS SETOF answer LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    c record;
    h health;
    room bigint;
    later bigint;      -- not before this instant another claim can find more
    base bigint;       -- the first instant that the rates have left
    gap bigint;
    own_base bigint;   -- that of the endpoint
    own_gap bigint;
    app_base bigint;   -- that of the application
    app_gap bigint;
    app_free_at bigint;
    app text;
    app_rate bigint;
    apps text[] := '{}';  -- those with a rate, which is taken
    taken bigint;
    found {claimed}[];
    claimed {claimed}[] := '{}';
    first text COLLATE "C";
    last text COLLATE "C";
    a answer;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1413836393);

    -- rates of applications are taken first, in one order: several claims share them, and those of other nodes do
    FOR app IN
        SELECT DISTINCT t.app FROM unnest(claims) AS v CROSS JOIN LATERAL (
            SELECT e.app FROM endpoint AS e JOIN application AS p ON p.id = e.app
            WHERE e.id = v.endpoint AND p.rate_limit IS NOT NULL OFFSET 0
        ) AS t
        ORDER BY t.app
    LOOP
        INSERT INTO pace AS p (endpoint, next_at) VALUES (app, 0)
        ON CONFLICT (endpoint) DO UPDATE SET next_at = p.next_at;
        apps := apps || app;
    END LOOP;

    FOR c IN SELECT * FROM unnest(claims) AS v ORDER BY endpoint, n LOOP
        IF again THEN
            -- what an earlier commit of it may have leased
            UPDATE delivery SET state = 'due', due_at = c.now, lease = 0
            WHERE endpoint = c.endpoint AND due_at = c.until AND lease = c.lease AND state = 'leased';
        END IF;
        room := c.most;
        later := 0;
        base := NULL;
        own_gap := 0;
        app_rate := NULL;
        app_free_at := NULL;
        SELECT * INTO h FROM health WHERE endpoint = c.endpoint;
        IF h.open_until > c.now THEN
            room := 0;
            later := h.open_until;
        ELSIF h.opened > 0 THEN
            -- the breaker lets one attempt at a time through, whichever node makes it
            PERFORM pg_advisory_xact_lock(hashtextextended('probe ' || c.endpoint, 0));
            room := least(room, 1);
            IF EXISTS (SELECT FROM delivery AS d
                       WHERE d.endpoint = c.endpoint AND d.state = 'leased' AND d.due_at > c.now) THEN
                room := 0;
            END IF;
            later := c.now + 1000000;
        END IF;
        IF c.rate IS NOT NULL THEN
            INSERT INTO pace AS p (endpoint, next_at) VALUES (c.endpoint, c.now)
            ON CONFLICT (endpoint) DO UPDATE SET next_at = greatest(p.next_at, c.now)
            RETURNING p.next_at INTO own_base;
            own_gap := 1000000 / c.rate;
            room := least(room, greatest(0, (c.paced_until - own_base) / own_gap + 1));
            IF room = 0 THEN
                later := greatest(later, own_base - (c.paced_until - c.now) / 2);
            END IF;
            base := own_base;
            gap := own_gap;
        END IF;
        IF cardinality(apps) > 0 THEN
            SELECT p.id, p.rate_limit INTO app, app_rate FROM endpoint AS e JOIN application AS p ON p.id = e.app
            WHERE e.id = c.endpoint AND p.id = ANY (apps);
        END IF;
        IF app_rate IS NOT NULL THEN
            SELECT greatest(p.next_at, c.now) INTO app_base FROM pace AS p WHERE p.endpoint = app;
            app_gap := 1000000 / app_rate;
            IF (c.paced_until - app_base) / app_gap + 1 <= 0 THEN
                room := 0;
                app_free_at := app_base - (c.paced_until - c.now) / 2;
            ELSIF own_gap > app_gap AND own_base > greatest(c.now, app_base) THEN
                -- what lies between would be lost to the other endpoints
                room := 0;
                later := greatest(later, own_base);
            END IF;
            base := greatest(base, app_base);
            gap := greatest(own_gap, app_gap);
            room := least(room, greatest(0, (c.paced_until - base) / gap + 1), CASE WHEN own_gap > app_gap THEN 1 END);
        END IF;
        taken := 0;
        IF room > 0 THEN
            WITH free AS (
                SELECT d.message, d.lease AS old_lease, d.due_at AS old_due
                FROM delivery AS d
                WHERE d.endpoint = c.endpoint AND d.due_at BETWEEN c.since AND c.now
                ORDER BY d.due_at LIMIT room FOR UPDATE SKIP LOCKED
            ), leased AS (
                UPDATE delivery AS d SET state = 'leased', due_at = c.until, lease = c.lease
                FROM free AS f WHERE d.message = f.message AND d.endpoint = c.endpoint
                RETURNING d.*, f.old_lease, f.old_due
            )
            SELECT count(*), array_agg((
                c.n, l.old_lease, coalesce(base + gap * (l.nth - 1), 0), l.message, l.endpoint,
                l.app, l.state, l.due_at, l.lease, l.attempts, l.step, l.order_key, l.trigger, l.resume_at, l.created_at,
                l.expires_at)::{claimed} ORDER BY l.nth)
            INTO taken, found
            FROM (SELECT *, row_number() OVER (ORDER BY old_due) AS nth FROM leased) AS l;
            claimed := claimed || found;
        END IF;
        IF c.rate IS NOT NULL AND taken > 0 THEN
            UPDATE pace SET next_at = base + gap * (taken - 1) + own_gap WHERE endpoint = c.endpoint;
        END IF;
        IF app_rate IS NOT NULL AND taken > 0 THEN
            UPDATE pace SET next_at = base + gap * (taken - 1) + app_gap WHERE endpoint = app;
        END IF;
        a := NULL;
        a.kind := 'page'; a.n := c.n;
        SELECT min(d.due_at) INTO a.j FROM delivery AS d WHERE d.endpoint = c.endpoint AND d.due_at >= c.since;
        a.i := CASE WHEN a.j IS NOT NULL THEN greatest(a.j, later) END;
        IF NOT EXISTS (SELECT FROM endpoint WHERE id = c.endpoint) THEN
            a.j := NULL;
        END IF;
        a.k := app_rate;
        a.l := app_free_at;
        RETURN NEXT a;
        IF h.failures IS NOT NULL THEN
            a := NULL;
            a.kind := 'record'; a.n := c.n;
            a.i := h.failures; a.j := h.failing_since; a.k := h.open_until; a.l := h.opened;
            RETURN NEXT a;
        END IF;
    END LOOP;

    SELECT min(v.message COLLATE "C"), max(v.message COLLATE "C") INTO first, last FROM unnest(claimed) AS v;
    IF first IS NOT NULL THEN
        RETURN QUERY SELECT
            'claimed', l.n, NULL::text, l.old_lease, e.updated_at, l.not_before, NULL::bigint, NULL::bytea, NULL::bytea,
            l.message, l.endpoint, l.app, l.state, l.due_at, l.lease, l.attempts, l.step, l.order_key, l.trigger,
            l.resume_at, l.created_at, l.expires_at, m.id, m.app, m.event_type, m.payload, m.content_type, m.event_id,
            m.channels, m.tags, m.order_key, m.source, m.created_at, m.deliver_at, m.payload_until
        FROM unnest(claimed) WITH ORDINALITY AS l
        LEFT JOIN message AS m ON m.app = l.app AND m.id = l.message AND m.id >= first AND m.id <= last
        LEFT JOIN endpoint AS e ON e.id = l.endpoint
        ORDER BY l.ordinality;
    END IF;
END $$;
