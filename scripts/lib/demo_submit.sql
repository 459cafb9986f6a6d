-- The tasks of scripts/demo, submitted by the role "clerk" in one transaction: nothing of it starts before the commit.
\pset tuples_only on
\pset format unaligned
BEGIN;
SELECT setseed(0.5) \g /dev/null

SELECT format('%5s transfers, at three priorities', count(*)) FROM (VALUES (3), (5), (8)) p(priority),
    LATERAL dts.submit_many('SELECT transfer($1, $2, $3) AS moved',
        ARRAY(SELECT jsonb_build_array(1 + (random() * 4999)::int, 5001 + (random() * 4999)::int, 1 + (random() * 20)::int + 0 * p.priority) FROM generate_series(1, 1000)),
        queue => 'transfers', priority => p.priority) t;

SELECT format('%5s transfers due later, 200 each second for 10 seconds', count(*)) FROM generate_series(1, 10) s,
    LATERAL dts.submit_many('SELECT transfer($1, $2, $3) AS moved',
        ARRAY(SELECT jsonb_build_array(1 + (random() * 4999)::int, 5001 + (random() * 4999)::int, 1 + (random() * 20)::int + 0 * s) FROM generate_series(1, 200)),
        queue => 'transfers', delay => s * interval '1 s') t;

SELECT format('%5s transfers to accounts that do not exist: dead letters', count(*)) FROM dts.submit_many(
    'SELECT transfer($1, $2, $3) AS moved', ARRAY(SELECT jsonb_build_array(n, 90000000 + n, 7) FROM generate_series(1, 5) n), queue => 'transfers');

SELECT format('%5s reports by the handler branch_report, over 8 seconds', count(dts.submit_handler('branch_report', jsonb_build_object('branch', b), delay => r * interval '2 s')))
FROM pgbench_branches p(b), generate_series(0, 4) r;

SELECT format('%5s settlements, which fail until the ledger opens in 4 seconds', count(dts.submit('SELECT settle($1, $2)', jsonb_build_array(b, clock_timestamp() + interval '4 s'),
       queue => 'reports', max_attempts => 20, retry => '{"strategy": "exponential", "base": 0.5, "cap": 2}'))) FROM pgbench_branches p(b);

SELECT format('%5s runaway query with a timeout of one second: a dead letter', count(dts.submit('SELECT count(*) FROM pgbench_accounts a, pgbench_accounts b',
       queue => 'reports', timeout => '1 s', max_attempts => 2, retry => '{"base": 0.5}')));

SELECT format('%5s times the same refresh under one key: %s task', count(id), count(DISTINCT id))
FROM (SELECT dts.submit('ANALYZE report', queue => 'reports', key => 'refresh', delay => '9 s') AS id FROM generate_series(1, 50)) x;

SELECT format('%5s VACUUM and 1 CREATE INDEX CONCURRENTLY, outside of a transaction block', count(dts.submit('VACUUM (ANALYZE) pgbench_accounts', transactional => false, queue => 'upkeep', delay => '5 s')));
SELECT dts.submit('CREATE INDEX CONCURRENTLY report_branch ON report (branch)', transactional => false, queue => 'upkeep', delay => '3 s') \g /dev/null
COMMIT;
