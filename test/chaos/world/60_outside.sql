-- Mails, and commands that agents take (test/chaos/agent.sql is one): what leaves the server. Which mails came in is loaded before the checks.
CREATE TABLE chaos.mailed (k bigint);
SELECT dts.create_queue('mail'), dts.create_queue('commands'), dts.allow_host('example.com', schemes => '{mailto}');
CREATE FUNCTION chaos.load_mail() RETURNS void LANGUAGE plpgsql AS $$
DECLARE k bigint := nextval('chaos.k');
BEGIN
    PERFORM chaos.note(dts.submit_mail('{ann@example.com}', 'chaos ' || k, 'It is on its way.', queue => 'mail', timeout => '5 s', max_attempts => 60, retry => '{"base": 0.05, "cap": 0.5}'), 'mail', k);
END $$;
CREATE VIEW chaos.check_mail AS SELECT j.task, count(m.k) AS mails, (SELECT max(attempt) FROM dts.runs r WHERE r.task = j.task) AS attempts, max(e.outcome) AS outcome FROM chaos.journal j JOIN chaos.ends e USING (task) LEFT JOIN chaos.mailed m USING (k)
    WHERE j.kind = 'mail' GROUP BY 1 HAVING count(m.k) > (SELECT max(attempt) FROM dts.runs r WHERE r.task = j.task) OR (max(e.outcome) = 'succeeded' AND count(m.k) = 0);
COMMENT ON VIEW chaos.check_mail IS 'a mail that succeeded was handed over, and no mail more often than there are attempts on record';

CREATE ROLE chaos_agent LOGIN;
SELECT dts.grant_agent('chaos_agent', ARRAY['commands']);
GRANT USAGE ON SCHEMA chaos TO chaos_agent;
GRANT INSERT ON chaos.effect TO chaos_agent;
CREATE FUNCTION chaos.load_command() RETURNS void LANGUAGE plpgsql AS $$
DECLARE k bigint := nextval('chaos.k');
BEGIN
    PERFORM chaos.note(dts.submit_command(ARRAY['work', k::text], queue => 'commands', max_attempts => 60, retry => '{"base": 0.05, "cap": 0.5}'), 'command', k);
END $$;
-- How an agent ends what it has done. A token that came too late is no error of the agent's: somebody else has the task by now.
CREATE FUNCTION chaos.agent_end(task bigint, token uuid) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF random() < 0.1 THEN RETURN dts.fail(task, token, 'chaos', retry => true); END IF;
    RETURN dts.complete(task, token);
EXCEPTION WHEN SQLSTATE 'TQ010' OR lock_not_available THEN RETURN SQLSTATE;
END $$;
GRANT EXECUTE ON FUNCTION chaos.agent_end TO chaos_agent;
