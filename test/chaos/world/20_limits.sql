-- Limits, rates and concurrency keys under fire.
SELECT dts.create_queue('narrow'), dts.create_queue('paced'), dts.create_queue('keyed'), dts.create_queue('ordered');
SELECT dts.set_limit(queue => 'narrow', concurrency => 2), dts.set_limit(queue => 'paced', rate => 20, per => '1 second'), dts.set_limit(queue => 'ordered', key_fifo => true);
SELECT dts.create_handler('single', 'SELECT chaos.work(($1 ->> ''k'')::bigint, 0, 0.005)', shared => true, max_attempts => 60);
SELECT dts.set_limit(handler => 'single', concurrency => 1);
CREATE TABLE chaos.keyed (task bigint PRIMARY KEY, key text);
GRANT ALL ON chaos.keyed TO chaos_users;

CREATE FUNCTION chaos.load_narrow() RETURNS void LANGUAGE sql AS $$ SELECT chaos.submit('narrow', nap => random() * 0.02, queue => 'narrow') $$;
CREATE FUNCTION chaos.load_paced() RETURNS void LANGUAGE sql AS $$ SELECT chaos.submit('paced', queue => 'paced') WHERE random() < 0.5 $$;
CREATE FUNCTION chaos.load_single() RETURNS void LANGUAGE plpgsql AS $$
DECLARE k bigint := nextval('chaos.k');
BEGIN
    PERFORM chaos.note(dts.submit_handler('single', jsonb_build_object('k', k), owner => chaos.owner(), queue => chaos.queue()), 'single', k);
END $$;
CREATE FUNCTION chaos.keyed(kind text, queue text, key text, fail float) RETURNS void LANGUAGE plpgsql AS $$
DECLARE k bigint := nextval('chaos.k'); id bigint;
BEGIN
    id := dts.submit('SELECT chaos.work($1, $2, $3)', jsonb_build_array(k, fail, random() * 0.01), queue => queue, concurrency_key => key, max_attempts => 60, retry => '{"base": 0.01, "cap": 0.05}');
    PERFORM chaos.note(id, kind, k);
    INSERT INTO chaos.keyed VALUES (id, key);
END $$;
CREATE FUNCTION chaos.load_keyed() RETURNS void LANGUAGE sql AS $$ SELECT chaos.keyed('keyed', 'keyed', 'key ' || floor(random() * 5), 0) FROM generate_series(1, 2) $$;
CREATE FUNCTION chaos.load_leased_keyed() RETURNS void LANGUAGE plpgsql AS $$
DECLARE k bigint := nextval('chaos.k'); id bigint; name text := 'key ' || floor(random() * 5);
BEGIN
    id := dts.submit(format('CALL chaos.leased(%s)', k), queue => 'keyed', concurrency_key => name, transactional => false, max_attempts => 60, retry => '{"base": 0.05, "cap": 0.5}');
    PERFORM chaos.note(id, 'leased', k);
    INSERT INTO chaos.keyed VALUES (id, name);
END $$;
-- One producer for each key, so that ids are in the order of the commits.
CREATE FUNCTION chaos.load_ordered() RETURNS void LANGUAGE sql AS $$ SELECT chaos.keyed('ordered', 'ordered', 'pid ' || pg_backend_pid(), 0.2) FROM generate_series(1, 2) $$;

-- most(): the largest number of attempts of one group that were under way at the same time.
CREATE VIEW chaos.check_limit AS
    WITH r AS (SELECT CASE WHEN handler = 'single' THEN 'single' ELSE queue END AS what, started_at, ended_at FROM chaos.clear WHERE (handler = 'single' OR queue = 'narrow') AND started_at IS NOT NULL),
         e AS (SELECT what, started_at AS at, 1 AS n FROM r UNION ALL SELECT what, ended_at, -1 FROM r),
         m AS (SELECT what, sum(n) OVER (PARTITION BY what ORDER BY at, n) AS s FROM e)
    SELECT what, max(s) FROM m GROUP BY 1 HAVING max(s) > CASE what WHEN 'single' THEN 1 ELSE 2 END;
COMMENT ON VIEW chaos.check_limit IS 'no more tasks of a limited queue or handler run at once than the limit says';
CREATE VIEW chaos.check_key AS
    WITH r AS (SELECT x.queue, k.key, x.started_at, x.ended_at FROM chaos.clear x JOIN chaos.keyed k USING (task) WHERE x.started_at IS NOT NULL),
         e AS (SELECT queue, key, started_at AS at, 1 AS n FROM r UNION ALL SELECT queue, key, ended_at, -1 FROM r),
         m AS (SELECT queue, key, sum(n) OVER (PARTITION BY queue, key ORDER BY at, n) AS s FROM e)
    SELECT queue, key, max(s) FROM m GROUP BY 1, 2 HAVING max(s) > 1;
COMMENT ON VIEW chaos.check_key IS 'of the tasks with one concurrency key one runs at a time';
-- Tokens are taken before the start: a stopped process may start what it took a little later, one for each executor.
CREATE VIEW chaos.check_rate AS SELECT started_at, n FROM (SELECT started_at, count(*) OVER (ORDER BY started_at RANGE BETWEEN '1 second' PRECEDING AND CURRENT ROW) AS n FROM chaos.clear
    WHERE queue = 'paced' AND started_at IS NOT NULL) x WHERE n > 20 + 8;
COMMENT ON VIEW chaos.check_rate IS 'no more tasks of a queue with a rate start in a second than it allows, and as many more as executors may have been held up';
CREATE VIEW chaos.check_order AS SELECT a.key, a.task AS before, a.ended_at, b.task AS after, b.started_at FROM
    (SELECT k.key, k.task, e.ended_at, lead(k.task) OVER (PARTITION BY k.key ORDER BY k.task) AS next FROM chaos.keyed k JOIN chaos.clear e USING (task) WHERE e.queue = 'ordered' AND e.outcome = 'succeeded') a
    JOIN (SELECT task, min(started_at) AS started_at FROM chaos.clear WHERE queue = 'ordered' GROUP BY 1) b ON b.task = a.next WHERE b.started_at < a.ended_at;
COMMENT ON VIEW chaos.check_order IS 'tasks of a key in a strictly ordered queue start one after another''s end, in the order of their ids, failed attempts included';
CREATE VIEW chaos.check_places AS SELECT scope, name, running FROM dts.limits WHERE running > 0;
COMMENT ON VIEW chaos.check_places IS 'every place of a limit is given back';
