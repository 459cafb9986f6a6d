# Steering of tasks that run: the caller never waits for their length, the interrupt strikes only the task that it was meant for, and
# what dts.cancel answers stays true through a crash.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use DtsNode;

my $node = DtsNode->start_new("main", allows_streaming => 1, conf => "restart_after_crash = on\ndts.max_workers = 2\n");
my $soon = '{"base": 0.05, "cap": 0.1}';
$node->safe_psql(
	'postgres', qq{
	CREATE TABLE effect (n int);
	SELECT dts.create_queue('batched', batch_size => 60, retry => '$soon');
	SELECT dts.create_queue('durable', durable => true, retry => '$soon')});
my $admin = $node->session;

# timed(SQL): the answer, and that it came within a second and a half (dts.steer_wait is 1 s).
sub timed {
	my ($sql, $limit) = @_;
	my $begin = time;
	my $answer = $admin->query($sql);
	cmp_ok(time - $begin, '<', $limit // 1.8, "$sql answers at once");
	return $answer;
}

sub cont_after {
	my ($pid, $body) = @_;
	kill 'STOP', $pid;
	$body->();
	kill 'CONT', $pid;
	return;
}

# ---- cancel of a running task
my $id = $node->submit('INSERT INTO effect VALUES (1); SELECT pg_sleep(60)');
my $pid = $node->running_pid($id);
is(timed("SELECT dts.cancel($id)", 1), 'cancelled', 'a running task is interrupted');
is($node->runs_of($id), '1 cancelled', 'it has ended as cancelled');
is($node->safe_psql('postgres', 'SELECT count(*) FROM effect'), '0', 'without effect');
is(timed("SELECT dts.cancel($id)"), 'cancelled', 'a second cancel says the same');
$id = $node->submit('SELECT 1');
$node->wait_state($id, 'succeeded');
is(timed("SELECT dts.cancel($id)"), 'succeeded', 'one that comes too late says so');
is($node->safe_psql('postgres', "SELECT worker_pid FROM dts.runs WHERE task = $id"), $pid, 'the executor lives on');

# One that swallows the interrupt and ends well is cancelled all the same.
$id = $node->submit(q{DO $$ BEGIN BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END; INSERT INTO effect VALUES (2); END $$});
$node->running_pid($id);
is(timed("SELECT dts.cancel($id)"), 'cancelled', 'a task that swallows the interrupt is cancelled');
is($node->safe_psql('postgres', 'SELECT count(*) FROM effect'), '0', 'and its effect rolled back');

# One that goes on: the answer is binding, and holds when it ends at last.
$id = $node->submit(q{DO $$ DECLARE t timestamptz := clock_timestamp() + '2.5 s'; BEGIN WHILE clock_timestamp() < t LOOP BEGIN PERFORM pg_sleep(0.2); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; INSERT INTO effect VALUES (3); END $$});
$node->running_pid($id);
is(timed("SELECT dts.cancel($id)"), 'cancelling', 'a task that goes on is being cancelled');
$node->wait_state($id, 'cancelled');
is($node->safe_psql('postgres', 'SELECT count(*) FROM effect'), '0', 'and never succeeds');

# dts.steer_wait = 0: an answer at once, as binding.
$admin->query('SET dts.steer_wait = 0');
$id = $node->submit('SELECT pg_sleep(60)');
$node->running_pid($id);
like(timed("SELECT dts.cancel($id)", 0.9), qr{^cancell(ing|ed)$}, 'without waiting the answer comes at once');
$node->wait_state($id, 'cancelled');
$admin->query('RESET dts.steer_wait');

# The caller rolls back: the interrupt stands, nothing was promised, and the caller's transaction holds nobody up.
$id = $node->submit('SELECT pg_sleep(60)', retry => $soon);
$node->running_pid($id);
$admin->query('BEGIN');
like(timed("SELECT dts.cancel($id)"), qr/^cancel/, 'a cancel in a transaction');
$node->wait_for("SELECT count(*) FROM dts.running WHERE id = $id", '0');
$admin->query('ROLLBACK');
$node->wait_state($id, 'cancelled');

# ---- a batch of 60, the 30th of which is cancelled while it runs
$node->safe_psql('postgres', q{ALTER SYSTEM SET dts.batch_budget = '10s'});
$node->reload;
$node->wait_for('SHOW dts.batch_budget', '10s');
$node->safe_psql('postgres', q{SELECT dts.pause('batched')});
my @batch = split /\n/, $node->safe_psql('postgres', q{SELECT dts.submit(CASE n WHEN 30 THEN 'INSERT INTO effect VALUES (30); SELECT pg_sleep(60)' ELSE format('INSERT INTO effect VALUES (%s)', n) END, queue => 'batched') FROM generate_series(1, 60) n});
$node->safe_psql('postgres', q{SELECT dts.resume('batched')});
$node->running_pid($batch[29]);
is($node->safe_psql('postgres', 'SELECT held FROM dts._slots() WHERE task = ' . $batch[29]), '60', 'sixty tasks are held');
is(timed("SELECT dts.cancel($batch[29])"), 'cancelled', 'the thirtieth is cancelled');
$node->wait_done;
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT n), count(*) FILTER (WHERE n = 30) FROM effect'), '59|59|0', 'the others took effect, once');
is($node->safe_psql('postgres', 'SELECT string_agg(DISTINCT outcome || attempt, $$,$$ ORDER BY outcome || attempt) FROM dts.runs WHERE task IN (' . join(',', @batch) . ')'),
	'cancelled1,succeeded1', 'at their first attempt');

