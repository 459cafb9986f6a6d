-- What is submitted, given badly: texts, arguments, handlers, JSON.
SELECT no_plan();
\ir shared/bad_input.sql

-- The text, alone and as an element.
CREATE TABLE bad_sql (value text, options text, wants text, says text);
INSERT INTO bad_sql VALUES
    ($$NULL$$, '', '22004', '"sqls?" must not (be|contain) null'),
    ($$''$$, '', '22023', '"sql" is empty'),
    ($$E' \t\n '$$, '', '22023', '"sql" is empty'),
    ($$'-- nothing'$$, '', '22023', '"sql" is empty'),
    ($$'/* nothing */;;'$$, '', '22023', '"sql" is empty'),
    ($$'selec 1'$$, '', '42601', 'syntax error at or near "selec"'),
    ($$'SELECT 1; SELEC 2'$$, '', '42601', 'syntax error at or near "SELEC"'),
    ($$'SELECT ''open'$$, '', '42601', 'unterminated quoted string'),
    ($$'\i file.sql'$$, '', '42601', 'syntax error'),
    ($$repeat('SELECT 1;', 200000)$$, '', '54000', '"sql" is too large'),
    ($$'SELECT $1'$$, '', '42P02', 'no argument for \$1'),
    ($$'SELECT 1; SELECT $2'$$, '', '42P02', 'no argument for \$2'),
    ($$'SELECT $0'$$, '', '42P02', 'no (parameter|argument)'),
    ($$'BEGIN; SELECT 1; COMMIT'$$, '', '2D000', '"sql" must not control transactions'),
    ($$'COMMIT'$$, '', '2D000', '"sql" must not control transactions'),
    ($$'ROLLBACK'$$, ', transactional => false', '2D000', '"sql" must not control transactions'),
    ($$'SAVEPOINT s'$$, '', '2D000', '"sql" must not control transactions'),
    ($$'PREPARE TRANSACTION ''x'''$$, '', '2D000', '"sql" must not control transactions'),
    ($$'COPY pg_class TO STDOUT'$$, '', '0A000', 'COPY TO STDOUT is not possible in a task'),
    ($$'COPY bad FROM STDIN'$$, '', '0A000', 'COPY FROM STDIN is not possible in a task'),
    ($$'COPY (SELECT 1) TO STDOUT'$$, ', transactional => false', '0A000', 'COPY TO STDOUT is not possible in a task'),
    ($$'SELECT 1; COPY pg_class TO STDOUT'$$, '', '0A000', 'COPY TO STDOUT'),
    ($$'SELECT 1; SELECT 2'$$, ', transactional => false', '22023', '"sql" must hold a single statement with transactional => false'),
    ($$E'SELECT \'\xff\''$$, '', '22021', 'invalid byte sequence'),
    ($$'SELECT ' || chr(0)$$, '', '54000', 'null character not permitted');
INSERT INTO bad (call, wants, says) SELECT format('dts.submit(%s%s)', b.value, b.options), b.wants, b.says FROM bad_sql b
UNION ALL SELECT format('dts.submit_many(ARRAY[%s]%s)', b.value, b.options), b.wants, b.says FROM bad_sql b WHERE b.value <> 'NULL'
UNION ALL SELECT format($$dts.submit_many(ARRAY['SELECT 1', %s]%s)$$, b.value, b.options), b.wants, b.says FROM bad_sql b
UNION ALL SELECT format('dts.submit_many(%s, %L::jsonb[]%s)', b.value, '{"[]"}', b.options), b.wants, b.says FROM bad_sql b
UNION ALL SELECT format($$dts.submit_many(jsonb_build_array(jsonb_build_object('sql', 'SELECT 1'), jsonb_build_object('sql', %s, 'transactional', %L::boolean)))$$,
                        b.value, b.options = ''), b.wants, b.says FROM bad_sql b WHERE b.value NOT IN ('NULL')
