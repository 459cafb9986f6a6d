-- What the demo service of compose.yaml does. scripts/demo shows more.
\set QUIET on
\pset footer off
CREATE TABLE IF NOT EXISTS square (n int PRIMARY KEY, result int);
TRUNCATE square;
SELECT count(*) AS submitted FROM dts.submit_many('INSERT INTO square VALUES ($1, $1::int * $1::int)', ARRAY(SELECT jsonb_build_array(n) FROM generate_series(1, 1000) n));
SELECT dts.submit('SELECT 1 / 0', max_attempts => 2, retry => '{"base": 0.5}') AS failing \gset
SELECT dts.submit('SELECT count(*), sum(result) FROM square', priority => 0, delay => '1 s') AS task \gset
CALL dts.wait(:failing, '20 s');
CALL dts.wait(:task, '20 s');
SELECT dts.explain(:failing);
SELECT dts.result(:task);
SELECT name, per_second, succeeded, failed, retried, mean_run_time FROM dts.queues;
