# A task that takes the server down again and again becomes a dead letter; bystanders are not charged for it. One that ends its own
# process has failed, no more.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use DtsNode;

# The budget is long, so that tasks that we want to meet in company stay there.
my $node = DtsNode->start_new('main', conf => "restart_after_crash = on\ndts.max_workers = 4\ndts.max_crashes = 2\ndts.batch_budget = '10s'\n");
my $soon = '{"base": 0.05, "cap": 0.2}';
$node->safe_psql(
	'postgres', qq{
	CREATE TABLE effect (n int);
	SELECT dts.create_queue('batched', batch_size => 20, retry => '$soon');
	SELECT dts.create_queue('single', retry => '$soon')});

# Kills the task's process whenever it runs, until it is not tried again. Returns how often.
sub poison {
	my ($task) = @_;
	my $kills = 0;
	while ($kills < 10) {
		$node->wait_for("SELECT EXISTS (SELECT FROM dts.running WHERE id = $task) OR EXISTS (SELECT FROM dts.dead_letters WHERE id = $task)");
		my $pid = $node->safe_psql('postgres', "SELECT worker_pid FROM dts.running WHERE id = $task");
		last unless $pid;
		kill 'KILL', $pid;
		$kills++;
		$node->wait_for("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", '0');
		$node->wait_back;
	}
	return $kills;
}

# In a queue of its own, with bystanders in other executors that the crashes throw off too.
my $bystander = $node->submit('SELECT pg_sleep(1.5)', queue => 'single');
my $leased = $node->submit('DO $$ BEGIN PERFORM pg_sleep(1.5); COMMIT; END $$', queue => 'single', transactional => 'false', max_attempts => 20);
$node->running_pid($bystander);
$node->running_pid($leased);
my $poison = $node->submit('SELECT pg_sleep(60)', queue => 'single');
is(poison($poison), 3, 'one crash makes it a suspect, two while it ran alone a dead letter');
is($node->safe_psql('postgres', "SELECT attempts, crashes, sqlstate FROM dts.dead_letters WHERE id = $poison"), '0|2|57P02', 'crashes are counted apart from attempts');
$node->wait_state($bystander, 'succeeded');
is($node->runs_of($bystander), '1 succeeded', 'a bystander in another executor is not charged');
$node->wait_state($leased, 'succeeded');
unlike($node->runs_of($leased), qr/57P02/, 'nor is one outside a transaction');

# In a batch: companions are taken back by the crash, and run once, at their first attempt.
$node->safe_psql('postgres', q{SELECT dts.pause('batched')});
my @companions = map { $node->submit("INSERT INTO effect VALUES ($_)", queue => 'batched') } 1 .. 5;
$poison = $node->submit('SELECT pg_sleep(60)', queue => 'batched');
push @companions, map { $node->submit("INSERT INTO effect VALUES ($_)", queue => 'batched') } 6 .. 10;
$node->safe_psql('postgres', q{SELECT dts.resume('batched')});
is(poison($poison), 3, 'in a batch too, only crashes while it ran alone count');
$node->wait_done;
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT n) FROM effect'), '10|10', 'its companions took effect once');
is( $node->safe_psql('postgres', 'SELECT string_agg(DISTINCT outcome || attempt, $$,$$) FROM dts.runs WHERE task IN (' . join(',', @companions) . ')'),
	'succeeded1', 'and were not charged');

# A dead letter can be redriven; then it starts without a record.
is($node->safe_psql('postgres', "SELECT dts.redrive($poison)"), 'redriven', 'a poison task can be redriven');
my $pid = $node->running_pid($poison);
$node->safe_psql('postgres', "SELECT dts.cancel($poison)");
$node->wait_state($poison, 'cancelled');

# Outside a transaction.
$node->safe_psql('postgres', 'CREATE PROCEDURE stay() LANGUAGE plpgsql AS $$ BEGIN COMMIT; PERFORM pg_sleep(60); END $$');
$poison = $node->submit('CALL stay()', queue => 'single', transactional => 'false');
is(poison($poison), 3, 'a task outside a transaction becomes a dead letter after as many crashes');
$node->healthy;

# A task that ends its own process.
my $log = -s $node->logfile;
my $self = $node->submit('SELECT pg_terminate_backend(pg_backend_pid())', max_attempts => 3, retry => $soon);
$node->wait_state($self, 'failed');
is($node->runs_of($self), "1 retry 57P01\n2 retry 57P01\n3 failed 57P01", 'a task that terminates its own process fails as often as it may, no more');
my $after = $node->submit('SELECT 1');
$node->wait_state($after, 'succeeded');

# In company.
$node->safe_psql('postgres', q{TRUNCATE effect; SELECT dts.pause('batched')});
@companions = map { $node->submit("INSERT INTO effect VALUES ($_)", queue => 'batched') } 1 .. 5;
$self = $node->submit('SELECT pg_terminate_backend(pg_backend_pid())', queue => 'batched', max_attempts => 2);
push @companions, map { $node->submit("INSERT INTO effect VALUES ($_)", queue => 'batched') } 6 .. 10;
$node->safe_psql('postgres', q{SELECT dts.resume('batched')});
$node->wait_state($self, 'failed');
$node->wait_done;
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT n) FROM effect'), '10|10', 'its companions took effect once');
is( $node->safe_psql('postgres', 'SELECT string_agg(DISTINCT outcome || attempt, $$,$$) FROM dts.runs WHERE task IN (' . join(',', @companions) . ')'),
	'succeeded1', 'and were not charged');

# Somebody else ends the process: of a running task that is a failed attempt, of an idle executor nothing.
my $slow = $node->submit('SELECT pg_sleep(CASE WHEN (SELECT count(*) FROM effect) > 10 THEN 0 ELSE 60 END)', retry => $soon);
$pid = $node->running_pid($slow);
$node->safe_psql('postgres', 'INSERT INTO effect VALUES (11)');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
$node->wait_state($slow, 'succeeded');
is($node->runs_of($slow), "1 retry 57P01\n2 succeeded", 'pg_terminate_backend of a running task is a failed attempt');
$node->wait_for(q{SELECT count(*) > 0 AND bool_and(state = 'idle') FROM dts.workers WHERE kind = 'executor'});
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM dts.workers WHERE kind = 'executor'});
$after = $node->submit('SELECT 1');
$node->wait_state($after, 'succeeded');
is($node->runs_of($after), '1 succeeded', 'pg_terminate_backend of an idle executor costs nothing');
unlike(slurp_file($node->logfile, $log), qr{was terminated by signal}, q{the server did not restart for any of these});

# A fast shutdown in the middle is nobody's fault.
$slow = $node->submit('SELECT pg_sleep(CASE WHEN (SELECT count(*) FROM effect) > 11 THEN 0 ELSE 60 END)', max_attempts => 1);
$node->running_pid($slow);
$node->safe_psql('postgres', 'INSERT INTO effect VALUES (12)');
$node->restart;
$node->wait_state($slow, 'succeeded');
is($node->runs_of($slow), '1 succeeded', 'a shutdown is not charged to the tasks that it interrupts');
$node->healthy;
$node->stop;

done_testing();
