# Schedules and notifications: a due time fires once whoever dies, a run that is still under way is looked at, a limit is kept.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use DtsNode;

my $node = DtsNode->start_new('main', conf => "restart_after_crash = on\n");
my $sql = sub { return $node->safe_psql('postgres', @_) };

# ---- a notification: at most so many
$sql->(q{SELECT dts.create_notification('n', '{"sql": "SELECT 1"}', events => '{dead}', per_minute => 1)});
my @failing = map { $node->submit('SELECT 1/0', max_attempts => 1) } 1 .. 3;
$node->wait_state($_, 'failed') for @failing;
is($sql->('SELECT sent, held FROM dts.notifications'), '1|2', 'one is sent, the others are held back');
$sql->(q{SELECT dts.drop_notification('n')});

# ---- overlap: the next due time while a run is under way
my $gate = $node->session;
$gate->query('SELECT pg_advisory_lock(1)');
$sql->(q{SELECT dts.schedule('slow', '* * * * * *', 'SELECT pg_advisory_xact_lock(1)')});
$node->wait_for(q{SELECT count(*) > 1 FROM dts.fires WHERE schedule = 'slow'}, 't');
$node->wait_for(q{SELECT count(*) > 0 FROM dts.fires WHERE schedule = 'slow' AND decision = 'skipped' AND reason = 'overlap'}, 't');
is($sql->(q{SELECT count(*) FROM dts.fires WHERE schedule = 'slow' AND decision = 'fired'}), '1', 'nothing is started beside a run');
$sql->(q{SELECT dts.unschedule('slow')});
$gate->query('SELECT pg_advisory_unlock(1)');
$gate->close;
$node->wait_done;
# Before the crash, which begins the sweep's counter anew.
$node->healthy;

# ---- the server dies right after a schedule has fired: what was submitted is there, and so is the mark
$sql->(q{CREATE TABLE effect (due timestamptz);
	SELECT dts.schedule('tick', '* * * * * *', 'INSERT INTO effect SELECT s.due FROM dts.scheduled() s(schedule, due, previous, success)', missed => 'all', overlap => 'allow', overlap_max => 100)});
$node->wait_for('SELECT count(*) > 0 FROM effect', 't');
my ($scheduler) = $node->worker_pids('scheduler');
my $fired = $sql->(q{SELECT count(*) FROM dts.fires WHERE schedule = 'tick'});
$node->pause_at('schedules.fired', $scheduler);
for (1 .. 600) {    # it comes by without anything due, too
	$node->wait_reached('schedules.fired');
	last if $sql->(q{SELECT count(*) FROM dts.fires WHERE schedule = 'tick'}) > $fired;
	$node->release('schedules.fired');
	$node->pause_at('schedules.fired', $scheduler);
}
$sql->('CREATE TABLE flushed ()');    # a commit that is on disk, and with it all before
$node->kill9($scheduler);
$node->release('schedules.fired');
$node->wait_back;
my $back = $sql->('SELECT clock_timestamp()');
$node->wait_for("SELECT count(*) > 0 FROM effect WHERE due > '$back'", 't');
$sql->(q{SELECT dts.pause_schedule('tick')});
$node->wait_done;
is($sql->('SELECT due, count(*) FROM effect GROUP BY due HAVING count(*) > 1'), '', 'no due time had its effect twice');
is($sql->('SELECT count(*) = extract(epoch FROM max(due) - min(due)) + 1 FROM effect'), 't', 'and none was forgotten');

$node->healthy;
done_testing();
