# Dependencies and runs of workflows where ends and submits meet: a child is released by whoever is last, in the transaction of that end.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use DtsNode;

my $node = DtsNode->start_new('main', conf => "dts.max_workers = 3\n");
my $sql = sub { return $node->safe_psql('postgres', @_) };

# gate(N): a session that holds up tasks that wait for advisory lock N.
sub gate {
	my ($n) = @_;
	my $session = $node->session;
	$session->query("SELECT pg_advisory_lock($n)");
	return $session;
}
sub behind { return "SELECT pg_advisory_xact_lock_shared($_[0])" }
sub open_gate {
	my ($session) = @_;
	$session->query('SELECT pg_advisory_unlock_all()');
	$session->close;
	return;
}

# after(PARENT...): a task that depends on them.
sub after {
	return $sql->("SELECT dts.submit('SELECT 1', depends_on => dts.after(ARRAY[" . join(', ', @_) . ']))');
}

# ---- two parents whose ends do not see each other
my @gates = map { gate($_) } 1, 2;
my @parents = map { $node->submit(behind($_)) } 1, 2;
my @pids = map { $node->running_pid($_) } @parents;
my $child = after(@parents);
$node->pause_at('touch.released', $pids[0]);
open_gate($gates[0]);
$node->wait_reached('touch.released');
open_gate($gates[1]);
$node->wait_state($parents[1], 'succeeded');
is($sql->("SELECT dts.state($child)"), 'blocked', 'the second to end cannot see the first');
$node->release('touch.released');
$node->wait_state($child, 'succeeded');

# ---- a child that is submitted while its parent ends
my $gate = gate(1);
my $parent = $node->submit(behind(1));
$node->running_pid($parent);
my $session = $node->session;
$session->query('BEGIN');
$child = $session->query("SELECT dts.submit('SELECT 1', depends_on => dts.after($parent))");
open_gate($gate);
$node->wait_state($parent, 'succeeded');
$session->query('COMMIT');
$session->close;
$node->wait_state($child, 'succeeded');

# ---- the end of a parent and the release of its children are one commit
$gate = gate(1);
$parent = $node->submit(behind(1));
my $pid = $node->running_pid($parent);
$child = after($parent);
$node->pause_at('executor.committed', $pid);
open_gate($gate);
$node->wait_reached('executor.committed');
isnt($sql->("SELECT dts.state($child)"), 'blocked', 'a child is not blocked behind a parent that has ended');
$node->release('executor.committed');
$node->wait_state($child, 'succeeded');

# ---- and a cascade goes on to its end, without anybody's help
$node->hold_scheduler;
my @chain = split /\n/, $sql->(q{SELECT dts.submit_many('[{"name": "a", "sql": "SELECT 1/0", "max_attempts": 1}, {"name": "b", "sql": "SELECT 1", "depends_on": "a"},
	{"name": "c", "sql": "SELECT 1", "depends_on": "b"}, {"name": "d", "sql": "SELECT 1", "depends_on": {"tasks": ["c"], "on": "ended"}}]'::jsonb)});
$node->wait_state($chain[3], 'succeeded');
$node->release('scheduler.turned');
is($sql->("SELECT string_agg(state, ' ' ORDER BY id) FROM dts.tasks WHERE id BETWEEN $chain[0] AND $chain[3]"), 'failed skipped skipped succeeded', 'the whole cascade');

# ---- a run of a workflow ends when all of its nodes have
$sql->(q{SELECT dts.create_workflow('w', '{"nodes": {"quick": {"sql": "SELECT 1"}, "slow": {"sql": "SELECT pg_advisory_xact_lock_shared(1)"}}}')});
$gate = gate(1);
my $run = $sql->(q{SELECT dts.start('w')});
my %task = map { split /\|/ } split /\n/, $sql->("SELECT node, task FROM dts.workflow_node WHERE run = $run");
$node->wait_state($task{quick}, 'succeeded');
$node->running_pid($task{slow});
$node->idle_executors(2);
my $opened = $sql->('SELECT clock_timestamp()');
open_gate($gate);
$node->wait_for("SELECT ended_at IS NOT NULL FROM dts.workflow_run WHERE id = $run", 't');
is($sql->("SELECT state, ended_at > '$opened' FROM dts.workflow_run WHERE id = $run"), 'succeeded|t', 'after the last of them');

$node->wait_done;
$node->wait_for('SELECT count(*) FROM dts.dependency', '0');
$node->healthy;
done_testing();