UNION ALL SELECT format('dts.create_handler(%L, %s%s)', 'new', b.value, b.options), b.wants, b.says FROM bad_sql b WHERE b.wants <> '42P02'
UNION ALL SELECT format('dts.alter_handler(%L, %s%s)', 'h', b.value, b.options), b.wants, b.says FROM bad_sql b WHERE b.wants <> '42P02' AND b.value <> 'NULL';

-- Arguments for placeholders, alone, set-based and as JSON.
CREATE TABLE bad_args (sql text, args text, wants text, says text);
INSERT INTO bad_args VALUES
    ('SELECT $1', $$'{}'$$, '22023', '"args" must be a JSON array'),
    ('SELECT $1', $$'1'$$, '22023', '"args" must be a JSON array'),
    ('SELECT $1', $$'"x"'$$, '22023', '"args" must be a JSON array'),
    ('SELECT $1', $$'[]'$$, '42P02', 'no argument for \$1'),
    ('SELECT $1', $$'[1, 2]'$$, '22023', '"args" has 2 element\(s\) but the SQL has 1'),
    ('SELECT $1, $2', $$'[1]'$$, '42P02', '"args" has 1 element\(s\) but the SQL has 2'),
    ('SELECT 1', $$'[1]'$$, '22023', '"args" has 1 element\(s\) but the SQL has 0'),
    ('SELECT ''$1''', $$'[1]'$$, '22023', '"args" has 1 element\(s\) but the SQL has 0'),
    ('SELECT $1; SELECT 2', $$'[1]'$$, '22023', '"sql" must hold a single statement when it takes arguments'),
    ('SELECT $99999', $$'[1]'$$, '42P02', '"args" has 1 element\(s\) but the SQL has 99999'),
    ('SELECT $1::int', $$'["x"]'$$, '22P02', '"args" does not fit the SQL: .*"x"'),
    ('SELECT $1::int', $$'[1.5]'$$, '22P02', '"args" does not fit the SQL: .*"1.5"'),
    ('SELECT $1::int', $$'[99999999999]'$$, '22003', '"args" does not fit the SQL'),
    ('SELECT $1::float8', $$'[1e400]'$$, '22003', '"args" does not fit the SQL'),
    ('SELECT $1::int[]', $$'["{1,x}"]'$$, '22P02', '"args" does not fit the SQL'),
    ('SELECT $1::int[]', $$'[[1, "x"]]'$$, '22P02', '"args" does not fit the SQL'),
    ('SELECT $1::int[]', $$'[[[1], [1, 2]]]'$$, '22P02', '"args" does not fit the SQL'),
    ('SELECT $1::date', $$'["2026-02-30"]'$$, '22008', '"args" does not fit the SQL'),
    ('SELECT $1::bool', $$'["perhaps"]'$$, '22P02', '"args" does not fit the SQL'),
    ('SELECT $1::uuid', $$'[12]'$$, '22P02', '"args" does not fit the SQL'),
    ('VACUUM', $$'[1]'$$, '22023', '"args" has 1 element\(s\) but the SQL has 0'),
    ('SELECT $1', $$'["\u0000"]'$$, '22P05', 'unsupported Unicode'),
    ('SELECT $1', $$'["\ud800"]'$$, '22P02', 'json'),
    ('SELECT $1', $$'[1'$$, '22P02', 'json'),
    ('SELECT $1', $$repeat('[', 200000)$$, '54001', 'stack depth'),
    ('SELECT $1', $$to_jsonb(ARRAY[repeat('x', 2000000)])$$, '54000', '"args" is too large');
