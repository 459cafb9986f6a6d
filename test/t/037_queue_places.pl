# More queues than dts.max_queues: each runs, since those that have nothing to do, or nothing yet, make room; where all have work the others
# wait, and everybody can see why.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use DtsNode;

my $node = DtsNode->start_new('main', conf => "restart_after_crash = on\ndts.max_queues = 8\ndts.max_limits = 16\ndts.max_workers = 10\n");
my $sql = sub { return $node->safe_psql('postgres', @_) };
$sql->('CREATE TABLE gate (open boolean)');
my $gated = 'DO $x$BEGIN LOOP EXIT WHEN EXISTS (SELECT FROM public.gate); PERFORM pg_sleep(0.01); END LOOP; END$x$';
$sql->("SELECT dts.create_queue('q' || n) FROM generate_series(1, 20) n");
is($sql->(q{SELECT count(*) FROM dts.queues}), '21', 'more queues than places');

sub each_queue { return $sql->("SELECT dts.submit('SELECT 1', queue => 'q' || n, $_[0]) FROM generate_series(1, 20) n") }
each_queue(q{labels => '{"turn": 1}'});
$node->wait_done;
is($sql->(q{SELECT count(*) FROM dts.runs WHERE labels ->> 'turn' = '1' AND outcome = 'succeeded'}), '20', 'tasks of all of them run');
like($sql->(q{SELECT finding || ' ' || advice FROM dts.doctor() WHERE subject = 'dts.max_queues'}), qr/^13 queue\(s\) have no place.*Raise dts.max_queues/, 'the doctor says so');

# ---- those whose tasks are due later make room, and are there in time
each_queue(q{delay => '1 hour'});
my $now = $node->submit('SELECT 1', queue => 'q20');
$node->wait_state($now, 'succeeded');
pass('a task that is due does not wait for those that are not');
each_queue(q{delay => '2 s', labels => '{"turn": 2}'});
$node->wait_for(q{SELECT count(*) FROM dts.runs WHERE labels ->> 'turn' = '2' AND outcome = 'succeeded'}, '20');
is($sql->(q{SELECT count(*) FROM dts.tasks WHERE state = 'scheduled'}), '20', 'each when it is due, and not before');
$sql->(q{SELECT count(dts.cancel(id)) FROM dts.tasks WHERE state = 'scheduled'});

# ---- all places have work: the next one waits, and says why
$sql->("SELECT dts.submit('$gated', queue => 'q' || n) FROM generate_series(1, 8) n, generate_series(1, 3)");
$node->wait_for('SELECT count(*) FROM dts.running', '10');
my $ninth = $node->submit('SELECT 1', queue => 'q9');
$node->wait_for("SELECT dts.explain($ninth) ~ 'all 8 places of queues in shared memory \\(dts.max_queues\\) are taken'", 't');
is($sql->("SELECT state FROM dts.tasks WHERE id = $ninth"), 'ready', 'it waits');
$sql->('INSERT INTO gate VALUES (true)');
$node->wait_state($ninth, 'succeeded');
pass('... until one of them has nothing to do');
$node->wait_done;

# ---- settings, pauses and limits of a queue without a place hold
$sql->(q{SELECT dts.pause('q' || n) FROM generate_series(1, 10) n; SELECT dts.set_limit(queue => 'q11', concurrency => 1), dts.alter_queue('q12', history => 'none')});
each_queue(q{labels => '{"turn": 3}'});
$node->wait_for(q{SELECT count(*) FROM dts.task}, '10');
is($sql->(q{SELECT count(*) FILTER (WHERE queue = 'q12'), count(*) FROM dts.runs WHERE labels ->> 'turn' = '3'}), '0|9', 'paused ones wait, and one keeps no history');
$sql->('DELETE FROM gate');
my @one = map { $node->submit($gated, queue => 'q11') } 1 .. 2;
$node->wait_for("SELECT dts.explain($one[0]) ~ '^running' OR dts.explain($one[1]) ~ '^running'", 't');
$node->wait_for("SELECT dts.explain($one[0]) ~ 'limit of 1' OR dts.explain($one[1]) ~ 'limit of 1'", 't');
$sql->('INSERT INTO gate VALUES (true)');
$sql->(q{SELECT dts.resume('q' || n) FROM generate_series(1, 10) n});
$node->wait_done;
is($sql->(q{SELECT count(*) FROM dts.runs WHERE labels ->> 'turn' = '3'}), '19', 'resumed, they run');

