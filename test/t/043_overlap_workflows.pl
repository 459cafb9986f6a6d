# What overlaps is the run of a workflow, from its start to its last node: each policy, and replace with compensation and handlers.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use DtsNode;

my $node = DtsNode->start_new('main', conf => "dts.max_workers = 4\n");
my $sql = sub { return $node->safe_psql('postgres', @_) };

# A run notes what happens to it, with its due time; the node in the middle waits for a signal and holds no process, or runs until it is told.
$sql->(
	q{CREATE TABLE seen (n serial, schedule text, what text, run text, due timestamptz, at timestamptz DEFAULT clock_timestamp());
	CREATE TABLE gate (open boolean);
	CREATE FUNCTION note(what text, run text) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen (schedule, what, run, due) SELECT s.schedule, what, run, s.due_at FROM dts.scheduled() s $$;
	SELECT dts.create_workflow('waits', '{"nodes": {"first": {"sql": "SELECT note(''first'', ${run.id})"}, "middle": {"needs": ["first"], "signal": "go"}, "last": {"needs": ["middle"], "sql": "SELECT note(''last'', ${run.id})"}}}');
	SELECT dts.create_workflow('runs', '{"nodes": {
		"first": {"sql": "SELECT note(''first'', ${run.id})", "compensate": {"sql": "SELECT note(''undone'', ${run.id})"}},
		"middle": {"needs": ["first"], "sql": "DO $x$BEGIN LOOP EXIT WHEN EXISTS (SELECT FROM gate); PERFORM pg_sleep(0.01); END LOOP; END$x$"},
		"last": {"needs": ["middle"], "sql": "SELECT note(''last'', ${run.id})"}},
		"on": {"cancel": {"sql": "SELECT note(''on cancel'', ${run.id})"}, "success": {"sql": "SELECT note(''on success'', ${run.id})"}, "exit": {"sql": "SELECT note(''on exit'', ${run.id})"}}}');
	SELECT dts.create_workflow('outer', '{"nodes": {"inner": {"workflow": "runs"}}}')});

sub schedule {
	my ($name, $workflow, $overlap, @more) = @_;
	return $sql->("SELECT dts.schedule('$name', 'every 1 second', workflow => '$workflow', overlap => '$overlap'" . join('', map { ", $_" } @more) . ')');
}

# unfinished(NAME): its runs that have not ended.
sub unfinished { return "(SELECT count(DISTINCT f.run) FROM dts.fires f JOIN dts.workflow_runs r ON r.id = f.run WHERE f.schedule = '$_[0]' AND r.ended_at IS NULL)" }

sub signal_all { return $sql->("SELECT count(dts.signal(f.run, 'go')) FROM dts.fires f JOIN dts.workflow_runs r ON r.id = f.run WHERE f.schedule = '$_[0]' AND r.ended_at IS NULL") }

sub decided {
	my ($name, $more) = @_;
	return $sql->("SELECT decision, reason, count(*) FROM dts.fires WHERE schedule = '$name' AND decision <> 'skipped' $more GROUP BY 1, 2 ORDER BY 1, 2");
}

