-- Functions of the floor and the way to fill it. The tables themselves are copied from src/sql/20_tasks.sql by lib/floor.py,
-- so that they always have the columns and indexes of the real ones.

-- The real history is partitioned and written into its leaf; so is this one. The leaf is wide enough to outlive midnight.
CREATE TABLE floor.run_leaf (LIKE floor.run INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES,
    CHECK (ended_at >= current_date - 1 AND ended_at < current_date + 30));
DO $$ BEGIN
    EXECUTE pg_catalog.format('ALTER TABLE floor.run ATTACH PARTITION floor.run_leaf FOR VALUES FROM (%L) TO (%L)', current_date - 1, current_date + 30);
END $$;

CREATE FUNCTION floor.start(workers int, batch int, listen boolean) RETURNS int LANGUAGE c STRICT AS 'floor', 'floor_start';
CREATE FUNCTION floor.go(OUT tasks bigint, OUT wall_us bigint) LANGUAGE c AS 'floor', 'floor_go';
CREATE FUNCTION floor.stop() RETURNS void LANGUAGE c AS 'floor', 'floor_stop';
CREATE FUNCTION floor.wake(pid int) RETURNS void LANGUAGE c STRICT AS 'floor', 'floor_wake';

CREATE FUNCTION floor.fill(n int, same_text boolean) RETURNS void LANGUAGE sql AS $$
    INSERT INTO floor.task (id, run_at, submitted_at, lane, timeout_ms, handler, flags, state, kind, attempt, max_attempts, crashes, sql)
    SELECT nextval('floor.task_id_seq'), clock_timestamp(), clock_timestamp(), 1, 0, 0, 0, 0, 0, 0, 5, 0,
           CASE WHEN same_text THEN 'SELECT 1' ELSE 'SELECT ' || i END
    FROM generate_series(1, n) i $$;

CREATE FUNCTION floor.ping(pid int) RETURNS bigint LANGUAGE sql AS $$
    SELECT floor.wake(pid);
    INSERT INTO floor.task (id, run_at, submitted_at, lane, timeout_ms, handler, flags, state, kind, attempt, max_attempts, crashes, sql)
    SELECT nextval('floor.task_id_seq'), t.at, t.at, 1, 0, 0, 0, 0, 0, 0, 5, 0, 'SELECT 1' FROM (SELECT clock_timestamp() AS at OFFSET 0) t RETURNING id $$;
