-- Requests, mails, rules, secrets: what is refused at the call, and what is kept.
SELECT no_plan();
CREATE ROLE out_user LOGIN;
CREATE ROLE out_other LOGIN;
SELECT dts.grant_usage('out_user'), dts.grant_usage('out_other');
SELECT dts.pause('default');
SELECT dts.allow_host('*'), dts.allow_host('api.example.com', schemes => '{http}', ports => '{80,8080}'), dts.allow_host('example.com', schemes => '{mailto}'), dts.deny_host('bad.example.com');

CREATE TABLE bad (call text, state text, says text);
INSERT INTO bad VALUES
    -- where it goes
    ($$dts.submit_http(NULL)$$, '22004', '"url" must not be null'),
    ($$dts.submit_http('')$$, '22023', '"url" has no scheme'),
    ($$dts.submit_http('example.com/x')$$, '22023', '"url" has no scheme'),
    ($$dts.submit_http('ftp://example.com')$$, '22023', '"url" must begin with http'),
    ($$dts.submit_http('https://')$$, '22023', '"url" has no valid host'),
    ($$dts.submit_http('https://u:p@example.com/')$$, '22023', '"url" holds a user name'),
    ($$dts.submit_http('https://exa mple.com/')$$, '22023', '"url" holds a blank'),
    ($$dts.submit_http(E'https://example.com/\r\nX: y')$$, '22023', '"url" holds a blank or control'),
    ($$dts.submit_http('https://example.com:0/')$$, '22023', '"url" has no valid port'),
    ($$dts.submit_http('https://example.com/' || repeat('x', 9000))$$, '22023', '"url"'),
    ($$dts.submit_http('http://example.com/')$$, '42501', 'requests to http://example.com:80 are not allowed'),
    ($$dts.submit_http('https://example.com:8443/')$$, '42501', 'requests to https://example.com:8443 are not allowed'),
    ($$dts.submit_http('https://bad.example.com/')$$, '42501', 'bad.example.com:443 are not allowed'),
    ($$dts.submit_http('https://127.0.0.1/')$$, '42501', '127.0.0.1:443 are not allowed'),
    ($$dts.submit_http('https://${secret:x}/')$$, '22023', '"url"'),
    -- what it says
    ($$dts.submit_http('https://a.org', 'GET /')$$, '22023', '"method"'),
    ($$dts.submit_http('https://a.org', 'CONNECT')$$, '22023', '"method"'),
    ($$dts.submit_http('https://a.org', headers => '[]')$$, '22023', '"headers"'),
    ($$dts.submit_http('https://a.org', headers => '{"A b": "c"}')$$, '22023', '"headers"'),
    ($$dts.submit_http('https://a.org', headers => '{"A": "b\r\nC: d"}')$$, '22023', '"headers"'),
    ($$dts.submit_http('https://a.org', headers => '{"Host": "b"}')$$, '22023', '"headers"'),
    ($$dts.submit_http('https://a.org', headers => '{"content-length": "1"}')$$, '22023', '"headers"'),
    ($$dts.submit_http('https://a.org', headers => '{"A": {"b": 1}}')$$, '22023', '"headers"'),
    ($$dts.submit_http('https://a.org', headers => '{"A": "${secret:nope}"}')$$, '42704', 'secret "nope" does not exist'),
    ($$dts.submit_http('https://a.org', body => '{"a": ["${secret:nope}"]}')$$, '42704', 'secret "nope" does not exist'),
    ($$dts.submit_http('https://a.org', body => '1', body_text => 'x')$$, '22023', 'more than one of'),
    ($$dts.submit_http('https://a.org', form => '[1]')$$, '22023', '"form"'),
    ($$dts.submit_http('https://a.org', form => '{"a": []}')$$, '22023', '"form"'),
    ($$dts.submit_http('https://a.org', body => to_jsonb(repeat('x', 2000000)))$$, '54000', '"body" is too large'),
    ($$dts.submit_http('https://a.org', follow => -1)$$, '22023', '"follow"'),
    ($$dts.submit_http('https://a.org', follow => 100)$$, '22023', '"follow"'),
    ($$dts.submit_http('https://a.org', success => '200')$$, '22023', '"success"'),
    ($$dts.submit_http('https://a.org', success => '["6xx"]')$$, '22023', '"success"'),
    ($$dts.submit_http('https://a.org', retry_on => '[99]')$$, '22023', '"retry_on"'),
    ($$dts.submit_http('https://a.org', connect_timeout => '-1 s')$$, '22023', '"connect_timeout"'),
    ($$dts.submit_http('https://a.org', connect_timeout => '1 day')$$, '22023', '"connect_timeout"'),
    ($$dts.submit_http('https://a.org', response => 'xml')$$, '22023', '"response"'),
    ($$dts.submit_http('https://a.org', keep_headers => '{NULL}')$$, '22004', '"keep_headers"'),
    ($$dts.submit_http('https://a.org', max_response => -1)$$, '22023', '"max_response"'),
    ($$dts.submit_http('https://a.org', max_response => 2000000000)$$, '22023', '"max_response"'),
    ($$dts.submit_http('https://a.org', idempotency_header => 'a b')$$, '22023', '"idempotency_header"'),
    ($$dts.submit_http('https://a.org', traceparent => 'x')$$, '22023', '"traceparent"'),
    ($$dts.submit_http('https://a.org', sign => '{nope}')$$, '42704', 'secret "nope" does not exist'),
    ($$dts.submit_http('https://a.org', ca => 'nope')$$, '42704', 'secret "nope" does not exist'),
    ($$dts.submit_http('https://a.org', certificate => 'nope')$$, '42704', 'secret "nope" does not exist'),
    ($$dts.submit_http('https://a.org', private_key => 'nope')$$, '42704', 'secret "nope" does not exist'),
    ($$dts.submit_http('https://a.org', queue => 'nope')$$, '42704', 'queue "nope" does not exist'),
    ($$dts.submit_http('https://a.org', priority => 10)$$, '22023', '"priority"'),
    ($$dts.submit_http('https://a.org', timeout => '-1 s')$$, '22023', '"timeout"'),
    -- mails
    ($$dts.submit_mail(NULL, 'x', 'y')$$, '22004', '"to" must not be null'),
    ($$dts.submit_mail('{}', 'x', 'y')$$, '22004', '"to" must not be null'),
    ($$dts.submit_mail('{nobody}', 'x', 'y')$$, '22023', '"to"'),
    ($$dts.submit_mail(ARRAY[E'a@example.com\nBcc: b@c.d'], 'x', 'y')$$, '22023', '"to"'),
    ($$dts.submit_mail('{a@other.org}', 'x', 'y')$$, '42501', 'mailto:other.org are not allowed'),
    ($$dts.submit_mail('{a@example.com}', NULL, 'y')$$, '22004', '"subject" must not be null'),
    ($$dts.submit_mail('{a@example.com}', E'x\ny', 'y')$$, '22023', '"subject"'),
    ($$dts.submit_mail('{a@example.com}', 'x')$$, '22004', '"body" must not be null'),
    ($$dts.submit_mail('{a@example.com}', 'x', 'y', cc => '{b@other.org}')$$, '42501', 'mailto:other.org'),
    ($$dts.submit_mail('{a@example.com}', 'x', 'y', bcc => '{b}')$$, '22023', '"bcc"'),
    ($$dts.submit_mail('{a@example.com}', 'x', 'y', reply_to => 'b')$$, '22023', '"reply_to"'),
    ($$dts.submit_mail('{a@example.com}', 'x', 'y', sender => 'b')$$, '22023', '"sender"'),
    ($$dts.submit_mail('{a@example.com}', 'x', 'y', headers => '{"Subject": "z"}')$$, '22023', '"headers"'),
    ($$dts.submit_mail('{a@example.com}', 'x', 'y', attachments => '{}')$$, '22023', '"attachments"'),
    ($$dts.submit_mail('{a@example.com}', 'x', 'y', attachments => '[{"name": "a"}]')$$, '22023', '"attachments"'),
    ($$dts.submit_mail('{a@example.com}', 'x', 'y', attachments => '[{"name": "a\nb", "text": "x"}]')$$, '22023', '"attachments"'),
    ($$dts.submit_mail('{a@example.com}', 'x', 'y', attachments => '[{"name": "a", "text": "x", "type": "y"}]')$$, '22023', '"attachments"'),
    -- as JSON
    ($$dts.submit_many('[{"http": {"url": "https://a.org", "bodi": 1}}]'::jsonb)$$, '22023', 'unknown key "bodi"'),
    ($$dts.submit_many('[{"http": 5}]'::jsonb)$$, '22023', '"http"'),
    ($$dts.submit_many('[{"mail": "x"}]'::jsonb)$$, '22023', '"mail"'),
    ($$dts.submit_many('[{"http": "https://a.org", "payload": {}}]'::jsonb)$$, '22023', '"payload"'),
    ($$dts.submit_many('[{"http": "https://a.org", "sql": "SELECT 1"}]'::jsonb)$$, '22023', 'one of "sql"'),
    -- rules
    ($$dts.allow_host(NULL)$$, '22023', '"host"'),
    ($$dts.allow_host('')$$, '22023', '"host"'),
    ($$dts.allow_host('http://a.org')$$, '22023', '"host"'),
    ($$dts.allow_host('a*')$$, '22023', '"host"'),
    ($$dts.allow_host('a.org', schemes => '{ftp}')$$, '22023', '"schemes"'),
    ($$dts.allow_host('a.org', ports => '{0}')$$, '22023', '"ports"'),
    ($$dts.allow_host('a.org', ports => '{70000}')$$, '22023', '"ports"'),
    ($$dts.allow_host('a.org', networks => '{10.0.0.1/8}')$$, '22P02', 'cidr'),
    ($$dts.allow_host('a.org', networks => '{NULL}')$$, '22004', '"networks"'),
    ($$dts.allow_host('a.org', role => 'nope')$$, '42704', 'role "nope" does not exist'),
    ($$dts.deny_host('a b')$$, '22023', '"host"'),
    ($$dts.remove_rule(4711)$$, '42704', 'rule 4711 does not exist'),
    ($$dts.remove_rule(NULL)$$, '42704', 'does not exist'),
    -- secrets; no key is set here
    ($$dts.create_secret('s', 'v')$$, '55000', 'there is no key for secrets'),
    ($$dts.create_secret('a b', 'v')$$, '42602', '"name"'),
    ($$dts.create_secret(NULL, 'v')$$, '42602', '"name"'),
    ($$dts.create_secret('s', NULL)$$, '22004', '"value" must not be null'),
    ($$dts.create_secret('s', '')$$, '22023', '"value"'),
    ($$dts.create_secret('s', repeat('x', 70000))$$, '22023', '"value"'),
    ($$dts.create_secret('s', 'v', hosts => '{a/b}')$$, '22023', '"hosts"'),
    ($$dts.create_secret('s', 'v', roles => '{nope}')$$, '42704', 'role "nope" does not exist'),
    ($$dts.alter_secret('s')$$, '42704', 'secret "s" does not exist'),
    ($$dts.drop_secret('s')$$, '42704', 'secret "s" does not exist'),
    ($$dts.drop_secret(NULL)$$, '42704', 'does not exist'),
    -- handlers
    ($$dts.create_request_handler('r')$$, '22023', 'one of "http" and "mail"'),
    ($$dts.create_request_handler('r', http => '{}')$$, '22004', '"url" must not be null'),
    ($$dts.create_request_handler('r', http => '5')$$, '22023', 'must be a JSON object'),
    ($$dts.create_request_handler('r', http => '{"url": "https://${payload.host}/"}')$$, '22023', '"url"'),
    ($$dts.create_request_handler('r', http => '{"url": "http://other.org/"}')$$, '42501', 'other.org'),
    ($$dts.create_request_handler('r', http => '{"url": "https://a.org"}', queue => 'nope')$$, '42704', 'queue "nope"'),
    ($$dts.create_request_handler('r', http => '{"url": "https://a.org"}', mail => '{}')$$, '22023', 'one of "http" and "mail"'),
    ($$dts.alter_request_handler('nope', '{}')$$, '42704', 'handler "nope" does not exist'),
    ($$dts.reset_host(NULL)$$, '22004', '"host" must not be null');

