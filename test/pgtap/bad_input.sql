-- Every argument of every public function, given badly: each call must fail with this SQLSTATE and a message that names what was
-- wrong, and must leave no task behind. One table holds them all; calls that differ in the function only are made from templates.
SELECT no_plan();

CREATE ROLE bad_other LOGIN;
CREATE ROLE bad_nologin NOLOGIN;
CREATE ROLE bad_user LOGIN;
CREATE ROLE "bad ""quoted"" rôle" LOGIN;
SELECT dts.grant_usage('bad_user');
SELECT dts.create_queue('Mixed "case" – queue');
SELECT dts.create_handler('h', 'SELECT $1');
SELECT dts.create_handler('h twice', 'SELECT 1; SELECT 2');
SELECT dts.create_handler('outside', kind => 'external');
CREATE ROLE bad_agent LOGIN;
SELECT dts.grant_agent('bad_agent', ARRAY['default']);
SELECT dts.revoke_agent('bad_agent', ARRAY['default']);
SELECT dts.submit('SELECT 1', delay => '1 day', key => 'taken') AS waiting \gset
SELECT dts.submit('SELECT 1/0', max_attempts => 1) AS dead \gset
CALL dts.wait(:dead, '30 s') \gset

CREATE TABLE bad (n int GENERATED ALWAYS AS IDENTITY, call text NOT NULL, wants text NOT NULL, says text NOT NULL, as_role text);

-- Functions with options: a call that is good as it stands but for %s.
CREATE TABLE taker (call text, with_key boolean);
INSERT INTO taker VALUES
    ($$dts.submit('SELECT 1', %s)$$, true),
    ($$dts.submit_handler('h', %s)$$, true),
    ($$dts.submit_command(ARRAY['x'], %s)$$, true),
    ($$dts.submit_many('SELECT $1', ARRAY['[1]', '[2]']::jsonb[], %s)$$, false),
    ($$dts.submit_many(ARRAY['SELECT 1', 'SELECT 2'], %s)$$, false),
    ($$dts.submit_handler_many('h', ARRAY['1', '2']::jsonb[], %s)$$, false);