# One that waits in the batch behind a running one: it is not started.
$node->safe_psql('postgres', q{SELECT dts.pause('batched'); TRUNCATE effect});
@batch = map { $node->submit($_ == 1 ? 'SELECT pg_sleep(2)' : "INSERT INTO effect VALUES ($_)", queue => 'batched') } 1 .. 3;
$node->safe_psql('postgres', q{SELECT dts.resume('batched')});
$node->running_pid($batch[0]);
like(timed("SELECT dts.cancel($batch[1])"), qr/^cancel/, 'one that is claimed and not started yet');
$node->wait_done;
is(join(',', map { $node->safe_psql('postgres', "SELECT state FROM dts.tasks WHERE id = $_") } @batch), 'succeeded,cancelled,succeeded', 'only it is cancelled');

# A task steers what its own batch holds.
$node->safe_psql('postgres', q{SELECT dts.pause('batched'); TRUNCATE effect});
my $victim = $node->safe_psql('postgres', q{SELECT nextval('dts.task_id_seq')}) + 2;
@batch = ($node->submit("SELECT dts.cancel($victim)", queue => 'batched'), $node->submit('INSERT INTO effect VALUES (1)', queue => 'batched'));
is($batch[1], $victim, 'the second task');
$node->safe_psql('postgres', q{SELECT dts.resume('batched')});
$node->wait_done;
is(join(',', map { $node->runs_of($_) } @batch), '1 succeeded,0 cancelled', 'a task cancels the next one of its batch');

# ---- cancel, then crash
$id = $node->submit('SELECT pg_sleep(60)', retry => $soon);
$pid = $node->running_pid($id);
cont_after(
	$pid,
	sub {
		is(timed("SELECT dts.cancel($id)"), 'cancelling', 'the executor cannot end it now');
		$admin->close;
		$node->stop('immediate');
	});
$node->start;
$node->wait_back;
$node->wait_state($id, 'cancelled');
is($node->safe_psql('postgres', "SELECT count(*) FROM dts.runs WHERE task = $id AND outcome <> 'cancelled'"), '0', 'a cancelled task stays cancelled after a crash');
is($node->safe_psql('postgres', 'SELECT count(*) FROM dts.request'), '0', 'the request is done with');
$admin = $node->session;

