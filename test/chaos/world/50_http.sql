-- HTTP tasks against good, slow, dead and lying servers (test/servers/peers.py; the run fills in where it is). What came in is loaded before the checks.
CREATE TABLE chaos.peer (url text);
CREATE TABLE chaos.came (k bigint);
SELECT dts.create_queue('http');
CREATE FUNCTION chaos.request(kind text, path text, attempts int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE k bigint := nextval('chaos.k'); url text := (SELECT p.url FROM chaos.peer p); id bigint;
BEGIN
    IF url IS NULL THEN RETURN; END IF;
    id := dts.submit_http(format('%s%s?k=%s', url, path, k), 'POST', queue => 'http', timeout => '2 s', max_attempts => attempts, retry => '{"base": 0.05, "cap": 0.5}', priority => floor(random() * 10)::int);
    INSERT INTO chaos.journal VALUES (id, kind, k);
END $$;
CREATE FUNCTION chaos.load_http() RETURNS void LANGUAGE sql AS $$ SELECT chaos.request('http', (ARRAY['echo', 'echo', 'slow/0.1', 'flaky/1', 'huge/200000'])[1 + floor(random() * 5)::int], 60) $$;
CREATE FUNCTION chaos.load_bad_peer() RETURNS void LANGUAGE sql AS $$ SELECT chaos.request('bad_peer', (ARRAY['status/500', 'status/404', 'cut', 'close', 'reset', 'not-http', 'slow/3', 'loop/0', 'headers'])[1 + floor(random() * 9)::int], 2) WHERE random() < 0.5 $$;
CREATE VIEW chaos.check_request AS SELECT j.task, e.outcome FROM chaos.journal j JOIN chaos.ends e USING (task) WHERE j.kind = 'http' AND (e.outcome NOT IN ('succeeded', 'cancelled') OR e.outcome = 'succeeded' AND NOT EXISTS (SELECT FROM chaos.came c WHERE c.k = j.k));
COMMENT ON VIEW chaos.check_request IS 'an HTTP task that can succeed does, and its request came to the server';
CREATE VIEW chaos.check_request_attempts AS SELECT j.task, count(*) AS requests, (SELECT max(attempt) FROM dts.runs r WHERE r.task = j.task) AS attempts FROM chaos.journal j JOIN chaos.came c USING (k) WHERE j.kind IN ('http', 'bad_peer') GROUP BY 1
    HAVING count(*) > (SELECT max(attempt) FROM dts.runs r WHERE r.task = j.task);
COMMENT ON VIEW chaos.check_request_attempts IS 'no request is sent that is not an attempt on record: none is repeated after its success was recorded';
CREATE VIEW chaos.check_bad_peer AS SELECT j.task, e.outcome FROM chaos.journal j JOIN chaos.ends e USING (task) WHERE j.kind = 'bad_peer' AND e.outcome = 'succeeded';
COMMENT ON VIEW chaos.check_bad_peer IS 'what a dead or lying server says is no success';
