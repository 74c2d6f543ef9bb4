-- One committer batch on PostgreSQL: three functions that one statement calls in order, so a batch is one round trip.
--
-- Each argument is a column: element k of every array of a group belongs to the same row. `*_n` is the number of the
-- piece of work in the batch, which the answers refer to. An answer is a row with a `kind`; what went as expected is not
-- answered at all. Callers have locked the FIFO lines of the batch before.
--
-- {settle}, {accept}, {claim}, {lock} and {clock} are replaced by names that hold a digest of this text: nodes of
-- different versions call each their own.

CREATE FUNCTION {clock}() RETURNS SETOF answer LANGUAGE plpgsql AS $$
DECLARE
    a answer;
BEGIN
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
    s_n int[], s_message text[], s_endpoint text[], s_lease bigint[], s_state text[], s_due_at bigint[],
    s_new_lease bigint[], s_attempts bigint[], s_step bigint[], s_trigger text[], s_resume_at bigint[],
    -- attempts
    t_id text[], t_app text[], t_message text[], t_endpoint text[], t_number bigint[], t_trigger text[],
    t_started_at bigint[], t_result text[], t_reason text[], t_status bigint[], t_detail text[], t_retry_after bigint[],
    t_url text[], t_request_head bytea[], t_request_body bytea[], t_response_head bytea[], t_response_body bytea[],
    t_response_cut bigint[], t_total bigint[], t_dns bigint[], t_connect bigint[], t_tls bigint[], t_first_byte bigint[],
    -- health: what the attempts of a settlement add to the record of its endpoint, or that they end it
    h_n int[], h_endpoint text[], h_heals boolean[], h_failures bigint[], h_since bigint[], h_open_until bigint[],
    h_opened bigint[],
    -- endpoints to switch off
    x_n int[], x_app text[], x_endpoint text[], x_reason text[], x_now bigint[],
    -- heads of FIFO lines that have ended
    l_n int[], l_endpoint text[], l_order_key text[], l_now bigint[], l_lease bigint[], l_until bigint[]
) RETURNS SETOF answer LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    kept int[];
    healed text[];
    number int;
    line record;
    successor record;
    a answer;
