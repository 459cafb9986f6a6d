-- Schedules of each policy, due every second.
CREATE TABLE chaos.fired (schedule text, due_at timestamptz);
GRANT ALL ON chaos.fired TO chaos_users;
DO $$
DECLARE m text; o text;
BEGIN
    FOREACH m IN ARRAY ARRAY['all', 'once', 'skip'] LOOP
        FOREACH o IN ARRAY ARRAY['allow', 'skip', 'queue one', 'replace'] LOOP
            PERFORM dts.schedule(format('%s %s', m, o), CASE o WHEN 'allow' THEN '* * * * * *' ELSE 'every 2 seconds' END,
                'INSERT INTO chaos.fired SELECT s.schedule, s.due_at FROM dts.scheduled() s' || CASE o WHEN 'replace' THEN '; SELECT pg_sleep(random() * 3)' ELSE '' END,
                task => '{"max_attempts": 60, "retry": {"base": 0.05, "cap": 0.5}, "queue": "unjournalled"}', missed => m, missed_max => CASE m WHEN 'all' THEN 1000 END, overlap => o,
                overlap_max => CASE o WHEN 'allow' THEN 500 END, owner => 'chaos_ann');
        END LOOP;
    END LOOP;
END $$;
CREATE FUNCTION chaos.pause_schedules() RETURNS void LANGUAGE sql AS $$ SELECT dts.pause_schedule(name) FROM dts.schedules $$;
CREATE VIEW chaos.check_schedule_twice AS SELECT schedule, due_at, count(*) FROM dts.fires WHERE decision <> 'waiting' GROUP BY 1, 2 HAVING count(*) > 1 UNION ALL SELECT schedule, due_at, count(*) FROM chaos.fired GROUP BY 1, 2 HAVING count(*) > 1;
COMMENT ON VIEW chaos.check_schedule_twice IS 'no due time of a schedule is decided twice, or has its effect twice';
-- A due time that waits behind a run when the schedule is paused waits on: it is decided, and has only the row that says so.
CREATE VIEW chaos.decided AS SELECT f.* FROM dts.fires f WHERE f.decision <> 'waiting' OR (EXISTS (SELECT FROM dts.schedule s JOIN dts.schedule_clock c ON c.schedule = s.id WHERE s.name = f.schedule AND f.due_at = ANY (c.waiting))
    AND NOT EXISTS (SELECT FROM dts.fires x WHERE x.schedule = f.schedule AND x.due_at = f.due_at AND x.decision <> 'waiting'));
CREATE VIEW chaos.check_schedule_lost AS SELECT schedule, sum(count) AS decided, extract(epoch FROM max(due_to) - min(due_at)) / step + 1 AS due
    FROM (SELECT *, CASE WHEN schedule ~ 'allow' THEN 1 ELSE 2 END AS step FROM chaos.decided) x GROUP BY schedule, step HAVING sum(count) <> extract(epoch FROM max(due_to) - min(due_at)) / step + 1;
COMMENT ON VIEW chaos.check_schedule_lost IS 'each due time from the first to the last decision was fired, or skipped with its reason';
CREATE VIEW chaos.check_schedule_policy AS SELECT schedule, due_at, decision, reason FROM dts.fires WHERE schedule = 'all allow' AND decision NOT IN ('fired', 'waiting');
COMMENT ON VIEW chaos.check_schedule_policy IS 'missed => all, overlap => allow: every single due time is fired';
CREATE VIEW chaos.check_schedule_effect AS SELECT f.schedule, f.due_at, t.outcome FROM dts.fires f JOIN chaos.ends t ON t.task = f.task LEFT JOIN chaos.fired e ON e.schedule = f.schedule AND e.due_at = f.due_at
    WHERE f.decision = 'fired' AND (t.outcome = 'succeeded') <> (e.due_at IS NOT NULL);
COMMENT ON VIEW chaos.check_schedule_effect IS 'each due time that was fired and succeeded has its effect';
CREATE VIEW chaos.check_schedule_end AS SELECT f.schedule, f.due_at, f.task FROM dts.fires f WHERE f.task IS NOT NULL AND NOT EXISTS (SELECT FROM chaos.ends e WHERE e.task = f.task);
COMMENT ON VIEW chaos.check_schedule_end IS 'each task of a schedule has ended';
