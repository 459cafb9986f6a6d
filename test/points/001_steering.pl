# Cancel at each step of an executor: what is answered, and what becomes of the task; also if the process or the server dies there.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use DtsNode;

my $node = DtsNode->start_new('main', conf => "restart_after_crash = on\ndts.max_workers = 1\ndts.steer_wait = '100ms'\n");
$node->safe_psql('postgres', q{CREATE TABLE effect (task int); SELECT dts.alter_queue('default', retry => '{"base": 0.01, "cap": 0.02}')});
my $tasks = 0;

# stop_at(POINT): a task whose executor has stopped at that point.
sub stop_at {
	my ($point) = @_;
	my $warm = $node->submit('SELECT 1');
	$node->wait_state($warm, 'succeeded');
	$node->wait_for(q{SELECT count(*) FROM dts.workers WHERE kind = 'executor' AND state = 'idle'}, '1');
	my ($pid) = $node->worker_pids('executor');
	$node->pause_at($point, $pid);
	my $id = $node->submit('INSERT INTO effect VALUES (' . ++$tasks . ')');
	is($node->wait_reached($point), $pid, "$point: the executor has stopped");
	return ($id, $pid);
}

# ended(TASK, WHAT, WANTED): how it ended, and that its effect is there exactly if it succeeded.
sub ended {
	my ($id, $what, $wanted) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->wait_for("SELECT state IN ('succeeded', 'cancelled', 'failed') FROM dts.tasks WHERE id = $id", 't');
	my $state = $node->safe_psql('postgres', "SELECT state FROM dts.tasks WHERE id = $id");
	like($state, $wanted, "$what: end");
	is($node->safe_psql('postgres', "SELECT count(*) FROM effect WHERE task = $tasks"), $state eq 'succeeded' ? '1' : '0', "$what: effect");
	return;
}

sub answer {
	my ($call) = @_;
	return $node->safe_psql('postgres', "SELECT dts.$call");
}

# A promise holds whatever happens afterwards; without one the request stands if the task comes back.
sub after_death {
	my ($said) = @_;
	return $said =~ /^cancel/ ? qr/^cancelled$/ : $said eq 'succeeded' ? qr/^succeeded$/ : qr/^(succeeded|cancelled)$/;
}

