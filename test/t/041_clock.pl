# Clock steps around a whole server (test/clock): no fire lost, none doubled, nothing that stands still.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use DtsClock;
use DtsNode;

my $clock = DtsClock->new or plan skip_all => 'no C compiler';
my $node = DtsNode->new('main');
$node->init(conf => "restart_after_crash = on\n");
$clock->under(sub { $node->start });
my $sql = sub { return $node->safe_psql('postgres', @_) };
$sql->('CREATE EXTENSION dts; CREATE TABLE effect (schedule text, due timestamptz)');
my $effect = 'INSERT INTO effect SELECT schedule, due_at FROM dts.scheduled()';
# ---- asleep for up to an hour: who is told that the clock was set looks at once
$sql->(q{ALTER SYSTEM SET dts.sweep_interval = '1h'});
$node->reload;
$sql->("SELECT dts.schedule('asleep', '0 * * * *', '$effect')");
$node->wait_for(q{SELECT wait_event_type || ' ' || wait_event FROM pg_stat_activity WHERE backend_type = 'dts scheduler' AND datname = 'postgres'}, 'Extension Extension');
my $next = $sql->(q{SELECT next_run FROM dts.schedules WHERE name = 'asleep'});
$clock->set($sql->("SELECT extract(epoch FROM '$next'::timestamptz - clock_timestamp())::int + 2"), $node, told => 1);
$node->wait_for("SELECT count(*) FROM effect WHERE schedule = 'asleep' AND due = '$next'", '1');
is($sql->(q{SELECT decision, reason, lateness < '1 min' FROM dts.fires WHERE schedule = 'asleep'}), 'fired|due|t', 'asleep, and told: fired when the clock says so');
$sql->(q{SELECT dts.unschedule('asleep'); ALTER SYSTEM RESET dts.sweep_interval; DELETE FROM effect});
$clock->set(0, $node, told => 1);
$node->reload;

$sql->("SELECT dts.schedule('sec', '* * * * * *', '$effect', missed => 'all', missed_max => 20, overlap => 'allow', overlap_max => 200)");
$sql->("SELECT dts.schedule('hour-' || m, '0 * * * *', '$effect', missed => m) FROM unnest(ARRAY['skip', 'once']) m");
$sql->("SELECT dts.schedule('drift', 'every 1 second after end', '$effect')");

# Since the first decision every second was decided once, by a clock that was set back perhaps again, and what was fired had its effect once.
sub exactly_once {
	my ($what, $again) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$sql->(q{SELECT dts.pause_schedule('sec')});
	$node->wait_for(q{SELECT count(*) FROM dts.task t JOIN dts.schedule_run r ON r.task = t.id JOIN dts.schedule s ON s.id = r.schedule WHERE s.name <> 'drift'}, '0');
	is($sql->('SELECT schedule, due FROM effect GROUP BY 1, 2 HAVING count(*) > 1'), '', "$what: no due time had its effect twice");
	my $more = $again ? '>=' : '=';
	is( $sql->(qq{SELECT (sum(count) - (extract(epoch FROM max(due_to) - min(due_at)) + 1))::int $more 0, count(*) FILTER (WHERE decision = 'fired') = (SELECT count(*) FROM effect WHERE schedule = 'sec')
			FROM dts.fires WHERE schedule = 'sec' AND decision <> 'waiting'}), 't|t', "$what: each was decided, and what was fired ran");
	$sql->(q{SELECT dts.resume_schedule('sec')});
	return;
}

sub beats {
	my ($schedule, $what) = @_;
	my $n = $sql->("SELECT count(*) FROM effect WHERE schedule = '$schedule'");
	$node->wait_for("SELECT count(*) > $n + 1 FROM effect WHERE schedule = '$schedule'");
	return pass("$what: $schedule goes on");
}

beats('sec', 'before');
my $began = time;
is(abs($sql->('SELECT extract(epoch FROM clock_timestamp())::int') - time) < 5, 1, 'the server has the right time');

