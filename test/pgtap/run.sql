-- What a task gives back: results of every type, arguments of every type, notices, errors captured whole, limits.
SELECT no_plan();
CREATE ROLE run_user LOGIN;
SELECT dts.grant_usage('run_user');
CREATE SCHEMA run AUTHORIZATION run_user;
GRANT CREATE ON SCHEMA public TO run_user;
ALTER ROLE run_user SET search_path = run, public;
-- Errors end at once: retries are tested elsewhere.
SELECT dts.create_queue('once', max_attempts => 1);
SET ROLE run_user;
SET search_path = run, public;

CREATE TYPE pair AS (a int, b text);
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE DOMAIN small AS int CHECK (VALUE < 10);
CREATE DOMAIN doc AS jsonb;
CREATE TABLE items (id int PRIMARY KEY, name text NOT NULL, n int CONSTRAINT positive CHECK (n > 0));
CREATE TABLE children (item int CONSTRAINT parent REFERENCES items DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION nothing() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION fails(int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    IF $1 > 0 THEN RETURN fails($1 - 1); END IF;
    RAISE EXCEPTION 'told %', 'so' USING ERRCODE = 'XY123', DETAIL = 'the detail', HINT = 'the hint',
        SCHEMA = 'some schema', TABLE = 'some table', COLUMN = 'some column', CONSTRAINT = 'some constraint', DATATYPE = 'some type';
END $$;
CREATE FUNCTION says(n int, size int, ending text DEFAULT NULL) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..n LOOP RAISE NOTICE '% %', i, repeat('x', size); END LOOP;
    IF ending = 'warn' THEN RAISE WARNING 'beware' USING DETAIL = 'of the dog'; END IF;
    IF ending = 'info' THEN RAISE INFO 'informed'; END IF;
    IF ending = 'fail' THEN RAISE EXCEPTION 'failed'; END IF;
    RETURN n;
END $$;
CREATE PROCEDURE gives(INOUT a int, OUT b text) LANGUAGE plpgsql AS $$ BEGIN a := a + 1; b := 'given'; END $$;

CREATE TABLE job (n int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text, sql text, args jsonb, result jsonb, rows bigint, state text DEFAULT 'succeeded', error jsonb, notices text, id bigint);
INSERT INTO job (what, sql, args, result, rows) VALUES
    ('no column', 'SELECT', NULL, '[{}]', 1),
    ('no row', 'SELECT 1 WHERE false', NULL, '[]', 0),
    ('null', 'SELECT NULL AS x', NULL, '[{"x": null}]', 1),
    ('numbers', 'SELECT 1 AS i, 9223372036854775807 AS b, 1.50 AS n, ''NaN''::numeric AS nan, ''Infinity''::float8 AS inf, 1e300::float8 AS f', NULL,
     '[{"i": 1, "b": 9223372036854775807, "n": 1.50, "nan": "NaN", "inf": "Infinity", "f": 1e300}]', 1),
    ('text', 'SELECT E''a"b\\c\n\t\u00e9\U0001F600\x01'' AS t, '''' AS e', NULL, jsonb_build_array(jsonb_build_object('t', E'a"b\\c\n\té😀\x01', 'e', '')), 1),
    ('arrays', 'SELECT ''{1,NULL}''::int[] AS a, ''{{1,2},{3,4}}''::int[] AS b, ''{}''::text[] AS c, ARRAY[ROW(1, ''x'')::pair] AS d', NULL,
     '[{"a": [1, null], "b": [[1, 2], [3, 4]], "c": [], "d": [{"a": 1, "b": "x"}]}]', 1),
    ('composite', 'SELECT ROW(1, NULL)::pair AS p, ROW(1, 2) AS r', NULL, '[{"p": {"a": 1, "b": null}, "r": {"f1": 1, "f2": 2}}]', 1),
    ('json', 'SELECT ''{"a": [1, null]}''::json AS j, ''null''::jsonb AS n, ''"x"''::jsonb AS s', NULL, '[{"j": {"a": [1, null]}, "n": null, "s": "x"}]', 1),
    ('bytea', $$SELECT '\x00ff'::bytea AS b$$, NULL, '[{"b": "\\x00ff"}]', 1),
    ('enum, domain, range, uuid, bool', $$SELECT 'sad'::mood AS m, 3::small AS d, int4range(1, 3) AS r, '00000000-0000-0000-0000-000000000001'::uuid AS u, true AS t$$, NULL,
     '[{"m": "sad", "d": 3, "r": "[1,3)", "u": "00000000-0000-0000-0000-000000000001", "t": true}]', 1),
    ('dates', $$SELECT '2026-02-28'::date AS d, '1 day 02:03'::interval AS i, timestamp '2026-01-01 10:00' AS t$$, NULL, '[{"d": "2026-02-28", "i": "1 day 02:03:00", "t": "2026-01-01T10:00:00"}]', 1),
    ('void', 'SELECT nothing()', NULL, '[{"nothing": null}]', 1),
    ('same name twice', 'SELECT 1 AS a, 2 AS b, 3 AS c', NULL, '[{"a": 1, "b": 2, "c": 3}]', 1),
    ('unnamed', 'SELECT 1, 1 + 1 AS "odd ""name""", ''x''', NULL, NULL, 1),
    ('many rows', 'SELECT i FROM generate_series(1, 3) i', NULL, '[{"i": 1}, {"i": 2}, {"i": 3}]', 3),
    ('VALUES', 'VALUES (1, ''a''), (2, NULL)', NULL, '[{"column1": 1, "column2": "a"}, {"column1": 2, "column2": null}]', 2),
    ('insert', $$INSERT INTO items SELECT i, 'n' || i, i FROM generate_series(1, 5) i$$, NULL, NULL, 5),
    ('insert returning', $$INSERT INTO items VALUES (10, 'ten', 10), (11, 'eleven', 11) RETURNING id$$, NULL, '[{"id": 10}, {"id": 11}]', 2),
    ('update', 'UPDATE items SET n = n + 1 WHERE id <= 3', NULL, NULL, 3),
    ('update returning', 'UPDATE items SET n = 99 WHERE id = 4 RETURNING n AS after', NULL, '[{"after": 99}]', 1),
    ('delete', 'DELETE FROM items WHERE id = 5', NULL, NULL, 1),
    ('delete of nothing', 'DELETE FROM items WHERE id = 5555 RETURNING id', NULL, '[]', 0),
    ('insert in a WITH', $$WITH x AS (INSERT INTO items VALUES (20, 'w', 1) RETURNING id) SELECT id FROM x$$, NULL, '[{"id": 20}]', 1),
    ('on conflict', $$INSERT INTO items VALUES (20, 'w', 1) ON CONFLICT DO NOTHING$$, NULL, NULL, 0),
    ('several, rows last', 'SELECT 1 AS a; SELECT 2 AS b', NULL, '[{"b": 2}]', 1),
    ('several, none last', 'SELECT 1 AS a; UPDATE items SET n = n WHERE id = 1', NULL, NULL, 1),
    ('several, utility last', 'SELECT 1 AS a; SET work_mem = ''5MB''', NULL, NULL, 0),
    ('several that need each other', 'CREATE TEMP TABLE made (i int); INSERT INTO made VALUES (1), (2); SELECT count(*) FROM made', NULL, '[{"count": 2}]', 1),
    ('DDL', 'CREATE TABLE made_for_good (i int)', NULL, NULL, 0),
    ('create table as', 'CREATE TABLE made_as AS SELECT i FROM generate_series(1, 4) i', NULL, NULL, 4),
    ('DO', $$DO 'BEGIN PERFORM 1; END'$$, NULL, NULL, 0),
    ('SHOW', 'SHOW server_encoding', NULL, '[{"server_encoding": "UTF8"}]', 1),
    ('EXPLAIN', 'EXPLAIN (COSTS off) SELECT 1', NULL, '[{"QUERY PLAN": "Result"}]', 1),
    ('CALL', 'CALL gives(1, NULL)', NULL, '[{"a": 2, "b": "given"}]', 1),
    ('own copy of a result', 'SELECT (SELECT array_agg(i) FROM generate_series(1, 3) i) AS a', NULL, '[{"a": [1, 2, 3]}]', 1);
-- Arguments.
INSERT INTO job (what, sql, args, result, rows) VALUES
    ('int', 'SELECT $1::int AS a', '[42]', '[{"a": 42}]', 1),
    ('number as text', 'SELECT $1::int AS a', '["42"]', '[{"a": 42}]', 1),
    ('bigint', 'SELECT $1::bigint + 1 AS a', '[9223372036854775806]', '[{"a": 9223372036854775807}]', 1),
    ('numeric in full', 'SELECT $1::numeric AS a', '[12345678901234567890.123456789012345678901]', '[{"a": 12345678901234567890.123456789012345678901}]', 1),
    ('float', 'SELECT $1::float8 AS a, $2::float8 AS b', '[1.5, "NaN"]', '[{"a": 1.5, "b": "NaN"}]', 1),
    ('bool', 'SELECT $1::bool AS a, $2::bool AS b', '[true, "f"]', '[{"a": true, "b": false}]', 1),
    ('text is no SQL', 'SELECT $1::text AS a', '["''); DROP TABLE run.items; --"]', '[{"a": "''); DROP TABLE run.items; --"}]', 1),
    ('text of other types', 'SELECT $1::text AS a, $2::text AS b, $3::text AS c, $4::text AS d', '[1.50, true, [1, 2], {"x": null}]', '[{"a": "1.50", "b": "true", "c": "[1, 2]", "d": "{\"x\": null}"}]', 1),
    ('null', 'SELECT $1::int AS a, $2::text AS b, $3::int[] IS NULL AS c', '[null, null, null]', '[{"a": null, "b": null, "c": true}]', 1),
    ('null as json', 'SELECT $1::jsonb AS a, jsonb_typeof($1) AS t, $2::json::text AS b', '[null, null]', '[{"a": null, "t": "null", "b": "null"}]', 1),
    ('untyped', 'SELECT $1 AS a', '["x"]', '[{"a": "x"}]', 1),
    ('int[]', 'SELECT $1::int[] AS a', '[[1, null, 3]]', '[{"a": [1, null, 3]}]', 1),
    ('int[][]', 'SELECT $1::int[] AS a', '[[[1, 2], [3, 4]]]', '[{"a": [[1, 2], [3, 4]]}]', 1),
    ('text[]', 'SELECT $1::text[] AS a', '[["a\"b", "c\\d", "", "NULL", null, "{x,y}", "é"]]', '[{"a": ["a\"b", "c\\d", "", "NULL", null, "{x,y}", "é"]}]', 1),
    ('array literal', 'SELECT $1::text[] AS a', '["{a,b}"]', '[{"a": ["a", "b"]}]', 1),
    ('empty array', 'SELECT $1::int[] AS a', '[[]]', '[{"a": []}]', 1),
    ('jsonb[]', 'SELECT $1::jsonb[] AS a', '[[{"x": 1}, "s", null, 1.50]]', '[{"a": [{"x": 1}, "s", null, 1.50]}]', 1),
    ('domain over jsonb', 'SELECT $1::doc AS a, $2::doc AS b', '["s", [1]]', '[{"a": "s", "b": [1]}]', 1),
    ('jsonb', 'SELECT $1::jsonb AS a, $2::jsonb AS b, $3::jsonb AS c', '[{"x": [1, {"y": null}]}, "s", [1, 2]]', '[{"a": {"x": [1, {"y": null}]}, "b": "s", "c": [1, 2]}]', 1),
    ('json', 'SELECT $1::json AS a', '[{"x": "\u00e9"}]', '[{"a": {"x": "é"}}]', 1),
    ('composite', 'SELECT ($1::pair).a AS a', '["(7,x)"]', '[{"a": 7}]', 1),
    ('enum and domain', 'SELECT $1::mood AS m, $2::small AS s', '["ok", 9]', '[{"m": "ok", "s": 9}]', 1),
    ('dates', 'SELECT $1::date AS d, $2::interval AS i, $3::timestamptz = ''2026-01-01 00:00+00'' AS t', '["2026-02-28", "90 min", "2026-01-01T01:00:00+01"]', '[{"d": "2026-02-28", "i": "01:30:00", "t": true}]', 1),
    ('bytea and uuid', 'SELECT $1::bytea AS b, $2::uuid AS u', '["\\x00ff", "00000000-0000-0000-0000-000000000001"]', '[{"b": "\\x00ff", "u": "00000000-0000-0000-0000-000000000001"}]', 1),
    ('range', 'SELECT $1::int4range AS r', '["[1,5]"]', '[{"r": "[1,6)"}]', 1),
    ('used twice', 'SELECT $1::int + $1::int AS a', '[21]', '[{"a": 42}]', 1),
    ('out of order', 'SELECT $2::text AS b, $1::int AS a', '[1, "two"]', '[{"b": "two", "a": 1}]', 1),
    ('skipped', 'SELECT $2::int AS a', '["unused", 2]', '[{"a": 2}]', 1),
    ('ten and more', 'SELECT $10::int - $1::int AS a, $11::text AS b, $2::int + $3::int + $4::int + $5::int + $6::int + $7::int + $8::int + $9::int AS c', '[1,2,3,4,5,6,7,8,9,10,"x"]', '[{"a": 9, "b": "x", "c": 44}]', 1),
    ('insert with arguments', 'INSERT INTO items VALUES ($1, $2, $3) RETURNING *', '[30, "a''b", 1]', '[{"id": 30, "name": "a''b", "n": 1}]', 1),
    ('array in ANY', 'SELECT count(*) FROM items WHERE id = ANY ($1)', '[[1, 2, 30]]', '[{"count": 3}]', 1),
    ('limit', 'SELECT i FROM generate_series(1, 10) i LIMIT $1', '[2]', '[{"i": 1}, {"i": 2}]', 2),
    ('same text, other arguments', 'SELECT $1::int AS a', '[43]', '[{"a": 43}]', 1),
    ('same text a third time', 'SELECT $1::int AS a', '[null]', '[{"a": null}]', 1),
    ('dollar quotes', 'SELECT $x$ $1 $x$ AS a, $1::int AS b /* $2 */ -- $3', '[1]', '[{"a": " $1 ", "b": 1}]', 1);
-- Errors, captured whole.
INSERT INTO job (what, sql, args, state, error) VALUES
    ('not null', 'INSERT INTO items VALUES (100, NULL, 1)', NULL, 'failed', '{"sqlstate": "23502", "schema": "run", "table": "items", "column": "name"}'),
    ('check', $$INSERT INTO items VALUES (100, 'x', 0)$$, NULL, 'failed', '{"sqlstate": "23514", "schema": "run", "table": "items", "constraint": "positive"}'),
    ('unique', $$INSERT INTO items VALUES (1, 'x', 1)$$, NULL, 'failed', '{"sqlstate": "23505", "table": "items", "constraint": "items_pkey", "detail": "Key (id)=(1) already exists."}'),
    ('deferred foreign key', 'INSERT INTO children VALUES (12345)', NULL, 'failed', '{"sqlstate": "23503", "table": "children", "constraint": "parent"}'),
    ('raised with all fields', 'SELECT fails(2)', NULL, 'failed', '{"sqlstate": "XY123", "message": "told so", "detail": "the detail", "hint": "the hint", "schema": "some schema", "table": "some table", "column": "some column", "constraint": "some constraint", "datatype": "some type"}'),
    ('undefined table', 'SELECT * FROM missing', NULL, 'failed', '{"sqlstate": "42P01", "internal_query": "SELECT * FROM missing", "internal_position": "15"}'),
    ('undefined function', 'SELECT missing(1)', NULL, 'failed', '{"sqlstate": "42883"}'),
    ('division', 'SELECT 1/0', NULL, 'failed', '{"sqlstate": "22012", "message": "division by zero"}'),
    ('argument does not fit', 'SELECT * FROM missing WHERE id = $1::int', '[1]', 'failed', '{"sqlstate": "42P01"}'),
    ('domain', 'SELECT 10::small', NULL, 'failed', '{"sqlstate": "23514", "datatype": "small"}'),
    ('commit in a procedure', $$DO 'BEGIN COMMIT; END'$$, NULL, 'failed', '{"sqlstate": "2D000"}'),
    ('vacuum', 'VACUUM items', NULL, 'failed', '{"sqlstate": "25001"}'),
    ('vacuum among others', 'SELECT 1; VACUUM items', NULL, 'failed', '{"sqlstate": "25001"}'),
    ('listen', 'LISTEN x', NULL, 'failed', '{"sqlstate": "0A000"}'),
    ('copy from a program', $$COPY items FROM PROGRAM 'true'$$, NULL, 'failed', '{"sqlstate": "42501"}'),
    ('recursion', 'WITH RECURSIVE r AS (SELECT 1) SELECT repeat(''('', 100000)::tsquery', NULL, 'failed', NULL),
    ('nothing of it stays', $$INSERT INTO items VALUES (777, 'x', 1); SELECT 1/0$$, NULL, 'failed', '{"sqlstate": "22012"}'),
    ('read only', $$SET TRANSACTION READ ONLY; INSERT INTO items VALUES (778, 'x', 1)$$, NULL, 'failed', '{"sqlstate": "25006"}'),
    ('a long message', $$DO 'BEGIN RAISE EXCEPTION ''%'', repeat(''é'', 1000000); END'$$, NULL, 'failed', '{"sqlstate": "P0001"}'),
    ('tables of dts', 'DELETE FROM dts.task', NULL, 'failed', '{"sqlstate": "42501"}'),
    ('error in a trigger of the commit', $$DO 'BEGIN SET CONSTRAINTS ALL DEFERRED; INSERT INTO run.children VALUES (4711); END'$$, NULL, 'failed', '{"sqlstate": "23503"}');
-- Notices.
INSERT INTO job (what, sql, rows, notices, state) VALUES
    ('one notice', 'SELECT says(1, 3)', 1, '^NOTICE: 1 xxx$', 'succeeded'),
    ('several, with levels', 'SELECT says(2, 1, ''warn'')', 1, E'^NOTICE: 1 x\nNOTICE: 2 x\nWARNING: beware \\(of the dog\\)$', 'succeeded'),
    ('info', 'SELECT says(0, 1, ''info'')', 1, '^INFO: informed$', 'succeeded'),
    ('kept with an error', 'SELECT says(1, 1, ''fail'')', 0, '^NOTICE: 1 x$', 'failed'),
    ('of the server', 'DROP TABLE IF EXISTS not_there', 0, '^NOTICE: table "not_there" does not exist, skipping$', 'succeeded'),
    ('cut', 'SELECT says(100, 500)', 1, E'^NOTICE: 1 x+\nNOTICE: 2 x+\n.*x+\\.\\.\\. \\(cut\\)$', 'succeeded'),
    ('a huge one', 'SELECT says(1, 3000000)', 1, E'^NOTICE: 1 x+\\.\\.\\. \\(cut\\)$', 'succeeded'),
    ('below the level', $$SET client_min_messages = error; SELECT says(1, 1)$$, 1, NULL, 'succeeded');
-- One after the other: some build on those before. The wait is inside a loop over a query: it commits under an open cursor.
DO $$
DECLARE j record; i bigint; s text;
BEGIN
    FOR j IN SELECT * FROM run.job ORDER BY n LOOP
        i := dts.submit(j.sql, j.args, queue => 'once');
        UPDATE run.job SET id = i WHERE n = j.n;
        COMMIT;
        CALL dts.wait(i, '60 s', s);
    END LOOP;
END $$;

SELECT is(r.outcome, j.state, format('%s: %s', j.what, left(j.sql, 60))) FROM job j LEFT JOIN dts.runs r ON r.task = j.id ORDER BY j.n;
SELECT is(r.result, j.result, format('%s: result', j.what)) FROM job j JOIN dts.runs r ON r.task = j.id WHERE j.result IS NOT NULL OR j.rows IS NOT NULL AND j.what IN ('insert', 'update', 'delete', 'DDL', 'several, none last', 'several, utility last', 'DO', 'create table as') ORDER BY j.n;
SELECT is(dts.result(j.id), r.result, format('%s: dts.result', j.what)) FROM job j JOIN dts.runs r ON r.task = j.id WHERE j.n % 5 = 0 ORDER BY j.n;
SELECT is(r.row_count, j.rows, format('%s: row count', j.what)) FROM job j JOIN dts.runs r ON r.task = j.id WHERE j.rows IS NOT NULL ORDER BY j.n;
SELECT ok(r.error_fields @> j.error, format('%s: error fields %s', j.what, j.error)) FROM job j JOIN dts.runs r ON r.task = j.id WHERE j.error IS NOT NULL ORDER BY j.n;
SELECT diag(format('%s: %s', j.what, left(r.error_fields::text, 600))) FROM job j JOIN dts.runs r ON r.task = j.id WHERE j.error IS NOT NULL AND NOT COALESCE(r.error_fields @> j.error, false) ORDER BY j.n;
SELECT ok(r.notices ~ j.notices OR r.notices IS NULL AND j.notices IS NULL, format('%s: notices', j.what)) FROM job j JOIN dts.runs r ON r.task = j.id WHERE j.sql LIKE '%says(%' OR j.notices IS NOT NULL ORDER BY j.n;
SELECT cmp_ok(max(octet_length(r.notices)), '<=', 8192, 'notices are at most 8 kB') FROM dts.runs r;
SELECT cmp_ok(max(octet_length(r.notices)), '>', 8000, 'and nearly as long') FROM dts.runs r;
SELECT cmp_ok(max(octet_length(r.error)), '<=', 8192, 'messages are at most 8 kB') FROM dts.runs r;
SELECT is((SELECT count(*) FROM items WHERE id IN (100, 777, 778)), 0::bigint, 'failed tasks left nothing');
SELECT matches(r.error_fields ->> 'context', E'PL/pgSQL function fails\\(integer\\) line 3 at RETURN\n(.*\n)*.*dts task \\d+, attempt 1', 'the context names functions and the task')
FROM job j JOIN dts.runs r ON r.task = j.id WHERE j.what = 'raised with all fields';
SELECT is((SELECT count(*) FROM dts.runs WHERE error_fields ->> 'sqlstate' LIKE 'XX%'), 0::bigint, 'no internal error');
SELECT is((SELECT array_agg(DISTINCT x) FROM (SELECT unnest(ARRAY[r.started_at >= r.due_at, r.ended_at >= r.started_at, r.submitted_at <= r.started_at, r.worker_pid > 0, r.attempt = 1, r.duration >= '0', r.waited >= '0']) AS x FROM dts.runs r) y),
          ARRAY[true], 'times, process and attempt of each run make sense');

-- Handlers get their payload as $1, a NULL payload as NULL.
SELECT dts.create_handler('echo', 'SELECT $1 AS p, $1 IS NULL AS none');
SELECT dts.create_handler('deaf', 'SELECT 1 AS a; SELECT 2 AS b');
SELECT dts.submit_handler('echo', '{"a": [1, null, "é"]}') AS a, dts.submit_handler('echo') AS b, dts.submit_handler('echo', NULL) AS c, dts.submit_handler('echo', 'null') AS d,
       dts.submit_handler('deaf', '1') AS e \gset
CALL dts.wait(:a, '30 s') \gset
CALL dts.wait(:b, '30 s') \gset
CALL dts.wait(:c, '30 s') \gset
CALL dts.wait(:d, '30 s') \gset
CALL dts.wait(:e, '30 s') \gset
SELECT is(dts.result(:a), '[{"p": {"a": [1, null, "é"]}, "none": false}]', 'payload');
SELECT is(dts.result(:b), '[{"p": {}, "none": false}]', 'payload left out');
SELECT is(dts.result(:c), '[{"p": null, "none": true}]', 'payload NULL');
SELECT is(dts.result(:d), '[{"p": null, "none": false}]', 'payload of JSON null');
SELECT is(dts.result(:e), '[{"b": 2}]', 'a handler of several statements');

-- capture => false.
SELECT dts.submit('SELECT 1 AS a FROM generate_series(1, 7)', capture => false) AS id \gset
CALL dts.wait(:id, '30 s') \gset
SELECT is(dts.result(:id), NULL, 'nothing is captured');
SELECT is((SELECT row_count FROM dts.runs WHERE task = :id), 7::bigint, 'but counted');

-- Limits of results. The setting is read by the executor, so it is a setting of the server or of the role.
RESET ROLE;
ALTER ROLE run_user SET dts.max_result_size = '1kB';
SELECT pg_terminate_backend(pid) FROM dts.workers WHERE kind = 'executor' AND owner = 'run_user';
SET ROLE run_user;
SELECT dts.submit('SELECT i, repeat(''x'', 100) AS t FROM generate_series(1, 1000) i') AS rows, dts.submit('SELECT repeat(''x'', 200000000) AS t') AS cell,
       dts.submit('SELECT 1 AS a UNION ALL SELECT 2 UNION ALL SELECT 3') AS small, dts.submit('SELECT 1 AS i, repeat(''x'', 2000) AS t UNION ALL SELECT 2, ''y''') AS first,
       dts.submit('SELECT repeat(E''\x01'', 900) AS t') AS grows, dts.submit('SELECT array_fill(repeat(''x'', 1000), ARRAY[50000]) AS t') AS arr \gset
CALL dts.wait(:rows, '30 s') \gset
CALL dts.wait(:cell, '60 s') \gset
CALL dts.wait(:small, '30 s') \gset
CALL dts.wait(:first, '30 s') \gset
CALL dts.wait(:grows, '30 s') \gset
CALL dts.wait(:arr, '30 s') \gset
SELECT is((SELECT row(outcome, row_count, result_truncated, jsonb_array_length(result) BETWEEN 5 AND 10)::text FROM dts.runs WHERE task = :rows), '(succeeded,1000,t,t)', 'rows that fit are kept, the cut is marked, all are counted');
SELECT is((SELECT row(outcome, row_count, result_truncated, result)::text FROM dts.runs WHERE task = :cell), '(succeeded,1,t,[])', 'a cell that never fits');
SELECT is((SELECT row(outcome, result_truncated, jsonb_array_length(result))::text FROM dts.runs WHERE task = :small), '(succeeded,f,3)', 'a small result is whole');
SELECT is((SELECT row(outcome, row_count, result_truncated, result)::text FROM dts.runs WHERE task = :first), '(succeeded,2,t,[])', 'after a row that was cut none is kept');
SELECT is((SELECT row(outcome, result_truncated, result)::text FROM dts.runs WHERE task = :grows), '(succeeded,t,[])', 'the limit counts the JSON');
SELECT is((SELECT row(outcome, result_truncated, result)::text FROM dts.runs WHERE task = :arr), '(succeeded,t,[])', 'a large array');
RESET ROLE;
ALTER ROLE run_user SET dts.max_result_size = 0;
SELECT pg_terminate_backend(pid) FROM dts.workers WHERE kind = 'executor' AND owner = 'run_user';
SET ROLE run_user;
SELECT dts.submit('SELECT 1 AS a') AS id \gset
CALL dts.wait(:id, '30 s') \gset
SELECT is((SELECT row(outcome, row_count, result_truncated)::text FROM dts.runs WHERE task = :id), '(succeeded,1,t)', 'a limit of zero');
RESET ROLE;
ALTER ROLE run_user RESET dts.max_result_size;

-- Errors whose text is in no valid encoding: raised by a database in another encoding they cannot be, but C code may; COPY gives one near enough.
SELECT dts.submit($$SELECT convert_from('\xff', 'UTF8')$$, max_attempts => 1) AS id \gset
CALL dts.wait(:id, '30 s') \gset
SELECT is((SELECT error_fields ->> 'sqlstate' FROM dts.runs WHERE task = :id), '22021', 'invalid UTF-8 is an ordinary error');

-- Timeouts: of the attempt, and of the role.
SELECT dts.submit('SELECT pg_sleep(60)', timeout => '50 ms', max_attempts => 1) AS a, dts.submit($$DO 'BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN PERFORM pg_sleep(0); END'$$, timeout => '50 ms', max_attempts => 1) AS b,
       dts.submit('SET statement_timeout = ''1s''; SELECT 1', timeout => '10 s', max_attempts => 1) AS c \gset
CALL dts.wait(:a, '30 s') \gset
CALL dts.wait(:b, '30 s') \gset
CALL dts.wait(:c, '30 s') \gset
SELECT is((SELECT row(outcome, sqlstate)::text FROM dts.runs WHERE task = :a), '(failed,57014)', 'timeout of an attempt');
SELECT is((SELECT outcome FROM dts.runs WHERE task = :b), 'succeeded', 'a task may catch its timeout once');
SELECT is((SELECT outcome FROM dts.runs WHERE task = :c), 'succeeded', 'a task may set a timeout of its own');

-- Outside a transaction.
SELECT dts.submit('VACUUM run.items', transactional => false) AS a, dts.submit('CREATE INDEX CONCURRENTLY items_n ON run.items (n)', transactional => false) AS b,
       dts.submit($$DO 'BEGIN FOR i IN 1..3 LOOP INSERT INTO run.items VALUES (5000 + i, ''d'', 1); COMMIT; END LOOP; END'$$, transactional => false) AS c,
       dts.submit('SELECT 1/0', transactional => false, max_attempts => 1) AS d \gset
CALL dts.wait(:a, '30 s') \gset
CALL dts.wait(:b, '30 s') \gset
CALL dts.wait(:c, '30 s') \gset
CALL dts.wait(:d, '30 s') \gset
SELECT is((SELECT array_agg(row(outcome, sqlstate)::text ORDER BY task) FROM dts.runs WHERE task IN (:a, :b, :c, :d)),
          ARRAY['(succeeded,)', '(succeeded,)', '(succeeded,)', '(failed,22012)'], 'VACUUM, CREATE INDEX CONCURRENTLY, a block that commits, an error');
SELECT is((SELECT count(*) FROM run.items WHERE id > 5000), 3::bigint, 'its commits hold');
SELECT has_index('run', 'items', 'items_n', 'the index is there');
SELECT is((SELECT count(*) FROM dts.task), 0::bigint, 'nothing is left unfinished');
SELECT is((SELECT count(*) FROM dts.stuck()), 0::bigint, 'nothing is stuck');
SELECT * FROM finish();
