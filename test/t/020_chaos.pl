# Chaos: random tasks under random faults, then a checker of the history. Seed and length come from the environment
# (DTS_CHAOS_SEED, DTS_CHAOS_SECONDS); the seed is printed.
#
# What clients do is journalled in the same transaction (table journal), so the promise to check is: each journalled task has exactly
# one end, and exactly one effect if it succeeded, none otherwise.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $seed    = $ENV{DTS_CHAOS_SEED}    // int(rand(1_000_000));
my $seconds = $ENV{DTS_CHAOS_SECONDS} // 20;
srand($seed);
note("seed $seed, $seconds s");

my $node = DtsNode->start_new('chaos', conf => "dts.max_workers = 3\nrestart_after_crash = on\nlog_statement = none\n");
my $db   = 'postgres';
my $dir  = PostgreSQL::Test::Utils::tempdir;

$node->safe_psql($db, <<'SQL');
CREATE TABLE journal (task bigint, kind int);
CREATE TABLE effect (task bigint);
CREATE TABLE cancelled (task bigint, answer text);
SELECT dts.create_queue('batch', batch_size => 60), dts.create_queue('durable', durable => true);

-- The body of a task: its effect, a little work, and sometimes an error, which must take the effect back.
CREATE FUNCTION work(k bigint, fail float, nap float) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO effect VALUES (k);
    IF nap > 0 THEN PERFORM pg_sleep(nap); END IF;
    IF random() < fail THEN RAISE EXCEPTION 'chaos %', k; END IF;
END $$;

-- One client transaction: a task, or several, or one that is rolled back; options at random.
CREATE FUNCTION submit_one() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    k bigint := nextval('dts.task_id_seq'); id bigint; kind int := (random() * 9)::int;
    q text := (ARRAY['default', 'batch', 'batch', 'durable'])[1 + (random() * 3)::int];
BEGIN
    id := dts.submit('SELECT work($1, $2, $3)', jsonb_build_array(k, CASE WHEN kind = 1 THEN 0.5 WHEN kind = 2 THEN 1 ELSE 0 END,
        CASE WHEN kind = 3 THEN random() * 0.05 ELSE 0 END), queue => q, priority => (random() * 9)::int,
        delay => CASE WHEN kind = 4 THEN random() * interval '1 s' END, max_attempts => 3,
        retry => '{"base": 0.05, "cap": 0.5}', expires => CASE WHEN kind = 5 THEN clock_timestamp() + interval '200 ms' END);
    INSERT INTO journal VALUES (id, kind);
    INSERT INTO task_key VALUES (id, k);
    IF kind = 6 THEN
        BEGIN
            PERFORM dts.submit('SELECT work(-1, 0, 0)');
            RAISE EXCEPTION 'rolled back';
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
    END IF;
END $$;
CREATE TABLE task_key (task bigint PRIMARY KEY, k bigint);

CREATE FUNCTION steer_one() RETURNS void LANGUAGE plpgsql AS $$
DECLARE id bigint; answer text;
BEGIN
    SELECT task INTO id FROM journal OFFSET (random() * (SELECT count(*) - 1 FROM journal))::int LIMIT 1;
    IF id IS NULL THEN RETURN; END IF;
    IF random() < 0.7 THEN
        answer := dts.cancel(id);
        INSERT INTO cancelled VALUES (id, answer);
    ELSIF random() < 0.5 THEN
        PERFORM dts.set_priority(id, (random() * 9)::int);
    ELSE
        PERFORM dts.reschedule(id);
    END IF;
END $$;
SQL

append_to_file("$dir/submit.sql", "SELECT submit_one();\n");
append_to_file("$dir/rollback.sql", "BEGIN;\nSELECT submit_one();\nROLLBACK;\n");
append_to_file("$dir/steer.sql",  "SET dts.steer_wait = '20ms';\nSELECT steer_one();\n\\sleep 5 ms\n");

my @load;

# Producers and a canceller; they end by themselves, or when the server crashes under them.
sub start_load {
    my @common = ('pgbench', '-n', '-h', $node->host, '-p', $node->port, '-T', $seconds, $db);
    push @load, IPC::Run::start([ @common, '-c', 3, '-R', 400, '-f', "$dir/submit.sql\@9", '-f', "$dir/rollback.sql\@1" ], '>', '/dev/null', '2>', '/dev/null');
    push @load, IPC::Run::start([ @common, '-c', 1, '-f', "$dir/steer.sql" ],  '>', '/dev/null', '2>', '/dev/null');
    return;
}

sub stop_load {
    for my $h (@load) {
        eval { $h->kill_kill(grace => 2); 1 } or note("load: $@");
    }
    @load = ();
    return;
}

sub alive { return ($node->psql($db, 'SELECT 1'))[0] == 0; }

