-- Dependencies among tasks. The option depends_on is read in C (src/depends.cpp); dts.after makes its value.

CREATE FUNCTION dts.after(tasks bigint[], outcomes text[] DEFAULT NULL, need text DEFAULT 'all', on_unsatisfied text DEFAULT 'skip') RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object('tasks', to_jsonb(tasks), 'on', COALESCE(to_jsonb(outcomes), '"succeeded"'), 'on_unsatisfied', COALESCE(on_unsatisfied, 'skip'),
                              'need', CASE WHEN need ~ '^[0-9]{1,9}$' THEN to_jsonb(need::int) ELSE to_jsonb(COALESCE(need, 'all')) END) $$;
COMMENT ON FUNCTION dts.after(bigint[], text[], text, text) IS
'A value for the option depends_on: the task starts when all of these have succeeded, unless more is said. outcomes: ends that satisfy it: succeeded, failed, expired, cancelled, skipped, or ended for any. need: all, any, or how many of the tasks must end so. on_unsatisfied: what becomes of the task when that can no longer happen: skip, fail or cancel.';

CREATE FUNCTION dts.after(task bigint, outcomes text[] DEFAULT NULL, on_unsatisfied text DEFAULT 'skip') RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$ SELECT dts.after(ARRAY[task], outcomes, 'all', on_unsatisfied) $$;
COMMENT ON FUNCTION dts.after(bigint, text[], text) IS 'A value for the option depends_on: the task starts when this one has succeeded, or has ended in one of the outcomes.';

CREATE FUNCTION dts.current_task() RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'dts_current_task';
COMMENT ON FUNCTION dts.current_task() IS 'The id of the task that runs in this session; NULL outside of a task.';

CREATE FUNCTION dts._parents(task bigint) RETURNS SETOF bigint
    LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'dts_parents';
COMMENT ON FUNCTION dts._parents(bigint) IS 'The tasks that an unfinished task of the caller was submitted to follow.';
