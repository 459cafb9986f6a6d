# Runs of workflows that exclude each other: their order, a user's open transaction in the way, and many of them while processes are
# terminated and the server is killed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use Test::More;

my $node = DtsNode->start_new('main', conf => "dts.max_workers = 4\nrestart_after_crash = on\n");
my $left = q{SELECT count(*) FROM dts.workflow_runs WHERE state IN ('running', 'waiting', 'paused', 'cancelling')};

# ---- they begin in the order in which they were started, whichever executor meets them first
$node->safe_psql('postgres', q{SELECT dts.create_workflow('turns', dts.workflow_options(concurrency => 1), dts.node('a', 'SELECT 1'), dts.node('b', 'SELECT 2', needs => '{a}')),
	dts.start_many('turns', array_fill('{}'::jsonb, ARRAY[60]))});
$node->wait_for("$left AND workflow = 'turns'", '0');
is($node->safe_psql('postgres', q{SELECT bool_and(o = i) FROM (SELECT row_number() OVER (ORDER BY begun_at) AS o, row_number() OVER (ORDER BY id) AS i FROM dts.workflow_runs) x}), 't', 'in order');

# ---- many, with failures, cancels, retries, dying processes and a dying server: never more than the limit, and all come to an end
$node->safe_psql('postgres', q{
	CREATE TABLE inside (gate text PRIMARY KEY, run bigint);
	CREATE FUNCTION may_fail(run bigint, attempt int) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(random() * 0.01); IF run % 7 = 0 AND attempt = 1 THEN RAISE EXCEPTION 'this one fails'; END IF; END $$;
	SELECT dts.create_workflow('alone', '{"params": {"k": {"type": "integer"}}, "concurrency": {"limit": 1, "key": "k${params.k}"}, "nodes": {
		"enter": {"sql": "INSERT INTO inside VALUES (${params.k}::text, ${run.id}::bigint)", "compensate": {"sql": "DELETE FROM inside WHERE run = ${run.id}::bigint"}},
		"work": {"needs": ["enter"], "sql": "SELECT may_fail(${run.id}::bigint, ${run.attempt}::int)", "max_attempts": 1},
		"leave": {"needs": ["work"], "sql": "DELETE FROM inside WHERE run = ${run.id}::bigint"}}}'),
	dts.create_workflow('three', '{"concurrency": 3, "nodes": {"a": {"sql": "SELECT pg_sleep(random() * 0.01)", "retry": {"strategy": "fixed", "base": 0.01}}, "b": {"needs": ["a"], "noop": 1}}, "on": {"exit": {"sql": "SELECT pg_sleep(random() * 0.01)"}}}')});
my $rounds = $ENV{DTS_ROUNDS} // 3;
for my $round (1 .. $rounds) {
	$node->safe_psql('postgres', q{SELECT dts.start('alone', jsonb_build_object('k', i % 5)), dts.start('three') FROM generate_series(1, 40) i});
	for (1 .. 4) {
		$node->safe_psql('postgres', q{SELECT dts.cancel_run(id, CASE WHEN random() < 0.5 THEN 'now' ELSE 'graceful' END) FROM dts.workflow_runs WHERE state IN ('waiting', 'running') ORDER BY random() LIMIT 2});
		$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM dts.workers WHERE kind IN ('executor', 'scheduler') AND pid > 0 ORDER BY random() LIMIT 1});
		$node->safe_psql('postgres', q{SELECT dts.retry_run(id) FROM dts.workflow_runs r WHERE state IN ('failed', 'cancelled') AND attempt = 1
			AND NOT EXISTS (SELECT FROM dts.workflow_node n JOIN dts.task t ON t.id = n.task WHERE n.run = r.id) ORDER BY random() LIMIT 2});
	}
	if ($round < 3) {
		my ($pid) = $node->worker_pids('executor');
		if ($pid) {
			$node->kill9($pid);
			$node->wait_back;
		}
	}
	$node->wait_for($left, '0');
	$node->wait_for('SELECT count(*) FROM dts.task', '0');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM inside'), '0', "round $round: nobody is inside");
}
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT error, '; ') FROM dts.runs WHERE error LIKE '%inside_pkey%'}), '', 'nobody met another one');
is($node->safe_psql('postgres', q{SELECT count(*) FROM dts.workflow_run WHERE gate IS NOT NULL AND left_at IS NULL}), '0', 'no place is left behind');
is($node->safe_psql('postgres', q{SELECT max((SELECT count(*) FROM dts.workflow_run o WHERE o.workflow = r.workflow AND o.gate = r.gate AND o.begun_at <= r.begun_at AND o.left_at > r.begun_at)) FROM dts.workflow_run r
	JOIN dts.workflow w ON w.id = r.workflow WHERE w.name = 'three' AND r.begun_at IS NOT NULL}), '3', 'at most three, and three');
