# Random workflows against a reference interpreter, also while processes are terminated and the server is killed; dump and restore of
# runs that are under way.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = DtsNode->start_new('main', conf => "dts.max_workers = 4\n");
$node->safe_psql('postgres', q{
	CREATE FUNCTION may(good int) RETURNS int LANGUAGE plpgsql AS 'BEGIN IF good = 0 THEN RAISE EXCEPTION ''no''; END IF; RETURN good; END';
	SELECT dts.create_queue('many', batch_size => 60);
	SELECT dts.create_workflow('leaf', '{"params": {"good": {"type": "integer"}}, "nodes": {"a": {"sql": "SELECT may(${params.good}::int)", "max_attempts": 4, "retry": {"strategy": "fixed", "base": 0.01}}}, "output": "${nodes.a.output.may}"}')});

my $retry = '"max_attempts": 4, "retry": {"strategy": "fixed", "base": 0.01, "jitter": "none"}';

# A node: its JSON, and what the reference needs to know.
sub random_workflow {
	my ($n) = @_;
	my (@nodes, %switch);
	for my $i (0 .. $n - 1) {
		my %node = (needs => {}, unmet => (qw(skip skip fail cancel))[rand 4], join => 'all');
		if ($i > 0 && rand() < 0.85) {
			for (1 .. 1 + int(rand(3))) {
				my $p = int(rand($i));
				$node{needs}{$p} = $switch{$p} && rand() < 0.7 ? { branch => (qw(x y))[rand 2] } : rand() < 0.6 ? {} : { on => (['failed'], ['ended'], [qw(succeeded skipped)], ['skipped'])[rand 4] };
			}
			my $k = keys %{ $node{needs} };
			$node{join} = 1 + int(rand($k)) if rand() < 0.25;
		}
		$node{when} = rand() < 0.5 ? 1 : 0 if rand() < 0.2;
		$node{soft} = rand() < 0.2;
		my $kind = rand();
		my $good = rand() < 0.8 ? 1 : 0;
		if ($kind < 0.45) {
			@node{qw(json end)} = (qq("sql": "SELECT may($good)", $retry), $good ? 'succeeded' : 'failed');
		} elsif ($kind < 0.55) {
			@node{qw(json end)} = (qq("sql": "SELECT may(\${params.one}::int * \${run.attempt}::int)", $retry), 'succeeded');
		} elsif ($kind < 0.7) {
			my @items = map { rand() < 0.8 ? 1 : 0 } 1 .. int(rand(5));
			my $tolerate = int(rand(3));
			my $what = rand() < 0.3 ? '"workflow": "leaf", "params": {"good": "${item}"}' : qq("sql": "SELECT may(\${item}::int)", $retry);
			my $items = join ', ', @items;
			my $parallel = int(rand(3));
			@node{qw(json end)} = (qq("map": {"items": [$items], "tolerate": $tolerate, "max_parallel": $parallel}, $what), (grep { !$_ } @items) > $tolerate ? 'failed' : 'succeeded');
		} elsif ($kind < 0.8) {
			my $way = (qw(x y))[rand 2];
			$switch{$i} = $way;
			@node{qw(json end)} = ($way eq 'x' ? '"switch": {"x": "$.params.one == 1", "y": true}' : '"switch": {"x": "$.params.one == 2", "y": true}', 'succeeded');
			$node{way} = $way;
		} elsif ($kind < 0.87) {
			@node{qw(json end)} = (qq("workflow": "leaf", "params": {"good": $good}), $good ? 'succeeded' : 'failed');
		} elsif ($kind < 0.93) {
			my $turns = 1 + int(rand(3));
			@node{qw(json end)} = (qq("sql": "SELECT may($good)", $retry, "repeat": {"until": "\$.turn >= $turns"}), $good ? 'succeeded' : 'failed');
		} else {
			@node{qw(json end)} = (rand() < 0.5 ? '"noop": true' : '"sleep": "0.01 s"', 'succeeded');
		}
		push @nodes, \%node;
	}
	return \@nodes;
}

sub interpret {
	my ($nodes) = @_;
	my @end;
	my %unmet = (skip => 'skipped', fail => 'failed', cancel => 'cancelled');
	my $run = 'succeeded';
	for my $i (0 .. $#$nodes) {
		my $node = $nodes->[$i];
		my @parents = keys %{ $node->{needs} };
		my $ok = 0;
		for my $p (@parents) {
			my $need = $node->{needs}{$p};
			my @on = $need->{on} ? @{ $need->{on} } : ('succeeded', $nodes->[$p]{soft} ? ('failed') : ());
			# The case of a switch counts as succeeded if it was taken.
			if ($need->{branch}) {
				$ok++ if $end[$p] eq 'succeeded' && $nodes->[$p]{way} eq $need->{branch};
			} else {
				$ok++ if grep { $_ eq 'ended' || $_ eq $end[$p] } @on;
			}
		}
		my $wants = $node->{join} eq 'all' ? @parents : $node->{join};
		$end[$i] = $ok < $wants ? $unmet{ $node->{unmet} } : defined $node->{when} && !$node->{when} ? 'skipped' : $node->{end};
		$run = 'failed' if $end[$i] =~ /failed|cancelled/ && !$node->{soft};
	}
	return { run => $run, nodes => \@end };
}

