# Limits, concurrency keys, idempotency keys and leases at the moments that count: who holds a place, and who hears that it is free.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use DtsNode;

my $node = DtsNode->start_new('main', conf => "dts.max_workers = 3\n");
my $sql = sub { return $node->safe_psql('postgres', @_) };
$sql->(q{
	CREATE ROLE ann LOGIN; GRANT ann TO CURRENT_USER; SELECT dts.grant_usage('ann');
	SELECT dts.create_queue('one'), dts.create_queue('rate', batch_size => 20), dts.create_queue('fifo');
	SELECT dts.set_limit(queue => 'one', concurrency => 1), dts.set_limit(queue => 'fifo', key_fifo => true);
	SELECT dts.set_limit(queue => 'rate', rate => 2, per => '1 s', burst => 2)});

# gate(N): a session that holds up the tasks of behind(N), until it is opened.
sub gate {
	my ($n) = @_;
	my $session = $node->session;
	$session->query("SELECT pg_advisory_lock($n)");
	return $session;
}
sub behind { return "SELECT pg_advisory_xact_lock($_[0])" }
sub open_gate {
	my ($session) = @_;
	$session->query('SELECT pg_advisory_unlock_all()');
	$session->close;
	return;
}

# ---- a place is given back when a task ends, and when its process does
$node->wait_state($node->submit('SELECT 1', queue => 'one'), 'succeeded') for 1 .. 3;
pass('one after the other');
my $long = $node->submit('SELECT pg_sleep(600)', queue => 'one', max_attempts => 1);
my $pid = $node->running_pid($long);
my $next = $node->submit('SELECT 1', queue => 'one');
$sql->("SELECT pg_terminate_backend($pid)");
$node->wait_state($next, 'succeeded');
pass('the place of a process that is gone');

# ---- and whoever waits for it hears of it, whoever owns them
my $gate = gate(1);
my $hers = $node->submit('SELECT pg_sleep(0.01)', owner => 'ann');
$node->wait_state($hers, 'succeeded');
my $mine = $node->submit(behind(1), queue => 'one');
$node->running_pid($mine);
$hers = $node->submit('SELECT 1', queue => 'one', owner => 'ann');
$node->wait_for("SELECT dts.explain($hers) ~ 'has reached its limit of 1'", 't');
$node->hold_scheduler;
open_gate($gate);
$node->wait_state($hers, 'succeeded');
$node->release('scheduler.turned');
pass('an executor of another owner was told');

# ---- a rate: what a claim did not use is given back, and no more
my @rated = map { my $id = $node->submit('SELECT 1', queue => 'rate'); $node->wait_state($id, 'succeeded'); $id } 1 .. 6;
cmp_ok($sql->("SELECT extract(epoch FROM max(started_at) - min(started_at)) FROM dts.runs WHERE task BETWEEN $rated[0] AND $rated[-1]"), '>=', 1.9,
	'two at once, and two in a second from then on');

# ---- a key is held until the commit is there for all to see, and whoever was parked behind it is remembered
$node->idle_executors(2);
$node->pause_at('executor.before_commit');
my $first = $node->submit('SELECT 1', concurrency_key => 'k');
my $stopped = $node->wait_reached('executor.before_commit');
$node->pause_at('executor.before_commit', $stopped);
my $second = $node->submit('SELECT 2', concurrency_key => 'k');
$node->wait_for("SELECT dts.explain($second) ~ 'is held by task $first'", 't');
$node->wait_for("SELECT state FROM dts.task WHERE id = $second", '4');
$node->release('executor.before_commit');
$node->wait_state($second, 'succeeded');
is($sql->("SELECT b.started_at > a.ended_at FROM dts.run a, dts.run b WHERE a.task = $first AND b.task = $second"), 't', 'one after the other, and not forgotten');

# ---- strict order: a head that is not due holds up the rest
my $head = $node->submit('SELECT 1', queue => 'fifo', concurrency_key => 'f', delay => '1 hour');
my $tail = $node->submit('SELECT 2', queue => 'fifo', concurrency_key => 'f');
$node->wait_for("SELECT dts.explain($tail) ~ 'is held by task $head, which is due at'", 't');
$node->wait_for("SELECT state FROM dts.task WHERE id = $tail", '4');
$sql->("SELECT dts.reschedule($head, delay => '0')");
$node->wait_state($tail, 'succeeded');
is($sql->("SELECT b.started_at > a.ended_at FROM dts.run a, dts.run b WHERE a.task = $head AND b.task = $tail"), 't', 'in order');

# ---- an idempotency key belongs to its task through all attempts, until the end
my $try = $node->submit('SELECT 1/0', key => 'once', max_attempts => 2, retry => '{"base": 3600, "jitter": "none"}');
$node->wait_for("SELECT count(*) FROM dts.runs WHERE task = $try", '1');
is($node->submit('SELECT 1', key => 'once'), $try, 'between two attempts the key is taken');
$sql->("SELECT dts.cancel($try)");
isnt($node->submit('SELECT 1', key => 'once'), $try, 'after the end it is free');

# ---- a lease is not taken back while its process lives
$gate = gate(2);
$sql->('CREATE PROCEDURE behind2() LANGUAGE plpgsql AS $$BEGIN PERFORM pg_advisory_xact_lock(2); END$$');
my $leased = $node->submit('CALL behind2()', transactional => 'f', retry => '{"base": 0.01}');
$node->running_pid($leased);
my $sweeps = $sql->(q{SELECT value FROM dts.stats() WHERE name = 'sweeps_total'});
$node->wait_for("SELECT value >= $sweeps + 2 FROM dts.stats() WHERE name = 'sweeps_total'", 't');
open_gate($gate);
$node->wait_state($leased, 'succeeded');
is($node->runs_of($leased), '1 succeeded', 'its first attempt was its only one');

# ---- and what came of an attempt counts only while the lease is its own
$gate = gate(2);
$leased = $node->submit('CALL behind2()', transactional => 'f', retry => '{"base": 0.01}');
$node->running_pid($leased);
$sql->("UPDATE dts.task SET token = gen_random_uuid() WHERE id = $leased");    # as if somebody else had leased it since
open_gate($gate);
$node->wait_state($leased, 'succeeded');
unlike($node->runs_of($leased), qr/^1 succeeded/, 'a late end of another lease is not recorded');

$node->wait_done;
$node->wait_for('SELECT COALESCE(sum(running), 0) FROM dts.limits', '0');
$node->healthy;
done_testing();