CREATE TABLE bad_option (option text, wants text, says text, only_with_key boolean);
INSERT INTO bad_option VALUES
    ($$queue => 'nope'$$, '42704', 'queue "nope"', false),
    ($$queue => ''$$, '42704', 'queue ""', false),
    ($$depends_on => '"a"'$$, '22023', 'names a task by text', false),
    ($$depends_on => '[999999]'$$, '42704', 'task 999999 in argument "depends_on"', false),
    ($$depends_on => '[0]'$$, '22023', '"depends_on" must name tasks by their ids', false),
    ($$depends_on => '[1.5]'$$, '22023', '"depends_on" must name tasks by their ids', false),
    ($$depends_on => '[1e30]'$$, '22023', '"depends_on" must name tasks by their ids', false),
    ($$depends_on => '[null]'$$, '22023', '"depends_on" must name tasks by their ids', false),
    ($$depends_on => '[[1]]'$$, '22023', '"depends_on" must name tasks by their ids', false),
    ($$depends_on => 'true'$$, '22023', '"depends_on" must name tasks by their ids', false),
    ($$depends_on => '{}'$$, '22023', '"depends_on" has no "tasks"', false),
    ($$depends_on => '{"tasks": [1], "when": 1}'$$, '22023', '"depends_on" has an unknown key "when"', false),
    ($$depends_on => '{"tasks": [1], "on": "done"}'$$, '22023', '"depends_on" names an unknown outcome', false),
    ($$depends_on => '{"tasks": [1], "on": []}'$$, '22023', '"depends_on" names no outcome', false),
    ($$depends_on => '{"tasks": [1], "need": "some"}'$$, '22023', 'invalid value for "need"', false),
    ($$depends_on => '{"tasks": [1], "need": 0}'$$, '22023', '"depends_on" must name tasks', false),
    ($$depends_on => '{"tasks": [1], "need": 2}'$$, '22023', '"depends_on" needs more tasks than it names', false),
    ($$depends_on => '{"tasks": [1], "on_unsatisfied": "wait"}'$$, '22023', 'invalid value for "on_unsatisfied"', false),
    ($$depends_on => '[{"on": "failed"}]'$$, '22023', 'an object without a task', false),
    ($$depends_on => '[{"task": 1, "if": "failed"}]'$$, '22023', '"depends_on" has an unknown key', false),
    ($$depends_on => '[1]', key => 'k', on_conflict => 'push'$$, '22023', '"on_conflict" must be return or error', true),
    ($$queue => 'DEFAULT'$$, '42704', 'queue "DEFAULT"', false),
    ($$queue => 'default '$$, '42704', 'queue "default "', false),
    ($$queue => repeat('q', 100)$$, '42704', 'queue "q+"', false),
    ($$queue => repeat('q', 100000)$$, '42704', 'queue "q+"', false),
    ($$queue => E'a"b\n'$$, '42704', 'queue "a"b', false),
    ($$batch => ''$$, '22023', '"batch" must be 1 to 200 bytes', false),
    ($$batch => repeat('x', 201)$$, '22023', '"batch" must be 1 to 200 bytes', false),
    ($$batch => 'b', key => 'k', on_conflict => 'replace'$$, '22023', '"on_conflict" must be return or error', true),
    ($$depends_on => dts.after_batch('nope')$$, '42704', 'batch "nope" in argument "depends_on" does not exist', false),
    ($$depends_on => '{"batch": 7}'$$, '22023', '"batch" that is no string', false),
    ($$depends_on => '{"batch": "b", "need": 1}'$$, '22023', '"need" beside "batch"', false),
    ($$concurrency_key => ''$$, '22023', '"concurrency_key" must be 1 to 1000 bytes', false),
    ($$concurrency_key => repeat('x', 1001)$$, '22023', '"concurrency_key" must be 1 to 1000 bytes', false),
    ($$priority => -1$$, '22023', '"priority" must be between 0 and 9', false),
    ($$priority => 10$$, '22023', '"priority" must be between 0 and 9', false),
    ($$priority => 2147483647$$, '22023', '"priority" must be between 0 and 9', false),
    ($$priority => -2147483648$$, '22023', '"priority" must be between 0 and 9', false),
    ($$run_at => 'infinity'$$, '22023', '"run_at" must be finite', false),
    ($$run_at => '-infinity'$$, '22023', '"run_at" must be finite', false),
    ($$run_at => '2300-01-01'$$, '22008', '"run_at" is more than 100 years ahead', false),
    ($$run_at => '294276-12-31'$$, '22008', '"run_at" is more than 100 years ahead', false),
    ($$run_at => '294277-12-31'$$, '22008', 'timestamp out of range', false),
    ($$run_at => '2030-02-30'$$, '22008', 'out of range', false),
    ($$run_at => 'soon'$$, '22007', 'timestamp with time zone: "soon"', false),
    ($$delay => '-1 s'$$, '22023', '"delay" must not be negative', false),
    ($$delay => '-1 month'$$, '22023', '"delay" must not be negative', false),
    ($$delay => '1 day -25 hours'$$, '22023', '"delay" must not be negative', false),
    ($$delay => '101 years'$$, '22023', '"delay" must be at most 100 years', false),
    ($$delay => '170000000 years'$$, '22023', '"delay" must be at most 100 years', false),
    ($$delay => '-170000000 years'$$, '22023', '"delay" must not be negative', false),
    ($$delay => '2147483647 days'$$, '22023', '"delay" must be at most 100 years', false),
    ($$delay => make_interval(months => 2147483647, days => -2147483647)$$, '22023', '"delay" must be at most 100 years', false),
    ($$delay => '1 s', run_at => now()$$, '22023', '"delay" cannot be given together with "run_at"', false),
    ($$max_attempts => 0$$, '22023', '"max_attempts" must be between 1 and 1000', false),
    ($$max_attempts => -1$$, '22023', '"max_attempts" must be between 1 and 1000', false),
    ($$max_attempts => 1001$$, '22023', '"max_attempts" must be between 1 and 1000', false),
    ($$max_attempts => 65537$$, '22023', '"max_attempts" must be between 1 and 1000', false),
    ($$timeout => '0'$$, '22023', '"timeout" must be a positive interval', false),
    ($$timeout => '-1 s'$$, '22023', '"timeout" must be a positive interval', false),
    ($$timeout => '1 us'$$, '22023', '"timeout" must be a positive interval', false),
    ($$timeout => '1 month'$$, '22023', '"timeout" must be at most 20 days', false),
    ($$timeout => '21 days'$$, '22023', '"timeout" must be at most 20 days', false),
    ($$timeout => '200 years'$$, '22023', '"timeout" must be at most', false),
    ($$expires => 'infinity'$$, '22023', '"expires" must be finite', false),
    ($$expires => '-infinity'$$, '22023', '"expires" must be finite', false),
    ($$expires => '2300-01-01'$$, '22008', '"expires" is more than 100 years ahead', false),
    ($$labels => '[]'$$, '22023', '"labels" must be a JSON object', false),
    ($$labels => '1'$$, '22023', '"labels" must be a JSON object', false),
    ($$labels => '"x"'$$, '22023', '"labels" must be a JSON object', false),
    ($$labels => 'null'$$, '22023', '"labels" must be a JSON object', false),
    ($$labels => jsonb_build_object('k', repeat('x', 9000))$$, '22023', '"labels" must be a JSON object of at most 8 kB', false),
    ($$labels => '{"k": "\u0000"}'$$, '22P05', 'unsupported Unicode', false),
    ($$labels => '{"k": "\ud800"}'$$, '22P02', 'json', false),
    ($$labels => '{"k"'$$, '22P02', 'json', false),
    ($$tenant => repeat('t', 201)$$, '22023', '"tenant" must be at most 200 bytes', false),
    ($$tenant => repeat('é', 101)$$, '22023', '"tenant" must be at most 200 bytes', false),
    ($$owner => ''$$, '42704', 'role "" does not exist', false),
    ($$owner => 'bad_missing'$$, '42704', 'role "bad_missing" does not exist', false),
    ($$owner => repeat('o', 100)$$, '42704', 'role "o+" does not exist', false),
    ($$owner => 'BAD_OTHER'$$, '42704', 'role "BAD_OTHER" does not exist', false),
    ($$owner => 'bad_nologin'$$, '42501', 'role "bad_nologin" cannot own tasks', false),
    ($$owner => 'pg_monitor'$$, '42501', 'role "pg_monitor" cannot own tasks', false),
    ($$retry => '[]'$$, '22023', '"retry" must be a JSON object', false),
    ($$retry => '3'$$, '22023', '"retry" must be a JSON object', false),
    ($$retry => 'null'$$, '22023', '"retry" must be a JSON object', false),
    ($$retry => '{"tries": 3}'$$, '22023', 'unknown key "tries" in argument "retry"', false),
    ($$retry => '{"Base": 3}'$$, '22023', 'unknown key "Base" in argument "retry"', false),
    ($$retry => '{"strategy": "often"}'$$, '22023', '"strategy" in argument "retry"', false),
    ($$retry => '{"strategy": 1}'$$, '22023', '"strategy" in argument "retry"', false),
    ($$retry => '{"strategy": ["fixed"]}'$$, '22023', '"strategy" in argument "retry"', false),
    ($$retry => '{"base": 0}'$$, '22023', '"base" in argument "retry"', false),
    ($$retry => '{"base": -1}'$$, '22023', '"base" in argument "retry"', false),
    ($$retry => '{"base": "1"}'$$, '22023', '"base" in argument "retry"', false),
    ($$retry => '{"base": 1e300}'$$, '22023', '"base" in argument "retry"', false),
    ($$retry => '{"base": 1e1000}'$$, '22023', '"base" in argument "retry"', false),
    ($$retry => '{"base": {}}'$$, '22023', '"base" in argument "retry"', false),
    ($$retry => '{"base": 10, "cap": 5}'$$, '22023', '"base" in argument "retry"', false),
    ($$retry => '{"base": 4000}'$$, '22023', '"base" in argument "retry"', false),
    ($$retry => '{"cap": 0}'$$, '22023', '"cap" in argument "retry"', false),
    ($$retry => '{"cap": true}'$$, '22023', '"cap" in argument "retry"', false),
    ($$retry => '{"cap": 1e10}'$$, '22023', '"cap" in argument "retry"', false),
    ($$retry => '{"factor": 0.5}'$$, '22023', '"factor" in argument "retry"', false),
    ($$retry => '{"factor": 1001}'$$, '22023', '"factor" in argument "retry"', false),
    ($$retry => '{"factor": "NaN"}'$$, '22023', '"factor" in argument "retry"', false),
    ($$retry => '{"jitter": "half"}'$$, '22023', '"jitter" in argument "retry"', false),
    ($$retry => '{"jitter": true}'$$, '22023', '"jitter" in argument "retry"', false),
    ($$retry => '{"on": "40001"}'$$, '22023', '"on" in argument "retry"', false),
    ($$retry => '{"on": {"a": 1}}'$$, '22023', '"on" in argument "retry"', false),
    ($$retry => '{"on": [40001]}'$$, '22023', '"on" in argument "retry"', false),
    ($$retry => '{"on": ["4"]}'$$, '22023', '"on" in argument "retry"', false),
    ($$retry => '{"on": ["400"]}'$$, '22023', '"on" in argument "retry"', false),
    ($$retry => '{"on": ["4000x"]}'$$, '22023', '"on" in argument "retry"', false),
    ($$retry => '{"on": [["40"]]}'$$, '22023', '"on" in argument "retry"', false),
    ($$retry => '{"not_on": [null]}'$$, '22023', '"not_on" in argument "retry"', false),
    ($$retry => '{"not_on": ["40001", "ab"]}'$$, '22023', '"not_on" in argument "retry"', false),
    ($$key => ''$$, '22023', '"key" must be 1 to 1000 bytes', true),
    ($$key => repeat('k', 1001)$$, '22023', '"key" must be 1 to 1000 bytes', true),
    ($$key => 'k', on_conflict => 'nonsense'$$, '22023', '"on_conflict": "nonsense"', true),
    ($$key => 'k', on_conflict => ''$$, '22023', '"on_conflict": ""', true),
    ($$key => 'k', on_conflict => 'RETURN'$$, '22023', '"on_conflict": "RETURN"', true),
    ($$on_conflict => 'return'$$, '22023', '"on_conflict" needs "key"', true),
    ($$key_ttl => '1 day'$$, '22023', '"key_ttl" needs "key"', true),
    ($$key => 'k', key_ttl => '-1 s'$$, '22023', '"key_ttl" must not be negative', true),
    ($$key => 'k', key_ttl => '200 years'$$, '22023', '"key_ttl" must be at most 100 years', true),
    ($$key => 'taken', on_conflict => 'error'$$, '23505', 'key "taken" is already used by task', true);
