# Limits hold: how many run at once, and how many start in a time; for queues, handlers, owners and tenants; while they are changed,
# under kill -9 of an executor and under reload. What ran together is read from history.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use Test::More;

my $node = DtsNode->start_new('limits', conf => "restart_after_crash = on\ndts.max_workers = 6\n");
$node->safe_psql('postgres', q{
	CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; GRANT ann, bob TO CURRENT_USER;
	SELECT dts.grant_usage('ann'), dts.grant_usage('bob');
});

# most(FILTER): how many attempts that match were under way at the same time at most, by history.
sub most {
	my ($filter) = @_;
	return $node->safe_psql('postgres', qq{
		WITH r AS (SELECT started_at, ended_at FROM dts.runs WHERE $filter),
		     e AS (SELECT started_at AS at, 1 AS n FROM r UNION ALL SELECT ended_at, -1 FROM r)
		SELECT max(s) FROM (SELECT sum(n) OVER (ORDER BY at, n) AS s FROM e) x});
}

# busiest(FILTER, INTERVAL): how many started within one interval at most.
sub busiest {
	my ($filter, $interval) = @_;
	return $node->safe_psql('postgres', qq{
		SELECT max(n) FROM (SELECT count(*) OVER (ORDER BY started_at RANGE BETWEEN '$interval' PRECEDING AND CURRENT ROW) AS n FROM dts.runs WHERE $filter) x});
}

sub queue { return $node->safe_psql('postgres', "SELECT dts.create_queue('$_[0]')") }

# nothing_held(): every place was given back.
sub nothing_held {
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->wait_for('SELECT COALESCE(sum(running), 0) FROM dts.limits', '0');
	return pass('every place was given back');
}

# What runs waits for the gate, so that a test sees as many beside each other as may be, however slow the machine; each then takes a moment.
# A table, since a crash gives locks back.
$node->safe_psql('postgres', 'CREATE TABLE gate (open boolean); GRANT SELECT ON gate TO PUBLIC');
my $gated = 'DO $x$BEGIN LOOP EXIT WHEN EXISTS (SELECT FROM public.gate); PERFORM pg_sleep(0.01); END LOOP; PERFORM pg_sleep(0.02); END$x$';
sub gate { return $node->safe_psql('postgres', $_[0] eq 'open' ? 'INSERT INTO gate VALUES (true)' : 'DELETE FROM gate') }
sub running { return $node->wait_for("SELECT count(*) FROM dts.running WHERE $_[0]", $_[1]) }

subtest 'a queue, shared by two owners' => sub {
	queue('two');
	$node->safe_psql('postgres', q{SELECT dts.set_limit(queue => 'two', concurrency => 2)});
	$node->safe_psql('postgres', qq{SELECT dts.submit('$gated', queue => 'two', owner => '$_') FROM generate_series(1, 8)}) for qw(ann bob);
	running(q{queue = 'two'}, 2);
	my $last = $node->safe_psql('postgres', q{SELECT max(id) FROM dts.tasks});
	like($node->safe_psql('postgres', "SELECT dts.explain($last)"), qr/^queue "two" has reached its limit of 2 running at once: held by task \d+, running for .*; task \d+, running for /, 'explain names the limit and who holds it');
	gate('open');
	$node->wait_done;
	is(most(q{queue = 'two'}), '2', 'two at once, and two were used');
	nothing_held();
};

subtest 'who gives a place back tells those who were refused, whoever they are' => sub {
	queue('told');
	$node->safe_psql('postgres', q{SELECT dts.set_limit(queue => 'told', concurrency => 1)});
	$node->safe_psql('postgres', q{ALTER SYSTEM SET dts.sweep_interval = '1h'});
	$node->reload;
	my $warm = $node->submit('SELECT 1', owner => 'bob');  # so that he has an idle executor, which waits for being told
	$node->wait_state($warm, 'succeeded');
	gate('closed');
	my $holder = $node->submit($gated, queue => 'told', owner => 'ann');
	$node->running_pid($holder);
	my $refused = $node->submit('SELECT 1', queue => 'told', owner => 'bob');
	$node->wait_for("SELECT dts.explain($refused) ~ 'has reached its limit of 1 running at once: held by task $holder'", 't');
	gate('open');
	$node->wait_state($refused, 'succeeded');
	$node->safe_psql('postgres', q{ALTER SYSTEM RESET dts.sweep_interval});
	$node->reload;
	nothing_held();
};

