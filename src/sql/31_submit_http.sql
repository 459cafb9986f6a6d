-- Submitting what leaves the server. The request is a JSON object whose keys are these functions' arguments; it is checked at submit, and
-- again by the courier, which decides. Options as in dts.submit.

CREATE FUNCTION dts.submit_http(
    url text, method text DEFAULT NULL, body jsonb DEFAULT NULL, headers jsonb DEFAULT NULL,
    form jsonb DEFAULT NULL, body_text text DEFAULT NULL, body_bytes bytea DEFAULT NULL,
    follow int DEFAULT NULL, success jsonb DEFAULT NULL, retry_on jsonb DEFAULT NULL, connect_timeout interval DEFAULT NULL,
    response text DEFAULT NULL, keep_headers text[] DEFAULT NULL, max_response int DEFAULT NULL,
    idempotency_header text DEFAULT NULL, traceparent text DEFAULT NULL, sign text[] DEFAULT NULL,
    ca text DEFAULT NULL, certificate text DEFAULT NULL, private_key text DEFAULT NULL,
    queue text DEFAULT NULL, priority int DEFAULT NULL,
    run_at timestamptz DEFAULT NULL, delay interval DEFAULT NULL, max_attempts int DEFAULT NULL, retry jsonb DEFAULT NULL,
    timeout interval DEFAULT NULL, expires timestamptz DEFAULT NULL, key text DEFAULT NULL, on_conflict text DEFAULT NULL,
    key_ttl interval DEFAULT NULL, labels jsonb DEFAULT NULL, tenant text DEFAULT NULL, owner text DEFAULT NULL, depends_on jsonb DEFAULT NULL, concurrency_key text DEFAULT NULL, batch text DEFAULT NULL) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_submit_http';
COMMENT ON FUNCTION dts.submit_http(text, text, jsonb, jsonb, jsonb, text, bytea, int, jsonb, jsonb, interval, text, text[], int, text, text, text[], text, text, text, text, int, timestamptz, interval, int, jsonb, interval, timestamptz, text, text, interval, jsonb, text, text, jsonb, text, text) IS
'Submits an HTTP request as a task and returns its id. method: GET, or POST if there is a body. One of body (JSON), form (an object), body_text, body_bytes. headers: an object; a value may be an array. In URL path, headers and bodies ${secret:name} stands for a secret. follow: redirects to follow, 0 if not given. success: statuses that are one ([200, "2xx", "200-204"]), 2xx if not given. retry_on: statuses worth another attempt (408, 425, 429, 5xx). response: auto, json, text, bytes or none. max_response: bytes kept of the body. idempotency_header: its name, Idempotency-Key if not given, "" for none. sign: secrets that sign the request after Standard Webhooks. ca, certificate, private_key: secrets that hold PEM. Options as in dts.submit; timeout is that of an attempt. Where it may go: dts.allow_host.';

CREATE FUNCTION dts.submit_mail(
    "to" text[], subject text, body text DEFAULT NULL, cc text[] DEFAULT NULL, bcc text[] DEFAULT NULL, reply_to text DEFAULT NULL,
    html text DEFAULT NULL, attachments jsonb DEFAULT NULL, sender text DEFAULT NULL, headers jsonb DEFAULT NULL,
    queue text DEFAULT NULL, priority int DEFAULT NULL,
    run_at timestamptz DEFAULT NULL, delay interval DEFAULT NULL, max_attempts int DEFAULT NULL, retry jsonb DEFAULT NULL,
    timeout interval DEFAULT NULL, expires timestamptz DEFAULT NULL, key text DEFAULT NULL, on_conflict text DEFAULT NULL,
    key_ttl interval DEFAULT NULL, labels jsonb DEFAULT NULL, tenant text DEFAULT NULL, owner text DEFAULT NULL, depends_on jsonb DEFAULT NULL, concurrency_key text DEFAULT NULL, batch text DEFAULT NULL) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_submit_mail';
COMMENT ON FUNCTION dts.submit_mail(text[], text, text, text[], text[], text, text, jsonb, text, jsonb, text, int, timestamptz, interval, int, jsonb, interval, timestamptz, text, text, interval, jsonb, text, text, jsonb, text, text) IS
'Submits a mail as a task and returns its id. Addresses are "ann@example.com" or "Ann Lee <ann@example.com>". body and html: its text, both may be given. attachments: an array of {"name", "type", "base64"} or {"name", "type", "text"}. sender: dts.smtp_sender if not given. The server is dts.smtp_url. Options as in dts.submit. To whom mails may go: dts.allow_host(..., schemes => ''{mailto}'').';

-- What a literal typed into psql is: one address, or the text of an array.
CREATE FUNCTION dts.submit_mail(
    "to" text, subject text, body text DEFAULT NULL, cc text[] DEFAULT NULL, bcc text[] DEFAULT NULL, reply_to text DEFAULT NULL,
    html text DEFAULT NULL, attachments jsonb DEFAULT NULL, sender text DEFAULT NULL, headers jsonb DEFAULT NULL,
    queue text DEFAULT NULL, priority int DEFAULT NULL,
    run_at timestamptz DEFAULT NULL, delay interval DEFAULT NULL, max_attempts int DEFAULT NULL, retry jsonb DEFAULT NULL,
    timeout interval DEFAULT NULL, expires timestamptz DEFAULT NULL, key text DEFAULT NULL, on_conflict text DEFAULT NULL,
    key_ttl interval DEFAULT NULL, labels jsonb DEFAULT NULL, tenant text DEFAULT NULL, owner text DEFAULT NULL, depends_on jsonb DEFAULT NULL, concurrency_key text DEFAULT NULL, batch text DEFAULT NULL) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_submit_mail_text';
COMMENT ON FUNCTION dts.submit_mail(text, text, text, text[], text[], text, text, jsonb, text, jsonb, text, int, timestamptz, interval, int, jsonb, interval, timestamptz, text, text, interval, jsonb, text, text, jsonb, text, text) IS
'The same to one address, "ann@example.com", or to an array written as text, ''{ann@example.com, bob@example.com}''.';
