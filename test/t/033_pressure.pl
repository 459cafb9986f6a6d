# Caps on unfinished tasks, progress of running ones, and the recipes of docs/concepts.md: singleton, debounce, throttle.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use Test::More;

my $node = DtsNode->start_new('pressure', conf => "restart_after_crash = on\ndts.max_workers = 3\n");
$node->safe_psql('postgres', q{CREATE ROLE ann LOGIN; GRANT ann TO CURRENT_USER; SELECT dts.grant_usage('ann');
	SELECT dts.create_queue('c', paused => true), dts.create_queue('d');
	SELECT dts.submit('SELECT 1', queue => 'c') FROM generate_series(1, 3);
	SELECT dts.set_limit(queue => 'c', max_waiting => 5), dts.set_limit(owner => 'ann', max_waiting => 2)});

# refused(SQL): the SQLSTATE of a statement, or nothing.
sub refused {
	my ($sql) = @_;
	my (undef, undef, $error) = $node->psql('postgres', "\\set VERBOSITY sqlstate\n$sql");
	return $error =~ /ERROR:\s+(\w+)/ ? $1 : '';
}
my $submit = q{SELECT dts.submit('SELECT 1', queue => 'c')};

subtest 'caps' => sub {
	# What was there before the cap is counted.
	$node->wait_for(q{SELECT dts.state(min(id)) FROM dts.task}, 'ready');
	$node->wait_for('SELECT unfinished FROM dts.limits WHERE name = \'c\'', '3');
	is(refused("$submit; $submit"), '', 'up to the cap');
	is(refused($submit), 'TQ001', 'and no further: with a SQLSTATE of its own');
	is(refused(q{BEGIN; SELECT dts.submit('SELECT 1', queue => 'd', owner => 'ann'); SELECT dts.submit('SELECT 1', queue => 'd', owner => 'ann', delay => '1 h');
		SELECT dts.submit('SELECT 1', queue => 'd', owner => 'ann')}), 'TQ001', 'within one transaction');
	is(refused(q{SELECT count(*) FROM dts.submit_many('SELECT 1', array_fill('[]'::jsonb, '{3}'), queue => 'd', owner => 'ann')}), 'TQ001', 'in one call');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM dts.tasks WHERE queue = 'd'}), '0', 'nothing of it was kept');
	$node->safe_psql('postgres', q{SELECT dts.cancel(min(id)) FROM dts.task});
	is(refused($submit), '', 'an end makes room');
	is(refused($submit), 'TQ001', 'for one');
	$node->kill9(($node->worker_pids('scheduler'))[0]);
	$node->wait_back;
	$node->wait_for('SELECT unfinished FROM dts.limits WHERE name = \'c\'', '5');
	is(refused($submit), 'TQ001', 'counted again after a crash');
	$node->safe_psql('postgres', q{SELECT dts.resume('c')});
	$node->wait_done;
	is($node->safe_psql('postgres', q{SELECT unfinished FROM dts.limits WHERE name = 'c'}), '0', 'all counted down');
	$node->safe_psql('postgres', q{SELECT dts.set_limit(queue => 'c', max_waiting => 0)});
	is(refused($submit), 'TQ001', 'a cap of 0 closes the queue');
	$node->safe_psql('postgres', q{SELECT dts.set_limit(queue => 'c', reset => '{max_waiting}')});
	is(refused($submit), '', 'taken away');
	$node->wait_done;
};

subtest 'quotas of an owner' => sub {
	$node->safe_psql('postgres', q{SELECT dts.create_queue('q', paused => true); SELECT dts.set_limit(owner => 'ann', max_waiting => 1000, max_bytes => 5000)});
	my $one = q{SELECT dts.submit('SELECT length($1)', jsonb_build_array(repeat('x', 980)), queue => 'q', owner => 'ann', tenant => 't%s', delay => '%s')};
	is(refused(join ';', map { sprintf $one, $_, '0' } 1 .. 4), '', 'up to the cap of bytes');
	is(refused(sprintf $one, 5, '1 hour'), 'TQ001', 'and no further');
	is(refused(join ';', 'BEGIN', map({ sprintf $one, "x$_", '0' } 1 .. 5), 'COMMIT'), 'TQ001', 'within a transaction, over lanes');
	is($node->safe_psql('postgres', q{SELECT bytes BETWEEN 4000 AND 4200, max_bytes FROM dts.limits WHERE name = 'ann'}), 't|5000', 'dts.limits shows them');
	is(refused(q{SELECT count(*) FROM dts.submit_many('SELECT length($1)', array_fill(jsonb_build_array(repeat('x', 300)), '{4}'), queue => 'q', owner => 'ann')}), 'TQ001', 'in one call');
	$node->safe_psql('postgres', q{SELECT dts.cancel(min(id)) FROM dts.tasks WHERE queue = 'q'});
	is(refused(sprintf $one, 6, '0'), '', 'an end makes room');
	my $there = $node->safe_psql('postgres', q{SELECT bytes FROM dts.limits WHERE name = 'ann'});
	$node->kill9(($node->worker_pids('launcher'))[0]);
	$node->wait_back;
	$node->wait_for(q{SELECT bytes FROM dts.limits WHERE name = 'ann'}, $there);
	pass('counted from the rows after a crash: the same');
	$node->safe_psql('postgres', q{SELECT dts.resume('q')});
	$node->wait_done;
	is($node->safe_psql('postgres', q{SELECT bytes, unfinished FROM dts.limits WHERE name = 'ann'}), '0|0', 'all counted down');
	# History: of one owner no longer than his quota, of others as long as the queue says.
	$node->safe_psql('postgres', q{SELECT dts.set_limit(owner => 'ann', retention => '1 hour', reset => '{max_waiting,max_bytes}')});
	my $mine = $node->submit('SELECT 1', queue => 'q');
	my $hers = $node->submit('SELECT 1', queue => 'q', owner => 'ann');
	$node->wait_done;
	$node->safe_psql('postgres', "UPDATE dts.run SET ended_at = ended_at - interval '2 hours' WHERE task IN ($mine, $hers); SELECT dts._purge(1000)");
	is($node->safe_psql('postgres', "SELECT string_agg(id::text, ',') FROM dts.tasks WHERE id IN ($mine, $hers)"), $mine, 'the history of an owner');
};

