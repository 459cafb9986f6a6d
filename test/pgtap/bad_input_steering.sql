-- Steering and looking, given badly: ids that do not exist, workflows and their runs, times, priorities.
SELECT no_plan();
\ir shared/bad_input.sql

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

SELECT bad_calls();

SELECT * FROM finish();