INSERT INTO bad (call, wants, says)
SELECT format(t.call, o.option), o.wants, o.says FROM taker t CROSS JOIN bad_option o WHERE t.with_key OR NOT o.only_with_key;

-- Infinite intervals exist from 17 on.
INSERT INTO bad (call, wants, says)
SELECT format(t.call, o.option || ' => ''' || v.value || ''''), '22023', '"' || o.option || '" must'
FROM taker t, (VALUES ('delay'), ('timeout')) o(option), (VALUES ('infinity'), ('-infinity')) v(value)
WHERE current_setting('server_version_num')::int >= 170000;

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

-- Steering and looking: NULL and ids that do not exist.
INSERT INTO bad (call, wants, says)
SELECT format(f.call, v.value), v.wants, v.says
FROM (VALUES ('dts.cancel(%s)'), ('dts.reschedule(%s)'), ('dts.set_priority(%s, 5)'), ('dts.retry(%s)'), ('dts.redrive(%s)'), ('dts.explain(%s)'),
             ('dts.state(%s)'), ('dts.result(%s)'), ('CALL dts.wait(%s, ''1 s'')')) f(call),
     (VALUES ('NULL', '22004', '"task" must not be null'), ('-1', '42704', 'task -1 does not exist'), ('0', '42704', 'task 0 does not exist'),
             ('9223372036854775807', '42704', 'task 9223372036854775807 does not exist'),
             ('-9223372036854775808', '42704', 'task -9223372036854775808 does not exist')) v(value, wants, says)
WHERE f.call NOT LIKE 'CALL%' OR v.value = 'NULL';
INSERT INTO bad (call, wants, says)
SELECT format(f.call, v.value), v.wants, v.says
FROM (VALUES ('dts.signal(%s, ''x'')'), ('dts.pause_run(%s)'), ('dts.resume_run(%s)'), ('dts.cancel_run(%s)'), ('dts.retry_run(%s)'), ('dts.set_node(%s, ''a'', ''skipped'')')) f(call),
     (VALUES ('NULL', '22004', '"run" must not be null'), ('-1', '42704', 'run -1 does not exist'), ('9223372036854775807', '42704', 'run 9223372036854775807 does not exist')) v(value, wants, says);
INSERT INTO bad (call, wants, says) VALUES
    ($$dts.approve(NULL, 'a')$$, '42704', 'has no approval'),
    ($$dts.reject(1, NULL)$$, '42704', 'has no approval'),
    ($$dts.start(NULL)$$, '22004', 'workflow name must not be null'),
    ($$dts.start('nope')$$, '42704', 'workflow "nope" does not exist'),
    ($$dts.create_workflow(NULL, '{"nodes": {"a": {"noop": 1}}}')$$, '22004', 'workflow name must not be null'),
    ($$dts.create_workflow(repeat('x', 64), '{"nodes": {"a": {"noop": 1}}}')$$, '42622', 'workflow name is too long'),
    ($$dts.create_workflow('x', '{}')$$, '22023', 'a workflow needs nodes'),
    ($$dts.create_workflow('x', '[]')$$, '22023', 'a workflow needs nodes'),
    ($$dts.create_workflow('x', '1')$$, '22023', 'a workflow needs nodes'),
    ($$dts.create_workflow('x', VARIADIC NULL::jsonb[])$$, '22023', 'a workflow needs nodes'),
    ($$dts.drop_workflow(NULL)$$, '22004', 'workflow name must not be null'),
    ($$dts.drop_workflow('nope')$$, '42704', 'workflow "nope" does not exist');
INSERT INTO bad (call, wants, says) VALUES
    (format('dts.reschedule(%s, ''infinity'')', :waiting), '22023', '"run_at" must be finite'),
    (format('dts.reschedule(%s, ''-infinity'')', :waiting), '22023', '"run_at" must be finite'),
    (format('dts.reschedule(%s, ''2300-01-01'')', :waiting), '22008', '"run_at" is more than 100 years ahead'),
    (format('dts.reschedule(%s, now(), ''1 s'')', :waiting), '22023', '"delay" cannot be given together with "run_at"'),
    (format('dts.reschedule(%s, delay => ''-1 s'')', :waiting), '22023', '"delay" must'),
    (format('dts.reschedule(%s, delay => ''1 day -25 hours'')', :waiting), '22023', '"delay" must'),
    (format('dts.reschedule(%s, delay => ''101 years'')', :waiting), '22023', '"delay" must'),
    (format('dts.reschedule(%s, delay => ''100000 days'')', :waiting), '22023', '"delay" must be at most 100 years'),
    (format('dts.reschedule(%s, delay => ''170000000 years'')', :waiting), '22023', '"delay" must'),
    (format('dts.set_priority(%s, -1)', :waiting), '22023', '"priority" must be between 0 and 9'),
    (format('dts.set_priority(%s, 10)', :waiting), '22023', '"priority" must be between 0 and 9'),
    (format('dts.set_priority(%s, NULL)', :waiting), '22004', '"priority" must not be null'),
    ($$dts.redrive_queue(NULL)$$, '22004', '"queue" must not be null'),
    ($$dts.redrive_queue('nope')$$, '42704', 'queue "nope"'),
    ($$dts.redrive_queue('default', 0)$$, '22023', '"max_tasks" must be positive'),
    ($$dts.redrive_queue('default', -5)$$, '22023', '"max_tasks" must be positive'),
    (format('CALL dts.wait(%s, ''-1 s'')', :waiting), '22023', '"timeout" must not be negative'),
    (format('CALL dts.wait(%s, ''1 day -25 hours'')', :waiting), '22023', '"timeout" must not be negative'),
    (format('CALL dts.wait(%s, ''170000000 years'')', :waiting), '22(008|023)', '(timestamp out of range|"timeout")'),
    (format('CALL dts.wait(%s, ''1 s'')', :waiting), '25001', 'cannot run inside a transaction block or a function');

-- Definitions: names, then settings.
INSERT INTO bad (call, wants, says)
SELECT format(f.call, v.value), v.wants, format(v.says, f.what)
FROM (VALUES ('dts.create_queue(%s)', 'queue'), ('dts.create_handler(%s, ''SELECT 1'')', 'handler')) f(call, what),
     (VALUES ('NULL', '22004', '%s name must not be null'), ('''''', '22023', 'invalid %s name ""'), (''' x''', '22023', 'invalid %s name " x"'),
             ('''x ''', '22023', 'invalid %s name "x "'), ('E''a\nb''', '22023', 'invalid %s name'), ('E''a\tb''', '22023', 'invalid %s name'),
             ('repeat(''x'', 64)', '42622', '%s name is too long'), ('repeat(''é'', 32)', '42622', '%s name is too long')) v(value, wants, says);
