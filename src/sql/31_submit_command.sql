-- Work for programs outside the server. The claim and what follows it is in 63_agents.sql.

CREATE FUNCTION dts.submit_command(
    argv text[], env jsonb DEFAULT NULL, stdin text DEFAULT NULL, dir text DEFAULT NULL, requires text[] DEFAULT NULL,
    retry_exit_codes int[] DEFAULT NULL, container jsonb DEFAULT NULL,
    queue text DEFAULT NULL, priority int DEFAULT NULL,
    run_at timestamptz DEFAULT NULL, delay interval DEFAULT NULL, max_attempts int DEFAULT NULL, retry jsonb DEFAULT NULL,
    timeout interval DEFAULT NULL, expires timestamptz DEFAULT NULL, key text DEFAULT NULL, on_conflict text DEFAULT NULL,
    key_ttl interval DEFAULT NULL, labels jsonb DEFAULT NULL, tenant text DEFAULT NULL, owner text DEFAULT NULL,
    depends_on jsonb DEFAULT NULL, concurrency_key text DEFAULT NULL, batch text DEFAULT NULL) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_submit_command';
COMMENT ON FUNCTION dts.submit_command(text[], jsonb, text, text, text[], int[], jsonb, text, int, timestamptz, interval, int, jsonb, interval, timestamptz, text, text, interval, jsonb, text, text, jsonb, text, text) IS
'Submits a command for an agent, a program outside the server, and returns the task''s id. argv: the program and its arguments; no shell reads them. env: variables, an object; stdin: what it reads; dir: where it runs; container: passed on to the agent. requires: labels that the agent must offer. retry_exit_codes: after other exit codes it is not tried again. Options as in dts.submit; timeout is that of an attempt. It runs at least once.';

CREATE FUNCTION dts._check_command(node jsonb) RETURNS void
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'dts_check_command';
COMMENT ON FUNCTION dts._check_command(jsonb) IS 'Refuses a node of a workflow whose command cannot be run.';

CREATE FUNCTION dts._check_labels(requires text[]) RETURNS text
    LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'dts_check_labels';
COMMENT ON FUNCTION dts._check_labels(text[]) IS 'Required labels in their stored form; refuses bad ones.';