subtest 'explain names the limit and who holds it' => sub {
	queue('one');
	$node->safe_psql('postgres', q{SELECT dts.set_limit(queue => 'one', concurrency => 1)});
	my $first = $node->submit('SELECT pg_sleep(600)', queue => 'one');
	$node->running_pid($first);
	my $second = $node->submit('SELECT 1', queue => 'one');
	$node->wait_for("SELECT dts.explain($second) ~ 'queue \"one\" has reached its limit of 1 running at once: held by task $first, running for [0-9.]+ s'", 't');
	is($node->as_role('ann', 'SELECT 1 FROM dts.limits WHERE name = \'one\' AND running = 1'), '1', 'dts.limits shows it');
	my $other = $node->submit('SELECT 1', queue => 'one', owner => 'ann');
	like($node->as_role('ann', "SELECT dts.explain($other)"), qr/held by a task of another role/, 'tasks of others are not named');
	$node->safe_psql('postgres', q{SELECT dts.set_limit(queue => 'one', concurrency => 2)});
	$node->wait_state($_, 'succeeded') for $second, $other;
	pass('a higher limit takes effect at once');
	$node->safe_psql('postgres', "SELECT dts.cancel($first)");
	$node->wait_done;
	nothing_held();
};

subtest 'a limit counts what ran before it was set' => sub {
	queue('late');
	my @busy = map { $node->submit('SELECT pg_sleep(600)', queue => 'late') } 1 .. 2;
	$node->running_pid($_) for @busy;
	$node->safe_psql('postgres', q{SELECT dts.set_limit(queue => 'late', concurrency => 2)});
	my $next = $node->submit('SELECT 1', queue => 'late');
	$node->wait_for("SELECT dts.explain($next) ~ 'has reached its limit of 2'", 't');
	$node->safe_psql('postgres', "SELECT dts.cancel($busy[0])");
	$node->wait_state($next, 'succeeded');
	$node->safe_psql('postgres', "SELECT dts.cancel($busy[1])");
	$node->wait_done;
	nothing_held();
};

subtest 'a handler, in two queues' => sub {
	$node->safe_psql('postgres', q{
		SELECT dts.create_handler('slow', 'SELECT pg_sleep(0.05) FROM (SELECT $1::jsonb) x');
		SELECT dts.set_limit(handler => 'slow', concurrency => 1);
		SELECT dts.create_queue('h2')});
	$node->safe_psql('postgres', qq{SELECT dts.submit_handler('slow', queue => '$_') FROM generate_series(1, 5)}) for qw(default h2);
	$node->safe_psql('postgres', q{SELECT dts.submit('SELECT pg_sleep(0.05)') FROM generate_series(1, 5)});
	$node->wait_done;
	is(most(q{handler = 'slow'}), '1', 'one at once, whatever the queue');
	nothing_held();
};

subtest 'a tenant and an owner' => sub {
	queue('t');
	$node->safe_psql('postgres', q{SELECT dts.set_limit(tenant => 'acme', concurrency => 1), dts.set_limit(owner => 'ann', concurrency => 2)});
	gate('closed');
	$node->safe_psql('postgres', qq{SELECT dts.submit('$gated', queue => 't', tenant => 'acme') FROM generate_series(1, 4)});
	$node->safe_psql('postgres', qq{SELECT dts.submit('$gated', queue => 't', tenant => 'other') FROM generate_series(1, 2)});
	$node->safe_psql('postgres', qq{SELECT dts.submit('$gated', queue => 't', owner => 'ann') FROM generate_series(1, 8)});
	running(q{queue = 't' AND tenant = 'acme'}, 1);
	running(q{queue = 't' AND owner = 'ann'}, 2);
	running(q{queue = 't'}, 5);
	gate('open');
	$node->wait_done;
	is(most(q{queue = 't' AND tenant = 'acme'}), '1', 'the tenant: one, and no more');
	is(most(q{queue = 't' AND owner = 'ann'}), '2', 'the owner: two, and no more');
	nothing_held();
};

subtest 'rates' => sub {
	$node->safe_psql('postgres', q{SELECT dts.create_queue('r', batch_size => 20), dts.set_limit(queue => 'r', rate => 100, per => '500 ms')});
	$node->safe_psql('postgres', q{SELECT count(*) FROM dts.submit_many('SELECT 1', array_fill('[]'::jsonb, '{250}'), queue => 'r')});
	my $last = $node->safe_psql('postgres', q{SELECT max(id) FROM dts.task});
	$node->wait_for(q{SELECT count(*) > 20 FROM dts.runs WHERE queue = 'r'}, 't');
	$node->reload;
	$node->wait_done;
	cmp_ok(busiest(q{queue = 'r'}, '499.9 ms'), '<=', 100, 'no half second holds more than 100 starts, through a reload');
	my $took = $node->safe_psql('postgres', q{SELECT extract(epoch FROM max(started_at) - min(started_at)) FROM dts.runs WHERE queue = 'r'});
	cmp_ok($took, '>=', 1.2, "250 took $took s");

	queue('hour');
	$node->safe_psql('postgres', q{SELECT dts.set_limit(queue => 'hour', rate => 1, per => '1 hour', burst => 3)});
	my $waiting = $node->submit('SELECT 1', queue => 'hour');
	$node->wait_for("SELECT dts.explain($waiting) ~ 'queue \"hour\" has used up its rate of 1 in 01:00:00; the next task may start in 00:59:'", 't');
	$node->safe_psql('postgres', q{SELECT dts.set_limit(queue => 'hour', reset => '{rate}')});
	$node->wait_state($waiting, 'succeeded');
};

