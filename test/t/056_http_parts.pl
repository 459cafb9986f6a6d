# Requests as parts of something: handlers with templates, nodes of workflows, schedules, tasks of a queue that is limited; and a courier that is
# killed under all of them.
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
my $node = DtsNode->start_new('main', conf => "restart_after_crash = on\ndts.worker_idle_timeout = '60s'\n");
my $url = $peers->url('');
sub sql { return $node->safe_psql('postgres', @_); }
sub result { return sql("SELECT result $_[1] FROM dts.tasks WHERE id = $_[0]"); }
sub echoed { my ($id, $what) = @_; return sql("SELECT (result -> 'body') #>> '$what' FROM dts.tasks WHERE id = $id"); }

sql("SELECT dts.allow_host('127.0.0.1', schemes => '{http}', ports => '{$peers->{http}}')");

# ---- handlers: values are put in by position, escaped for their place
sql("SELECT dts.create_request_handler('notify', http => '{\"url\": \"${url}echo/\${payload.id}?q=\${payload.q:-none}\", \"method\": \"PUT\",
	\"headers\": {\"X-Who\": \"\${payload.who}\", \"X-Task\": \"\${task.id}.\${task.attempt}\"},
	\"body\": {\"n\": \"\${payload.n}\", \"said\": \"it is \${payload.n}\", \"deep\": [\"\${payload.list}\"], \"no\": \"\${payload.gone?}\"}}', max_attempts => 2, retry => '{\"base\": 0.05, \"cap\": 0.1}')");