sub to_json {
	my ($nodes, $queue) = @_;
	my @json;
	for my $i (0 .. $#$nodes) {
		my $node = $nodes->[$i];
		my $needs = join ', ', map { my $n = $node->{needs}{$_}; $n->{branch} ? qq("n$_.$n->{branch}") : $n->{on} ? qq({"node": "n$_", "on": [) . join(', ', map { qq("$_") } @{ $n->{on} }) . ']}' : qq("n$_") } keys %{ $node->{needs} };
		my $join = $node->{join} eq 'all' ? '"all"' : $node->{join};
		push @json, qq("n$i": {$node->{json}, "queue": "$queue", "needs": [$needs], "join": $join, "on_unsatisfied": "$node->{unmet}")
			. (defined $node->{when} ? qq(, "when": "\$.params.one == ) . ($node->{when} ? 1 : 2) . '"' : '') . ($node->{soft} ? ', "continue_on": {"failure": true}' : '') . '}';
	}
	return '{"params": {"one": {"type": "integer", "default": 1}}, "nodes": {' . join(",\n", @json) . '}}';
}

my %expected;

sub start_some {
	my ($count, $size) = @_;
	my $sql = '';
	for (1 .. $count) {
		my $name = 'w' . keys %expected;
		my $nodes = random_workflow(1 + int(rand($size)));
		$expected{$name} = interpret($nodes);
		$sql .= "SELECT dts.create_workflow('$name', \$json\$" . to_json($nodes, (qw(default many))[rand 2]) . "\$json\$::jsonb), dts.start('$name');\n";
	}
	$node->safe_psql('postgres', $sql);
	return;
}

sub check {
	my ($what) = @_;
	$node->wait_for('SELECT count(*) FROM dts.task', '0');
	my (%found, %runs);
	for (split /\n/, $node->safe_psql('postgres', q{SELECT r.workflow, r.state, n.node, n.state FROM dts.workflow_runs r JOIN dts.workflow_nodes n ON n.run = r.id WHERE n.item IS NULL AND r.workflow ~ '^w'})) {
		my ($workflow, $run, $n, $state) = split /\|/;
		$runs{$workflow} = $run;
		$found{$workflow}[ substr $n, 1 ] = $state;
	}
	my ($wrong, $nodes) = (0, 0);
	for my $w (sort keys %expected) {
		my $e = $expected{$w};
		for my $i (0 .. $#{ $e->{nodes} }) {
			$nodes++;
			next if ($found{$w}[$i] // 'nothing') eq $e->{nodes}[$i];
			next if $wrong++ >= 5;
			diag("$w.n$i: expected $e->{nodes}[$i], got " . ($found{$w}[$i] // 'nothing') . ', '
				. $node->safe_psql('postgres', "SELECT COALESCE(n.error, '') || ' ' || (r.definition -> 'nodes' -> n.node)::text FROM dts.workflow_runs r JOIN dts.workflow_nodes n ON n.run = r.id WHERE r.workflow = '$w' AND n.node = 'n$i' AND n.item IS NULL"));
			diag($node->safe_psql('postgres', "SELECT n.node, n.task, n.state, n.started_at, n.ended_at, n.error FROM dts.workflow_runs r JOIN dts.workflow_nodes n ON n.run = r.id WHERE r.workflow = '$w' ORDER BY ended_at"));
		}
		next if ($runs{$w} // '') eq $e->{run};
		diag("$w: expected $e->{run}, got " . ($runs{$w} // 'nothing')) if $wrong++ < 10;
	}
	is($wrong, 0, "$what: $nodes nodes of " . keys(%expected) . ' workflows end as in the reference');
	return;
}

srand($ENV{DTS_SEED} // 31);
start_some(60, 15);
check('random workflows');
for my $turn (1 .. 3) {
	start_some(25, 20);
	for (1 .. 3) {
		my $pid = $node->safe_psql('postgres', "SELECT pid FROM dts.workers WHERE kind <> 'launcher' ORDER BY random() LIMIT 1");
		$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)") if $pid && $turn < 3;
	}
	if ($turn == 3) { $node->stop('immediate'); $node->start; }
	$node->wait_for('SELECT count(*) FROM dts.task', '0');
}
check('with kills');

# Signals and decisions that come at the moment when a node begins to wait for them.
$node->safe_psql('postgres', q{SELECT dts.create_workflow('race', '{"nodes": {"a": {"approval": {"prompt": "now?"}}, "s": {"signal": "go"}, "z": {"needs": ["a", "s"], "noop": 1}}}')});
$node->safe_psql('postgres', q{DO $$ DECLARE r bigint; BEGIN FOR i IN 1 .. 200 LOOP
	r := dts.start('race'); COMMIT; PERFORM dts.approve(r, 'a'); COMMIT; PERFORM pg_sleep(random() * 0.002); PERFORM dts.signal(r, 'go'); COMMIT; END LOOP; END $$});
$node->wait_for(q{SELECT count(*) FROM dts.workflow_runs WHERE workflow = 'race' AND state = 'succeeded'}, '200');

# A run that waits goes on in a restored copy.
$node->safe_psql('postgres', q{SELECT dts.create_workflow('waits', dts.node('s', signal => 'go'), dts.node('a', 'SELECT 5 AS five', needs => '{s}'))});
my $run = $node->safe_psql('postgres', q{SELECT dts.start('waits')});
$node->wait_for("SELECT state FROM dts.workflow_nodes WHERE run = $run AND node = 's'", 'waiting');
my $dump = $node->basedir . '/dump';
command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('copy'), $dump ], 'pg_restore');
$node->safe_psql('copy', "SELECT dts.adopt(), dts.signal($run, 'go')");
$node->wait_for("SELECT state FROM dts.workflow_runs WHERE id = $run", 'succeeded', 'copy');
is($node->safe_psql('copy', q{SELECT dts.create_workflow('waits', dts.node('a', 'SELECT 1'))}), '2', 'versions go on');
$node->safe_psql('postgres', "SELECT dts.cancel_run($run)");
$node->wait_for("SELECT state FROM dts.workflow_runs WHERE id = $run", 'cancelled');
$node->healthy;
$node->stop('fast');
done_testing();
