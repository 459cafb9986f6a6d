# Schedules across processes: crash at the fire, restart, clock steps, promotion, dump and restore, owners that are gone.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use DtsNode;

my $node = DtsNode->start_new('main', allows_streaming => 1, conf => "max_wal_senders = 4\nrestart_after_crash = on\n");
my $sql = sub { return $node->safe_psql('postgres', @_) };
$sql->(
	q{CREATE ROLE worker LOGIN; CREATE ROLE leaver LOGIN;
	SELECT dts.grant_usage('worker'), dts.grant_usage('leaver');
	CREATE TABLE effect (schedule text, due timestamptz, previous timestamptz, success timestamptz);
	GRANT ALL ON effect TO worker, leaver});
my $effect = 'INSERT INTO effect SELECT * FROM dts.scheduled()';

# No due time may ever be fired twice, nor be lost: each is fired, or skipped with a reason.
sub exactly_once {
	my ($n, $schedule) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($n->safe_psql('postgres', "SELECT due, count(*) FROM effect WHERE schedule = '$schedule' GROUP BY due HAVING count(*) > 1"), '', "$schedule: no due time had its effect twice");
	is($n->safe_psql('postgres', "SELECT due_at, count(*) FROM dts.fires WHERE schedule = '$schedule' AND decision <> 'waiting' GROUP BY due_at HAVING count(*) > 1"), '',
		"$schedule: none was decided twice");
	# Every second from the first to the last decision.
	is($n->safe_psql('postgres', "SELECT (sum(count) - (extract(epoch FROM max(due_to) - min(due_at)) + 1))::int FROM dts.fires WHERE schedule = '$schedule' AND decision <> 'waiting'"),
		'0', "$schedule: none was forgotten");
	return;
}

# The clock of schedules is moved, with the scheduler told.
sub clock {
	my ($n, $seconds) = @_;
	$n->safe_psql('postgres', "ALTER SYSTEM SET dts.debug_schedule_clock = '${seconds}s'");
	$n->reload;
	return;
}

# ---- crashes while it fires every second
$sql->("SELECT dts.schedule('tick', '* * * * * *', '$effect', missed => 'all', missed_max => 1000, overlap => 'allow', overlap_max => 100, owner => 'worker')");
for my $round (1 .. 3) {
	$node->wait_for("SELECT count(*) >= 2 FROM effect WHERE due > clock_timestamp() - '3 s'::interval");
	my ($scheduler) = $sql->(q{SELECT pid FROM dts.workers WHERE kind = 'scheduler' AND database = 'postgres'}) =~ /(\d+)/;
	$node->kill9($scheduler);
	$node->wait_for("SELECT count(*) FROM pg_stat_activity WHERE pid = $scheduler", "0");
	$node->wait_back;
}
$node->stop('immediate');
$node->start;
$node->wait_for("SELECT count(*) >= 2 FROM effect WHERE due > clock_timestamp() - '3 s'::interval");
# The scheduler is stopped for some seconds, and goes on.
my $scheduler = $sql->(q{SELECT pid FROM dts.workers WHERE kind = 'scheduler' AND database = 'postgres'});
kill 'STOP', $scheduler;
my $stopped = $sql->('SELECT clock_timestamp()');
my $pause = $ENV{DTS_LONG} ? 65 : 4;  # beyond a minute due times are missed ones
{
	local $DtsNode::wait_seconds = $pause + 60;
	$node->wait_for("SELECT clock_timestamp() > '$stopped'::timestamptz + '$pause s'::interval");
}
kill 'CONT', $scheduler;
$node->wait_for("SELECT count(*) >= 2 FROM effect WHERE due > '$stopped'::timestamptz + '$pause s'::interval + '1 s'::interval");
# What passes by itself decides nothing: here a lock that cannot be had; a full disk is the same.
my $locker = $node->session('postgres');
$locker->query('BEGIN; LOCK TABLE dts.task IN SHARE MODE');
$node->wait_for(q{SELECT count(*) FROM dts.schedules WHERE name = 'tick' AND trouble ~ 'could not be looked at'}, '1');
my $unlocked = $sql->('SELECT clock_timestamp()');
$locker->query('COMMIT');
$locker->close;
$node->wait_for("SELECT count(*) >= 2 FROM effect WHERE due > '$unlocked'::timestamptz");
is($sql->(q{SELECT count(*) FROM dts.fires WHERE schedule = 'tick' AND decision = 'failed'}), '0', 'a due time whose task could not be submitted for want of a lock is not given up');
$sql->(q{SELECT dts.pause_schedule('tick')});
$node->wait_done;
exactly_once($node, 'tick');
is($sql->(q{SELECT count(*) FROM effect WHERE previous >= due OR success >= due}), '0', 'previous due times and successes lie before');