INSERT INTO bad (call, wants, says)
SELECT format('dts.submit(%L, (%s)::jsonb)', b.sql, b.args), b.wants, b.says FROM bad_args b
UNION ALL SELECT format('dts.submit_many(%L, ARRAY[(%s)::jsonb])', b.sql, b.args), b.wants, b.says FROM bad_args b
UNION ALL SELECT format($$dts.submit_many(jsonb_build_array(jsonb_build_object('sql', %L, 'args', (%s)::jsonb)))$$, b.sql, b.args), b.wants, b.says FROM bad_args b;
INSERT INTO bad (call, wants, says) VALUES
    ($$dts.submit('SELECT $1', '[1]', transactional => false)$$, '22023', '"(sql|args)" .* with transactional => false'),
    ($$dts.submit('SELECT 1', NULL::text)$$, '42883', 'dts.submit'),
    ($$dts.submit('SELECT 1', retires => 3)$$, '42883', 'dts.submit'),
    ($$dts.submit_many('SELECT $1', NULL::jsonb[])$$, '22004', '"args" must not be null'),
    ($$dts.submit_many('SELECT $1', ARRAY['[1]', NULL]::jsonb[])$$, '22004', '"args" must not contain null'),
    ($$dts.submit_many('SELECT $1', ARRAY[ARRAY['[1]'], ARRAY['[2]']]::jsonb[])$$, '2202E', '"args" must be a one-dimensional array'),
    ($$dts.submit_many('SELECT $1', ARRAY['[1]', '[1, 2]']::jsonb[])$$, '22023', '"args" has 2 element'),
    ($$dts.submit_many('SELECT $1', ARRAY['[1]', '[]']::jsonb[])$$, '42P02', 'no argument for \$1'),
    ($$dts.submit_many('SELECT $1', ARRAY['[1]', '{}']::jsonb[])$$, '22023', '"args" must be a JSON array'),
    ($$dts.submit_many(NULL::text, ARRAY['[1]']::jsonb[])$$, '22004', '"sql" must not be null'),
    ($$dts.submit_many(NULL::text, ARRAY[]::jsonb[])$$, '22004', '"sql" must not be null'),
    ($$dts.submit_many('selec', ARRAY[]::jsonb[])$$, '42601', 'syntax error'),
    ($$dts.submit_many(NULL::text[])$$, '22004', '"sqls" must not be null'),
    ($$dts.submit_many(ARRAY[ARRAY['SELECT 1'], ARRAY['SELECT 2']])$$, '2202E', '"sqls" must be a one-dimensional array'),
    ($$dts.submit_many(ARRAY[]::text[], queue => 'nope')$$, '42704', 'queue "nope"'),
    ($$dts.submit_handler(NULL)$$, '22004', '"handler" must not be null'),
    ($$dts.submit_handler('')$$, '42704', 'handler "" does not exist'),
    ($$dts.submit_handler('nope')$$, '42704', 'handler "nope" does not exist'),
    ($$dts.submit_handler('H')$$, '42704', 'handler "H" does not exist'),
    ($$dts.submit_handler(repeat('h', 1000))$$, '42704', 'handler "h+" does not exist'),
    ($$dts.submit_handler('h', '{"a":')$$, '22P02', 'json'),
    ($$dts.submit_handler('h', to_jsonb(repeat('x', 2000000)))$$, '54000', '"payload" is too large'),
    ($$dts.submit_handler('h twice', transactional => false)$$, '22023', '"(sql|transactional)".*transactional => false'),
    ($$dts.submit_handler('h', '{}', transactional => false)$$, '22023', 'transactional => false'),
    ($$dts.submit_handler_many(NULL, ARRAY['1']::jsonb[])$$, '22004', '"handler" must not be null'),
    ($$dts.submit_handler_many('nope', ARRAY['1']::jsonb[])$$, '42704', 'handler "nope" does not exist'),
    ($$dts.submit_handler_many('h', NULL)$$, '22004', '"payloads" must not be null'),
    ($$dts.submit_handler_many('h', ARRAY['1', NULL]::jsonb[])$$, '22004', '"payloads" must not contain null'),
    ($$dts.submit_handler_many('h', ARRAY[ARRAY['1']]::jsonb[])$$, '2202E', '"payloads" must be a one-dimensional array'),
    ($$dts.submit_handler_many('h', ARRAY['1', to_jsonb(repeat('x', 2000000))])$$, '54000', '"payloads" is too large');