my $id = sql(q{SELECT dts.submit_handler('notify', '{"id": "a/../b?c#d\r\n", "q": "x&y=1 z", "who": "Ann", "n": 17, "list": [1, null, "${payload.id}"]}')});
$node->wait_state($id, 'succeeded');
is(echoed($id, '{target}'), '/echo/a%2F..%2Fb%3Fc%23d%0D%0A?q=x%26y%3D1%20z', 'URL');
is(sql(qq{SELECT ((result #>> '{body,body}')::jsonb = '{"n": 17, "said": "it is 17", "deep": [[1, null, "\${payload.id}"]], "no": null}') FROM dts.tasks WHERE id = $id}), 't', 'body: types are kept, and what a value says is no template');
like(echoed($id, '{headers}'), qr/"X-Who: Ann".*"X-Task: $id\.1"|"X-Task: $id\.1".*"X-Who: Ann"/s, 'headers');
for my $case ([ q({"id": 1, "who": "a\r\nX-Evil: 1", "n": 1, "list": 1}), '22023', 'a line break in a header' ], [ q({"id": 1, "n": 1, "list": 1}), '42704', 'a value that is not there' ]) {
	$id = sql('SELECT dts.submit_handler(' . DtsNode::quote('notify') . ', ' . DtsNode::quote($case->[0]) . ')');
	$node->wait_state($id, 'failed');
	is($node->runs_of($id), "1 failed $case->[1]", $case->[2]);
}
sql(qq{SELECT dts.alter_request_handler('notify', '{"url": "${url}status/503"}')});
$id = sql(q{SELECT dts.submit_handler('notify', '{}')});
$node->wait_state($id, 'failed');
is($node->runs_of($id), "1 retry TQ503\n2 failed TQ503", 'the defaults of the handler');

# ---- nodes of a workflow: what one gives the next one takes; a map of requests; a failure is the workflow's
sql('SELECT dts.create_workflow(' . DtsNode::quote('calls') . ', ' . DtsNode::quote(qq({"params": {"v": {"type": "string"}}, "nodes": {
	"first": {"http": {"url": "${url}echo/first", "body": {"v": "\${params.v}"}}},
	"second": {"needs": ["first"], "http": {"url": "${url}echo/\${nodes.first.output.body.method}/\${params.v}", "headers": {"X-Status": "\${nodes.first.output.status}"}}},
	"each": {"needs": ["first"], "map": [1, 2, 3], "http": "${url}echo/each/\${item}"},
	"broken": {"needs": ["second"], "http": "${url}status/404", "max_attempts": 1, "continue_on": {"failure": true}},
	"sum": {"needs": ["second", "each", "broken"], "sql": "SELECT \${nodes.second.output.body.target}::text AS target, pg_catalog.jsonb_array_length(\${nodes.each.output}::jsonb) AS n"}},
	"output": "\${nodes.sum.output}"})) . '::jsonb)');
my $run = sql(q{SELECT dts.start('calls', '{"v": "a/b c"}')});
$node->wait_for("SELECT state FROM dts.workflow_runs WHERE id = $run", 'succeeded');
is(sql("SELECT output = '{\"n\": 3, \"target\": \"/echo/POST/a%2Fb%20c\"}' FROM dts.workflow_runs WHERE id = $run"), 't', 'values go from node to node');
is(scalar(grep { m{^GET /echo/each/[123]$} } $peers->requests), 3, 'a request for each item');

# ---- a schedule
sql(qq{SELECT dts.schedule('ping', 'every 1 second', task => '{"http": {"url": "${url}echo/ping", "method": "POST"}, "timeout": "10 s"}')});
$node->wait_for("SELECT count(*) >= 2 FROM dts.tasks WHERE kind = 'http' AND state = 'succeeded' AND result #>> '{body,target}' = '/echo/ping'", 't');
sql(q{SELECT dts.unschedule('ping')});
cmp_ok(scalar(grep { m{^POST /echo/ping$} } $peers->requests), '>=', 2, 'each due time is a request');

# ---- a courier that is killed again and again, with requests of all these kinds under way: none is lost, and none is repeated after its success
sql(qq{SELECT dts.alter_request_handler('notify', '{"url": "${url}slow/0.7/handler/\${payload.i}"}')});
sql('SELECT dts.create_workflow(' . DtsNode::quote('chain') . ', ' . DtsNode::quote(qq({"nodes": {
	"a": {"http": "${url}slow/0.1/flow/\${run.id}/a", "max_attempts": 20, "retry": {"base": 0.05, "cap": 0.1}},
	"b": {"needs": ["a"], "http": "${url}slow/0.1/flow/\${run.id}/b", "max_attempts": 20, "retry": {"base": 0.05, "cap": 0.1}}}})) . '::jsonb)');
sql(q{SELECT dts.create_queue('narrow'), dts.set_limit(queue => 'narrow', concurrency => 40)});
my $first = sql("SELECT string_agg(dts.submit_handler('notify', jsonb_build_object('i', i), queue => 'narrow', max_attempts => 20, retry => '{\"base\": 0.05, \"cap\": 0.1}')::text, ',') FROM generate_series(1, 150) i");
my $runs = sql("SELECT string_agg(dts.start('chain')::text, ',') FROM generate_series(1, 30)");
for (1 .. 3) {
	$node->wait_for("SELECT count(*) > 0 FROM dts.running WHERE queue = 'narrow'", 't');
	my ($courier) = $node->worker_pids('courier');
	$node->kill9($courier) if $courier;
	$node->wait_back;
}
$node->wait_for("SELECT count(*) FROM dts.tasks WHERE id IN ($first) AND state = 'succeeded'", '150');
$node->wait_for("SELECT count(*) FROM dts.workflow_runs WHERE id IN ($runs) AND state = 'succeeded'", '30');
is(sql("SELECT count(*) FROM dts.runs WHERE task IN ($first) AND outcome = 'succeeded'"), '150', 'each has one success');
my %came;
$came{$_}++ for map { m{/handler/(\d+)$} ? $1 : () } $peers->requests;
my %attempts = map { split /\|/ } split /\n/, sql("SELECT array_position(ARRAY[$first]::int8[], task), max(attempt) FROM dts.runs WHERE task IN ($first) GROUP BY task");
is(scalar(keys %came), 150, 'each came');
is(join(',', grep { $came{$_} > $attempts{$_} } sort keys %came), '', 'none more often than it has attempts');
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dts courier' AND (backend_xmin IS NOT NULL OR xact_start IS NOT NULL)}), '0', 'no snapshot is left');

$node->wait_done;
$node->healthy;
$node->stop;
done_testing();
