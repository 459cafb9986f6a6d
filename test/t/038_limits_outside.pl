# Limits of what leaves the server: requests of the courier and tasks of agents. Places, rates and keys hold as for SQL, and are given back
# when the courier is killed, a lease lapses, or the server dies.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use DtsNode;
use DtsPeers;

my $peers = DtsPeers->start;
my $node = DtsNode->start_new('main', conf => "restart_after_crash = on\ndts.breaker_failures = 0\n");
my $sql = sub { return $node->safe_psql('postgres', @_) };
$sql->(
	qq{CREATE ROLE worker LOGIN;
	SELECT dts.create_queue(q, retry => '{"base": 0.01, "cap": 0.05}', max_attempts => 10) FROM unnest('{places,rate,key,fifo,two,ext,ext_rate}'::text[]) q;
	SELECT dts.grant_agent('worker', '{ext,ext_rate}');
	SELECT dts.allow_host('127.0.0.1', schemes => '{http}', ports => '{$peers->{http}}');
	SELECT dts.set_limit(queue => 'places', concurrency => 3), dts.set_limit(queue => 'rate', rate => 20, per => '500 ms'), dts.set_limit(queue => 'fifo', key_fifo => true),
		dts.set_limit(queue => 'two', key_concurrency => 2), dts.set_limit(tenant => 'small', concurrency => 1), dts.set_limit(queue => 'ext', concurrency => 2)});

# http(N, PATH, OPTIONS): N requests in one transaction.
sub http {
	my ($n, $path, $options) = @_;
	return $sql->('SELECT count(dts.submit_http(' . DtsNode::quote($peers->url($path)) . ", timeout => '60s', $options)) FROM generate_series(1, $n) i");
}