-- submit_many(jsonb): its shape, and each option with each wrong type. The element that is wrong comes second.
CREATE TABLE bad_json (element text, wants text, says text);
INSERT INTO bad_json VALUES
    ('1', '22023', 'element 1 of argument "tasks" must be a JSON object'),
    ('null', '22023', 'element 1 of argument "tasks" must be a JSON object'),
    ('"SELECT 1"', '22023', 'element 1 of argument "tasks" must be a JSON object'),
    ('["SELECT 1"]', '22023', 'element 1 of argument "tasks" must be a JSON object'),
    ('{}', '22023', 'element 1 of argument "tasks" must have one of "sql", "handler", "http", "mail", "command" and "workflow"'),
    ('{"sql": null}', '22023', 'element 1 of argument "tasks" must have one of "sql", "handler", "http", "mail", "command" and "workflow"'),
    ('{"sql": "SELECT 1", "handler": "h"}', '22023', 'must have one of "sql", "handler", "http", "mail", "command" and "workflow"'),
    ('{"sql": "SELECT 1", "payload": {}}', '22023', '"payload" in element 1 .* does not go with "sql"'),
    ('{"handler": "h", "args": []}', '22023', '"args" in element 1 .* does not go with "handler"'),
    ('{"sql": "SELECT 1", "retires": 3}', '22023', 'unknown key "retires" in element 1'),
    ('{"sql": "SELECT 1", "Queue": "default"}', '22023', 'unknown key "Queue" in element 1'),
    ('{"sql": "SELECT 1", "": 1}', '22023', 'unknown key "" in element 1'),
    ('{"sql": 1}', '22023', '"sql" in element 1'),
    ('{"sql": ["SELECT 1"]}', '22023', '"sql" in element 1'),
    ('{"handler": 1}', '22023', '"handler" in element 1'),
    ('{"handler": "nope"}', '42704', 'handler "nope" does not exist');
INSERT INTO bad_json
SELECT format('{"sql": "SELECT 1", %s: %s}', to_json(o.option), v.value), '22023', format('"%s" in element 1', o.option)
FROM (VALUES ('queue', '1 true [] {}'), ('priority', '"5" true [] {} 1.5 1e300 3000000000'), ('run_at', '1 true [] {}'), ('delay', 'true [] {}'),
             ('max_attempts', '"5" true [] {} 1.5'), ('timeout', 'true [] {}'), ('expires', '1 true [] {}'), ('key', '1 true [] {}'), ('on_conflict', '1 [] {}'),
             ('key_ttl', 'true [] {}'), ('transactional', '1 "true" "false" [] {}'), ('capture', '1 "yes" [] {}'), ('tenant', '1 true [] {}'),
             ('owner', '1 true [] {}')) o(option, vals), LATERAL unnest(string_to_array(o.vals, ' ')) v(value);