# ---- a signal that comes late must not strike the next task
# The executor is stopped between two tasks; the cancel of the first one has been decided, and its signal is on the way.
$id = $node->submit('SELECT 1');
$node->wait_state($id, 'succeeded');
# What waited for the restart may have needed two of them.
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM dts.workers WHERE kind = 'executor' ORDER BY pid OFFSET 1) x});
$node->wait_for(q{SELECT count(*) FROM dts.workers WHERE kind = 'executor' AND state = 'idle'}, '1');
($pid) = $node->safe_psql('postgres', q{SELECT pid FROM dts.workers WHERE kind = 'executor'});
my $next;
cont_after(
	$pid,
	sub {
		kill 'USR2', $pid;
		kill 'INT', $pid;
		$next = $node->submit('SELECT pg_sleep(0.3)', max_attempts => 1);
	});
$node->wait_state($next, 'succeeded');
is($node->runs_of($next), '1 succeeded', 'signals between tasks do not strike the next one');

# A signal for a task that is over by the time it arrives: it ends while the process is stopped in its commit's wait for a standby.
$node->safe_psql('postgres', q{ALTER SYSTEM SET synchronous_standby_names = 'nobody'});
$node->reload;
$node->wait_for('SHOW synchronous_standby_names', 'nobody');
$admin->query('SET synchronous_commit = local');
$id = $admin->query(q{SELECT dts.submit('SELECT 1', queue => 'durable')});
$next = $admin->query(q{SELECT dts.submit('SELECT pg_sleep(0.2)', queue => 'durable', max_attempts => 1)});
$node->wait_for(q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'dts executor' AND wait_event = 'SyncRep'});
$pid = $admin->query(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'dts executor' AND wait_event = 'SyncRep' ORDER BY pid LIMIT 1});
is(timed("SELECT dts.cancel($id)"), 'succeeded', 'a task whose commit waits for a standby cannot be cancelled') if $admin->query("SELECT count(*) FROM dts.task WHERE id = $id") eq '0';
like(timed("SELECT dts.cancel($id)"), qr/^(finishing|succeeded)$/, 'and nothing is promised');
$admin->query("SELECT pg_cancel_backend($pid)");
is($admin->query("SELECT wait_event FROM pg_stat_activity WHERE pid = $pid"), 'SyncRep', 'pg_cancel_backend does not cut the wait short');
cont_after(
	$pid,
	sub {
		$admin->query("SELECT pg_cancel_backend($pid), dts.cancel($id)");
		$admin->query('ALTER SYSTEM RESET synchronous_standby_names');
		$node->reload;
		$node->wait_for('SHOW synchronous_standby_names', '');
	});
$node->wait_state($id, 'succeeded');
$node->wait_state($next, 'succeeded');
is($node->runs_of($next), '1 succeeded', 'the next task does not notice');
$admin->query('RESET synchronous_commit');

# ---- an administrator's pg_cancel_backend is a failed attempt
$id = $node->submit('SELECT pg_sleep(CASE WHEN EXISTS (SELECT FROM effect WHERE n = 77) THEN 0 ELSE 60 END)', retry => $soon);
$pid = $node->running_pid($id);
$node->safe_psql('postgres', 'INSERT INTO effect VALUES (77)');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
$node->wait_state($id, 'succeeded');
is($node->runs_of($id), "1 retry 57014\n2 succeeded", 'pg_cancel_backend is a failed attempt');

# ---- what was noted for a running task holds for its next attempt
$node->safe_psql('postgres', 'TRUNCATE effect');
my $once = q{DO $$ BEGIN IF NOT EXISTS (SELECT FROM effect WHERE n = 88) THEN PERFORM pg_sleep(60); END IF; END $$};
for my $transactional ('true', 'false') {
	$id = $node->submit($once, retry => '{"base": 0.05, "cap": 0.1}', transactional => $transactional);
	$pid = $node->running_pid($id);
	is(timed("SELECT dts.set_priority($id, 9)", 0.5), 'noted', "transactional $transactional: a new priority is noted");
	is(timed("SELECT dts.reschedule($id, delay => '1 hour')", 0.5), 'noted', "transactional $transactional: a new due time is noted");
	is(timed("SELECT dts.retry($id)", 0.5), 'running', "transactional $transactional: a retry finds it running");
	$node->safe_psql('postgres', 'SELECT pg_sleep(0.3)');
	is($node->safe_psql('postgres', "SELECT state FROM dts.tasks WHERE id = $id"), 'running', "transactional $transactional: it runs on");
	$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
	$node->wait_for("SELECT state, priority, run_at > now() + '50 min'::interval FROM dts.tasks WHERE id = $id", 'scheduled|9|t');
	pass("transactional $transactional: both are applied after the attempt");
	$node->safe_psql('postgres', 'INSERT INTO effect VALUES (88)');
	is(timed("SELECT dts.retry($id)"), 'changed', "transactional $transactional: dts.retry runs it now");
	$node->wait_state($id, 'succeeded');
	$node->safe_psql('postgres', 'TRUNCATE effect');
}

