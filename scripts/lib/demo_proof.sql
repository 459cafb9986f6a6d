-- What the bank's own tables say, beside what dts says.
CREATE FUNCTION demo_proof() RETURNS text LANGUAGE sql AS $$
    SELECT CASE WHEN m.money = 10000000 AND m.lines = t.transfers AND m.moved = t.moved THEN 'The money adds up, and each transfer took effect exactly once.'
                ELSE 'THE MONEY DOES NOT ADD UP.' END
    FROM (SELECT (SELECT sum(abalance) FROM pgbench_accounts) AS money, count(*) AS lines, sum(delta) AS moved FROM pgbench_history) m,
         (SELECT count(*) AS transfers, sum((result -> 0 ->> 'moved')::int) AS moved FROM dts.tasks WHERE queue = 'transfers' AND state = 'succeeded') t $$;

SELECT 10000000 AS "money before", (SELECT sum(abalance) FROM pgbench_accounts) AS "money after",
       (SELECT count(*) FROM dts.tasks WHERE queue = 'transfers' AND state = 'succeeded') AS "transfers that succeeded",
       (SELECT count(*) FROM pgbench_history) AS "lines in the bank's own history",
       (SELECT sum((result -> 0 ->> 'moved')::int) FROM dts.tasks WHERE queue = 'transfers' AND state = 'succeeded') AS "moved, by the tasks' results",
       (SELECT sum(delta) FROM pgbench_history) AS "moved, by that history",
       (SELECT count(*) FROM settlement) AS "branches settled", (SELECT count(*) FROM report) AS "reports written";
