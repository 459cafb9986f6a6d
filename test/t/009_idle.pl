# An idle server: no transaction, next to no wake-up, and executors that leave and come back.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use DtsNode;

my $node = DtsNode->start_new('main', conf => "dts.sweep_interval = '60s'\ndts.worker_idle_timeout = '500ms'\nautovacuum = off\n");
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION dts');

# Voluntary context switches of all processes of dts: each is a wait that ended.
sub wakeups {
	my %count;
	for my $pid (split /\n/, $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'dts %'})) {
		my $status = slurp_file("/proc/$pid/status");
		($count{$pid}) = $status =~ /^voluntary_ctxt_switches:\s+(\d+)/m;
	}
	return \%count;
}

sub transactions {
	return $node->safe_psql('postgres', q{SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database WHERE datname = 'other'});
}

my $id = $node->submit('SELECT 1', dbname => 'other');
$node->wait_state($id, 'succeeded', 'other');
$node->submit('SELECT 1', dbname => 'other', delay => '1 hour') for 1 .. 3;
$node->wait_for(q{SELECT count(*) FROM dts.workers WHERE kind = 'executor'}, '0');
pass('executors leave after dts.worker_idle_timeout');

# Statistics of our own sessions arrive up to a second late: begin when the counter stands still.
my $before = transactions();
for (1 .. 30) {
	$node->safe_psql('postgres', 'SELECT pg_sleep(1.2)');
	my $now = transactions();
	last if $now == $before;
	$before = $now;
}
my $begin = time;
my $first = wakeups();
cmp_ok(scalar keys %$first, '>=', 3, 'launcher and two schedulers are there');
$node->safe_psql('postgres', 'SELECT pg_sleep(6)');
my $last = wakeups();
my $seconds = time - $begin;
is(join(' ', sort keys %$last), join(' ', sort keys %$first), 'no process came or went');
my $sum = 0;
$sum += $last->{$_} - $first->{$_} for keys %$last;
cmp_ok($sum / $seconds, '<', 1, "all processes of dts together wake less than once a second ($sum in $seconds s)");
is(transactions(), $before, 'no transaction while idle');

# A task after that starts an executor, and the next one finds it.
$id = $node->submit('SELECT 1', dbname => 'other');
$node->wait_state($id, 'succeeded', 'other');
my $pid = $node->safe_psql('other', "SELECT worker_pid FROM dts.runs WHERE task = $id");
cmp_ok($node->safe_psql('other', "SELECT extract(epoch FROM waited) FROM dts.runs WHERE task = $id"), '<', 2, 'a task wakes the database up');
$node->safe_psql('postgres', q{ALTER SYSTEM SET dts.worker_idle_timeout = '60s'});
$node->reload;
$node->wait_for('SHOW dts.worker_idle_timeout', '1min');
my @ids = map { my $t = $node->submit('SELECT 1', dbname => 'other'); $node->wait_state($t, 'succeeded', 'other'); $t } 1 .. 3;
is($node->safe_psql('other', 'SELECT count(DISTINCT worker_pid) FROM dts.runs WHERE task IN (' . join(',', @ids) . ')'), '1', 'an executor is reused');

# With executors idle, too.
$node->safe_psql('postgres', 'SELECT pg_sleep(1.5)');
$first = wakeups();
$begin = time;
$node->safe_psql('postgres', 'SELECT pg_sleep(3)');
$last = wakeups();
$sum = 0;
$sum += ($last->{$_} // 0) - ($first->{$_} // 0) for keys %$last;
cmp_ok($sum / (time - $begin), '<', 1.2, "with idle executors as well ($sum)");
# A task that swallows its timeout is ended although the sweep is far away.
$id = $node->submit(q{DO $$ BEGIN LOOP BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$}, timeout => '100ms', max_attempts => 1, dbname => 'other');
$begin = time;
$node->wait_state($id, 'failed', 'other');
cmp_ok(time - $begin, '<', 20, 'a task that swallows its timeout is ended without the help of the sweep');
$node->healthy('other');
$node->stop;

done_testing();
