-- Queues, handlers, limits and rights, given badly; and what an ordinary role may not do.
SELECT no_plan();
\ir shared/bad_input.sql

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

SELECT bad_calls();

SELECT * FROM finish();