# ---- tasks outside a transaction
$node->safe_psql('postgres', q{CREATE PROCEDURE steps() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect VALUES (1); COMMIT; PERFORM pg_sleep(60); INSERT INTO effect VALUES (2); COMMIT; END $$});
for my $sql ('VACUUM effect', 'CREATE INDEX CONCURRENTLY effect_n ON effect (n)', 'REINDEX TABLE CONCURRENTLY effect', 'ALTER SYSTEM SET work_mem = $$5MB$$', 'CREATE DATABASE made_by_task', 'DROP DATABASE made_by_task') {
	$id = $node->submit($sql, transactional => 'false', max_attempts => 1);
	$node->wait_for("SELECT state IN ('succeeded', 'failed') FROM dts.tasks WHERE id = $id");
	is($node->runs_of($id), '1 succeeded', $sql);
}
$id = $node->submit('CALL steps()', transactional => 'false');
$pid = $node->running_pid($id);
$node->wait_for('SELECT count(*) FROM effect', '1');
is(timed("SELECT dts.cancel($id)", 1), 'cancelled', 'a task outside a transaction is cancelled');
$node->wait_for("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid AND state = 'active'", '0');
is($node->safe_psql('postgres', 'SELECT string_agg(n::text, $$,$$) FROM effect'), '1', 'what it had committed stays');
is($node->runs_of($id), '1 cancelled 57014', 'history says that it may have had its effect');
$next = $node->submit('SELECT pg_sleep(0.1)', max_attempts => 1);
$node->wait_state($next, 'succeeded');

# The caller of that cancel rolls back: an ordinary failed attempt.
$node->safe_psql('postgres', 'TRUNCATE effect');
$id = $node->submit('CALL steps()', transactional => 'false', retry => '{"base": 30, "jitter": "none"}');
$node->running_pid($id);
$admin->query('BEGIN');
is(timed("SELECT dts.cancel($id)", 1), 'cancelled', 'cancelled in a transaction');
$admin->query('ROLLBACK');
$node->wait_state($id, 'scheduled');
is($node->runs_of($id), '1 retry 57014', 'a cancel that was rolled back leaves a failed attempt');
is(timed("SELECT dts.cancel($id)"), 'cancelled', 'a waiting task is cancelled');

# Its executor is terminated: the lease lapses, and it is tried again.
$node->safe_psql('postgres', 'TRUNCATE effect; INSERT INTO effect VALUES (5)');
$id = $node->submit('DO $$ BEGIN COMMIT; IF (SELECT count(*) FROM effect) = 1 THEN INSERT INTO effect VALUES (6); COMMIT; PERFORM pg_sleep(60); END IF; END $$', transactional => 'false', retry => $soon);
$pid = $node->running_pid($id);
$node->wait_for('SELECT count(*) FROM effect', '2');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
$node->wait_state($id, 'succeeded');
is($node->runs_of($id), "1 retry 57P01\n2 succeeded", 'a leased task whose process was terminated is tried again');

$id = $node->submit('CALL steps()', transactional => 'false', timeout => '200ms', max_attempts => 1);
$node->wait_state($id, 'failed');
is($node->runs_of($id), '1 failed 57014', 'a timeout holds outside a transaction too');

is($node->safe_psql('postgres', q{SELECT value FROM dts.stats() WHERE name = 'cancel_requests'}), '0', 'no request to cancel is left');
is($node->safe_psql('postgres', 'SELECT count(*) FROM dts.request'), '0', 'nor on file');
$admin->close;
$node->healthy;
$node->stop;

done_testing();