# ---- missed while the clock jumps; back again
$sql->("SELECT dts.schedule('hourly-$_', '0 * * * *', '$effect', missed => '$_', overlap => 'allow', overlap_max => 100) FROM generate_series(1, 1)") for qw(skip once all);
$sql->("SELECT dts.schedule('hourly-within', '0 * * * *', '$effect', missed => 'within', missed_within => '2 hours', overlap => 'allow', overlap_max => 100)");
$sql->("SELECT dts.schedule('hourly-late', '0 * * * *', '$effect', missed => 'all', late => '1 second', overlap => 'allow', overlap_max => 100)");
my $future = $sql->(q{SELECT extract(epoch FROM date_trunc('hour', clock_timestamp()) + '5 hours 30 minutes' - clock_timestamp())::int});
clock($node, $future);
$node->wait_for(q{SELECT count(*) FROM dts.schedules WHERE name LIKE 'hourly-%' AND fired_until > clock_timestamp() + '4 hours'}, '5');
$node->wait_done;
is($sql->("SELECT schedule, count(*) FROM effect WHERE schedule LIKE 'hourly%' GROUP BY 1 ORDER BY 1"), "hourly-all|5\nhourly-once|1\nhourly-within|2", 'what was missed goes by the policy');
is($sql->(q{SELECT schedule, sum(count) FROM dts.fires WHERE schedule LIKE 'hourly%' AND decision = 'skipped' GROUP BY 1 ORDER BY 1}),
	"hourly-late|5\nhourly-once|4\nhourly-skip|5\nhourly-within|3", 'and what was not run is on record');
is($sql->(q{SELECT DISTINCT reason FROM dts.fires WHERE schedule = 'hourly-late'}), 'late', 'with its reason');
my $there = q{SELECT count(*) FROM dts.schedules WHERE name LIKE 'hourly-%' AND fired_until};
clock($node, 0);
$node->wait_for("$there <= clock_timestamp()", '5');
clock($node, $future + 60);
$node->wait_for("$there > clock_timestamp() + '4 hours'", '5');
is($sql->(q{SELECT schedule, count(*) FROM dts.fires WHERE schedule LIKE 'hourly%' AND reason = 'fired before' GROUP BY 1 ORDER BY 1}), "hourly-all|5\nhourly-once|1\nhourly-within|2", 'what comes twice is known');
clock($node, 0);
$sql->("SELECT dts.submit('SELECT 1')");
$node->wait_done;
is($sql->("SELECT count(*) FROM (SELECT FROM effect WHERE schedule LIKE 'hourly%' GROUP BY schedule, due HAVING count(*) > 1) x"), '0', 'nothing is fired again when the clock goes back and forth');
$sql->("SELECT dts.unschedule(name) FROM dts.schedules WHERE name LIKE 'hourly-%'");

# ---- overlap: a run that lasts until it is told
$sql->('CREATE TABLE gate (open boolean); GRANT ALL ON gate TO PUBLIC');
my $slow = 'DO $$BEGIN FOR i IN 1..6000 LOOP EXIT WHEN EXISTS (SELECT FROM gate); PERFORM pg_sleep(0.01); END LOOP; END$$';
$sql->("SELECT dts.schedule('o-skip', 'every 1 second', '$slow')");
$sql->("SELECT dts.schedule('o-one', 'every 1 second', '$slow', overlap => 'queue one')");
$node->wait_for(q{SELECT count(*) FROM dts.fires WHERE schedule LIKE 'o-%' AND decision = 'skipped' AND reason = 'overlap' HAVING count(DISTINCT schedule) = 2} =~ s/count\(\*\)/count(*) > 0/r);
is($sql->(q{SELECT schedule, decision, count(*) FROM dts.fires WHERE schedule LIKE 'o-%' AND decision <> 'skipped' GROUP BY 1, 2 ORDER BY 1, 2}),
	"o-one|fired|1\no-one|waiting|1\no-skip|fired|1", 'one runs, one waits if so asked, the rest is skipped');
$sql->(q{SELECT dts.pause_schedule('o-skip')});
$sql->('INSERT INTO gate VALUES (true)');
$node->wait_for(q{SELECT count(*) > 0 FROM dts.fires WHERE schedule = 'o-one' AND reason = 'waited'});
$sql->(q{SELECT dts.unschedule('o-one'), dts.unschedule('o-skip')});
$node->wait_done;
$sql->('DELETE FROM gate');
$sql->("SELECT dts.schedule('o-replace', 'every 2 seconds', '$slow', overlap => 'replace')");
$node->wait_for(q{SELECT count(*) > 1 FROM dts.fires f JOIN dts.tasks t ON t.id = f.task WHERE f.schedule = 'o-replace' AND t.state = 'cancelled'});
pass('replace: the running one is cancelled for the next');
$sql->(q{SELECT dts.unschedule('o-replace')});
$sql->('INSERT INTO gate VALUES (true)');
$node->wait_done;