INSERT INTO bad_json VALUES
    ('{"sql": "SELECT 1", "priority": 10}', '22023', '"priority" must be between 0 and 9'),
    ('{"sql": "SELECT 1", "max_attempts": 0}', '22023', '"max_attempts" must be between'),
    ('{"sql": "SELECT 1", "queue": "nope"}', '42704', 'queue "nope"'),
    ('{"sql": "SELECT 1", "run_at": "soon"}', '22007', '"soon"'),
    ('{"sql": "SELECT 1", "run_at": "infinity"}', '22023', '"run_at" must be finite'),
    ('{"sql": "SELECT 1", "delay": "abc"}', '22007', '"abc"'),
    ('{"sql": "SELECT 1", "delay": -1}', '22023', '"delay" must not be negative'),
    ('{"sql": "SELECT 1", "delay": 1e300}', '22023', '"delay" in element 1'),
    ('{"sql": "SELECT 1", "timeout": 1e-300}', '22023', '"timeout" must be a positive interval'),
    ('{"sql": "SELECT 1", "delay": 1, "run_at": "2026-01-01"}', '22023', '"delay" cannot be given together with "run_at"'),
    ('{"sql": "SELECT 1", "timeout": 0}', '22023', '"timeout" must be a positive interval'),
    ('{"sql": "SELECT 1", "expires": "2300-01-01"}', '22008', '"expires" is more than'),
    ('{"sql": "SELECT 1", "key": ""}', '22023', '"key" must be 1 to 1000'),
    ('{"sql": "SELECT 1", "on_conflict": "return"}', '22023', '"on_conflict" needs "key"'),
    ('{"sql": "SELECT 1", "key": "k", "on_conflict": "x"}', '22023', '"on_conflict": "x"'),
    ('{"sql": "SELECT 1", "key": "taken", "on_conflict": "error"}', '23505', 'key "taken"'),
    ('{"sql": "SELECT 1", "labels": [1]}', '22023', '"labels" must be a JSON object'),
    ('{"sql": "SELECT 1", "labels": 1}', '22023', '"labels" must be a JSON object'),
    ('{"sql": "SELECT 1", "retry": 1}', '22023', '"retry" must be a JSON object'),
    ('{"sql": "SELECT 1", "retry": "x"}', '22023', '"retry" must be a JSON object'),
    ('{"sql": "SELECT 1", "retry": [1]}', '22023', '"retry" must be a JSON object'),
    ('{"sql": "SELECT 1", "retry": {"tries": 1}}', '22023', 'unknown key "tries" in argument "retry"'),
    ('{"sql": "SELECT 1", "owner": "bad_missing"}', '42704', 'role "bad_missing"'),
    ('{"sql": "SELECT 1", "owner": "bad_nologin"}', '42501', 'role "bad_nologin"'),
    ('{"sql": "SELECT $1", "args": {"a": 1}}', '22023', '"args" must be a JSON array'),
    ('{"sql": "SELECT $1", "args": "x"}', '22023', '"args" must be a JSON array'),
    ('{"sql": "SELECT $1", "args": 1}', '22023', '"args" must be a JSON array');
INSERT INTO bad (call, wants, says) SELECT format('dts.submit_many(%L::jsonb)', format('[{"sql": "SELECT 1"}, %s]', j.element)), j.wants, j.says FROM bad_json j;
INSERT INTO bad (call, wants, says) VALUES
    ($$dts.submit_many(NULL::jsonb)$$, '22004', '"tasks" must not be null'),
    ($$dts.submit_many('{}'::jsonb)$$, '22023', '"tasks" must be a JSON array'),
    ($$dts.submit_many('{"sql": "SELECT 1"}'::jsonb)$$, '22023', '"tasks" must be a JSON array'),
    ($$dts.submit_many('1'::jsonb)$$, '22023', '"tasks" must be a JSON array'),
    ($$dts.submit_many('null'::jsonb)$$, '22023', '"tasks" must be a JSON array'),
    ($$dts.submit_many('"x"'::jsonb)$$, '22023', '"tasks" must be a JSON array'),
    ($$dts.submit_many(jsonb_build_array(jsonb_build_object('handler', 'h', 'payload', repeat('x', 2000000))))$$, '54000', '"(tasks|payload)" is too large');

SELECT bad_calls();

-- The limit is the setting's, also for a superuser and also when it is lowered later.
SET dts.max_payload = '1kB';
SELECT throws_ok($$SELECT dts.submit('SELECT $1', to_jsonb(ARRAY[repeat('x', 2000)]))$$, '54000', 'argument "args" is too large');
SELECT throws_ok($$SELECT dts.submit('SELECT ' || repeat('1+', 1000) || '1')$$, '54000', 'argument "sql" is too large');
SELECT throws_ok($$SELECT dts.submit_many(ARRAY['SELECT 1', 'SELECT ' || repeat('1+', 1000) || '1'])$$, '54000', 'argument "sql" is too large');
SELECT throws_ok($$SELECT dts.submit_handler('h', to_jsonb(repeat('x', 2000)))$$, '54000', 'argument "payload" is too large');
RESET dts.max_payload;
SELECT is((SELECT count(*) FROM dts.task), 1::bigint, 'only the good task is there');

SELECT * FROM finish();
