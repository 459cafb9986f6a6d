SELECT count(*) AS n, COALESCE(max(task), 0) AS task, COALESCE(max(token::text), '') AS token, COALESCE(max(argv[2]), '0') AS k FROM dts.claim('agent ' || pg_backend_pid(), lease => '2 s') \gset a_
\if :a_n > 0
INSERT INTO chaos.effect VALUES (:a_k, :a_task);
SELECT chaos.agent_end(:a_task, ':a_token');
\else
CALL dts.wait_for_work('agent ' || pg_backend_pid(), timeout => '1 s');
\endif