subtest 'pause' => sub {
	$node->safe_psql('postgres', q{SELECT dts.create_handler('ping', 'SELECT $1::jsonb')});
	for my $what (['handler', 'ping'], ['owner', 'bob'], ['tenant', 'acme']) {
		my ($scope, $name) = @$what;
		$node->safe_psql('postgres', "SELECT dts.pause($scope => '$name')");
		my $id = $node->safe_psql('postgres', $scope eq 'handler' ? q{SELECT dts.submit_handler('ping')} : "SELECT dts.submit('SELECT 1', $scope => '$name')");
		my $free = $node->submit('SELECT 1');
		$node->wait_state($free, 'succeeded');
		is($node->safe_psql('postgres', "SELECT dts.explain($id)"), qq{$scope "$name" is paused; dts.resume($scope => '$name') lets it go on}, "$scope: paused");
		$node->safe_psql('postgres', "SELECT dts.resume($scope => '$name')");
		$node->wait_state($id, 'succeeded');
	}
};

subtest 'drain' => sub {
	queue('drain');
	gate('closed');
	my $long = $node->submit($gated, queue => 'drain');
	$node->running_pid($long);
	is($node->safe_psql('postgres', q{CALL dts.drain(queue => 'drain', timeout => '50 ms')}), '1', 'it waits no longer than asked');
	my $next = $node->submit('SELECT 1', queue => 'drain');
	my $drain = $node->session;
	$drain->send(q{CALL dts.drain(queue => 'drain', timeout => '60 s')});
	$node->wait_for("SELECT count(*) FROM pg_stat_activity WHERE pid = $drain->{pid} AND state = 'active' AND query ~ 'drain' AND wait_event IS NOT NULL", '1');
	gate('open');
	is($drain->query('SELECT 1'), "0\n1", 'it waits for what runs');
	$drain->close;
	is($node->safe_psql('postgres', "SELECT dts.state($long)"), 'succeeded', 'which has ended');
	is($node->safe_psql('postgres', "SELECT dts.state($next)"), 'ready', 'and nothing has started');
	$node->safe_psql('postgres', q{SELECT dts.resume('drain')});
	$node->wait_state($next, 'succeeded');
	is($node->safe_psql('postgres', q{CALL dts.drain(tenant => 'acme')}), '0', 'a tenant of which nothing runs');
	$node->safe_psql('postgres', q{SELECT dts.resume(tenant => 'acme')});
};

subtest 'kill -9' => sub {
	queue('k');
	$node->safe_psql('postgres', q{SELECT dts.set_limit(queue => 'k', concurrency => 2); SELECT dts.set_limit(queue => 'r', rate => 100, per => '500 ms')});
	gate('closed');
	$node->safe_psql('postgres', qq{SELECT dts.submit('$gated', queue => 'k', max_attempts => 10, retry => '{"base": 0.01}') FROM generate_series(1, 30)});
	$node->safe_psql('postgres', q{SELECT count(*) FROM dts.submit_many('SELECT 1', array_fill('[]'::jsonb, '{150}'), queue => 'r')});
	for my $kind (qw(executor scheduler launcher)) {
		$node->wait_for(q{SELECT count(*) FROM dts.running WHERE queue = 'k'}, '2');
		my ($victim) = $kind ne 'executor' ? $node->worker_pids($kind) : split /\n/, $node->safe_psql('postgres', q{SELECT worker_pid FROM dts.running WHERE queue = 'k'});
		$node->kill9($victim);
		$node->wait_back;
	}
	gate('open');
	$node->wait_done;
	is(most(q{queue = 'k' AND outcome = 'succeeded'}), '2', 'two at once, before and after');
	cmp_ok(busiest(q{queue = 'r'}, '499.9 ms'), '<=', 100, 'the restart gave no burst');
	nothing_held();
	is($node->safe_psql('postgres', q{SELECT count(*) FROM dts.runs WHERE queue = 'k' AND outcome = 'succeeded'}), '30', 'each was done once');
};

subtest 'an executor that is terminated gives its place back' => sub {
	queue('f');
	$node->safe_psql('postgres', q{SELECT dts.set_limit(queue => 'f', concurrency => 1)});
	my $first = $node->submit('SELECT pg_sleep(600)', queue => 'f', max_attempts => 1);
	my $pid = $node->running_pid($first);
	my $second = $node->submit('SELECT 1', queue => 'f', owner => 'ann');
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	$node->wait_state($second, 'succeeded');
	$node->wait_done;
	nothing_held();
};

$node->healthy;
$node->stop;
done_testing();