BEGIN
    -- one that is there already was written by a commit whose answer was lost: writing it again changes nothing
    INSERT INTO attempt
    SELECT * FROM unnest(
        t_id, t_app, t_message, t_endpoint, t_number, t_trigger, t_started_at, t_result, t_reason, t_status, t_detail,
        t_retry_after, t_url, t_request_head, t_request_body, t_response_head, t_response_body, t_response_cut, t_total,
        t_dns, t_connect, t_tls, t_first_byte)
    ON CONFLICT (message, id) DO NOTHING;

    WITH written AS (
        UPDATE delivery AS d
        SET state = v.state, due_at = v.due_at, lease = v.new_lease, attempts = v.attempts, step = v.step,
            trigger = v.trigger, resume_at = v.resume_at
        FROM unnest(s_n, s_message, s_endpoint, s_lease, s_state, s_due_at, s_new_lease, s_attempts, s_step, s_trigger,
                    s_resume_at)
            AS v (n, message, endpoint, lease, state, due_at, new_lease, attempts, step, trigger, resume_at)
        WHERE d.message = v.message AND d.endpoint = v.endpoint AND d.lease = v.lease AND d.state = 'leased'
        RETURNING v.n
    )
    SELECT coalesce(array_agg(n), '{}') INTO kept FROM written;
    IF cardinality(kept) < cardinality(s_n) THEN
        -- the accepts of this batch that go with one of these are left out
        PERFORM set_config('tenterhook.lost', array_to_string(ARRAY(SELECT unnest(s_n) EXCEPT SELECT unnest(kept)), ','), true);
        a.kind := 'lost';
        FOREACH number IN ARRAY s_n LOOP
            IF number <> ALL (kept) THEN
                a.n := number;
                RETURN NEXT a;
            END IF;
        END LOOP;
    END IF;

    IF cardinality(h_n) > 0 THEN
        -- a success ends the record of an endpoint: what counts is what came after the last one
        SELECT coalesce(array_agg(DISTINCT v.endpoint), '{}') INTO healed
        FROM unnest(h_n, h_endpoint, h_heals) AS v (n, endpoint, heals) WHERE v.heals AND v.n = ANY (kept);
        DELETE FROM health WHERE endpoint = ANY (healed);
        INSERT INTO health AS h (endpoint, failures, failing_since, open_until, opened)
        SELECT b.endpoint, sum(b.failures), min(b.since), max(b.open_until), max(b.opened)
        FROM (
            SELECT v.*, max(v.n) FILTER (WHERE v.heals) OVER (PARTITION BY v.endpoint) AS healed_at
            FROM unnest(h_n, h_endpoint, h_heals, h_failures, h_since, h_open_until, h_opened)
                AS v (n, endpoint, heals, failures, since, open_until, opened)
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
            FROM (SELECT DISTINCT w.endpoint FROM unnest(h_n, h_endpoint) AS w (n, endpoint) WHERE w.n = ANY (kept)) AS v
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
        SELECT * FROM unnest(x_n, x_app, x_endpoint, x_reason, x_now) AS v (n, app, endpoint, reason, now)
        WHERE v.n = ANY (kept) ORDER BY endpoint
    LOOP
        UPDATE endpoint SET disabled = 1, disabled_reason = line.reason, updated_at = line.now WHERE id = line.endpoint;
        UPDATE application SET revision = revision + 1 WHERE id = line.app;
        PERFORM pg_notify('tenterhook', 'endpoint ' || line.endpoint), pg_notify('tenterhook', 'application ' || line.app);
    END LOOP;

    FOR line IN
        SELECT * FROM unnest(l_n, l_endpoint, l_order_key, l_now, l_lease, l_until)
            AS v (n, endpoint, order_key, now, lease, until)
        WHERE v.n = ANY (kept) ORDER BY n
    LOOP
        -- nothing moves while another heads the line already, as after a replay
        CONTINUE WHEN EXISTS (
            SELECT FROM delivery AS d
            WHERE d.endpoint = line.endpoint AND d.order_key = line.order_key AND d.order_key IS NOT NULL
                AND d.state IN ('due', 'leased'));
        SELECT d.* INTO successor FROM delivery AS d
        WHERE d.endpoint = line.endpoint AND d.order_key = line.order_key AND d.order_key IS NOT NULL
            AND d.state IN ('waiting', 'due', 'leased') AND d.state = 'waiting'
        ORDER BY d.message LIMIT 1;
        CONTINUE WHEN NOT FOUND;
        UPDATE delivery SET state = CASE WHEN line.lease = 0 THEN 'due' ELSE 'leased' END,
            due_at = CASE WHEN line.lease = 0 THEN line.now ELSE line.until END, lease = line.lease
        WHERE message = successor.message AND endpoint = successor.endpoint;
        RETURN QUERY SELECT
            'promoted', line.n, NULL::text, 0::bigint, e.updated_at, NULL::bigint, NULL::bigint, NULL::bytea,
            NULL::bytea, d.message, d.endpoint, d.app, d.state, d.due_at, d.lease, d.attempts, d.step, d.order_key,
            d.trigger, d.resume_at, d.created_at, d.expires_at, m.id, m.app, m.event_type, m.payload, m.content_type,
            m.event_id, m.channels, m.tags, m.order_key, m.source, m.created_at
        FROM delivery AS d
        LEFT JOIN message AS m ON m.app = d.app AND m.id = d.message
        LEFT JOIN endpoint AS e ON e.id = d.endpoint
        WHERE d.message = successor.message AND d.endpoint = successor.endpoint AND line.lease <> 0;
    END LOOP;
END $$;

CREATE FUNCTION {accept}(
    -- the revisions that plans were made with, and which plan each accept goes by
    p_app text[], p_revision bigint[], a_n int[], a_plan int[],
    -- accepts that go with a settlement
    g_n int[], g_settlement int[],
    -- idempotency keys
    r_n int[], r_key bytea[], r_body_hash bytea[], r_status bigint[], r_answer bytea[], r_expires_at bigint[],
    r_made_at bigint,
    -- event ids
    e_n int[], e_app text[], e_event_id text[], e_message text[],
    -- duplicate keys of received requests
    k_n int[], k_source text[], k_key text[], k_message text[],
    -- messages
    m_n int[], m_id text[], m_app text[], m_event_type text[], m_payload bytea[], m_content_type text[],
    m_event_id text[], m_channels text[], m_tags text[], m_order_key text[], m_source text[], m_created_at bigint[],
    -- deliveries
    d_n int[], d_message text[], d_endpoint text[], d_app text[], d_state text[], d_due_at bigint[], d_lease bigint[],
    d_attempts bigint[], d_step bigint[], d_order_key text[], d_trigger text[], d_resume_at bigint[],
    d_created_at bigint[], d_expires_at bigint[],
    -- received requests
    q_n int[], q_id text[], q_app text[], q_source text[], q_verdict text[], q_reason text[], q_dedup_key text[],
    q_message text[], q_received_at bigint[], q_method text[], q_path bytea[], q_query bytea[], q_headers bytea[],
    q_body bytea[],
    -- whether any delivery has an order, and whether other nodes must be told what is due
    ordered boolean, tell boolean
) RETURNS SETOF answer LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    refused int[] := '{}';   -- nothing of these is written
    repeats int[] := '{}';   -- of these only the received request is, as a duplicate
    firsts text[] := '{}';   -- … of these messages
    waiting bigint[] := '{}';
    outdated int[];
    fresh bytea[];
    number int;
    hit record;
    a answer;
BEGIN
    SELECT array_agg(v.plan::int) INTO outdated
    FROM unnest(p_app, p_revision) WITH ORDINALITY AS v (app, revision, plan)
    LEFT JOIN application AS p ON p.id = v.app
    WHERE p.revision IS DISTINCT FROM v.revision;
    IF outdated IS NOT NULL THEN
        a.kind := 'outdated';
        FOR number IN SELECT v.n FROM unnest(a_n, a_plan) AS v (n, plan) WHERE v.plan = ANY (outdated) LOOP
            refused := refused || number;
            a.n := number;
            RETURN NEXT a;
        END LOOP;
    END IF;

    IF cardinality(g_n) > 0 THEN
        refused := refused || ARRAY(
            SELECT v.n FROM unnest(g_n, g_settlement) AS v (n, settlement)
            WHERE v.settlement::text = ANY (string_to_array(current_setting('tenterhook.lost', true), ',')));
    END IF;

    IF cardinality(r_n) > 0 THEN
        -- the insertion is the lock: a node that is behind waits here for the answer of the one before
        WITH inserted AS (
            INSERT INTO idempotency AS i (key, body_hash, status, answer, expires_at)
            SELECT v.key, v.body_hash, v.status, v.answer, v.expires_at
            FROM unnest(r_n, r_key, r_body_hash, r_status, r_answer, r_expires_at)
                AS v (n, key, body_hash, status, answer, expires_at)
            WHERE v.n <> ALL (refused)
            ON CONFLICT (key) DO UPDATE SET body_hash = excluded.body_hash, status = excluded.status,
                answer = excluded.answer, expires_at = excluded.expires_at
            WHERE i.expires_at <= r_made_at
            RETURNING key
        )
        SELECT coalesce(array_agg(key), '{}') INTO fresh FROM inserted;
        IF cardinality(fresh) < cardinality(r_n) THEN
            FOR hit IN
                SELECT v.n, i.body_hash, i.status, i.answer
                FROM unnest(r_n, r_key) AS v (n, key) JOIN idempotency AS i ON i.key = v.key
                WHERE v.n <> ALL (refused) AND v.key <> ALL (fresh)
            LOOP
                refused := refused || hit.n;
                a := NULL;
                a.kind := 'remembered'; a.n := hit.n; a.i := hit.status; a.x := hit.body_hash; a.y := hit.answer;
                -- not another request, but this one: the answer to an earlier commit of it was lost
                SELECT count(*) INTO a.j FROM unnest(m_n, m_app, m_id) AS v (n, app, id)
                JOIN message AS m ON m.app = v.app AND m.id = v.id WHERE v.n = hit.n;
                RETURN NEXT a;
            END LOOP;
        END IF;
    END IF;

    IF cardinality(e_n) > 0 THEN
        INSERT INTO event_id (app, event_id, message)
        SELECT v.app, v.event_id, v.message
        FROM unnest(e_n, e_app, e_event_id, e_message) AS v (n, app, event_id, message) WHERE v.n <> ALL (refused)
        ON CONFLICT (app, event_id) DO NOTHING;
        FOR hit IN
            SELECT v.n FROM unnest(e_n, e_app, e_event_id, e_message) AS v (n, app, event_id, message)
            JOIN event_id AS e ON e.app = v.app AND e.event_id = v.event_id
            WHERE v.n <> ALL (refused) AND e.message <> v.message
        LOOP
            refused := refused || hit.n;
            a := NULL;
            a.kind := 'taken'; a.n := hit.n;
            RETURN NEXT a;
            DELETE FROM idempotency WHERE key IN (SELECT v.key FROM unnest(r_n, r_key) AS v (n, key) WHERE v.n = hit.n);
        END LOOP;
    END IF;

    IF cardinality(k_n) > 0 THEN
        INSERT INTO received_key (source, dedup_key, message)
        SELECT v.source, v.key, v.message
        FROM unnest(k_n, k_source, k_key, k_message) AS v (n, source, key, message) WHERE v.n <> ALL (refused)
        ON CONFLICT (source, dedup_key) DO NOTHING;
        FOR hit IN
            SELECT v.n, k.message FROM unnest(k_n, k_source, k_key, k_message) AS v (n, source, key, message)
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

    IF cardinality(q_n) > 0 THEN
        INSERT INTO received (id, app, source, verdict, reason, dedup_key, message, received_at, method, path, query,
            headers, body)
        SELECT v.id, v.app, v.source, CASE WHEN r.n IS NULL THEN v.verdict ELSE 'duplicate' END, v.reason, v.dedup_key,
            coalesce(r.message, v.message), v.received_at, v.method, v.path, v.query, v.headers,
            -- a duplicate becomes no message that would hold its body
            CASE WHEN r.n IS NULL THEN v.body
                ELSE (SELECT w.payload FROM unnest(m_n, m_payload) AS w (n, payload) WHERE w.n = v.n) END
        FROM unnest(q_n, q_id, q_app, q_source, q_verdict, q_reason, q_dedup_key, q_message, q_received_at, q_method,
                    q_path, q_query, q_headers, q_body)
            AS v (n, id, app, source, verdict, reason, dedup_key, message, received_at, method, path, query, headers, body)
        LEFT JOIN unnest(repeats, firsts) AS r (n, message) ON r.n = v.n
        WHERE v.n <> ALL (refused)
        ON CONFLICT (source, id) DO NOTHING;
    END IF;
    refused := refused || repeats;

    INSERT INTO message (id, app, event_type, payload, content_type, event_id, channels, tags, order_key, source,
        created_at)
    SELECT v.id, v.app, v.event_type, v.payload, v.content_type, v.event_id, v.channels, v.tags, v.order_key, v.source,
        v.created_at
    FROM unnest(m_n, m_id, m_app, m_event_type, m_payload, m_content_type, m_event_id, m_channels, m_tags, m_order_key,
                m_source, m_created_at)
        AS v (n, id, app, event_type, payload, content_type, event_id, channels, tags, order_key, source, created_at)
    WHERE v.n <> ALL (refused)
    ON CONFLICT (app, id) DO NOTHING;

    IF ordered THEN
        -- only the head of a line can be due: the others go behind what is pending, and behind each other
        FOR hit IN
            SELECT v.place, v.n, v.endpoint FROM (
                SELECT u.*, row_number() OVER (PARTITION BY u.endpoint, u.order_key ORDER BY u.place) AS nth
                FROM unnest(d_n, d_endpoint, d_order_key, d_message)
                    WITH ORDINALITY AS u (n, endpoint, order_key, message, place)
                WHERE u.order_key IS NOT NULL AND u.n <> ALL (refused)
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

    INSERT INTO delivery (message, endpoint, app, state, due_at, lease, attempts, step, order_key, trigger, resume_at,
        created_at, expires_at)
    SELECT v.message, v.endpoint, v.app,
        CASE WHEN v.place = ANY (waiting) THEN 'waiting' ELSE v.state END,
        CASE WHEN v.place = ANY (waiting) THEN NULL ELSE v.due_at END,
        CASE WHEN v.place = ANY (waiting) THEN 0 ELSE v.lease END,
        v.attempts, v.step, v.order_key, v.trigger, v.resume_at, v.created_at, v.expires_at
    FROM unnest(d_n, d_message, d_endpoint, d_app, d_state, d_due_at, d_lease, d_attempts, d_step, d_order_key,
                d_trigger, d_resume_at, d_created_at, d_expires_at)
        WITH ORDINALITY AS v (n, message, endpoint, app, state, due_at, lease, attempts, step, order_key, trigger,
            resume_at, created_at, expires_at, place)
    WHERE v.n <> ALL (refused)
    ON CONFLICT (message, endpoint) DO NOTHING;

    IF tell THEN
        PERFORM pg_notify('tenterhook', 'due ' || v.endpoint)
        FROM (SELECT DISTINCT endpoint FROM unnest(d_endpoint, d_state) AS u (endpoint, state) WHERE state = 'due') AS v;
    END IF;
END $$;

CREATE FUNCTION {claim}(
    c_n int[], c_endpoint text[], c_most bigint[], c_now bigint[], c_lease bigint[], c_until bigint[],
    -- attempts per second, and until when they are given out; NULL for no limit
    c_rate bigint[], c_paced_until bigint[]
) RETURNS SETOF answer LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    c record;
    h health;
    room bigint;
    later bigint;      -- not before this instant another claim can find more
    base bigint;       -- the first instant that the rate has left
    gap bigint;
    taken bigint;
    a answer;
BEGIN
    FOR c IN
        SELECT * FROM unnest(c_n, c_endpoint, c_most, c_now, c_lease, c_until, c_rate, c_paced_until)
            AS v (n, endpoint, most, now, lease, until, rate, paced_until)
        ORDER BY endpoint
    LOOP
        room := c.most;
        later := 0;
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
            RETURNING p.next_at INTO base;
            gap := 1000000 / c.rate;
            room := least(room, greatest(0, (c.paced_until - base) / gap + 1));
            IF room = 0 THEN
                later := greatest(later, base - (c.paced_until - c.now) / 2);
            END IF;
        END IF;
        taken := 0;
        IF room > 0 THEN
            RETURN QUERY
            WITH found AS (
                SELECT d.message, d.lease AS old_lease, d.due_at AS old_due
                FROM delivery AS d
                WHERE d.endpoint = c.endpoint AND d.due_at <= c.now
                ORDER BY d.due_at LIMIT room FOR UPDATE SKIP LOCKED
            ), leased AS (
                UPDATE delivery AS d SET state = 'leased', due_at = c.until, lease = c.lease
                FROM found AS f WHERE d.message = f.message AND d.endpoint = c.endpoint
                RETURNING d.*, f.old_lease, f.old_due
            )
            SELECT
                'claimed', c.n, NULL::text, l.old_lease, e.updated_at,
                CASE WHEN c.rate IS NULL THEN 0 ELSE base + gap * (row_number() OVER (ORDER BY l.old_due) - 1) END,
                NULL::bigint, NULL::bytea, NULL::bytea,
                l.message, l.endpoint, l.app, l.state, l.due_at, l.lease, l.attempts, l.step, l.order_key, l.trigger,
                l.resume_at, l.created_at, l.expires_at, m.id, m.app, m.event_type, m.payload, m.content_type,
                m.event_id, m.channels, m.tags, m.order_key, m.source, m.created_at
            FROM leased AS l
            LEFT JOIN message AS m ON m.app = l.app AND m.id = l.message
            LEFT JOIN endpoint AS e ON e.id = l.endpoint
            ORDER BY l.old_due;
            GET DIAGNOSTICS taken = ROW_COUNT;
        END IF;
        IF c.rate IS NOT NULL AND taken > 0 THEN
            UPDATE pace SET next_at = base + gap * taken WHERE endpoint = c.endpoint;
        END IF;
        a := NULL;
        a.kind := 'page'; a.n := c.n;
        SELECT greatest(min(d.due_at), later) INTO a.i FROM delivery AS d
        WHERE d.endpoint = c.endpoint AND d.due_at IS NOT NULL HAVING min(d.due_at) IS NOT NULL;
        RETURN NEXT a;
        IF h.failures IS NOT NULL THEN
            a := NULL;
            a.kind := 'record'; a.n := c.n;
            a.i := h.failures; a.j := h.failing_since; a.k := h.open_until; a.l := h.opened;
            RETURN NEXT a;
        END IF;
    END LOOP;
END $$;