INSERT INTO bad (call, wants, says)
SELECT format(f.call, v.value), v.wants, format(v.says, f.what)
FROM (VALUES ('dts.alter_queue(%s, priority => 1)', 'queue'), ('dts.drop_queue(%s)', 'queue'), ('dts.pause(%s)', 'queue'), ('dts.resume(%s)', 'queue'),
             ('dts.alter_handler(%s, priority => 1)', 'handler'), ('dts.drop_handler(%s)', 'handler')) f(call, what),
     (VALUES ('NULL', '22004', '%s name must not be null'), ('''''', '42704', '%s "" does not exist'), ('''nope''', '42704', '%s "nope" does not exist'),
             ('repeat(''x'', 1000)', '42704', '%s "x+" does not exist')) v(value, wants, says)
WHERE NOT (v.value = 'NULL' AND f.call ~ 'pause|resume');
INSERT INTO bad (call, wants, says)
SELECT format(f.call, v.value), v.wants, v.says
FROM (VALUES ('dts.pause(%s)'), ('dts.resume(%s)'), ('dts.set_limit(%s)')) f(call),
     (VALUES ('NULL', '22023', 'exactly one of'), ('', '22023', 'exactly one of'), ('queue => ''default'', tenant => ''x''', '22023', 'exactly one of'),
             ('queue => ''nope''', '42704', 'queue "nope" does not exist'), ('handler => ''nope''', '42704', 'handler "nope" does not exist'),
             ('owner => ''nope''', '42704', 'role "nope" does not exist'), ('tenant => ''''', '22023', '"tenant" must be 1 to 200 bytes'),
             ('tenant => repeat(''x'', 201)', '22023', '"tenant" must be 1 to 200 bytes')) v(value, wants, says);
INSERT INTO bad (call, wants, says) VALUES ($$dts.set_limit(priority => 10, reserved => 1)$$, '22023', '"priority" must be between 0 and 9'), ($$dts.set_limit(priority => 5, queue => 'default', reserved => 1)$$, '22023', 'exactly one of .* and "priority" must be given'),
    ($$dts.set_limit(owner => 'bad_other', reserved => 1)$$, '22023', '"reserved" is for queues and priorities'), ($$dts.set_limit(owner => 'bad_other', retention => '-1 day')$$, '22023', 'retention');
INSERT INTO bad (call, wants, says)
SELECT format('dts.set_limit(queue => ''default'', %s)', v.value), v.wants, v.says
FROM (VALUES ('concurrency => -1', '22023', '"concurrency" must not be negative'), ('max_bytes => -1', '22023', '"max_bytes" must not be negative'), ('reserved => 0', '22023', '"reserved" must be between'), ('reserved => 100000', '22023', '"reserved" must be between'),
             ('retention => ''1 day''', '22023', '"retention" is for owners'), ('rate => 0', '22023', '"rate" must be between'), ('rate => 1000001', '22023', '"rate" must be between'),
             ('rate => 1, per => ''0''', '22023', '"per" must be between'), ('rate => 1, per => ''-1 s''', '22023', '"per" must be between'), ('rate => 1, per => ''32 days''', '22023', '"per" must be between'),
             ('per => ''1 s''', '22023', '"per" needs "rate"'), ('burst => 5', '22023', '"burst" needs "rate"'), ('rate => 1, burst => 0', '22023', '"burst" must be between'),
             ('rate => 1, per => ''31 days'', burst => 2', '22023', '"burst" would take more than 31 days'), ('reset => ''{speed}''', '22023', '"reset": "speed"'), ('reset => ''{NULL}''', '22023', '"reset"'),
             ('max_waiting => -1', '22023', '"max_waiting" must not be negative'), ('weight => 2', '22023', '"weight" is for owners and tenants'), ('weight => 0', '22023', '"weight" must be between'), ('key_concurrency => 0', '22023', '"key_concurrency" must be between'), ('key_concurrency => 2, key_fifo => true', '22023', '"key_fifo" allows one')) v(value, wants, says);