# most(NAME): how many of its runs were unfinished at the same time at most, by history.
sub most {
	return $sql->(
		"WITH r AS (SELECT DISTINCT r.id, r.started_at, r.ended_at FROM dts.fires f JOIN dts.workflow_runs r ON r.id = f.run WHERE f.schedule = '$_[0]'),
		      e AS (SELECT started_at AS at, 1 AS n FROM r UNION ALL SELECT ended_at, -1 FROM r WHERE ended_at IS NOT NULL)
		 SELECT max(s) FROM (SELECT sum(n) OVER (ORDER BY at, n) AS s FROM e) x");
}

# ---- skip, queue one, queue all, allow: side by side, while a node of each run waits
schedule('skip', 'waits', 'skip');
schedule('one', 'waits', 'queue one');
schedule('all', 'waits', 'queue all', 'overlap_max => 3');
schedule('allow', 'waits', 'allow', 'overlap_max => 2');
$node->wait_for(q{SELECT count(DISTINCT schedule) FROM dts.fires WHERE decision = 'skipped' AND reason = 'overlap'}, '4');
is($sql->('SELECT ' . join ', ', map { unfinished($_) } qw(skip one all allow)), '1|1|1|2', 'one run each, and two where two are allowed');
is(decided('skip', ''), 'fired|due|1', 'skip: nothing beside it');
is(decided('one', ''), "fired|due|1\nwaiting|due|1", 'queue one: one waits');
is(decided('all', ''), "fired|due|1\nwaiting|due|3", 'queue all: as many wait as may');
is(decided('allow', ''), 'fired|due|2', 'allow: two');
is($sql->(q{SELECT name, waiting FROM dts.schedules WHERE waiting > 0 ORDER BY name}), "all|3\none|1", 'the view counts what waits');
like($sql->(q{SELECT dts.explain_schedule('all')}), qr/not ended yet: task \d+ \(overlap => 'queue all'\); 3 due time\(s\) wait for that/, 'explain says so');
$sql->(q{SELECT dts.pause_schedule(n) FROM unnest(ARRAY['skip', 'one', 'all', 'allow']) n});
# Paused, what waits stays where it is.
signal_all($_) for qw(skip one allow);
$node->wait_for('SELECT ' . join('+', map { unfinished($_) } qw(skip one allow)), '0');
is(decided('one', q{AND reason = 'waited'}), '', 'paused: what waits goes on waiting');
$sql->(q{SELECT dts.alter_schedule(n, missed => 'skip', late => '1 ms', paused => false) FROM unnest(ARRAY['one', 'all']) n});
$node->wait_for("SELECT count(*) FROM dts.fires WHERE schedule = 'one' AND reason = 'waited'", '1');
pass('queue one: what waited is fired when the run has ended');
for my $n (1 .. 3) {
	signal_all('all');
	$node->wait_for("SELECT count(*) FROM dts.fires WHERE schedule = 'all' AND reason = 'waited'", $n);
	$node->wait_for('SELECT ' . unfinished('all'), '1');
}
is($sql->(q{SELECT string_agg(extract(epoch FROM due_at - first)::int::text, ' ' ORDER BY task) FROM (SELECT *, min(due_at) OVER () AS first FROM dts.fires WHERE schedule = 'all' AND reason = 'waited') x}), '0 1 2', 'queue all: one after the other, oldest first');
$sql->(q{SELECT dts.unschedule(n) FROM unnest(ARRAY['skip', 'allow']) n});
$sql->(q{SELECT dts.pause_schedule(n) FROM unnest(ARRAY['one', 'all']) n});
signal_all($_) for qw(one all);
$node->wait_for('SELECT ' . join('+', map { unfinished($_) } qw(one all)), '0');
is(most($_), '1', "$_: never two at a time") for qw(one all);
$sql->(q{SELECT dts.unschedule(n) FROM unnest(ARRAY['one', 'all']) n});

# ---- a number of runs: what waited counts, also if more is due when it is fired
schedule('two', 'waits', 'queue one', 'max_runs => 2');
$node->wait_for(q{SELECT waiting FROM dts.schedules WHERE name = 'two'}, '1');
$sql->(q{SELECT dts.pause_schedule('two')});
signal_all('two');
$node->wait_for('SELECT ' . unfinished('two'), '0');
my $until = $sql->(q{SELECT clock_timestamp() + '2 s'::interval});
$node->wait_for("SELECT clock_timestamp() > '$until'");
$sql->(q{SELECT dts.resume_schedule('two')});
$node->wait_for(q{SELECT state, running, waiting, runs FROM dts.schedules WHERE name = 'two'}, 'running|1|0|2');
signal_all('two');
$node->wait_for(q{SELECT state, running, waiting, runs FROM dts.schedules WHERE name = 'two'}, 'ended|0|0|2');
is($sql->(q{SELECT count(*) FROM dts.next_runs('two')}), '0', 'a number of runs: two, and no more');
my $decisions = $sql->(q{SELECT count(*) FROM dts.fires WHERE schedule = 'two'});
my $hand = $sql->(q{SELECT dts.run_now('two')});
$node->wait_for('SELECT ' . unfinished('two'), '1');
signal_all('two');
$node->wait_state($hand, 'succeeded');
$node->wait_for(q{SELECT succeeded, running FROM dts.schedules WHERE name = 'two'}, '3|0');
is($sql->(q{SELECT count(*) FROM dts.fires WHERE schedule = 'two'}), $decisions + 1, 'run by hand it is one more decision, and nothing else');
$sql->(q{SELECT dts.alter_schedule('two', max_runs => 3)});
$node->wait_for(q{SELECT runs FROM dts.schedules WHERE name = 'two'}, '3');
is($sql->(q{SELECT reason FROM dts.fires WHERE schedule = 'two' ORDER BY due_at DESC LIMIT 1}), 'due', 'with a higher number it goes on, and makes up for nothing');
signal_all('two');
$node->wait_for('SELECT ' . unfinished('two'), '0');
$sql->(q{SELECT dts.unschedule('two')});

# ---- replace: what runs is cancelled with all that belongs to it, and only then the next one begins
for my $workflow ('runs', 'outer') {
	$sql->('DELETE FROM seen');
	schedule('replace', $workflow, 'replace');
	$node->wait_for(q{SELECT count(DISTINCT run) >= 3 FROM seen WHERE what = 'first'});
	$sql->('INSERT INTO gate VALUES (true)');
	$node->wait_for(q{SELECT count(*) > 0 FROM seen WHERE what = 'last'});
	$sql->(q{SELECT dts.pause_schedule('replace')});
	$node->wait_for('SELECT ' . unfinished('replace'), '0');
	$node->wait_for('SELECT count(*) FROM dts.task', '0');
	is($sql->(q{SELECT count(*) FROM (SELECT run, string_agg(what, ', ' ORDER BY n) AS all FROM seen GROUP BY run) x WHERE x.all NOT IN ('first, undone, on cancel, on exit', 'first, last, on success, on exit', 'on cancel, on exit')}), '0',
		"$workflow: a replaced run is undone, and its handlers tell of it; the last one ends well")
	  or diag($sql->(q{SELECT run, string_agg(what, ', ' ORDER BY n) FROM seen GROUP BY run ORDER BY 1}));
	cmp_ok($sql->(q{SELECT count(*) FROM seen WHERE what = 'undone'}), '>=', 2, "$workflow: at least two were replaced");
	is(most('replace'), '1', "$workflow: never two at a time");
	is($sql->(q{SELECT DISTINCT r.state FROM dts.fires f JOIN dts.workflow_runs r ON r.id = f.run WHERE f.schedule = 'replace' ORDER BY 1}), "cancelled\nsucceeded", "$workflow: as the runs say");
	is($sql->(q{SELECT count(*) FROM dts.fires f JOIN dts.tasks t ON t.id = f.task WHERE f.schedule = 'replace' AND t.state NOT IN ('cancelled', 'succeeded')}), '0', "$workflow: and the tasks that stand for them");
	is($sql->(q{SELECT due FROM seen WHERE what = 'first' GROUP BY due HAVING count(*) > 1}), '', "$workflow: no due time twice");
	$sql->(q{SELECT dts.unschedule('replace'); DELETE FROM gate});
}

$node->healthy;
done_testing();
