# Dependencies on a running server: random graphs against a reference interpreter, also while processes and the server are killed;
# long chains, wide joins, deep cascades; batches; dump and restore; promotion in the middle of a cascade.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = DtsNode->start_new('main', allows_streaming => 1, conf => "dts.max_workers = 4\n");
$node->safe_psql('postgres', q{
	SELECT dts.create_queue('one'), dts.create_queue('many', batch_size => 60), dts.create_queue('frugal', history => 'failures'),
	       dts.create_queue('held', paused => true);
	CREATE FUNCTION slow(ms int) RETURNS int LANGUAGE sql AS 'SELECT pg_sleep(ms / 1000.0); SELECT ms';
});

my @ends = qw(succeeded failed cancelled skipped);

# A graph: nodes with a fate (how they end if they run), parents with the ends that each accepts, a rule, and what follows if it cannot hold.
sub random_graph {
	my ($n) = @_;
	my @nodes;
	for my $i (0 .. $n - 1) {
		my %parents;
		if ($i > 0 && rand() < 0.9) {
			for (1 .. 1 + int(rand(rand() < 0.1 ? 12 : 3))) {
				my $p = int(rand() < 0.7 ? $i - 1 - rand($i > 6 ? 6 : $i) : rand($i));
				$parents{$p} = rand() < 0.6 ? ['succeeded'] : rand() < 0.3 ? ['ended'] : [grep { rand() < 0.5 } @ends];
				$parents{$p} = ['succeeded'] unless @{ $parents{$p} };
			}
		}
		my $k = keys %parents;
		push @nodes, { fate => rand() < 0.8 ? 'succeeded' : 'failed', parents => \%parents,
			need => $k && rand() < 0.4 ? 1 + int(rand($k)) : 'all', unmet => (qw(skip skip fail cancel))[rand 4] };
	}
	return \@nodes;
}

# The reference: the end of each node, in the order of the nodes, since parents come first.
sub interpret {
	my ($nodes) = @_;
	my @end;
	my %unmet = (skip => 'skipped', fail => 'failed', cancel => 'cancelled');
	for my $i (0 .. $#$nodes) {
		my $node = $nodes->[$i];
		my @parents = keys %{ $node->{parents} };
		my $ok = grep { my $p = $_; grep { $_ eq 'ended' || $_ eq $end[$p] } @{ $node->{parents}{$p} } } @parents;
		my $need = $node->{need} eq 'all' ? @parents : $node->{need};
		$end[$i] = $ok >= $need ? $node->{fate} : $unmet{ $node->{unmet} };
	}
	return \@end;
}

# Its tasks, in any order of submission, in one call.
sub graph_json {
	my ($nodes, $queue, $prefix) = @_;
	my @order = sort { rand() <=> 0.5 } 0 .. $#$nodes;
	my @elements = map {
		my $node = $nodes->[$_];
		my $parents = join ', ', map { my $p = $_; sprintf '{"task": "%s%d", "on": [%s]}', $prefix, $p, join ', ', map { qq("$_") } @{ $node->{parents}{$p} } }
			keys %{ $node->{parents} };
		my $need = $node->{need} eq 'all' ? '"all"' : $node->{need};
		my $sql = $node->{fate} eq 'failed' ? 'SELECT 1/0' : 'SELECT 1';
		qq({"name": "$prefix$_", "sql": "$sql", "queue": "$queue", "max_attempts": 1, "labels": {"node": $_, "graph": "$prefix"}, )
			. qq("depends_on": {"tasks": [$parents], "need": $need, "on_unsatisfied": "$node->{unmet}"}});
	} @order;
	return '[' . join(",\n", @elements) . ']';
}

my %expected;

sub submit_graphs {
	my ($count, $size, $queue) = @_;
	my $sql = '';
	for (1 .. $count) {
		my $prefix = $queue . scalar(keys %expected) . '_';
		my $nodes = random_graph($size);
		$expected{$prefix} = interpret($nodes);
		$sql .= "SELECT count(*) FROM dts.submit_many(\$json\$" . graph_json($nodes, $queue, $prefix) . "\$json\$::jsonb);\n";
	}
	$node->safe_psql('postgres', $sql);
	return;
}