INSERT INTO bad (call, wants, says) VALUES ($$dts.batch_progress('nope')$$, '42704', 'batch "nope" does not exist'), ($$dts.batch_progress(NULL)$$, '42704', 'batch .* does not exist'),
    ($$dts.batch_progress('x', 'nobody')$$, '42704', 'batch "x" does not exist');
INSERT INTO bad (call, wants, says) VALUES ($$dts.set_limit(tenant => 'x', key_concurrency => 1)$$, '22023', '"key_concurrency" is for queues'),
    ($$dts.set_limit(owner => 'bad_other', key_fifo => true)$$, '22023', '"key_fifo" is for queues');
INSERT INTO bad (call, wants, says)
SELECT format('%s(%s, %s)', f.name, f.args, v.option), v.wants, v.says
FROM (VALUES ('dts.create_queue', '''q''', true), ('dts.alter_queue', '''default''', true), ('dts.create_handler', '''q'', ''SELECT 1''', false),
             ('dts.alter_handler', '''h''', false)) f(name, args, is_queue),
     (VALUES ('batch_size => 0', '22023', '"batch_size" must be between 1 and 60', true), ('batch_size => 61', '22023', '"batch_size" must be between 1 and 60', true),
             ('batch_size => -1', '22023', '"batch_size" must be between 1 and 60', true), ('history => ''some''', '22023', '"history": "some"', true),
             ('history => ''''', '22023', '"history": ""', true), ('history => ''ALL''', '22023', '"history": "ALL"', true),
             ('retention => ''0''', '22023', '"retention" must be a positive interval', true), ('retention => ''-1 day''', '22023', '"retention" must be a positive interval', true),
             ('retention => ''101 years''', '22023', '"retention" must be a positive interval', true),
             ('priority => -1', '22023', '"priority" must be between 0 and 9', false), ('priority => 10', '22023', '"priority" must be between 0 and 9', false),
             ('max_attempts => 0', '22023', '"max_attempts" must be between 1 and 1000', false), ('max_attempts => 1001', '22023', '"max_attempts" must be between 1 and 1000', false),
             ('timeout => ''0''', '22023', '"timeout" must be a positive interval', false), ('timeout => ''-1 s''', '22023', '"timeout" must be a positive interval', false),
             ('timeout => ''1 month''', '22023', '"timeout" must be at most 20 days', false), ('expires => ''0''', '22023', '"expires" must be a positive interval', false),
             ('expires => ''-1 s''', '22023', '"expires" must be a positive interval', false), ('expires => ''200 years''', '22023', '"expires" must be a positive interval', false),
             ('retry => ''[]''', '22023', '"retry" must be a JSON object', false), ('retry => ''{"tries": 1}''', '22023', 'unknown key "tries" in argument "retry"', false),
             ('retry => ''{"on": ["x"]}''', '22023', '"on" in argument "retry"', false)) v(option, wants, says, queue_only)