CREATE FUNCTION attempt(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE s text; m text; h text;
BEGIN
    EXECUTE 'SELECT ' || call;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS s = RETURNED_SQLSTATE, m = MESSAGE_TEXT, h = PG_EXCEPTION_HINT;
    RETURN s || ' ' || m || CASE WHEN h = '' AND s !~ '^22P' THEN ' (no hint)' ELSE '' END;
END $$;
SELECT count(*) AS tasks FROM dts.task \gset
SELECT matches(attempt(call), '^' || state || '.*' || says, left(call, 100)) FROM bad;
SELECT unalike(attempt(call), '%(no hint)%', 'a hint: ' || left(call, 100)) FROM bad;
SELECT is((SELECT count(*) FROM dts.task), :tasks::bigint, 'nothing came of what was refused');

-- What is kept.
SELECT lives_ok($$SELECT dts.submit_http('https://a.org/x', 'PUT', '{"a": 1}', '{"X-A": ["1", "2"]}', timeout => '5 s', key => 'k1', labels => '{"l": 1}')$$);
SELECT results_eq($$SELECT kind, args FROM dts.tasks WHERE key = 'k1'$$, $$VALUES ('http', '{"url": "https://a.org/x", "method": "PUT", "body": {"a": 1}, "headers": {"X-A": ["1", "2"]}}'::jsonb)$$);
SELECT is(dts.submit_http('https://a.org/x', key => 'k1'), (SELECT id FROM dts.tasks WHERE key = 'k1'), 'keys hold for requests');
SELECT lives_ok($$SELECT dts.submit_http('http://api.example.com:8080/')$$, 'a port that is allowed');
SELECT lives_ok($$SELECT dts.submit_mail('{"Ann <ann@example.com>"}', 'Hi', 'there')$$);
CREATE TEMP TABLE sent AS SELECT dts.submit_mail(given, 'Hi', 'there') AS id, given, expected
FROM (VALUES ('Ann <ann@example.com>', '["Ann <ann@example.com>"]'::jsonb), ('{ann@example.com, bob@example.com}', '["ann@example.com", "bob@example.com"]')) x(given, expected);
SELECT is(t.args -> 'to', s.expected, s.given) FROM sent s JOIN dts.tasks t USING (id);
SELECT lives_ok($$SELECT dts.submit_mail('ann@example.com', 'Hi', 'there')$$);
SELECT lives_ok($$SELECT dts.submit_mail("to" => ARRAY['ann@example.com'], subject => 'Hi', body => 'there')$$);
SELECT lives_ok($$SELECT dts.submit_mail("to" => 'ann@example.com', subject => 'Hi', body => 'there', cc => '{bob@example.com}')$$);
SELECT lives_ok($$SELECT dts.submit_many('[{"http": "https://a.org"}, {"mail": {"to": ["a@example.com"], "subject": "x", "body": "y"}}]'::jsonb)$$);
SELECT lives_ok($$SELECT dts.create_request_handler('r', http => '{"url": "https://a.org/${payload.id}"}', priority => 7)$$);
SELECT lives_ok($$SELECT dts.alter_request_handler('r', '{"url": "https://a.org/other/${payload.id}"}')$$);
SELECT lives_ok($$SELECT dts.submit_handler('r', '{"id": 1}')$$);
SELECT is((SELECT kind || priority FROM dts.tasks WHERE handler = 'r'), 'http7', 'a task of a request handler');
SELECT is((SELECT bool_and(l.runner = 1) FROM dts.task t JOIN dts.lane l ON l.id = t.lane), true, 'all of them are for the courier');

-- Rights: rules are for administrators, roles have rules of their own, secrets and handlers belong to somebody.
SELECT dts.remove_rule(rule) FROM dts.egress;
SELECT dts.allow_host('a.org', role => 'out_user');
SET ROLE out_user;
SELECT lives_ok($$SELECT dts.submit_http('https://a.org')$$, 'what a rule allows this role');
SELECT throws_ok($$SELECT dts.allow_host('*')$$, '42501');
SELECT throws_ok($$SELECT dts.alter_request_handler('r', '{"url": "https://a.org/"}')$$, '42501');
SELECT is((SELECT count(*) FROM dts.hosts), 0::bigint, 'hosts are for administrators');
SET ROLE out_other;
SELECT throws_ok($$SELECT dts.submit_http('https://a.org')$$, '42501', 'requests to https://a.org:443 are not allowed');
SELECT is((SELECT count(*) FROM dts.egress), 0::bigint, 'rules of others are not shown');
RESET ROLE;
SELECT is((SELECT count(*) FROM dts.audit WHERE action IN ('allow_host', 'deny_host', 'remove_rule')), 9::bigint, 'rules are in the audit log');

SELECT dts.cancel(id) FROM dts.tasks WHERE state NOT IN ('cancelled');
SELECT * FROM finish();
DROP OWNED BY out_user, out_other;