my @steps = (
	# point                  cancel        end           reschedule beside it
	[ 'claim.taken',            'cancelled',  'cancelled', 'cancelled' ],
	[ 'claim.snapshot',         'cancelled',  'cancelled', 'cancelled' ],
	[ 'claim.scanned',          'finishing',  'cancelled', 'noted' ],
	[ 'executor.claimed',       'finishing',  'cancelled', 'noted' ],
	[ 'executor.published',     'cancelling', 'cancelled', 'noted' ],
	[ 'executor.started',       'cancelling', 'cancelled', 'noted' ],
	[ 'executor.returned',      'cancelling', 'cancelled', 'noted' ],
	[ 'executor.closed',        'finishing',  'succeeded', 'noted' ],
	[ 'executor.before_commit', 'finishing',  'succeeded', 'noted' ],
	[ 'touch.visible',          'succeeded',  'succeeded', 'succeeded' ],
	[ 'executor.committed',     'succeeded',  'succeeded', 'succeeded' ],
);
for my $step (@steps) {
	my ($point, $said, $end, $moved) = @$step;
	my ($id, $pid) = stop_at($point);
	is(answer("cancel($id)"), $said, "$point: cancel");
	is(answer("cancel($id)"), $said, "$point: cancel again");
	is(answer("reschedule($id, delay => '0')"), $moved, "$point: reschedule of a cancelled task");
	$node->release($point);
	ended($id, "$point, cancelled", qr/^$end$/);
	is($node->safe_psql('postgres', "SELECT started_at IS NULL FROM dts.runs WHERE task = $id"), $point =~ /^claim|claimed|published/ ? 't' : 'f', "$point: whether it was started")
	  if $end eq 'cancelled';

	($id, $pid) = stop_at($point);
	is(answer("cancel($id)"), $said, "$point: cancel before the executor dies");
	is($node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)"), 't', "$point: terminated");
	$node->release($point);
	ended($id, "$point, cancelled and terminated", after_death($said));

	($id, $pid) = stop_at($point);
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	$node->release($point);
	ended($id, "$point, terminated", qr/^succeeded$/);
}
$node->wait_for('SELECT count(*) FROM dts.request', '0');
$node->healthy;
unlike(slurp_file($node->logfile), qr/a task's transaction failed: canceling|ERROR:  canceling statement/, 'no interrupt struck the executor outside of the task that it was meant for');

# The server dies with the executor. The sweep's counter begins anew each time.
for my $step (grep { $_->[0] =~ /claimed|started|returned|before_commit|visible/ } @steps) {
	my ($point, $said) = @$step;
	for my $cancel (0, 1) {
		my ($id, $pid) = stop_at($point);
		is(answer("cancel($id)"), $said, "$point: cancel before the server dies") if $cancel;
		$node->kill9($pid);
		$node->release($point);
		$node->wait_back;
		# An effect that was not flushed is lost with its end, and the task runs again: also after the answer "succeeded", which flushed it.
		ended($id, "$point, server died" . ($cancel ? ' after a cancel' : ''), $cancel ? after_death($said) : qr/^succeeded$/);
	}
}
$node->wait_for('SELECT count(*) FROM dts.request', '0');
$node->healthy;

# What was promised is on file, and comes before anything else after a crash: also if the scheduler has no second turn, and the task had not
# begun, so that nothing else is known of it.
my ($dying, $its_pid) = stop_at('executor.published');
is(answer("cancel($dying)"), 'cancelling', 'a promise before the server dies');
$node->pause_at('scheduler.turned');
$node->kill9($its_pid);
$node->release('executor.published');
$node->wait_back;
ended($dying, 'the server died, and its scheduler is slow', qr/^cancelled$/);
$node->release('scheduler.turned');

# ---- a signal that comes late finds another task
my $before = $node->submit('SELECT pg_sleep(600)');
my $struck = $node->running_pid($before);
is(answer("cancel($before)"), 'cancelled', 'one task is interrupted');
my ($other) = stop_at('executor.started');
is(($node->worker_pids('executor'))[0], $struck, 'by the same process');
is(kill('USR2', $struck), 1, 'its signal comes again');
$node->release('executor.started');
ended($other, 'the next task', qr/^succeeded$/);
is($node->runs_of($other), '1 succeeded', 'it was not disturbed');

# ---- the caller of dts.cancel stops between its steps
for my $point ('cancel.posted', 'cancel.scanned') {
	my ($id) = stop_at('executor.published');
	my $caller = $node->session;
	$caller->query(q{SET dts.steer_wait = '60s'});    # on a slow machine it would be over before the caller looks again
	$node->pause_at($point, $caller->{pid});
	$caller->send("SELECT dts.cancel($id)");
	$node->wait_reached($point);
	$node->release('executor.published');
	ended($id, "$point: the executor goes on", qr/^cancelled$/);
	$node->release($point);
	is($caller->query("SELECT 'then'"), "cancelled\nthen", "$point: the answer");
	$caller->close;
}
# Its wait is over, and only then the task ends: it answers what is so, not what it saw last.
for my $case ([ 'executor.published', 'cancelled' ], [ 'executor.closed', 'succeeded' ]) {
	my ($point, $end) = @$case;
	my ($id) = stop_at($point);
	my $caller = $node->session;
	$caller->query(q{SET dts.steer_wait = 0});
	$node->pause_at('cancel.scanned', $caller->{pid});
	$caller->send("SELECT dts.cancel($id)");
	$node->wait_reached('cancel.scanned');
	$node->release($point);
	ended($id, "$point: the last look of dts.cancel", qr/^$end$/);
	$node->release('cancel.scanned');
	is($caller->query("SELECT 'then'"), "$end\nthen", "$point: the answer is true at the end of the wait");
	$caller->close;
}
# A caller that dies after its post: no promise was made, and the task is cancelled all the same.
my ($id) = stop_at('executor.published');
my $caller = $node->session;
$node->pause_at('cancel.posted', $caller->{pid});
$caller->send("SELECT dts.cancel($id)");
$node->wait_reached('cancel.posted');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($caller->{pid})");
$node->release('cancel.posted');
$node->wait_for("SELECT count(*) FROM pg_stat_activity WHERE pid = $caller->{pid}", '0');
$node->release('executor.published');
ended($id, 'the caller died after its post', qr/^cancelled$/);

# ---- a note that comes while an attempt runs holds for the next one
my $slow = $node->submit('SELECT 1');
$node->wait_state($slow, 'succeeded');
my ($pid) = $node->worker_pids('executor');
$node->pause_at('executor.closed', $pid);
$id = $node->submit('SELECT 1/0', max_attempts => 2);
$node->wait_reached('executor.closed');
is(answer("reschedule($id, delay => '1 hour')"), 'noted', 'a reschedule while an attempt fails');
$node->hold_scheduler;    # it would do the same, a moment too late
$node->release('executor.closed');
$node->wait_for("SELECT count(*) FROM dts.runs WHERE task = $id", '1');
is($node->safe_psql('postgres', "SELECT run_at > now() + '50 minutes' FROM dts.tasks WHERE id = $id"), 't', 'the next attempt is when it was asked for');
$node->release('scheduler.turned');
is(answer("cancel($id)"), 'cancelled', 'it waits');

$node->healthy;
done_testing();