# ---- queues that come and go leave nothing behind; a task that is committed after its queue was dropped runs
for my $turn (1 .. 3) {
	$sql->("SELECT dts.create_queue('t' || n) FROM generate_series(1, 10) n");
	$sql->("SELECT dts.submit('SELECT 1', queue => 't' || n) FROM generate_series(1, 10) n");
	$node->wait_done;
	$sql->("SELECT dts.drop_queue('t' || n) FROM generate_series(1, 10) n");
}
my $session = $node->session;
$sql->(q{SELECT dts.create_queue('late')});
$session->query('BEGIN');
my $late = $session->query(q{SELECT dts.submit('SELECT 1', queue => 'late')});
$sql->(q{SELECT dts.drop_queue('late')});
each_queue(q{labels => '{"turn": 4}'});
$node->wait_done;
$session->query('COMMIT');
$session->close;
$node->wait_state($late, 'succeeded');
pass('a task of a queue that was dropped meanwhile runs');

# ---- their limits go with them, and with handlers: from the view, and from shared memory, where there is room for 16
my $limits = $sql->('SELECT count(*) FROM dts._limit_state()');
for my $turn (1 .. 4) {
	$sql->("SELECT dts.create_queue('t' || n), dts.set_limit(queue => 't' || n, concurrency => 1) FROM generate_series(1, 5) n; SELECT dts.submit('SELECT 1', queue => 't' || n) FROM generate_series(1, 5) n");
	$sql->("SELECT dts.create_handler('h' || n, 'SELECT 1'), dts.set_limit(handler => 'h' || n, rate => 1000) FROM generate_series(1, 5) n; SELECT dts.submit_handler('h' || n) FROM generate_series(1, 5) n");
	is($sql->('SELECT count(*) FROM dts._limit_state()'), $limits + 10, 'new limits have their places') if $turn == 4;
	$node->wait_done;
	$sql->("SELECT dts.drop_queue('t' || n), dts.drop_handler('h' || n) FROM generate_series(1, 5) n");
}
is($sql->('SELECT count(*) FROM dts._limit_state()'), $limits, 'limits of what is dropped are gone from shared memory');
is($sql->(q{SELECT count(*) FROM dts.limits WHERE name ~ 'dropped'}), '0', '... and from the view');
$session = $node->session;
$sql->(q{SELECT dts.create_queue('late'), dts.set_limit(queue => 'late', concurrency => 0)});
$session->query('BEGIN');
$late = $session->query(q{SELECT dts.submit('SELECT 1', queue => 'late')});
$sql->(q{SELECT dts.drop_queue('late')});
$session->query('COMMIT');
$session->close;
$node->wait_state($late, 'succeeded');
pass('a task of a queue that was dropped meanwhile is not kept back by a limit that nobody can change any more');

# ---- after a crash and a restart
each_queue(q{delay => '1 s', labels => '{"turn": 5}'});
my ($scheduler) = $sql->(q{SELECT pid FROM dts.workers WHERE kind = 'scheduler' AND database = 'postgres'}) =~ /(\d+)/;
$node->kill9($scheduler);
$node->wait_back;
$node->restart;
$node->wait_for(q{SELECT count(*) FROM dts.runs WHERE labels ->> 'turn' = '5' AND outcome = 'succeeded'}, '19');
pass('after a crash and a restart');
$node->wait_done;
$node->healthy;
done_testing();