sub check_graphs {
	my ($name) = @_;
	$node->wait_for('SELECT count(*) FROM dts.task', '0');
	# Dead letters and history: the frugal queue keeps no successes.
	my %found;
	for my $line (split /\n/, $node->safe_psql('postgres', q{SELECT labels ->> 'graph', labels ->> 'node', state FROM dts.tasks WHERE labels ? 'graph'})) {
		my ($graph, $i, $state) = split /\|/, $line;
		$found{$graph}[$i] = $found{$graph}[$i] ? "$found{$graph}[$i] and $state" : $state;
	}
	my ($wrong, $nodes) = (0, 0);
	for my $graph (sort keys %expected) {
		for my $i (0 .. $#{ $expected{$graph} }) {
			my $got = $found{$graph}[$i] // ($graph =~ /^frugal/ ? 'succeeded' : 'nothing');
			$nodes++;
			next if $got eq $expected{$graph}[$i];
			diag("$graph$i: expected $expected{$graph}[$i], got $got") if $wrong++ < 10;
		}
	}
	is($wrong, 0, "$name: $nodes nodes end as in the reference");
	$node->wait_for('SELECT count(*) FROM dts.dependency', '0');
	return;
}

srand($ENV{DTS_SEED} // 20);
submit_graphs(40, 40, $_) for qw(one many frugal);
check_graphs('random graphs');

# With kills: executors, the scheduler, the whole server.
for my $turn (1 .. 3) {
	submit_graphs(15, 60, $_) for qw(one many);
	for (1 .. 4) {
		my $pid = $node->safe_psql('postgres', "SELECT pid FROM dts.workers WHERE kind <> 'launcher' ORDER BY random() LIMIT 1");
		$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)") if $pid && $turn < 3;
	}
	if ($turn == 3) { $node->stop('immediate'); $node->start; }
	$node->wait_for('SELECT count(*) FROM dts.task', '0');
}
# A task whose process was terminated has used its one attempt: what follows from that is right, too, but not the reference's.
if ($node->safe_psql('postgres', q{SELECT count(*) FROM dts.run WHERE error ->> 'sqlstate' = '57P01'}) eq '0') {
	check_graphs('with kills');
} else {
	$node->wait_for('SELECT count(*) FROM dts.dependency', '0');
}

# Shapes.
$node->safe_psql('postgres', 'TRUNCATE dts.run; TRUNCATE dts.dead_letter');
my $chain = q{(SELECT jsonb_agg(jsonb_build_object('name', 't' || i, 'sql', CASE WHEN i = 1 THEN '%s' ELSE 'SELECT 1' END, 'max_attempts', 1,
	'depends_on', CASE WHEN i > 1 THEN to_jsonb('t' || (i - 1)) ELSE '[]' END)) FROM generate_series(1, %d) i)};
$node->safe_psql('postgres', sprintf "SELECT count(*) FROM dts.submit_many($chain)", 'SELECT 1', 1000);
$node->wait_for(q{SELECT count(*) FROM dts.run WHERE outcome = 10}, '1000');
$node->safe_psql('postgres', sprintf "SELECT count(*) FROM dts.submit_many($chain)", 'SELECT 1/0', 10000);
$node->wait_for(q{SELECT count(*) FROM dts.run WHERE outcome = 14}, '9999');
$node->safe_psql('postgres', q{SELECT count(*) FROM dts.submit_many((SELECT jsonb_agg(jsonb_build_object('name', 't' || i, 'sql', 'SELECT ' || i, 'queue', 'many', 'depends_on',
	CASE WHEN i = 1 THEN '[]'::jsonb WHEN i <= 3001 THEN '["t1"]' ELSE (SELECT jsonb_agg('t' || k) FROM generate_series(2, 3001) k) END)) FROM generate_series(1, 3002) i))});
$node->wait_for(q{SELECT count(*) FROM dts.run WHERE outcome = 10}, '4002');
$node->wait_for('SELECT count(*) FROM dts.dependency', '0');

# A child that is cancelled before it is known that its parent ended meanwhile: nobody else comes by its edge.
{
	my $parent = $node->submit('SELECT 1', run_at => '2100-01-01');
	my $session = $node->background_psql('postgres', on_error_stop => 1);
	$session->query_safe("BEGIN; SELECT dts.cancel(dts.submit('SELECT 1', depends_on => dts.after($parent)))");
	$node->safe_psql('postgres', "SELECT dts.reschedule($parent, now())");
	$node->wait_state($parent, 'succeeded');
	$session->query_safe('COMMIT');
	$session->quit;
	is($node->safe_psql('postgres', 'SELECT count(*) FROM dts.task'), '0', 'both have ended');
	$node->wait_for('SELECT count(*) FROM dts.dependency', '0');
}

