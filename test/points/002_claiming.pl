# Claims, submits and wake-ups that meet at the worst moment: every task runs, and the sweep has nothing to find.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use DtsNode;

my $node = DtsNode->start_new('main', conf => "restart_after_crash = on\ndts.max_workers = 2\ndts.batch_budget = '1s'\n");
# A claim in queue "many" wants more rows than there are: it looks at its ranges to their ends, and must put back what is due later.
$node->safe_psql('postgres', q{CREATE TABLE effect (task int); SELECT dts.create_queue('many', batch_size => 20)});

# blocked(BODY): runs it while one of the two executors is busy, so that only the other one can run anything.
sub blocked {
	my ($body) = @_;
	$node->idle_executors(2);
	my $lock = $node->session;
	$lock->query('SELECT pg_advisory_lock(1)');
	my $busy = $node->submit('SELECT pg_advisory_xact_lock(1)');
	my $pid = $node->running_pid($busy);
	$body->(grep { $_ != $pid } $node->worker_pids('executor'));
	$lock->query('SELECT pg_advisory_unlock(1)');
	$lock->close;
	$node->wait_state($busy, 'succeeded');
	return;
}

# ---- the very first claim of a process fails, between its look at shared memory and its first row: what it took is put back
$node->pause_at('claim.snapshot');
my $early = $node->submit('SELECT 1');
my $fresh = $node->wait_reached('claim.snapshot');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($fresh)");
$node->release('claim.snapshot');
$node->wait_state($early, 'succeeded');
pass('a task whose executor failed at its first claim is run by another one');

# ---- a wake-up is passed on: two tasks of one commit run at the same time
$node->idle_executors(2);
$node->hold_scheduler;
$node->safe_psql('postgres', q{SELECT dts.submit_many(ARRAY['SELECT pg_sleep(600)', 'SELECT pg_sleep(600)'])});
$node->wait_for('SELECT count(*) FROM dts.running', '2');
$node->release('scheduler.turned');
is($node->safe_psql('postgres', q{SELECT string_agg(dts.cancel(id), ' ') FROM dts.running}), 'cancelled cancelled', 'both ran');

# ---- idle bit, look, wait: a submit after the look. Before there are batches, whose timer would end the wait.
blocked(
	sub {
		my ($pid) = @_;
		$node->hold_scheduler;
		$node->pause_at('executor.looked', $pid);
		my $first = $node->submit('SELECT 1');
		$node->wait_reached('executor.looked');
		my $last = $node->submit('SELECT 2');
		$node->release('executor.looked');
		$node->wait_state($_, 'succeeded') for $first, $last;
		$node->release('scheduler.turned');
		pass('a task that came between look and wait ran');
	});

# ---- submit: visible, not yet offered
for my $death (0, 1) {
	$node->idle_executors(2);
	my $session = $node->session;
	$node->pause_at('touch.visible', $session->{pid});
	$session->send(q{SELECT dts.submit('INSERT INTO effect VALUES (1)')});
	$node->wait_reached('touch.visible');
	my $other = $node->submit('SELECT 2');
	$node->wait_state($other, 'succeeded');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM dts.tasks WHERE state = 'ready'}), '1', 'a task that is not offered yet is not found');
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($session->{pid})") if $death;
	$node->release('touch.visible');
	$node->wait_done;
	is($node->safe_psql('postgres', 'SELECT count(*) FROM effect'), 1 + $death, 'it runs' . ($death ? ', though its session was terminated' : ''));
	$session->close;
}

# ---- an executor that stops while it claims hides nothing from the other one
for my $point ('claim.taken', 'claim.snapshot', 'claim.scanned', 'executor.claimed') {
	for my $death ('', 'terminated') {
		my ($one) = $node->idle_executors(2);
		$node->pause_at($point);
		my $first = $node->submit('SELECT 1');
		my $stopped = $node->wait_reached($point);
		$node->pause_at($point, $stopped);    # from now on nobody else stops there
		my @more = map { $node->submit("SELECT $_") } 1 .. 3;
		$node->wait_state($_, 'succeeded') for @more;
		$node->safe_psql('postgres', "SELECT pg_terminate_backend($stopped)") if $death;
		$node->release($point);
		$node->wait_state($first, 'succeeded');
		pass("$point: all ran" . ($death ? ', though the executor was terminated' : ''));
	}
}

# ---- what is submitted while a claim is under way is found by the next one
for my $point ('claim.taken', 'claim.snapshot', 'claim.scanned') {
	blocked(
		sub {
			my ($pid) = @_;
			$node->pause_at($point, $pid);
			my @ids = ($node->submit('SELECT 1', queue => 'many'));
			$node->wait_reached($point);
			push @ids, map { $node->submit("SELECT $_", queue => 'many') } 2 .. 3;
			$node->release($point);
			$node->wait_state($_, 'succeeded') for @ids;
			pass("$point: what came meanwhile ran");
		});
}

# ---- a batch that ends early, since its first task has left something in the session, lets go of the rest
$node->idle_executors(2);
my @batch = split /\n/, $node->safe_psql('postgres', q{SELECT dts.submit_many(ARRAY['PREPARE p AS SELECT 1', 'SELECT 2', 'SELECT 3'], queue => 'many')});
$node->wait_state($_, 'succeeded') for @batch;

# ---- a claim whose range goes on into the future
my $future = $node->submit('SELECT 1', queue => 'many', delay => '2 s');
$node->safe_psql('postgres', 'SELECT dts.rescan()');
$node->wait_state($node->submit('SELECT 2', queue => 'many'), 'succeeded');
$node->wait_state($future, 'succeeded');

# ---- a row that moves under a claim
$node->idle_executors(2);
$node->pause_at('claim.snapshot');
my $id = $node->submit('INSERT INTO effect VALUES (2)');
$node->wait_reached('claim.snapshot');
is($node->safe_psql('postgres', "SELECT dts.reschedule($id, delay => '1 hour')"), 'changed', 'moved after the snapshot');
$node->release('claim.snapshot');
my $next = $node->submit('SELECT 1');
$node->wait_state($next, 'succeeded');
is($node->safe_psql('postgres', "SELECT state FROM dts.tasks WHERE id = $id"), 'scheduled', 'it was passed by');
is($node->safe_psql('postgres', "SELECT dts.reschedule($id)"), 'changed', 'and back');
$node->wait_state($id, 'succeeded');

# ---- a rolled back savepoint frees its row at once, in the middle of the transaction
$node->idle_executors(2);
my $session = $node->session;
$node->safe_psql('postgres', q{SELECT dts.pause('default')});
$id = $node->submit('SELECT 1');
$session->query("BEGIN; SAVEPOINT s; SELECT dts.reschedule($id, delay => '1 hour')");
$node->safe_psql('postgres', q{SELECT dts.resume('default')});
$next = $node->submit('SELECT 2');
$node->wait_state($next, 'succeeded');
$session->query('ROLLBACK TO s');
$node->wait_state($id, 'succeeded');
$session->query('COMMIT');
$session->close;

# Before the restart, which begins the sweep's counter anew.
$node->healthy;

# ---- an installation that commits while the scheduler finds that there is none
$node->safe_psql('postgres', 'CREATE DATABASE late');
$node->stop;
$node->pause_at('scheduler.probed');
$node->start;
$node->wait_reached('scheduler.probed');
$node->safe_psql('late', 'CREATE EXTENSION dts');
$node->release('scheduler.probed');
$id = $node->submit('SELECT 1', dbname => 'late');
$node->wait_state($id, 'succeeded', 'late');

$node->healthy;
$node->healthy('late');
done_testing();