is($node->safe_psql('postgres', q{SELECT max((SELECT count(*) FROM dts.workflow_run o WHERE o.workflow = r.workflow AND o.gate = r.gate AND o.begun_at <= r.begun_at AND o.left_at > r.begun_at)) FROM dts.workflow_run r
	JOIN dts.workflow w ON w.id = r.workflow WHERE w.name = 'alone' AND r.begun_at IS NOT NULL}), '1', 'one of each key');
$node->healthy;
$node->stop('fast');

# ---- somebody holds the run whose turn it is in an open transaction. Here the sweep, which looks at everything, stays away.
my $calm = DtsNode->start_new('calm', conf => "dts.sweep_interval = '1h'\n");
$calm->safe_psql('postgres', q{SELECT dts.create_workflow('held', dts.workflow_options(concurrency => 1), dts.node('s', signal => 'go'))});
my ($first, $second) = map { $calm->safe_psql('postgres', q{SELECT dts.start('held')}) } 1 .. 2;
$calm->wait_for("SELECT string_agg(state, ' ' ORDER BY run) FROM dts.workflow_nodes WHERE run IN ($first, $second)", 'waiting waiting');
my $user = $calm->session('postgres');
$user->query("BEGIN; SELECT dts.cancel_run($second)");
$calm->safe_psql('postgres', "SELECT dts.signal($first, 'go')");
$calm->wait_for("SELECT state FROM dts.workflow_runs WHERE id = $first", 'succeeded');
is($calm->safe_psql('postgres', "SELECT state FROM dts.workflow_runs WHERE id = $second"), 'waiting', 'nobody waits for him');
my $third = $calm->safe_psql('postgres', q{SELECT dts.start('held')});
$calm->wait_for("SELECT state FROM dts.workflow_runs WHERE id = $third", 'running');
$calm->safe_psql('postgres', "SELECT dts.signal($third, 'go')");
$calm->wait_for("SELECT state FROM dts.workflow_runs WHERE id = $third", 'succeeded');
# Nor does anybody spin: the scheduler looks again at a pace.
my $looks = q{SELECT value FROM dts.stats() WHERE name = 'scheduler_wakeups_total'};
my $before = $calm->safe_psql('postgres', $looks);
$calm->safe_psql('postgres', 'SELECT pg_sleep(1)');
cmp_ok($calm->safe_psql('postgres', $looks) - $before, '<', 60, 'no busy loop');
$user->query('ROLLBACK');
$calm->wait_for("SELECT state FROM dts.workflow_runs WHERE id = $second", 'running');
# The same for a signal whose node somebody holds.
my $task = $calm->safe_psql('postgres', "SELECT task FROM dts.workflow_nodes WHERE run = $second");
$calm->wait_for("SELECT dts.explain($task) LIKE 'waiting for a signal%'", 't');
$user->query("BEGIN; SELECT dts.cancel($task)");
$calm->safe_psql('postgres', "SELECT dts.signal($second, 'go')");
$before = $calm->safe_psql('postgres', $looks);
$calm->safe_psql('postgres', 'SELECT pg_sleep(1)');
cmp_ok($calm->safe_psql('postgres', $looks) - $before, '<', 60, 'here neither');
$user->query('ROLLBACK');
$calm->wait_for("SELECT state FROM dts.workflow_runs WHERE id = $second", 'succeeded');
$user->close;
$calm->healthy;
$calm->stop('fast');
done_testing();