# ---- five hours forward
$clock->set(5 * 3600, $node, told => 1);
$node->wait_for(q{SELECT count(DISTINCT schedule) FROM dts.fires WHERE schedule LIKE 'hour-%' AND reason = 'missed'}, '2');
is(abs($sql->('SELECT extract(epoch FROM clock_timestamp())::int') - time - 5 * 3600) < 5, 1, 'the server believes in the new time');
like($sql->(q{SELECT sum(count) FROM dts.fires WHERE schedule = 'hour-skip'}), qr/^[56]$/, 'skip: the hours are on record');
is($sql->(q{SELECT count(*) FROM effect WHERE schedule = 'hour-skip' AND due < clock_timestamp() - '1 min'::interval}), '0', '... and not run');
$node->wait_for(q{SELECT count(*) FROM effect WHERE schedule = 'hour-once'}, '1');
beats($_, 'forward') for 'sec', 'drift';
exactly_once('forward');

# ---- two hours back: what was fired is not fired again, and what was missed comes; what waits for an interval after an end waits once its length
my $marks = q{SELECT string_agg(fired_until::text, ' ') FROM dts.schedules WHERE fired_until > clock_timestamp()};
$sql->(q{SELECT dts.create_queue('held', paused => true), dts.create_queue('late', retry => '{"strategy": "fixed", "base": 5, "jitter": "none"}')});
my $held = $sql->(q{SELECT dts.submit('SELECT 1', queue => 'held')});
my $asked = $sql->(q{SELECT dts.submit('SELECT 1', run_at => clock_timestamp() - '30 minutes'::interval + '1 hour'::interval)});
$sql->('CREATE TABLE good ()');
$sql->('DROP TABLE good');
my $retried = $sql->(q{SELECT dts.submit('TABLE good', queue => 'late')});
$node->wait_for("SELECT attempts FROM dts.tasks WHERE id = $retried AND state <> 'running'", '1');
$clock->set(3 * 3600, $node);
$sql->('CREATE TABLE good ()');
beats('drift', 'back');
$sql->(q{SELECT dts.resume('held')});
$node->wait_state($held, 'succeeded');
pass('back: a task that was due before runs');
$node->wait_state($retried, 'succeeded');
pass('back: a task that waited for its next attempt waits no longer than it would have');
is($sql->("SELECT state FROM dts.tasks WHERE id = $asked"), 'scheduled', 'back: what was asked for by the clock on the wall waits for it');
my $task = $sql->(q{SELECT dts.submit('SELECT 1')});
$node->wait_state($task, 'succeeded');
pass('back: new tasks run');
beats('sec', 'back');
is($sql->($marks), '', 'back: no mark is ahead of the clock');
is($sql->("SELECT next_run < clock_timestamp() + '1 hour'::interval FROM dts.schedules WHERE name = 'hour-skip'"), 't', 'back: and the view says when');
is($sql->(q{SELECT last_success <= clock_timestamp() FROM dts.schedules WHERE name = 'sec'}), 't', 'back: no success is one of the future');

