# A scheduler that dies at each step of a fire, with what it has committed on disk: no due time is lost, none has its effect twice.
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
$sql->(
	q{CREATE TABLE effect (schedule text, due timestamptz);
	SELECT dts.create_workflow('flow', '{"nodes": {"a": {"sql": "INSERT INTO effect SELECT schedule, due_at FROM dts.scheduled()"}}}');
	SELECT dts.schedule('tick', '* * * * * *', 'INSERT INTO effect SELECT schedule, due_at FROM dts.scheduled()', missed => 'all', missed_max => 1000, overlap => 'allow', overlap_max => 100);
	SELECT dts.schedule('flow', 'every 2 seconds', workflow => 'flow', missed => 'all', missed_max => 1000, overlap => 'allow', overlap_max => 100);
	SELECT dts.schedule('after', 'every 1 second after end', 'SELECT 1')});

# Whatever was decided since it began is every due time of the timing, once, and each that was fired had its effect once.
sub exactly_once {
	my ($schedule, $step, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($sql->("SELECT due FROM effect WHERE schedule = '$schedule' GROUP BY due HAVING count(*) > 1"), '', "$what: $schedule had no effect twice");
	is( $sql->("SELECT d FROM (SELECT min(due_at) AS a, max(due_to) AS b FROM dts.fires WHERE schedule = '$schedule') x, generate_series(a, b, '$step') d
			WHERE d NOT IN (SELECT due FROM effect WHERE schedule = '$schedule')"), '', "$what: $schedule lost none");
	return;
}

for my $point ('schedule.fired', 'schedule.marked', 'schedule.committed') {
	for my $death ('KILL', 'TERM') {
		$node->wait_for(q{SELECT count(*) FROM effect WHERE due > clock_timestamp() - '3 s'::interval HAVING count(DISTINCT schedule) = 2} =~ s/count\(\*\)/count(*) > 1/r);
		my ($scheduler) = $sql->(q{SELECT pid FROM dts.workers WHERE kind = 'scheduler' AND database = 'postgres'}) =~ /(\d+)/;
		$node->pause_at($point, $scheduler);
		is($node->wait_reached($point), $scheduler, "$point: the scheduler has stopped");
		# What it has committed so far is on disk with this.
		$sql->('CREATE TABLE flush (); DROP TABLE flush; CHECKPOINT');
		if ($death eq 'KILL') {
			$node->kill9($scheduler);
			$node->wait_for("SELECT count(*) FROM pg_stat_activity WHERE pid = $scheduler", '0');
			$node->release($point);
			$node->wait_back;
		} else {
			$sql->("SELECT pg_terminate_backend($scheduler)");
			$node->release($point);
			$node->wait_for("SELECT count(*) FROM pg_stat_activity WHERE pid = $scheduler", '0');
		}
		my $now = $sql->('SELECT clock_timestamp()');
		$node->wait_for("SELECT count(*) > 1 FROM effect WHERE due > '$now'");
		# Pausing waits for what is being fired; then all that was submitted ends.
		$sql->(q{SELECT dts.pause_schedule('tick'), dts.pause_schedule('flow')});
		$node->wait_for(q{SELECT count(*) FROM dts.task t WHERE NOT EXISTS (SELECT FROM dts.schedule_run r JOIN dts.schedule s ON s.id = r.schedule WHERE r.task = t.id AND s.name = 'after')}, '0');
		exactly_once('tick', '1 second', "$point, $death");
		exactly_once('flow', '2 seconds', "$point, $death");
		$sql->(q{SELECT dts.resume_schedule('tick'), dts.resume_schedule('flow')});
	}
}
my $fires = $sql->(q{SELECT count(*) FROM dts.fires WHERE schedule = 'after'});
$node->wait_for("SELECT count(*) > $fires FROM dts.fires WHERE schedule = 'after'");
is($sql->(q{SELECT count(*) FROM dts.fires f JOIN dts.fires g ON g.schedule = f.schedule AND g.due_at > f.due_at AND g.due_at < f.due_at + '1 s'::interval WHERE f.schedule = 'after'}), '0',
	'an interval after the end: never two within it');
$node->healthy;

done_testing();
