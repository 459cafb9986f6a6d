# HTTP tasks against a peer that does what bad servers do: what comes back, what is tried again, limits of size and time, cancel, and a
# courier that is killed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use DtsNode;
use DtsPeers;

my $peers = DtsPeers->start;
my $node = DtsNode->start_new('main', conf => "restart_after_crash = on\ndts.breaker_failures = 0\ndts.worker_idle_timeout = '60s'\n");
my $soon = '{"base": 0.05, "cap": 0.1}';
$node->safe_psql('postgres', "SELECT dts.allow_host('127.0.0.1', schemes => '{http}', ports => '{$peers->{http}}')");

# http(PATH, %options): submits a request, returns the task.
sub http {
	my ($path, %options) = @_;
	my $arguments = join '', map { ", $_ => " . DtsNode::quote($options{$_}) } sort keys %options;
	return $node->safe_psql('postgres', 'SELECT dts.submit_http(' . DtsNode::quote($peers->url($path)) . "$arguments)");
}

sub result {
	my ($task, $what) = @_;
	return $node->safe_psql('postgres', "SELECT result $what FROM dts.tasks WHERE id = $task");
}

# ends(WHAT, PATH, STATE, ATTEMPTS, %options): what becomes of it, as "attempt outcome sqlstate" for each attempt.
sub ends {
	my ($what, $path, $state, $runs, %options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $id = http($path, retry => $soon, max_attempts => 2, %options);
	$node->wait_state($id, $state);
	is($node->runs_of($id), $runs, $what);
	return $id;
}

# ---- what is sent, and what comes back
my $id = http('echo/a?b=c', body => '{"n": 1}', headers => '{"X-One": "1", "X-Many": ["a", "b"], "X-Empty": ""}', traceparent => '00-' . 'a' x 32 . '-' . 'b' x 16 . '-01');
$node->wait_state($id, 'succeeded');
is(result($id, "->> 'status'"), '200', 'status');
is(result($id, "#>> '{body,method}'"), 'POST', 'a body makes it a POST');
is(result($id, "#>> '{body,body}'"), '{"n": 1}', 'JSON body');
my $headers = result($id, "#>> '{body,headers}'");
like($headers, qr/"X-One: 1"/, 'a header');
like($headers, qr/"X-Many: a".*"X-Many: b"/, 'a header with several values');
like($headers, qr/"X-Empty:"/, 'an empty header');
like($headers, qr/"traceparent: 00-a/, 'traceparent is passed on');
like($headers, qr/"Content-Type: application\/json"/, 'type of the body');
my ($key) = $headers =~ /"Idempotency-Key: ([0-9a-f-]{36})"/;
ok($key, 'an idempotency key');
unlike($headers, qr/Expect/, 'no word of Expect');
ok(result($id, "#>> '{timings,total}'") > 0, 'times are measured');

for my $case (
	[ 'form', { form => '{"a": "1 2&3", "b": true}' }, 'a=1%202%263&b=true', 'application\/x-www-form-urlencoded' ],
	[ 'text', { body_text => "Gr\x{c3}\x{bc}n" }, "Gr\x{c3}\x{bc}n", 'text\/plain; charset=utf-8' ],
	[ 'bytes', { body_bytes => '\x00ff41', method => 'PUT' }, "\\u0000", 'application\/octet-stream' ])
{
	my ($name, $options, $body, $type) = @$case;
	$id = http('echo', %$options, response => 'text');
	$node->wait_state($id, 'succeeded');
	my $text = result($id, "->> 'body'");
	like($text, qr/$type/, "$name: type");
	like($text, $name eq 'text' ? qr/Gr/ : qr/\Q$body\E/, "$name: body");
}
for my $method ('DELETE', 'PATCH', 'HEAD', 'PROPFIND', 'OPTIONS') {
	$id = http('echo', method => lc $method);
	$node->wait_state($id, 'succeeded');
	is((grep { /^$method / } $peers->requests) + 0, 1, "method $method");
}

# ---- bodies that come back
sub body {
	my ($bytes, $type, $what, %options) = @_;
	require MIME::Base64;
	my $b64 = MIME::Base64::encode_base64($bytes, '') =~ s/\+/%2B/gr;
	my $task = http("body?type=$type&b64=$b64", %options);
	$node->wait_state($task, 'succeeded');
	return result($task, $what);
}
is(body('{"a": [1]}', 'application/json', "-> 'body' -> 'a'"), '[1]', 'JSON comes back as JSON');
is(body('{"a": 1}', 'application/vnd.x%2Bjson', "-> 'body' -> 'a'"), '1', 'also by its suffix');
is(body('{"a": ', 'application/json', "->> 'body'"), '{"a": ', 'what is no JSON comes back as text');
is(body('{"a": "\\u0000"}', 'application/json', "->> 'body'"), '{"a": "\\u0000"}', 'JSON that the server cannot keep comes back as text');
is(body("a\0b", 'text/plain', "->> 'body_base64'"), 'YQBi', 'bytes come back in base64');
is(body("\xff\xfe", 'text/plain', "->> 'body_base64'"), '//4=', 'as does invalid text');
is(body('[1]', 'text/plain', "-> 'body' -> 0", response => 'json'), '1', 'JSON if asked for');
is(body('abc', 'text/plain', "->> 'body_base64'", response => 'bytes'), 'YWJj', 'bytes if asked for');
is(body('abc', 'text/plain', "? 'body'", response => 'none'), 'f', 'nothing if asked for');

# ---- success and retries
ends('404 is final', 'status/404', 'failed', '1 failed TQ404');
ends('503 is tried again', 'status/503', 'failed', "1 retry TQ503\n2 failed TQ503");
ends('408, too', 'status/408', 'failed', "1 retry TQ408\n2 failed TQ408");
ends('404 can be a success', 'status/404', 'succeeded', '1 succeeded', success => '["2xx", 404]');
ends('404 can be worth another attempt', 'status/404', 'failed', "1 retry TQ404\n2 failed TQ404", retry_on => '[404]');
ends('so it can by the retry policy', 'status/404', 'failed', "1 retry TQ404\n2 failed TQ404", retry => '{"base": 0.05, "cap": 0.1, "on": ["TQ404"]}');
$id = ends('it succeeds in the end', 'flaky/1/x', 'succeeded', "1 retry TQ503\n2 succeeded");
is($node->safe_psql('postgres', "SELECT result ->> 'status' FROM dts.runs WHERE task = $id AND attempt = 1"), '503', 'the response of a failed attempt is in its run');
ends('a redirect is no success', 'goto/302?to=/echo', 'failed', '1 failed TQ302');
$id = ends('unless it is followed', 'goto/302?to=/echo', 'succeeded', '1 succeeded', follow => 3);
is(result($id, "->> 'redirects'"), '1', 'and counted');
ends('endless redirects end', 'loop/1', 'failed', '1 failed 08P01', follow => 5);
for my $form ('seconds', 'date') {
	my $began = time;
	ends("Retry-After in $form", "later/$form/2", 'succeeded', "1 retry TQ429\n2 succeeded");
	cmp_ok(time - $began, '>=', $form eq 'date' ? 0.9 : 1.9, "... is waited for");
}

# ---- bad peers
ends('closed without an answer', 'close', 'failed', "1 retry 08006\n2 failed 08006");
ends('reset', 'reset', 'failed', "1 retry 08006\n2 failed 08006");
ends('cut', 'cut', 'failed', "1 retry 08006\n2 failed 08006");
ends('not HTTP', 'not-http', 'failed', "1 retry 08P01\n2 failed 08P01");
ends('far too many headers', 'headers', 'failed', "1 retry 08P01\n2 failed 08P01");
ends('more than it said', 'longer', 'succeeded', '1 succeeded');
ends('slow headers', 'drip-headers', 'failed', '1 failed 57014', timeout => '1s', max_attempts => 1);
ends('slow body', 'drip', 'failed', '1 failed 57014', timeout => '1s', max_attempts => 1);
$id = ends('a huge body is cut', 'huge/300000', 'succeeded', '1 succeeded', max_response => 1000);
is(result($id, "->> 'cut'"), 'true', '... with a mark');
is(length(result($id, "->> 'body'")), 1000, '... at the size asked for');
is($node->safe_psql('postgres', "SELECT result_truncated FROM dts.runs WHERE task = $id"), 't', '... which the run shows');
ends('an endless body, too', 'endless', 'succeeded', '1 succeeded', max_response => 100000);
ends('and one that is large only when unpacked', 'bomb', 'succeeded', '1 succeeded', response => 'bytes');
{
	my $task = $node->safe_psql('postgres', "SELECT dts.allow_host('127.0.0.1', schemes => '{http}', ports => '{1}'); SELECT dts.submit_http('http://127.0.0.1:1/', max_attempts => 1)") =~ s/.*\n//sr;
	$node->wait_state($task, 'failed');
	is($node->runs_of($task), '1 failed 08001', 'nobody listens');
}
my ($courier) = $node->worker_pids('courier');
ok($courier, 'there is a courier');
my $memory = memory($courier);
cmp_ok($memory, '<', 300_000, "the courier's memory is small ($memory kB)");
is(join(',', $node->worker_pids('courier')), $courier, 'one courier did all that');

sub memory {
	my ($pid) = @_;
	my ($kb) = PostgreSQL::Test::Utils::slurp_file("/proc/$pid/status") =~ /VmRSS:\s+(\d+)/;
	return $kb;
}

# ---- while it waits: nothing is pinned, others are not held up, and it can be cancelled
my @slow = map { http('slow/8', timeout => '60s') } 1 .. 20;
$node->wait_for('SELECT count(*) FROM dts.running WHERE id = ANY (ARRAY[' . join(',', @slow) . '])', '20');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dts courier' AND (backend_xmin IS NOT NULL OR xact_start IS NOT NULL)}),
	'0', 'no transaction is open while bytes fly');
my $began = time;
$node->wait_state(http('echo'), 'succeeded');
cmp_ok(time - $began, '<', 10, 'another request is not held up');
is($node->safe_psql('postgres', "SELECT dts.cancel($slow[0])"), 'cancelled', 'a running request can be cancelled');
$node->wait_for("SELECT count(*) FROM dts.running WHERE id = $slow[0]", '0');

# ---- limits hold for requests as for other tasks
$node->safe_psql('postgres', q{SELECT dts.create_queue('narrow'); SELECT dts.set_limit(queue => 'narrow', concurrency => 2)});
my @narrow = map { http('slow/0.3', queue => 'narrow') } 1 .. 6;
$node->wait_for("SELECT max(n) <= 2 FROM (SELECT count(*) AS n FROM dts.running WHERE queue = 'narrow') x", 't');
$node->wait_state($_, 'succeeded') for @narrow;
is($node->safe_psql('postgres', q{SELECT max(n) FROM (SELECT (SELECT count(*) FROM dts.runs b WHERE b.queue = 'narrow' AND b.started_at <= a.started_at AND b.ended_at > a.started_at) AS n FROM dts.runs a WHERE a.queue = 'narrow') x}),
	'2', 'never more than two at once');

# ---- the courier is killed: what was under way is tried again, with the same key; what waited is sent
my $twice = http('slow/3?k=1', timeout => '60s', retry => $soon);
$node->wait_for("SELECT count(*) FROM dts.running WHERE id = $twice", '1');
my @waiting = map { http("echo/waits$_", delay => '1s') } 1 .. 5;
$node->kill9($courier);
$node->wait_back;
$node->wait_state($_, 'succeeded') for $twice, @waiting;
is($node->runs_of($twice), "1 retry 57P01\n2 succeeded", 'the lost attempt is known, and the next one succeeds');
$node->wait_state($_, 'succeeded') for @slow[1 .. 19];
is(scalar(grep { /waits/ } $peers->requests), 5, 'each waiting request was sent once');
like($node->safe_psql('postgres', "SELECT error FROM dts.runs WHERE task = $twice AND attempt = 1"), qr/process that ran this task is gone/, 'and says why');

# ---- a server that leaves does not wait for peers; DROP DATABASE neither
$id = http('slow/30', timeout => '60s');
$node->wait_for("SELECT count(*) FROM dts.running WHERE id = $id", '1');
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', "CREATE EXTENSION dts; SELECT dts.allow_host('127.0.0.1', schemes => '{http}', ports => '{$peers->{http}}')");
my $other = $node->safe_psql('other', 'SELECT dts.submit_http(' . DtsNode::quote($peers->url('slow/30')) . ", timeout => '60s')");
$node->wait_for("SELECT count(*) FROM dts.running WHERE id = $other", '1', 'other');
$began = time;
$node->safe_psql('postgres', 'DROP DATABASE other WITH (FORCE)');
cmp_ok(time - $began, '<', 20, 'DROP DATABASE does not wait for a slow peer');
$began = time;
$node->stop('fast');
cmp_ok(time - $began, '<', 20, 'nor does a shutdown');
$node->start;
$node->safe_psql('postgres', "SELECT dts.cancel($id)");
$node->wait_done;
$node->healthy;
$node->stop;
done_testing();
