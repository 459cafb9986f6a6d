-- Steering and waiting (src/sql_steer.cpp). Who may steer a task: members of its owner's role, and administrators.

CREATE FUNCTION dts.cancel(task bigint) RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_cancel';
COMMENT ON FUNCTION dts.cancel(bigint) IS
'Cancels a waiting or running task. Returns cancelled (it has ended, or ends with this commit), cancelling (binding: it is being interrupted), finishing (not binding: its end was decided before, or another session holds it), or the state in which it had ended. Waits at most dts.steer_wait.';

CREATE FUNCTION dts.reschedule(task bigint, run_at timestamptz DEFAULT NULL, delay interval DEFAULT NULL) RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_reschedule';
COMMENT ON FUNCTION dts.reschedule(bigint, timestamptz, interval) IS
'Moves the due time of a waiting task (now if neither is given). Returns changed, noted (the task is held: it holds for the next attempt) or the state in which it had ended.';

CREATE FUNCTION dts.set_priority(task bigint, priority int) RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_set_priority';
COMMENT ON FUNCTION dts.set_priority(bigint, int) IS
'Changes the priority (0-9, higher first) of a waiting task. Returns changed, noted (the task is held: it holds for the next attempt) or the state in which it had ended.';

CREATE FUNCTION dts.retry(task bigint) RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_retry';
COMMENT ON FUNCTION dts.retry(bigint) IS
'Runs a task that waits for its next attempt now (changed), or gives a dead letter a new life under the same id (redriven). Returns running, or noted if another session has it in hand, else the state in which it had ended.';

CREATE FUNCTION dts.redrive(task bigint) RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_redrive';
COMMENT ON FUNCTION dts.redrive(bigint) IS
'Gives a dead letter a new life: the same id, key and payload, no attempts used. Returns redriven, or the task''s state if it is no dead letter.';

CREATE FUNCTION dts.redrive_queue(queue text, max_tasks int DEFAULT 1000) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_redrive_queue';
COMMENT ON FUNCTION dts.redrive_queue(text, int) IS 'Redrives up to max_tasks dead letters of a queue that the caller may steer, oldest first. Returns how many.';

CREATE PROCEDURE dts.wait(task bigint, timeout interval DEFAULT NULL, INOUT state text DEFAULT NULL)
    LANGUAGE c AS 'MODULE_PATHNAME', 'dts_wait';
COMMENT ON PROCEDURE dts.wait(bigint, interval, text) IS
'Waits until a task has ended, holding no snapshot, and gives its state. A success is reported only when it is flushed to disk. After timeout it gives the state at that moment. Not inside a transaction block.';

CREATE FUNCTION dts._state(task bigint) RETURNS int2
    LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'dts_state_code';
COMMENT ON FUNCTION dts._state(bigint) IS 'State code of a task that the caller may see; 42704 if there is none.';

CREATE FUNCTION dts._caller_may(owner oid) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'dts_caller_may';
COMMENT ON FUNCTION dts._caller_may(oid) IS 'Whether the current role may see and steer tasks of this owner: a member of it, or an administrator.';

CREATE FUNCTION dts._caller_sees(owner oid) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'dts_caller_sees';
COMMENT ON FUNCTION dts._caller_sees(oid) IS 'Whether the current role may see that tasks of this owner exist: as dts._caller_may, and monitors.';

CREATE FUNCTION dts.progress(done bigint, total bigint DEFAULT NULL, message text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_progress';
COMMENT ON FUNCTION dts.progress(bigint, bigint, text) IS
'Called by a running task: how much is done, of how much, and a word (cut at 127 bytes). Others see it at once in dts.running, with an estimate of the end; nothing is written. Outside a task it does nothing.';
