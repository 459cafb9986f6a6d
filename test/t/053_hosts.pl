# Hosts that fail and hosts that are slow: circuits, requests at once, and nobody else held up.
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
my $node = DtsNode->start_new('main', conf => "dts.breaker_failures = 3\ndts.breaker_pause = '1s'\ndts.max_transfers = 64\n");
sub sql { return $node->safe_psql('postgres', @_); }
my $port = $peers->{http};
sql("SELECT dts.allow_host('127.0.0.1', schemes => '{http}', ports => '{1,$port}'), dts.allow_host('localhost', schemes => '{http}', ports => '{$port}', networks => '{127.0.0.0/8,::1}')");

sub http {
	my ($url, %options) = @_;
	return sql('SELECT dts.submit_http(' . join(', ', DtsNode::quote($url), map { "$_ => " . DtsNode::quote($options{$_}) } sort keys %options) . ')');
}

# ---- a host that is down: after three failures its requests wait, and use up no attempt
my @down = map { http('http://127.0.0.1:1/', max_attempts => 1) } 1 .. 3;
$node->wait_state($_, 'failed') for @down;
$node->wait_for("SELECT circuit FROM dts.hosts WHERE host = '127.0.0.1:1'", 'open');
my $waits = http('http://127.0.0.1:1/', max_attempts => 1);
$node->wait_for("SELECT count(*) FROM dts.task WHERE id = $waits AND run_at > submitted_at AND attempt = 0", '1');
is($node->runs_of($waits), '', 'a request to it waits, uncharged');
like(sql("SELECT dts.explain($waits)"), qr/^put off until .*host "127\.0\.0\.1:1" failed 3 times/, 'which is explained');
is(sql("SELECT failures FROM dts.hosts WHERE host = '127.0.0.1:1'"), '3', 'the failures are counted');
my $fine = http($peers->url('echo'));
$node->wait_state($fine, 'succeeded');
pass('another host is not concerned');
$node->wait_state($waits, 'failed');
is($node->runs_of($waits), '1 failed 08001', 'it is the one that tries after the pause');
$node->wait_for("SELECT circuit FROM dts.hosts WHERE host = '127.0.0.1:1'", 'open');
is(sql("SELECT dts.reset_host('127.0.0.1:1'), dts.reset_host('nobody:1')"), 't|f', 'it can be reset');
my $after = http('http://127.0.0.1:1/', max_attempts => 1);
$node->wait_state($after, 'failed');
is($node->runs_of($after), '1 failed 08001', 'and is asked again at once');

# ---- somebody has repaired it: what was put off for long goes at once
$node->append_conf('postgresql.conf', "dts.breaker_pause = '5min'");
$node->reload;
$node->wait_for('SHOW dts.breaker_pause', '5min');
my @fails = map { http('http://127.0.0.1:1/', max_attempts => 1) } 1 .. 2;
$node->wait_state($_, 'failed') for @fails;
$node->wait_for("SELECT circuit FROM dts.hosts WHERE host = '127.0.0.1:1'", 'open');
my @held = map { http('http://127.0.0.1:1/', max_attempts => 1) } 1 .. 2;
$node->wait_for("SELECT count(*) FROM dts.task WHERE id IN (" . join(',', @held) . ") AND run_at > now()", '2');
my $later = http('http://127.0.0.1:1/', max_attempts => 1, delay => '1 h');
is(sql("SELECT dts.reset_host('127.0.0.1:1')"), 't', 'reset');
$node->wait_state($_, 'failed') for @held;
like(sql("SELECT dts.explain($later)"), qr/^scheduled for/, 'what is due later stays so');
is(sql("SELECT count(*) FROM dts.audit WHERE action = 'reset_host' AND object = '127.0.0.1:1'"), '2', 'in the audit log');
sql("SELECT dts.cancel($later)");
$node->append_conf('postgresql.conf', "dts.breaker_pause = '1s'");
$node->reload;
$node->wait_for('SHOW dts.breaker_pause', '1s');

# ---- a host that comes back: one request tries, its success lets all go
my $soon = '{"base": 0.05, "cap": 0.05}';
my @back = map { http($peers->url("flaky/1/$_"), retry => $soon, max_attempts => 3) } 1 .. 3;
$node->wait_state($_, 'succeeded') for @back;
is(sql("SELECT circuit FROM dts.hosts WHERE host = '127.0.0.1:$port'"), 'closed', 'its circuit closes');

# ---- a slow host does not take all places: others pass by it
my @slow = split /,/, sql("SELECT string_agg(dts.submit_http('http://localhost:$port/slow/2', timeout => '60s')::text, ',') FROM generate_series(1, 100)");
$node->wait_for("SELECT in_flight >= 16 FROM dts.hosts WHERE host = 'localhost:$port'", 't');
my $quick = sql("SELECT string_agg(dts.submit_http('" . $peers->url('echo/quick') . "')::text, ',') FROM generate_series(1, 50)");
$node->wait_for("SELECT count(*) FROM dts.tasks WHERE id IN ($quick) AND state = 'succeeded'", '50');
cmp_ok(sql("SELECT count(*) FROM dts.tasks WHERE id IN (" . join(',', @slow) . ") AND state = 'succeeded'"), '<', 100, 'fifty quick ones were done before the slow ones');
is(sql("SELECT count(*) FROM dts.runs WHERE task IN ($quick) AND ended_at - started_at > '1.5 s'"), '0', 'and none of them waited for those');
$node->wait_for("SELECT count(*) FROM dts.tasks WHERE id IN (" . join(',', @slow) . ") AND state = 'succeeded'", '100');
is(sql("SELECT count(*) FROM dts.runs WHERE task IN (" . join(',', @slow) . ")"), '100', 'each slow one needed one attempt');
cmp_ok(sql("SELECT put_off FROM dts.hosts WHERE host = 'localhost:$port'"), '>', 0, 'some of them were put off');

# ---- so many at once to each host, if somebody wants that
$node->append_conf('postgresql.conf', 'dts.http_host_connections = 2');
$node->reload;
$node->wait_for('SHOW dts.http_host_connections', '2');
my $few = sql("SELECT string_agg(dts.submit_http('http://localhost:$port/slow/0.3')::text, ',') FROM generate_series(1, 6)");
$node->wait_for("SELECT count(*) FROM dts.tasks WHERE id IN ($few) AND state = 'succeeded'", '6');
is(sql("SELECT max((SELECT count(*) FROM dts.runs b WHERE b.task IN ($few) AND b.started_at <= a.started_at AND b.ended_at > a.started_at)) <= 3 FROM dts.runs a WHERE a.task IN ($few)"), 't',
	'two at once, but for the moment of the change');

$node->wait_done;
$node->healthy;
$node->stop;
done_testing();