# ---- what dts notes in memory follows the clock: here another hour back
$sql->(q{CREATE ROLE late LOGIN; CREATE ROLE agent LOGIN; SELECT dts.grant_usage('late'), dts.create_queue('out'); SELECT dts.grant_agent('agent', ARRAY['out']); ALTER ROLE late NOLOGIN});
my $barred = $sql->(q{SELECT dts.submit('SELECT 1', owner => 'postgres')});
$node->wait_state($barred, 'succeeded');
$sql->(q{ALTER ROLE late LOGIN});
my $failing = $sql->(q{SELECT dts.submit('SELECT 1', owner => 'late', delay => '500 ms')});
$sql->(q{ALTER ROLE late NOLOGIN});
$node->wait_for(qq{SELECT dts._start_failure('late'::regrole::oid) IS NOT NULL AND run_at < clock_timestamp() FROM dts.task WHERE id = $failing});
my $holder = $node->session('postgres');
$holder->query('SELECT pg_advisory_lock(1), pg_advisory_lock(2)');
my $first = $sql->(q{SELECT dts.submit('SELECT pg_advisory_xact_lock(1)', timeout => '10 minutes', max_attempts => 1)});
$node->running_pid($first);
my $struck = $node->submit('SELECT pg_advisory_xact_lock(2)');
my $pid = $node->running_pid($struck);
my $child = $node->submit('SELECT 1', depends_on => "[$struck]");
my $command = $sql->(q{SELECT dts.submit_command(ARRAY['x'], queue => 'out', max_attempts => 1)});
is($node->as_role('agent', q{SELECT count(*) FROM dts.claim('gone', lease => '2 s')}), '1', 'an agent has a lease, and is not heard of any more');
$clock->set(2 * 3600, $node);
my $second = $sql->(q{SELECT dts.submit('SELECT 1')});
$node->wait_state($second, 'succeeded');
pass('back: another executor is started beside a busy one');
$sql->(q{ALTER ROLE late LOGIN});
$node->wait_state($failing, 'succeeded');
pass('back: a failed start is tried again as soon as it would have been');
$node->wait_state($command, 'failed');
pass('back: the lease of a dead agent ends');
$sql->("SELECT pg_terminate_backend($pid)");
$node->wait_for("SELECT count(*) FROM dts.running WHERE id = $struck AND worker_pid <> $pid", '1');
pass('back: what ran when the clock was set, and died, is tried again');
$holder->query('SELECT pg_advisory_unlock(2)');
$node->wait_state($child, 'succeeded');
pass('back: and what waited for it does not wait for the clock');
for my $hours (map { 2 + $_ % 2 } 1 .. 40) {
	$clock->set($hours * 3600, $node);
	$sql->('SELECT 1');
}
$sql->(q{SELECT dts.submit_command(ARRAY['x'], queue => 'out', max_attempts => 1)});
my ($leased, $token) = split /\|/, $node->as_role('agent', q{SELECT task, token FROM dts.claim('alive', lease => '20 minutes')});
$clock->set(3 * 3600, $node);
# The scheduler ends what ignores its time limit; a step of the clock is no time that passed.
my $sweeps = $sql->(q{SELECT value FROM dts.stats() WHERE name = 'sweeps_total'});
$node->wait_for("SELECT value > $sweeps + 1 FROM dts.stats() WHERE name = 'sweeps_total'");
$holder->query('SELECT pg_advisory_unlock(1)');
$node->wait_state($first, 'succeeded');
is($node->runs_of($first), '1 succeeded', 'forward: a task does not lose the time that the clock leapt over');
is($node->as_role('agent', "SELECT dts.complete($leased, '$token')"), 'succeeded', 'forward: nor does an agent lose its lease');
$holder->close;

# ---- a server that starts with a clock before its marks
$sql->("SELECT dts.cancel($asked), dts.pause_schedule('drift')");
$node->wait_done;
$clock->under(sub { $node->restart });
$node->wait_for(q{SELECT count(*) FROM dts.workers WHERE kind = 'scheduler'}, '1');
beats('sec', 'restart before the mark');
is($sql->($marks), '', 'restart: no mark is ahead of the clock');

# ---- the clock is right again, step by step
for my $offset (4 * 3600, 5 * 3600 + (time - $began) + 5, 5 * 3600 + 300, 5 * 3600 + 290) {
	$clock->set($offset, $node, told => $offset % 2 == 0);
}
beats('sec', 'there again');
exactly_once('after all steps', 1);
cmp_ok($sql->(q{SELECT count(*) FROM dts.fires WHERE schedule = 'sec' AND reason = 'fired before'}), '>', 0, '... and what came twice was known');

# ---- a clock that is two months ahead for a moment: nothing is thrown away for its age, and no schedule sleeps for two months
my $kept = q{SELECT (SELECT count(*) FROM dts.dead_letter), to_regclass('dts.run_' || to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYYMMDD')) IS NOT NULL};
my $before = $sql->($kept);
like($before, qr/^[1-9]\d*\|t$/, 'there is something to lose');
# Not one for each second: of two months each would be looked at.
$sql->("SELECT dts.pause_schedule('sec'), dts.schedule('five', '*/5 * * * * *', '$effect')");
$clock->set(61 * 86400, $node, told => 1);
$task = $sql->(q{SELECT dts.submit('SELECT 1')});
$node->wait_state($task, 'succeeded');
beats('five', 'two months ahead');
# After a reload the scheduler looks at the history in its next turn.
$node->reload;
my $turns = $sql->(q{SELECT value FROM dts.stats() WHERE name = 'scheduler_wakeups_total'});
$node->wait_for("SELECT value > $turns + 2 FROM dts.stats() WHERE name = 'scheduler_wakeups_total'");
$clock->set(5 * 3600 + 320, $node, told => 1);
beats('five', 'after two months');
is($sql->($kept), $before, 'after two months: history and dead letters are there');
is($sql->('SELECT schedule, due FROM effect GROUP BY 1, 2 HAVING count(*) > 1'), '', 'after two months: no due time had its effect twice');
is($sql->('SELECT * FROM dts.stuck()'), '', 'nothing is stuck');

done_testing();
