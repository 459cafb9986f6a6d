# Everything that limits and keys can meet, at random and at once: submits, failures, leases, cancels (also in transactions that stay open, or
# roll back), new due times, expiry, limits and orders that change, pauses, processes that die. At the end everything has ended, no place is
# taken, no key is held, and history shows no two tasks of one key together.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use Test::More;

my $seed = $ENV{DTS_SEED} // time ^ $$;
srand $seed;
note "DTS_SEED=$seed";
my $rounds = $ENV{DTS_ROUNDS} // 250;

my $node = DtsNode->start_new('random', conf => "restart_after_crash = on\ndts.max_workers = 5\ndts.max_limits = 64\n");
$node->safe_psql('postgres', q{
	CREATE ROLE ann LOGIN; GRANT ann TO CURRENT_USER; SELECT dts.grant_usage('ann');
	SELECT dts.create_queue('one'), dts.create_queue('fifo'), dts.create_queue('batch', batch_size => 20), dts.create_queue('two');
	SELECT dts.set_limit(queue => 'fifo', key_fifo => true), dts.set_limit(queue => 'two', key_concurrency => 2);
	CREATE FUNCTION work(fails float, ms int) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
		PERFORM pg_sleep(ms / 1000.0); IF random() < fails THEN RAISE 'bad luck'; END IF; END $$;
	CREATE PROCEDURE leased(ms int) LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(ms / 2000.0); COMMIT; PERFORM pg_sleep(ms / 2000.0); END $$});

sub pick { return $_[ rand @_ ] }
my $any = q{(SELECT id FROM dts.task ORDER BY random() LIMIT 1)};
my $parked = q{(SELECT id FROM dts.task WHERE state = 4 ORDER BY random() LIMIT 1)};
my $head = q{(SELECT min(id) FROM dts.task WHERE ckey IS NOT NULL)};
my @sessions = map { $node->session('postgres') } 1 .. 3;
my @open = (0) x @sessions;

# One thing that somebody does.
sub deed {
	my $queue = pick(qw(one fifo fifo batch two));
	my $key = pick(map { "k$_" } 1 .. 4);
	my $who = pick('', '', ", owner => 'ann'");
	my $options = "queue => '$queue', concurrency_key => '$key', labels => jsonb_build_object('key', '$key'), priority => " . int(rand 10) . $who . pick('', '', '', ", delay => '" . int(rand 300) . " ms'", ", expires => clock_timestamp() + '" . int(rand 2000) . " ms'");
	my $retry = q{, max_attempts => 3, retry => '{"base": 0.01, "cap": 0.05}'};
	my $task = pick($any, $parked, $parked, $head);
	return pick(
		(map { "SELECT dts.submit('SELECT work($_, " . int(rand 20) . ")', $options$retry)" } 0, 0.1, 0.5),
		"SELECT count(*) FROM dts.submit_many('SELECT work(0, 1)', array_fill('[]'::jsonb, '{" . (1 + int(rand 15)) . "}'), $options$retry)",
		"SELECT dts.submit('CALL leased(" . int(rand 20) . ")', $options, transactional => false, max_attempts => 3, retry => '{\"base\": 0.01}')",
		"SELECT dts.cancel($task)", "SELECT dts.cancel($task)",
		"SELECT dts.reschedule($task, clock_timestamp() + '" . int(rand 400) . " ms')",
		"SELECT dts.set_priority($task, " . int(rand 10) . ")", "SELECT dts.retry($task)",
		"SELECT dts.explain($task)",
		'SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM dts.workers WHERE kind = \'executor\' ORDER BY random() LIMIT 1) x WHERE random() < 0.3',
		'SELECT count(dts.redrive(id)) FROM (SELECT id FROM dts.dead_letters LIMIT 2) x',
	);
}

# A change of definitions: outside of open transactions, since the second one would wait for the first, as with any row.
sub change {
	return pick(
		(rand() < 0.5 ? "SELECT dts.set_limit(queue => 'two', key_concurrency => " . (1 + int(rand 3)) . ")" : "SELECT dts.set_limit(queue => 'one', concurrency => " . int(rand 4) . ")"),
		(rand() < 0.3 ? "SELECT dts.set_limit(owner => 'ann', rate => " . (5 + int(rand 500)) . ")" : "SELECT dts.set_limit(queue => 'batch', reset => '{concurrency}', reserved => " . (1 + int(rand 3)) . ")"),
		(rand() < 0.2 ? 'SELECT dts.pause(\'' . pick(qw(one two)) . '\')' : 'SELECT dts.resume(\'' . pick(qw(one two)) . '\')'),
	);
}

for my $n (1 .. $rounds) {
	$node->safe_psql('postgres', change()) if rand() < 0.1;
	my $i = int rand @sessions;
	if (!$open[$i] && rand() < 0.25) { $sessions[$i]->query('BEGIN'); $open[$i] = 1 }
	$sessions[$i]->query('SAVEPOINT s') if $open[$i];
	$sessions[$i]->query(deed());
	$sessions[$i]->query(pick('ROLLBACK TO s', 'RELEASE s', 'RELEASE s')) if $open[$i] && $sessions[$i]{err} !~ /ERROR/;
	$sessions[$i]->query('ROLLBACK TO s') if $open[$i] && $sessions[$i]{err} =~ /ERROR/;
	if ($open[$i] && rand() < 0.3) { $sessions[$i]->query(pick('COMMIT', 'COMMIT', 'ROLLBACK')); $open[$i] = 0 }
	if ($n == int($rounds / 2)) {  # everybody is cut off in the middle
		$_->close for @sessions;
		$node->kill9(($node->worker_pids(pick(qw(scheduler executor launcher))))[0] // ($node->worker_pids('launcher'))[0]);
		$node->wait_back;
		@sessions = map { $node->session('postgres') } 1 .. 3;
		@open = (0) x @sessions;
	}
}
$sessions[$_]->query(pick('COMMIT', 'ROLLBACK')) for grep { $open[$_] } 0 .. $#sessions;
$_->close for @sessions;
$node->safe_psql('postgres', q{SELECT dts.resume('one'), dts.resume('two'), dts.set_limit(queue => 'one', reset => '{concurrency}'), dts.set_limit(owner => 'ann', reset => '{rate}')});
unless ($node->wait_for('SELECT count(*) FROM dts.task', '0')) { diag "DTS_SEED=$seed" }
is($node->safe_psql('postgres', 'SELECT COALESCE(sum(running), 0) FROM dts.limits'), '0', 'every place was given back');
is($node->safe_psql('postgres', q{SELECT string_agg(format('%s after %s', b.task, a.task), ', ') FROM dts.runs a JOIN dts.runs b ON b.queue = a.queue AND b.labels = a.labels AND b.task <> a.task
	AND b.started_at > a.started_at AND b.started_at < a.ended_at WHERE a.queue IN ('one', 'fifo', 'batch')}), '', 'no two of one key together') or diag "DTS_SEED=$seed";
is($node->safe_psql('postgres', q{SELECT count(*) FROM (SELECT DISTINCT q.id, k FROM dts.queue q, generate_series(1, 4) k) x, dts._key_state(hashtextextended('k' || k, x.id)) s WHERE s.held > 0}), '0', 'no key is held')
	or diag "DTS_SEED=$seed";
$node->healthy;
$node->stop;
done_testing();