subtest 'progress' => sub {
	my $id = $node->submit(q{DO $$BEGIN PERFORM pg_sleep(0.2); PERFORM dts.progress(20, 100, 'loading'); PERFORM pg_sleep(60); END$$}, queue => 'd');
	$node->wait_for("SELECT done || '/' || total || ' ' || message FROM dts.running WHERE id = $id", '20/100 loading');
	is($node->safe_psql('postgres', "SELECT expected_end - started_at BETWEEN '0.9 s' AND '60 s' FROM dts.running WHERE id = $id"), 't', 'with an estimate of the end');
	is($node->as_role('ann', "SELECT count(*) FROM dts._progress()"), '0', 'others do not see it');
	$node->safe_psql('postgres', "SELECT dts.cancel($id)");
	my $next = $node->submit('SELECT pg_sleep(60)', queue => 'd');
	$node->running_pid($next);
	is($node->safe_psql('postgres', "SELECT done IS NULL FROM dts.running WHERE id = $next"), 't', 'the next task starts without');
	$node->safe_psql('postgres', "SELECT dts.cancel($next)");
	is($node->safe_psql('postgres', 'SELECT dts.progress(1, 2)'), '', 'outside a task it does nothing');
};

subtest 'recipes' => sub {
	$node->safe_psql('postgres', q{CREATE TABLE ran (what text, at timestamptz DEFAULT clock_timestamp())});
	my $run = sub { my ($what, %o) = @_; return $node->submit("INSERT INTO ran VALUES (\$\$$what\$\$)", queue => 'd', %o) };
	# Debounce: run once after things have been quiet.
	my @ids = map { $run->('debounce', key => 'deb', on_conflict => 'push', delay => '1500 ms') } 1 .. 4;
	is(scalar(keys %{ { map { $_ => 1 } @ids } }), 1, 'debounce: one task, pushed back');
	my $last = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
	$node->wait_state($ids[0], 'succeeded');
	is($node->safe_psql('postgres', "SELECT count(*), bool_and(at > '$last'::timestamptz + '0.5 s') FROM ran WHERE what = 'debounce'"), '1|t', '... run once, when it had been quiet');
	# Throttle: at most once in a time.
	@ids = map { $run->('throttle', key => 'thr', key_ttl => '1 hour') } 1 .. 3;
	$node->wait_done;
	push @ids, $run->('throttle', key => 'thr', key_ttl => '1 hour');
	$node->wait_done;
	is(scalar(keys %{ { map { $_ => 1 } @ids } }), 1, 'throttle: one task within the time');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM ran WHERE what = 'throttle'}), '1', '... run once');
	# Only one waiting or running.
	my $busy = $node->submit('SELECT pg_sleep(60)', queue => 'd', key => 'single');
	$node->running_pid($busy);
	is($node->submit('SELECT pg_sleep(60)', queue => 'd', key => 'single'), $busy, 'singleton: the running one is given');
	# Only one waiting: what happens while one runs gets one more run.
	my @waiting = map { $node->submit('SELECT 1', queue => 'd', key => 'single', on_conflict => 'replace', delay => '1 hour') } 1 .. 3;
	isnt($waiting[0], $busy, 'one more may wait');
	is(scalar(keys %{ { map { $_ => 1 } @waiting } }), 1, '... and no third') or diag("@waiting");
	$node->safe_psql('postgres', "SELECT dts.cancel($_)") for $busy, $waiting[0];
	$node->wait_done;
};

$node->healthy;
$node->stop;
done_testing();