# A child reads what its parents gave; a retry is not an end; a redriven parent does not start the child twice.
my $parent = $node->submit('SELECT 6 * 7 AS answer');
my $flaky = $node->safe_psql('postgres', q{CREATE SEQUENCE tries; SELECT dts.submit('SELECT 1 / (nextval(''tries'') - 1)', retry => '{"base": 0.2, "jitter": "none"}')});
my $child = $node->safe_psql('postgres', "SELECT dts.submit('SELECT result FROM dts.parent_results() WHERE task = $parent', depends_on => dts.after(ARRAY[$parent, $flaky]))");
$node->wait_state($child, 'succeeded');
is($node->safe_psql('postgres', "SELECT result #>> '{0,result,0,answer}' FROM dts.tasks WHERE id = $child"), '42', 'the result of a parent');
is($node->safe_psql('postgres', "SELECT count(*) FROM dts.runs WHERE task = $child"), '1', 'it ran once');
$node->wait_for('SELECT count(*) FROM dts.task', '0');

# Parents without history cannot be awaited from another transaction.
$node->safe_psql('postgres', q{SELECT dts.create_queue('mute', history => 'none')});
my $mute = $node->submit('SELECT slow(200)', queue => 'mute');
my (undef, undef, $error) = $node->psql('postgres', "SELECT dts.submit('SELECT 1', depends_on => dts.after($mute))");
like($error, qr/keeps no history|does not exist/, 'a parent that leaves no trace is refused');
my $both = $node->safe_psql('postgres', q{WITH p AS MATERIALIZED (SELECT dts.submit('SELECT 1', queue => 'mute') AS id) SELECT dts.submit('SELECT 1', depends_on => dts.after(id)) FROM p});
$node->wait_state($both, 'succeeded');

# Stuckness is seen: an outcome planted behind the functions.
my $held = $node->submit('SELECT 1', queue => 'held');
my $blocked = $node->safe_psql('postgres', "SELECT dts.submit('SELECT 1', queue => 'held', depends_on => dts.after($held))");
$node->safe_psql('postgres', "UPDATE dts.dependency SET outcome = 11 WHERE child = $blocked; UPDATE dts.task SET submitted_at = submitted_at - interval '1 hour' WHERE id = $blocked");
is($node->safe_psql('postgres', 'SELECT task, state FROM dts.stuck()'), "$blocked|blocked", 'dts.stuck() sees a decided task');
$node->safe_psql('postgres', 'SELECT dts.rescan()');
$node->wait_state($blocked, 'skipped');
$node->safe_psql('postgres', "SELECT dts.cancel($held)");

# Dump and restore keep edges; nothing runs before dts.adopt().
my $root = $node->submit('SELECT slow(100)', queue => 'held');
my $kid = $node->safe_psql('postgres', "SELECT dts.submit('SELECT 2', depends_on => dts.after($root))");
my $dump = $node->basedir . '/dump.sql';
command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('copy'), $dump ], 'restore');
$node->safe_psql('copy', "SELECT dts.adopt(); SELECT dts.resume('held')");
$node->wait_for("SELECT state FROM dts.tasks WHERE id = $kid", 'succeeded', 'copy');
$node->safe_psql('postgres', "SELECT dts.cancel($root)");
$node->wait_state($kid, 'skipped');
$node->safe_psql('postgres', 'DROP DATABASE copy');

# Promotion in the middle of a cascade.
$node->backup('base');
my $standby = DtsNode->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->safe_psql('postgres', sprintf "SELECT count(*) FROM dts.submit_many($chain)", 'SELECT 1/0', 5000);
$node->wait_for(q{SELECT count(*) > 10000 FROM dts.run WHERE outcome = 14}, 't');
$node->stop('immediate');
$standby->promote;
$standby->wait_for('SELECT count(*) FROM dts.task', '0');
$standby->wait_for('SELECT count(*) FROM dts.dependency', '0');
pass('the promoted standby ends the cascade');
$standby->stop('fast');
done_testing();