sub wait_alive {
    my $end = time + 60;
    while (!alive()) {
        BAIL_OUT('the server does not come back') if time > $end;
        usleep(50_000);
    }
    return;
}

sub pid_of {
    my ($kind) = @_;
    my (undef, $pids) = $node->psql($db, "SELECT pid FROM dts.workers WHERE kind = '$kind' AND database = '$db' ORDER BY random() LIMIT 1");
    return $pids;
}

my %done;
my %faults = (
    kill9_executor  => sub { my $p = pid_of('executor')  or return; kill 'KILL', $p; },
    kill9_scheduler => sub { my $p = pid_of('scheduler') or return; kill 'KILL', $p; },
    term_executor   => sub { my $p = pid_of('executor')  or return; kill 'TERM', $p; },
    term_scheduler  => sub { my $p = pid_of('scheduler') or return; kill 'TERM', $p; },
    stop_executor   => sub { my $p = pid_of('executor')  or return; kill 'STOP', $p; usleep(300_000); kill 'CONT', $p; },
    immediate       => sub { $node->stop('immediate'); $node->start; },
    workers         => sub { my $n = 1 + int(rand(4)); $node->psql($db, "ALTER SYSTEM SET dts.max_workers = $n"); $node->reload; },
    pause           => sub { $node->psql($db, q{SELECT dts.pause('batch')}); usleep(200_000); $node->psql($db, q{SELECT dts.resume('batch')}); },
    disable         => sub { $node->psql($db, 'ALTER SYSTEM SET dts.enabled = off'); $node->reload; usleep(200_000);
                             $node->psql($db, 'ALTER SYSTEM RESET dts.enabled'); $node->reload; },
);

start_load();
my $end = time + $seconds;
while (time < $end) {
    usleep(100_000 + int(rand(900_000)));
    my $name = (sort keys %faults)[ int(rand(scalar keys %faults)) ];
    $faults{$name}->();
    $done{$name}++;
    usleep(100_000);
    if (!alive()) {
        wait_alive();
        stop_load();
        start_load() if time < $end;
    }
}
stop_load();
wait_alive();
note('faults: ' . join ', ', map { "$_ $done{$_}" } sort keys %done);
$node->psql($db, 'ALTER SYSTEM RESET dts.max_workers');
$node->psql($db, 'ALTER SYSTEM RESET dts.enabled');
$node->reload;
$node->psql($db, q{SELECT dts.resume('batch')});

# Liveness: without faults everything ends.
$node->wait_for('SELECT count(*) FROM dts.task', '0');

sub none {
    my ($sql, $what) = @_;
    my $got = $node->safe_psql($db, "SELECT COALESCE(string_agg(x::text, ' ' ORDER BY x), '') FROM (SELECT x FROM ($sql) y(x) LIMIT 10) z");
    is($got, '', $what);
    return;
}
my $ends = q{(SELECT task, outcome FROM dts.runs WHERE outcome <> 'retry')};
cmp_ok($node->safe_psql($db, 'SELECT count(*) FROM journal'), '>', 20, 'there was something to check');
note($node->safe_psql($db, "SELECT string_agg(outcome || ' ' || n, ', ') FROM (SELECT outcome, count(*) n FROM $ends e GROUP BY 1) x"));
none("SELECT j.task FROM journal j LEFT JOIN $ends e USING (task) GROUP BY 1 HAVING count(e.outcome) <> 1", 'each submitted task has exactly one end');
none("SELECT e.task FROM $ends e LEFT JOIN journal j USING (task) WHERE j.task IS NULL", 'nothing ran whose submit was rolled back');
none("SELECT j.task FROM journal j JOIN $ends e USING (task) JOIN task_key t USING (task) LEFT JOIN effect f ON f.task = t.k
      GROUP BY j.task, e.outcome HAVING count(f.task) <> (e.outcome = 'succeeded')::int", 'one effect for each success, none for anything else');
none('SELECT task FROM effect WHERE task = -1', 'no effect of a rolled back savepoint');
none("SELECT c.task FROM cancelled c JOIN $ends e USING (task) WHERE c.answer IN ('cancelled', 'cancelling') AND e.outcome = 'succeeded'",
    'no task succeeded after a binding answer to cancel');
none("SELECT j.task FROM journal j JOIN $ends e USING (task) WHERE j.kind = 2 AND e.outcome = 'succeeded'", 'a task that always fails never succeeds');
none('SELECT task FROM dts.stuck()', 'nothing is stuck');
none('SELECT task FROM dts.request', 'no request is left');
is($node->safe_psql($db, q{SELECT value FROM dts.stats() WHERE name = 'swept_tasks_total'}), '0', 'no task had to be found by the sweep');
is($node->safe_psql($db, q{SELECT value FROM dts.stats() WHERE name = 'cancel_requests'}), '0', 'the board is empty');
$node->stop;
done_testing();
