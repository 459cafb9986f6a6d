-- What the files bad_input_*.sql share. Every argument of every public function, given badly: each call must fail with its SQLSTATE and
-- a message that names what was wrong, and must leave nothing behind. One table holds a file's calls; calls that differ in the function
-- only are made from templates.
-- Files run in databases of one server, so roles may be there already.
SELECT format('CREATE ROLE %I LOGIN', r) FROM unnest('{bad_other,bad_user}'::text[]) r WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) \gexec
SELECT 'CREATE ROLE bad_nologin NOLOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'bad_nologin') \gexec
SELECT dts.grant_usage('bad_user');
SELECT dts.create_queue('Mixed "case" – queue');
SELECT dts.create_handler('h', 'SELECT $1');
SELECT dts.create_handler('h twice', 'SELECT 1; SELECT 2');
SELECT dts.create_handler('outside', kind => 'external');
SELECT dts.submit('SELECT 1', delay => '1 day', key => 'taken') AS waiting \gset
SELECT dts.submit('SELECT 1/0', max_attempts => 1) AS dead \gset
CALL dts.wait(:dead, '30 s') \gset

CREATE TABLE bad (n int GENERATED ALWAYS AS IDENTITY, call text NOT NULL, wants text NOT NULL, says text NOT NULL, as_role text);

-- The check: state, message, and nothing written.
CREATE FUNCTION bad_call(b bad) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    before text; after text; state text := '00000'; message text := ''; hint text; detail text; ours boolean;
BEGIN
    SELECT format('%s/%s/%s/%s', (SELECT count(*) FROM dts.task), (SELECT count(*) FROM dts.audit_entry), (SELECT count(*) FROM dts.queue), (SELECT count(*) FROM dts.key)) INTO before;
    BEGIN
        IF b.as_role IS NOT NULL THEN EXECUTE format('SET LOCAL ROLE %I', b.as_role); END IF;
        EXECUTE CASE WHEN b.call LIKE 'CALL%' THEN b.call ELSE 'SELECT * FROM ' || b.call END;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT, detail = PG_EXCEPTION_DETAIL;
    END;
    RESET ROLE;
    SELECT format('%s/%s/%s/%s', (SELECT count(*) FROM dts.task), (SELECT count(*) FROM dts.audit_entry), (SELECT count(*) FROM dts.queue), (SELECT count(*) FROM dts.key)) INTO after;
    -- Messages of the server itself have a hint or not; those of dts always.
    ours := message ~ 'argument "|element [0-9]|handler|queue' AND message !~ 'permission denied for (function|schema)|^function ';
    RETURN NEXT ok(state ~ ('^' || b.wants || '$') AND message ~ b.says AND before = after AND (hint <> '' OR NOT ours), left(format('%s: %s', COALESCE(b.as_role || ': ', '') || b.call, b.wants), 200));
    IF state !~ ('^' || b.wants || '$') OR message !~ b.says OR before <> after OR (ours AND hint = '') THEN
        RETURN NEXT diag(format(E'got %s: %s\nhint: %s\nwanted %s: %s\ntasks/audit/queues/keys %s, then %s', state, left(message, 300), hint, b.wants, b.says, before, after));
    END IF;
END $$;

-- Makes all of them, in order.
CREATE FUNCTION bad_calls() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT r FROM (SELECT bad AS b FROM bad ORDER BY n OFFSET 0) o, LATERAL bad_call(o.b) r;
$$;