WHERE f.is_queue OR NOT v.queue_only;
INSERT INTO bad (call, wants, says) VALUES
    ($$dts.create_queue('default')$$, '42710', 'queue "default" already exists'),
    ($$dts.create_queue('Mixed "case" – queue')$$, '42710', 'queue "Mixed "case" – queue" already exists'),
    ($$dts.drop_queue('default')$$, '55000', 'queue "default" cannot be dropped'),
    ($$dts.create_handler('h', 'SELECT 1')$$, '42710', 'handler "h" already exists'),
    ($$dts.create_handler('q', NULL)$$, '22004', '"sql" must not be null'),
    ($$dts.create_handler('q', 'SELECT $2')$$, '42P02', 'no argument for \$2'),
    ($$dts.create_handler('q', 'SELECT 1', queue => 'nope')$$, '42704', 'queue "nope" does not exist'),
    ($$dts.create_handler('q', 'SELECT 1', queue => '')$$, '42704', 'queue "" does not exist'),
    ($$dts.create_handler('q', 'SELECT $1; SELECT 2')$$, '22023', '"sql" must hold a single statement'),
    ($$dts.create_handler('q', 'SELECT $1', transactional => false)$$, '22023', 'transactional => false'),
    ($$dts.alter_handler('h', queue => 'nope')$$, '42704', 'queue "nope" does not exist'),
    ($$dts.alter_handler('h', 'SELECT $2')$$, '42P02', 'no argument for \$2'),
    ($$dts.alter_handler('h twice', transactional => false)$$, '22023', 'transactional => false'),
    ($$dts.grant_usage(NULL)$$, '22004', '"role" must not be null'),
    ($$dts.grant_usage('bad_missing')$$, '42704', 'role "bad_missing" does not exist'),
    ($$dts.grant_monitor(NULL)$$, '22004', '"role" must not be null'),
    ($$dts.grant_monitor('')$$, '42704', 'role "" does not exist'),
    ($$dts.grant_admin(NULL)$$, '22004', '"role" must not be null'),
    ($$dts.grant_admin('public')$$, '42704', 'role "public" does not exist'),
    ($$dts.revoke_all(NULL)$$, '22004', '"role" must not be null'),
    ($$dts.revoke_all('bad_missing')$$, '42704', 'role "bad_missing" does not exist');

-- As an ordinary role.
INSERT INTO bad (call, wants, says, as_role) VALUES
    ($$dts.submit('SELECT 1', owner => 'bad_other')$$, '42501', 'permission denied to submit a task for role "bad_other"', 'bad_user'),
    ($$dts.submit('SELECT 1', owner => 'postgres')$$, '42501', 'permission denied to submit a task for role "postgres"', 'bad_user'),
    ($$dts.submit_many(ARRAY['SELECT 1'], owner => 'bad_other')$$, '42501', 'role "bad_other"', 'bad_user'),
    ($$dts.submit_many(tasks => '[{"sql": "SELECT 1", "owner": "bad_other"}]')$$, '42501', 'role "bad_other"', 'bad_user'),
    ($$dts.submit_handler('h')$$, '42501', 'permission denied for handler "h"', 'bad_user'),
    ($$dts.create_handler('mine', 'SELECT 1', shared => true)$$, '42501', 'permission denied to share a handler', 'bad_user'),
    ($$dts.alter_handler('h', 'SELECT 2')$$, '42501', 'permission denied for handler "h"', 'bad_user'),
    ($$dts.drop_handler('h')$$, '42501', 'permission denied for handler "h"', 'bad_user'),
    (format('dts.cancel(%s)', :waiting), '42704', 'does not exist', 'bad_user'),
    ($$dts.create_queue('mine')$$, '42501', 'permission denied for function create_queue', 'bad_user');