sub at_once {
	my ($filter) = @_;
	return $sql->(
		"WITH r AS (SELECT started_at, ended_at FROM dts.runs WHERE started_at IS NOT NULL AND $filter), e AS (SELECT started_at AS at, 1 AS n FROM r UNION ALL SELECT ended_at, -1 FROM r)
		SELECT max(s) FROM (SELECT sum(n) OVER (ORDER BY at, n) AS s FROM e) x");
}

sub busiest {
	my ($queue, $interval) = @_;
	return $sql->("SELECT max(n) FROM (SELECT count(*) OVER (ORDER BY started_at RANGE BETWEEN '$interval' PRECEDING AND CURRENT ROW) AS n FROM dts.runs WHERE queue = '$queue') x");
}

sub nothing_held {
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->wait_for('SELECT COALESCE(sum(running), 0) FROM dts.limits', '0');
	return pass("$what: every place was given back");
}

# ---- the courier: places
http(9, 'slow/0.4', q{queue => 'places'});
$node->wait_for(q{SELECT count(*) FROM dts.running WHERE queue = 'places'}, '3');
like($sql->(q{SELECT dts.explain(max(id)) FROM dts.tasks WHERE queue = 'places'}), qr/^queue "places" has reached its limit of 3 running at once: held by task \d+, running for/, 'explain names the requests that hold the places');
for my $death (1 .. 2) {
	$node->wait_for(q{SELECT count(*) > 0 FROM dts.running WHERE queue = 'places'});
	$node->kill9(($node->worker_pids('courier'))[0]);
	$node->wait_back;
}
$node->wait_done;
is(at_once(q{queue = 'places' AND outcome = 'succeeded'}), '3', 'three at once, before and after the courier was killed');
is($sql->(q{SELECT count(*) FROM dts.runs WHERE queue = 'places' AND outcome = 'succeeded'}), '9', 'each was done');
nothing_held('courier');
http(4, 'slow/0.1', q{tenant => 'small'});
$node->wait_done;
is(at_once(q{tenant = 'small'}), '1', 'a limit of a tenant holds for requests');

# ---- the courier: rate, through a reload
http(60, 'echo', q{queue => 'rate'});
$node->wait_for(q{SELECT count(*) > 10 FROM dts.runs WHERE queue = 'rate'});
$node->reload;
$node->wait_done;
cmp_ok(busiest('rate', '499.9 ms'), '<=', 20, 'no half second holds more requests than the rate');
cmp_ok($sql->(q{SELECT extract(epoch FROM max(started_at) - min(started_at)) FROM dts.runs WHERE queue = 'rate'}), '>=', 0.95, 'and it took as long');

# ---- the courier: keys
http(5, 'slow/0.1', qq{queue => '$_', concurrency_key => 'a', labels => '{"k": "$_ a"}'}) for 'key', 'fifo', 'two';
http(5, 'slow/0.1', q{queue => 'key', concurrency_key => 'b', labels => '{"k": "key b"}'});
$node->wait_for(q{SELECT count(*) > 1 FROM dts.runs WHERE queue = 'key'});
$node->kill9(($node->worker_pids('courier'))[0]);
$node->wait_back;
$node->wait_done;
is($sql->(q{SELECT string_agg(n, ' ' ORDER BY n) FROM (SELECT labels ->> 'k' || ':' || count(*) AS n FROM dts.runs WHERE labels ? 'k' AND outcome = 'succeeded' GROUP BY labels ->> 'k') x}), 'fifo a:5 key a:5 key b:5 two a:5', 'each was done once');
is(at_once(qq{labels ->> 'k' = '$_' AND outcome = 'succeeded'}), '1', "$_: one at a time") for 'key a', 'key b', 'fifo a';
cmp_ok(at_once(q{labels ->> 'k' = 'two a' AND outcome = 'succeeded'}), '<=', 2, 'two of a key');
is($sql->(q{SELECT bool_and(ok) FROM (SELECT task > lag(task) OVER (ORDER BY started_at) AS ok FROM dts.runs WHERE labels ->> 'k' = 'fifo a' AND outcome = 'succeeded') x}), 't', 'strictly in order');

# ---- agents
sub claimed { return split /\n/, $node->as_role('worker', "SELECT task || ' ' || token FROM dts.claim('w1', $_[0])") }
sub complete { my ($task, $token) = split / /, $_[0]; return $node->as_role('worker', "SELECT dts.complete($task, '$token')") }
$sql->(q{SELECT dts.submit_command(ARRAY['x'], queue => 'ext', concurrency_key => CASE WHEN i > 3 THEN 'k' END) FROM generate_series(1, 6) i});
my @lost = claimed(q{max => 10, lease => '1 s'});
is(scalar(@lost), 2, 'two places');
is(scalar(claimed('max => 10')), 0, 'and no more');
# They are never heard of again.
my @again;
for (1 .. 600) {
	push @again, claimed('max => 10');
	last if @again >= 2;
	select undef, undef, undef, 0.05;
}
is(scalar(@again), 2, 'leases that lapse give their places back');
is($sql->(q{SELECT running FROM dts.limits WHERE name = 'ext'}), '2', 'which are taken again');
my ($dead) = split / /, $again[0];
is($sql->("SELECT dts.cancel($dead)"), 'cancelled', 'a cancelled one');
$node->wait_for(q{SELECT running FROM dts.limits WHERE name = 'ext'}, '1');
pass('gives its place back');
complete($again[1]);
$node->stop('immediate');
$node->start;
$node->wait_back;
my $rest = 4;
while ($rest > 0) {
	my @got;
	for (1 .. 600) { last if @got = claimed('max => 10'); select undef, undef, undef, 0.05 }
	cmp_ok(scalar(@got), '<=', 2, 'never more than there are places') or last;
	last unless @got;
	complete($_) for @got;
	$rest -= @got;
}
is($rest, 0, 'all are done, through a crash');
$node->wait_done;
nothing_held('agents');
$sql->(q{SELECT dts.set_limit(queue => 'ext_rate', rate => 10, per => '500 ms'); SELECT dts.submit_command(ARRAY['x'], queue => 'ext_rate') FROM generate_series(1, 30)});
for (1 .. 2000) {
	my @got = claimed(q{max => 50, queues => '{ext_rate}'});
	complete($_) for @got;
	last if $sql->(q{SELECT count(*) FROM dts.task}) eq '0';
}
is($sql->(q{SELECT count(*) FROM dts.runs WHERE queue = 'ext_rate' AND outcome = 'succeeded'}), '30', 'a rate: all are done');
cmp_ok(busiest('ext_rate', '499.9 ms'), '<=', 10, '... and no half second holds more than the rate');
$node->healthy;
$peers->stop;
done_testing();
