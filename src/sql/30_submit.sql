-- Submitting work. All of these are C (src/sql_submit.cpp): they see the caller's real identity, whatever function it came through.
-- An option left out or NULL takes the handler's default, else the queue's.

CREATE FUNCTION dts.submit(
    sql text, args jsonb DEFAULT NULL, queue text DEFAULT NULL, priority int DEFAULT NULL,
    run_at timestamptz DEFAULT NULL, delay interval DEFAULT NULL, max_attempts int DEFAULT NULL, retry jsonb DEFAULT NULL,
    timeout interval DEFAULT NULL, expires timestamptz DEFAULT NULL, key text DEFAULT NULL, on_conflict text DEFAULT NULL,
    key_ttl interval DEFAULT NULL, transactional boolean DEFAULT NULL, capture boolean DEFAULT NULL,
    labels jsonb DEFAULT NULL, tenant text DEFAULT NULL, owner text DEFAULT NULL, depends_on jsonb DEFAULT NULL, concurrency_key text DEFAULT NULL, batch text DEFAULT NULL) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_submit';
COMMENT ON FUNCTION dts.submit(text, jsonb, text, int, timestamptz, interval, int, jsonb, interval, timestamptz, text, text, interval, boolean, boolean, jsonb, text, text, jsonb, text, text) IS
'Submits a SQL statement as a task and returns its id. args: JSON array bound to $1, $2, ... priority: 0-9, higher first. run_at or delay: when it is due. max_attempts, retry ({"strategy": "exponential|linear|fixed", "base": s, "factor": n, "cap": s, "jitter": "full|none", "on": [SQLSTATE or class], "not_on": [...]}), timeout per attempt, expires: not started by then. key with on_conflict (return, replace, push, error) and key_ttl. transactional => false for VACUUM and the like (at least once). depends_on: tasks that must end first, see dts.after. concurrency_key: of the tasks of its queue with the same key only one runs at a time, or as many as dts.set_limit(..., key_concurrency) says. batch: a name under which dts.batch_progress counts it and dts.after_batch waits for it.';

CREATE FUNCTION dts.submit_handler(
    handler text, payload jsonb DEFAULT '{}', queue text DEFAULT NULL, priority int DEFAULT NULL,
    run_at timestamptz DEFAULT NULL, delay interval DEFAULT NULL, max_attempts int DEFAULT NULL, retry jsonb DEFAULT NULL,
    timeout interval DEFAULT NULL, expires timestamptz DEFAULT NULL, key text DEFAULT NULL, on_conflict text DEFAULT NULL,
    key_ttl interval DEFAULT NULL, transactional boolean DEFAULT NULL, capture boolean DEFAULT NULL,
    labels jsonb DEFAULT NULL, tenant text DEFAULT NULL, owner text DEFAULT NULL, depends_on jsonb DEFAULT NULL, concurrency_key text DEFAULT NULL, batch text DEFAULT NULL) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_submit_handler';
COMMENT ON FUNCTION dts.submit_handler(text, jsonb, text, int, timestamptz, interval, int, jsonb, interval, timestamptz, text, text, interval, boolean, boolean, jsonb, text, text, jsonb, text, text) IS
'Submits a task of a handler; payload is bound to $1 of the handler''s SQL. Options as in dts.submit. Returns the task''s id.';

CREATE FUNCTION dts.submit_many(
    sql text, args jsonb[], queue text DEFAULT NULL, priority int DEFAULT NULL,
    run_at timestamptz DEFAULT NULL, delay interval DEFAULT NULL, max_attempts int DEFAULT NULL, retry jsonb DEFAULT NULL,
    timeout interval DEFAULT NULL, expires timestamptz DEFAULT NULL, transactional boolean DEFAULT NULL, capture boolean DEFAULT NULL,
    labels jsonb DEFAULT NULL, tenant text DEFAULT NULL, owner text DEFAULT NULL, depends_on jsonb DEFAULT NULL, concurrency_key text DEFAULT NULL, batch text DEFAULT NULL) RETURNS SETOF bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_submit_many_args';
COMMENT ON FUNCTION dts.submit_many(text, jsonb[], text, int, timestamptz, interval, int, jsonb, interval, timestamptz, boolean, boolean, jsonb, text, text, jsonb, text, text) IS
'Submits one task of the same SQL for each element of args (each a JSON array bound to $1, $2, ...). Options as in dts.submit. Returns the ids in order.';

CREATE FUNCTION dts.submit_many(
    sqls text[], queue text DEFAULT NULL, priority int DEFAULT NULL,
    run_at timestamptz DEFAULT NULL, delay interval DEFAULT NULL, max_attempts int DEFAULT NULL, retry jsonb DEFAULT NULL,
    timeout interval DEFAULT NULL, expires timestamptz DEFAULT NULL, transactional boolean DEFAULT NULL, capture boolean DEFAULT NULL,
    labels jsonb DEFAULT NULL, tenant text DEFAULT NULL, owner text DEFAULT NULL, depends_on jsonb DEFAULT NULL, concurrency_key text DEFAULT NULL, batch text DEFAULT NULL) RETURNS SETOF bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_submit_many_sqls';
COMMENT ON FUNCTION dts.submit_many(text[], text, int, timestamptz, interval, int, jsonb, interval, timestamptz, boolean, boolean, jsonb, text, text, jsonb, text, text) IS
'Submits one task for each text in sqls. Options as in dts.submit. Returns the ids in order.';

CREATE FUNCTION dts.submit_many(tasks jsonb) RETURNS SETOF bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_submit_many_json';
COMMENT ON FUNCTION dts.submit_many(jsonb) IS
'Submits one task for each object of a JSON array (write the cast: submit_many(''[...]''::jsonb)). Keys: sql or handler (with payload), name (by which depends_on of the same call may refer to the task, in any order), and every option of dts.submit by its name; an unknown key is refused. An object with workflow, and params, starts a run; its id is that of the task that ends the run. Returns the ids in order.';

CREATE FUNCTION dts.submit_handler_many(
    handler text, payloads jsonb[], queue text DEFAULT NULL, priority int DEFAULT NULL,
    run_at timestamptz DEFAULT NULL, delay interval DEFAULT NULL, max_attempts int DEFAULT NULL, retry jsonb DEFAULT NULL,
    timeout interval DEFAULT NULL, expires timestamptz DEFAULT NULL, transactional boolean DEFAULT NULL, capture boolean DEFAULT NULL,
    labels jsonb DEFAULT NULL, tenant text DEFAULT NULL, owner text DEFAULT NULL, depends_on jsonb DEFAULT NULL, concurrency_key text DEFAULT NULL, batch text DEFAULT NULL) RETURNS SETOF bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_submit_handler_many';
COMMENT ON FUNCTION dts.submit_handler_many(text, jsonb[], text, int, timestamptz, interval, int, jsonb, interval, timestamptz, boolean, boolean, jsonb, text, text, jsonb, text, text) IS
'Submits one task of a handler for each payload. Options as in dts.submit. Returns the ids in order.';