-- Commands and agents.
INSERT INTO bad (call, wants, says) VALUES
    ($$dts.submit_command(NULL)$$, '22004', '"argv" must not be null'),
    ($$dts.submit_command('{}')$$, '22023', '"argv" must be an array of at least one string'),
    ($$dts.submit_command(ARRAY[''])$$, '22023', '"argv" must begin with a program'),
    ($$dts.submit_command(ARRAY['a', NULL])$$, '22004', '"argv" must not contain null'),
    ($$dts.submit_command('{{a,b},{c,d}}')$$, '2202E', '"argv" must be a one-dimensional array'),
    ($$dts.submit_command(ARRAY['a', repeat('x', 2000000)])$$, '54000', '"argv" is too large'),
    ($$dts.submit_command(ARRAY['a'], env => '[]')$$, '22023', '"env" must be a JSON object'),
    ($$dts.submit_command(ARRAY['a'], env => '1')$$, '22023', '"env" must be a JSON object'),
    ($$dts.submit_command(ARRAY['a'], env => '{"": "x"}')$$, '22023', '"env" has an invalid name ""'),
    ($$dts.submit_command(ARRAY['a'], env => '{"a=b": "x"}')$$, '22023', '"env" has an invalid name "a=b"'),
    ($$dts.submit_command(ARRAY['a'], dir => '')$$, '22023', '"dir" must not be empty'),
    ($$dts.submit_command(ARRAY['a'], container => '"debian"')$$, '22023', '"container" must be a JSON object'),
    ($$dts.submit_command(ARRAY['a'], requires => ARRAY['a b'])$$, '22023', '"requires" has an invalid label "a b"'),
    ($$dts.submit_command(ARRAY['a'], requires => ARRAY['a,b'])$$, '22023', '"requires" has an invalid label "a,b"'),
    ($$dts.submit_command(ARRAY['a'], requires => ARRAY[''])$$, '22023', '"requires" has an invalid label ""'),
    ($$dts.submit_command(ARRAY['a'], requires => ARRAY[NULL])$$, '22004', '"requires" must not contain null'),
    ($$dts.submit_command(ARRAY['a'], requires => ARRAY(SELECT 'l' || n FROM generate_series(1, 9) n))$$, '22023', '"requires" has too many labels'),
    ($$dts.submit_command(ARRAY['a'], requires => ARRAY(SELECT repeat('l', 60) || n FROM generate_series(1, 4) n))$$, '22023', '"requires" must be at most 200 bytes long'),
    ($$dts.submit_command(ARRAY['a'], retry_exit_codes => '{}')$$, '22023', '"retry_exit_codes" must be an array of whole numbers'),
    ($$dts.submit_command(ARRAY['a'], retry_exit_codes => ARRAY[NULL]::int[])$$, '22023', '"retry_exit_codes" must be an array of whole numbers'),
    ($$dts.submit_many('[{"command": []}]'::jsonb)$$, '22023', '"argv" must be an array of at least one string'),
    ($$dts.submit_many('[{"command": "ls"}]'::jsonb)$$, '22023', '"argv" must be an array of at least one string'),
    ($$dts.submit_many('[{"command": ["a"], "args": []}]'::jsonb)$$, '22023', '"args" in element 0 of argument "tasks" does not go with "command"'),
    ($$dts.submit_many('[{"command": ["a"], "sql": "SELECT 1"}]'::jsonb)$$, '22023', 'must have one of "sql", "handler", "http", "mail", "command" and "workflow"'),
    ($$dts.submit_many('[{"sql": "SELECT 1", "env": {}}]'::jsonb)$$, '22023', '"env" in element 0 of argument "tasks" does not go without "command"'),
    ($$dts.submit_many('[{"command": ["a"], "requires": "gpu"}]'::jsonb)$$, '22023', '"requires" must be an array of strings'),
    ($$dts.submit_many('[{"command": ["a"], "retry_exit_codes": [1.5]}]'::jsonb)$$, '22023', '"retry_exit_codes" must be an array of whole numbers'),
    ($$dts.create_handler('q', kind => 'shell')$$, '22023', '"kind": "shell"'),
    ($$dts.create_handler('q', 'SELECT 1', kind => 'external')$$, '22023', '"sql" does not go with kind external'),
    ($$dts.create_handler('q', kind => 'external', transactional => true)$$, '22023', '"transactional" does not go with kind external'),
    ($$dts.create_handler('q', 'SELECT 1', requires => ARRAY['gpu'])$$, '22023', '"requires" needs kind external'),
    ($$dts.create_handler('q', kind => 'external', requires => ARRAY['a b'])$$, '22023', '"requires" has an invalid label'),
    ($$dts.alter_handler('outside', 'SELECT 1')$$, '22023', '"sql" does not go with kind external'),
    ($$dts.submit_handler('outside', transactional => true)$$, '22023', '"transactional" cannot be true'),
    ($$dts.claim(NULL, ARRAY['default'])$$, '22004', '"agent" must not be null'),
    ($$dts.claim('', ARRAY['default'])$$, '22023', '"agent" must be 1 to 63 bytes'),
    ($$dts.claim(repeat('x', 64), ARRAY['default'])$$, '22023', '"agent" must be 1 to 63 bytes'),
    ($$dts.claim('a', ARRAY['nope'])$$, '42704', 'queue "nope" does not exist'),
    ($$dts.claim('a', '{}')$$, '22023', '"queues" must name 1 to 32 queues'),
    ($$dts.claim('a', ARRAY[NULL]::text[])$$, '22004', '"queues" must not contain null'),
    ($$dts.claim('a', ARRAY['default'], ARRAY['a b'])$$, '22023', '"labels" has an invalid label'),
    ($$dts.claim('a', ARRAY['default'], ARRAY(SELECT 'l' || n FROM generate_series(1, 33) n))$$, '22023', '"labels" has too many labels'),
    ($$dts.claim('a', ARRAY['default'], max => 0)$$, '22023', '"max" must be between 1 and 1000'),
    ($$dts.claim('a', ARRAY['default'], max => NULL)$$, '22023', '"max" must be between 1 and 1000'),
    ($$dts.claim('a', ARRAY['default'], max => 1001)$$, '22023', '"max" must be between 1 and 1000'),
    ($$dts.claim('a', ARRAY['default'], lease => NULL)$$, '22004', '"lease" must not be null'),
    ($$dts.claim('a', ARRAY['default'], lease => '0.5 s')$$, '22023', '"lease" must be between 1 second and 1 day'),
    ($$dts.claim('a', ARRAY['default'], lease => '-1 day')$$, '22023', '"lease" must be between 1 second and 1 day'),
    ($$dts.claim('a', ARRAY['default'], lease => '25 hours')$$, '22023', '"lease" must be between 1 second and 1 day'),
    ($$dts.heartbeat(NULL)$$, '22004', '"agent" must not be null'),
    ($$dts.complete(NULL, gen_random_uuid())$$, '22004', '"task" must not be null'),
    ($$dts.complete(1, NULL)$$, '22004', '"token" must not be null'),
    ($$dts.complete(1, gen_random_uuid())$$, 'TQ010', 'the lease on task 1 is over'),
    ($$dts.complete(-1, gen_random_uuid(), to_jsonb(repeat('x', 100000)))$$, '54000', '"result" is too large'),
    ($$dts.fail(1, NULL, 'x')$$, '22004', '"token" must not be null'),
    ($$dts.fail(1, gen_random_uuid(), NULL)$$, 'TQ010', 'the lease on task 1 is over'),
    ($$dts.fail(1, gen_random_uuid(), 'x', delay => '-1 s')$$, '22023', '"delay" must not be negative'),
    ($$dts.fail(1, gen_random_uuid(), 'x', delay => '101 years')$$, '22023', '"delay" must be at most 100 years'),
    ($$dts.fail(1, gen_random_uuid(), 'x', fields => to_jsonb(repeat('x', 100000)))$$, '54000', '"fields" is too large'),
    ($$dts.log(1, gen_random_uuid(), NULL)$$, '22004', '"chunk" must not be null'),
    ($$dts.log(1, gen_random_uuid(), 'x', NULL)$$, '22004', '"stream" must not be null'),
    ($$dts.log(1, gen_random_uuid(), 'x', '')$$, '22023', '"stream" must be 1 to 63 bytes'),
    ($$dts.log(1, gen_random_uuid(), 'x', seq => 0)$$, '22023', '"seq" must be positive'),
    ($$dts.log(1, gen_random_uuid(), repeat('x', 65537))$$, '54000', '"chunk" is too large'),
    ($$dts.log(NULL, NULL, 'x')$$, 'TQ010', 'the lease on task NULL is over'),
    ($$dts.claimed_parents(NULL, NULL)$$, 'TQ010', 'the lease on task NULL is over'),
    ($$CALL dts.wait_for_work('a', ARRAY['default'], timeout => '-1 s')$$, '22023', '"timeout" must be between 0 and 10 minutes'),
    ($$CALL dts.wait_for_work('a', ARRAY['default'], timeout => '11 minutes')$$, '22023', '"timeout" must be between 0 and 10 minutes'),
    ($$CALL dts.wait_for_work('a', ARRAY['default'])$$, '25001', 'cannot run inside a transaction block'),
    ($$dts.grant_agent(NULL, ARRAY['default'])$$, '22004', '"role" must not be null'),
    ($$dts.grant_agent('nope', ARRAY['default'])$$, '42704', 'role "nope" does not exist'),
    ($$dts.grant_agent('bad_user', NULL)$$, '22023', '"queues" must name a queue'),
    ($$dts.grant_agent('bad_user', '{}')$$, '22023', '"queues" must name a queue'),
    ($$dts.grant_agent('bad_user', ARRAY['nope'])$$, '42704', 'queue "nope" does not exist'),
    ($$dts.revoke_agent(NULL)$$, '22004', '"role" must not be null'),
    ($$dts.revoke_agent('nope')$$, '42704', 'role "nope" does not exist'),
    ($$dts.revoke_agent('bad_user', ARRAY['nope'])$$, '42704', 'queue "nope" does not exist');