# ---- another edition of the zone database: a due time that moved forward is found at the start, one that was fired is not fired again
$sql->(q{SELECT dts.schedule('zoned', '30 2 * * *', 'SELECT 1', zone => 'Europe/Berlin')});
$node->restart;
$node->wait_for(q{SELECT count(*) FROM dts.zone WHERE name = 'Europe/Berlin'}, '1');
my $next = $sql->(q{SELECT next_run FROM dts.schedules WHERE name = 'zoned'});
$sql->(q{UPDATE dts.zone SET print = 0; UPDATE dts.schedule_clock c SET next_fire = next_fire + '1 hour' FROM dts.schedule s WHERE s.id = c.schedule AND s.name = 'zoned'});
$node->restart;
$node->wait_for(q{SELECT next_run FROM dts.schedules WHERE name = 'zoned'}, $next);
is($sql->(q{SELECT count(*) FROM dts.fires WHERE schedule = 'zoned'}), '0', 'another edition of a zone: looked at, and not fired');
$sql->(q{SELECT dts.unschedule('zoned')});

# ---- one bad schedule does not stop others
$sql->("SELECT dts.schedule('gone', '* * * * * *', 'SELECT 1', owner => 'leaver')");
$sql->("SELECT dts.schedule('good', '* * * * * *', '$effect', owner => 'worker', missed => 'all', overlap => 'allow', overlap_max => 100)");
$sql->(q{SELECT dts.revoke_all('leaver')});
$node->wait_for(q{SELECT count(*) > 0 FROM dts.fires WHERE schedule = 'gone' AND decision = 'failed' AND detail ~ 'may not submit'});
pass('an owner without rights: on record');
$sql->('DROP OWNED BY leaver; DROP ROLE leaver');
$node->wait_for(q{SELECT count(*) > 1 FROM dts.fires WHERE schedule = 'gone' AND decision = 'failed' AND detail ~ 'does not exist|may not submit' AND due_at > clock_timestamp() - '3 s'::interval});
$sql->(q{UPDATE dts.schedule SET zone = 'Nowhere/Land' WHERE name = 'gone'; SELECT dts._changed('schedule', 0)});
$node->wait_for(q{SELECT state FROM dts.schedules WHERE name = 'gone'}, 'broken');
$node->wait_for(q{SELECT count(*) > 2 FROM effect WHERE schedule = 'good' AND due > clock_timestamp() - '4 s'::interval});
pass('a broken schedule says so, and the others go on');

# ---- a schedule that somebody holds in an open transaction
my $holder = $node->session('postgres');
$holder->query(q{BEGIN; SELECT dts.alter_schedule('good', description => 'held')});
my $held = $sql->('SELECT clock_timestamp()');
$sql->("SELECT dts.schedule('other', '* * * * * *', '$effect')");
$node->wait_for("SELECT count(*) > 1 FROM effect WHERE schedule = 'other'");
pass('others fire while one is held');
$holder->query('ROLLBACK');
$holder->close;
$node->wait_for("SELECT count(*) > 2 FROM effect WHERE schedule = 'good' AND due > '$held'");
$sql->(q{SELECT dts.unschedule('other'), dts.pause_schedule('good')});
$node->wait_done;
exactly_once($node, 'good');

# ---- dump and restore: kept, fenced, then by the policy for what was missed
$sql->(q{SELECT dts.create_calendar('week', ARRAY['mon-fri'])});
$sql->("SELECT dts.schedule('kept', '* * * * * *', '$effect', missed => 'skip', overlap => 'allow', overlap_max => 100)");
$node->wait_for("SELECT count(*) > 0 FROM effect WHERE schedule = 'kept'");
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
$sql->('CREATE DATABASE restored');
command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('restored'), $dump ], 'pg_restore');
my $kept = $node->safe_psql('restored', "SELECT max(due) FROM effect WHERE schedule = 'kept'");
is($node->safe_psql('restored', 'SELECT entries FROM dts.calendars'), '{mon-fri}', 'calendars come along');
$node->wait_for(q{SELECT dts._fence() ~ 'adopt'}, 't', 'restored');
is($node->safe_psql('restored', "SELECT max(due) <= '$kept' FROM effect WHERE schedule = 'kept'"), 't', 'nothing fires in the copy');
$node->safe_psql('restored', 'SELECT dts.adopt()');
$node->wait_for("SELECT count(*) > 1 FROM effect WHERE schedule = 'kept' AND due > '$kept'", 't', 'restored');
is($node->safe_psql('restored', "SELECT due FROM effect WHERE schedule = 'kept' GROUP BY due HAVING count(*) > 1"), '', 'after dts.adopt() it does, and nothing twice');
$node->safe_psql('restored', q{SELECT dts.unschedule('kept')});
$node->safe_psql('postgres', 'DROP DATABASE restored');

# ---- promotion
$sql->(q{SELECT dts.unschedule('kept'), dts.resume_schedule('tick')});
$node->backup('copy');
my $standby = DtsNode->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
my $before = $sql->("SELECT count(*) FROM effect WHERE schedule = 'tick'");
$node->wait_for("SELECT count(*) > $before + 2 FROM effect WHERE schedule = 'tick'");
$node->stop('immediate');
$standby->promote;
$standby->wait_for("SELECT count(*) > 2 FROM effect WHERE schedule = 'tick' AND due > clock_timestamp() - '4 s'::interval");
$standby->safe_psql('postgres', q{SELECT dts.pause_schedule('tick')});
$standby->wait_done;
exactly_once($standby, 'tick');
$standby->healthy;

done_testing();