INSERT INTO bad (call, wants, says, as_role) VALUES
    ($$dts.claim('a')$$, '42501', 'permission denied for function claim', 'bad_user'),
    ($$dts.claim('a')$$, '42501', 'no queue is granted to role', 'bad_agent'),
    ($$dts.claim('a', ARRAY['default'])$$, '42501', 'permission denied to claim from queue "default"', 'bad_agent');

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
SELECT r FROM (SELECT bad AS b FROM bad ORDER BY n OFFSET 0) o, LATERAL bad_call(o.b) r;

-- The limit is the setting's, also for a superuser and also when it is lowered later.
SET dts.max_payload = '1kB';
SELECT throws_ok($$SELECT dts.submit('SELECT $1', to_jsonb(ARRAY[repeat('x', 2000)]))$$, '54000', 'argument "args" is too large');
SELECT throws_ok($$SELECT dts.submit('SELECT ' || repeat('1+', 1000) || '1')$$, '54000', 'argument "sql" is too large');
SELECT throws_ok($$SELECT dts.submit_many(ARRAY['SELECT 1', 'SELECT ' || repeat('1+', 1000) || '1'])$$, '54000', 'argument "sql" is too large');
SELECT throws_ok($$SELECT dts.submit_handler('h', to_jsonb(repeat('x', 2000)))$$, '54000', 'argument "payload" is too large');
RESET dts.max_payload;
SELECT is((SELECT count(*) FROM dts.task), 1::bigint, 'only the good task is there');

-- What looks odd but is right.
SELECT dts.submit('SELECT 1', queue => 'Mixed "case" – queue', owner => 'bad "quoted" rôle', tenant => 'tén''ant "x"', key => E'key "\t'' é', labels => '{"a ''\"b": [1, {"c": null}]}') AS id \gset
CALL dts.wait(:id, '30 s') \gset
SELECT is(:'state'::text, 'succeeded', 'names that need quoting: it ran');
SELECT is((SELECT row(queue, owner, tenant)::text FROM dts.tasks WHERE id = :id), row('Mixed "case" – queue', 'bad "quoted" rôle', 'tén''ant "x"')::text, 'and they are shown');
SELECT dts.submit('SELECT 1; SELECT 2') AS id \gset
CALL dts.wait(:id, '30 s') \gset
SELECT is(:'state'::text, 'succeeded', 'several statements without arguments');
SELECT dts.submit('SELECT 1', '[]', run_at => '2000-01-01', priority => 0, max_attempts => 1000, tenant => '', labels => '{}', retry => '{}') AS id \gset
CALL dts.wait(:id, '30 s') \gset
SELECT is(:'state'::text, 'succeeded', 'empty arguments, a due time in the past, bounds of ranges');
SELECT is((SELECT count(*) FROM dts.submit_many('[]'::jsonb)), 0::bigint, 'no tasks as JSON');
SELECT is((SELECT count(*) FROM dts.submit_many(ARRAY[]::text[])), 0::bigint, 'no texts');
SELECT is((SELECT count(*) FROM dts.submit_many('SELECT $1', ARRAY[]::jsonb[])), 0::bigint, 'no arguments');
SELECT is((SELECT count(*) FROM dts.submit_handler_many('h', ARRAY[]::jsonb[])), 0::bigint, 'no payloads');
SELECT lives_ok($$SELECT dts.submit_many(tasks => '[{"sql": "SELECT 1", "queue": null, "priority": null, "labels": null, "retry": null}]')$$, 'null in JSON is as if left out');
SELECT lives_ok($$SELECT dts.submit('SELECT 1', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)$$, 'NULL for each option is as if left out');
SELECT lives_ok($$SELECT dts.submit_many(tasks => '[{"sql": "SELECT 1", "delay": 1.5, "timeout": "1 min", "key": "j", "key_ttl": 0}]')$$, 'intervals as numbers of seconds and as text');
SET default_transaction_read_only = on;
SELECT throws_ok($$SELECT dts.submit('SELECT 1')$$, '25006');
SELECT throws_ok($$SELECT dts.submit_many(ARRAY['SELECT 1'])$$, '25006');
SELECT throws_ok(format('SELECT dts.cancel(%s)', :waiting), '25006');
SELECT throws_ok(format('SELECT dts.set_priority(%s, 3)', :waiting), '25006');
RESET default_transaction_read_only;
SELECT is(dts.cancel(:waiting), 'cancelled', 'the good task is still whole');

SELECT * FROM finish();
