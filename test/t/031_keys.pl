# Concurrency keys: one task of a key at a time, or so many, or strictly in order; nobody waits for ever behind a key, whoever dies,
# is cancelled or rolls back; other keys do not notice.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use Test::More;

my $node = DtsNode->start_new('keys', conf => "restart_after_crash = on\ndts.max_workers = 5\n");
$node->safe_psql('postgres', q{SELECT dts.create_queue('k', retry => '{"base": 0.01}', max_attempts => 20), dts.create_queue('b', batch_size => 20), dts.create_queue('f', retry => '{"base": 0.05}'), dts.create_queue('two');
	SELECT dts.set_limit(queue => 'f', key_fifo => true), dts.set_limit(queue => 'two', key_concurrency => 2)});

# most(FILTER): how many tasks with the same label "k" were under way at the same time at most, by history.
sub most {
	my ($filter) = @_;
	return $node->safe_psql('postgres', qq{
		WITH r AS (SELECT labels ->> 'k' AS k, started_at, ended_at FROM dts.runs WHERE started_at IS NOT NULL AND $filter),
		     e AS (SELECT k, started_at AS at, 1 AS n FROM r UNION ALL SELECT k, ended_at, -1 FROM r)
		SELECT max(s) FROM (SELECT sum(n) OVER (PARTITION BY k ORDER BY at, n) AS s FROM e) x});
}

sub all_done {
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->wait_for('SELECT count(*) FROM dts.task', '0');
	return pass("$_[0]: all have ended");
}

# submit(QUEUE, KEY, N, SQL): N tasks of a key, each in a transaction of its own.
sub keyed {
	my ($queue, $key, $n, $sql) = @_;
	return $node->safe_psql('postgres', qq{DO \$\$BEGIN FOR i IN 1 .. $n LOOP
		PERFORM dts.submit('$sql', queue => '$queue', concurrency_key => '$key', labels => '{"k": "$queue $key"}'); COMMIT; END LOOP; END\$\$});
}

# What runs waits for the gate, so that nothing has ended before the test has looked; each then takes a moment. A table, since a crash gives
# locks back.
$node->safe_psql('postgres', 'CREATE TABLE gate (open boolean)');
my $gated = 'DO $x$BEGIN LOOP EXIT WHEN EXISTS (SELECT FROM gate); PERFORM pg_sleep(0.01); END LOOP; PERFORM pg_sleep(0.02); END$x$';
sub gate { return $node->safe_psql('postgres', $_[0] eq 'open' ? 'INSERT INTO gate VALUES (true)' : 'DELETE FROM gate') }

subtest 'one at a time' => sub {
	keyed('k', $_, 12, $gated) for qw(a b c);
	$node->wait_for('SELECT count(*) FROM dts.running', '3');
	pass('different keys run beside each other');
	gate('open');
	all_done('k');
	is(most(q{queue = 'k'}), '1', 'one of each key at a time');
	$node->safe_psql('postgres', q{SELECT count(*) FROM dts.submit_many('SELECT pg_sleep(0.001)', array_fill('[]'::jsonb, '{150}'), queue => 'b', concurrency_key => 'x', labels => '{"k": "x"}')});
	all_done('in batches');
	is(most(q{queue = 'b'}), '1', 'one at a time in batches too');
};

subtest 'two at a time, then three' => sub {
	gate('closed');
	keyed('two', 'a', 20, $gated);
	$node->wait_for('SELECT count(*) FROM dts.running', '2');
	gate('open');
	all_done('two');
	is(most(q{queue = 'two'}), '2', 'two at a time, and two were used');
	my $first = $node->submit('SELECT pg_sleep(600)', queue => 'two', concurrency_key => 'z');
	my $second = $node->submit('SELECT pg_sleep(600)', queue => 'two', concurrency_key => 'z');
	$node->running_pid($_) for $first, $second;
	my $third = $node->submit('SELECT 1', queue => 'two', concurrency_key => 'z');
	$node->wait_for("SELECT dts.explain($third) ~ 'key \"z\" is held by task ($first|$second), running for [0-9.]+ s'", 't');
	$node->safe_psql('postgres', q{SELECT dts.set_limit(queue => 'two', key_concurrency => 3)});
	$node->wait_state($third, 'succeeded');
	$node->safe_psql('postgres', "SELECT dts.cancel($_)") for $first, $second;
	all_done('two');
};

subtest 'strict order' => sub {
	$node->safe_psql('postgres', q{CREATE TABLE tries (n int); CREATE TABLE seen (at serial, n int);
		CREATE FUNCTION step(n int) RETURNS void LANGUAGE plpgsql AS $$BEGIN
			IF n = 3 AND nextval('third') < 3 THEN RAISE 'not yet'; END IF; INSERT INTO seen (n) VALUES (n); END$$;
		CREATE SEQUENCE third});
	$node->safe_psql('postgres', q{SELECT dts.submit('SELECT step($1)', jsonb_build_array(n), queue => 'f', concurrency_key => 'o', priority => n % 10) FROM generate_series(1, 20) n});
	all_done('f');
	is($node->safe_psql('postgres', q{SELECT string_agg(n::text, ' ' ORDER BY at) FROM seen}), join(' ', 1 .. 20), 'in the order of submission, also past a failure and against priorities');
	my $head = $node->submit('SELECT 1', queue => 'f', concurrency_key => 'c', delay => '1 hour');
	my $tail = $node->submit('SELECT 1', queue => 'f', concurrency_key => 'c');
	$node->wait_for("SELECT dts.explain($tail) ~ 'key \"c\" is held by task $head, which is due at'", 't');
	$node->safe_psql('postgres', "BEGIN; SELECT dts.cancel($head); ROLLBACK");
	is($node->safe_psql('postgres', "SELECT dts.state($tail)"), 'ready', 'a cancel that was rolled back changes nothing');
	$node->safe_psql('postgres', "SELECT dts.cancel($head)");
	$node->wait_state($tail, 'succeeded');
	pass('a cancelled head lets the next one go');
	# Every other way in which a head that does not run may go away.
	my $case = sub {
		my ($what, $away, %head) = @_;
		my $parent = $node->submit('SELECT 1', queue => 'f', delay => '1 hour');
		my %options = map { $_ => $head{$_} eq 'parent' ? "[$parent]" : $head{$_} } keys %head;
		my $first = $node->submit('SELECT 1', queue => 'f', concurrency_key => 'e', %options);
		my $second = $node->submit('SELECT 1', queue => 'f', concurrency_key => 'e');
		$node->wait_for("SELECT dts.explain($second) ~ 'key \"e\" is held by task $first'", 't');
		$node->safe_psql('postgres', $away->($first, $parent));
		$node->wait_state($second, 'succeeded');
		pass("a head that $what lets the next one go");
		$node->safe_psql('postgres', 'SELECT count(dts.cancel(id)) FROM dts.task');
	};
	$case->('is replaced by a task without the key', sub { q{SELECT dts.submit('SELECT 1', queue => 'f', key => 'r', on_conflict => 'replace', delay => '1 hour')} }, key => 'r', delay => '1 hour');
	$case->('is replaced by one of another queue', sub { q{SELECT dts.submit('SELECT 1', queue => 'k', concurrency_key => 'e', key => 'r', on_conflict => 'replace', delay => '1 hour')} }, key => 'r', delay => '1 hour');
	# Both in one transaction: the head may be gone before anybody could have looked.
	my ($short, $behind) = split /\|/, $node->safe_psql('postgres', q{SELECT dts.submit('SELECT 1', queue => 'f', concurrency_key => 'e', delay => '1 hour', expires => clock_timestamp() + '300 ms'), dts.submit('SELECT 1', queue => 'f', concurrency_key => 'e')});
	$node->wait_state($behind, 'succeeded');
	is($node->safe_psql('postgres', "SELECT dts.state($short)"), 'expired', 'a head that expires lets the next one go');
	$case->('is blocked and cancelled', sub { "SELECT dts.cancel($_[0])" }, depends_on => 'parent');
	$case->('is skipped', sub { "SELECT dts.cancel($_[1])" }, depends_on => 'parent');
	$case->('is made due later, in a queue whose order is given up,', sub { q{SELECT dts.set_limit(queue => 'f', key_fifo => false)} }, delay => '1 hour');
	$node->safe_psql('postgres', q{SELECT dts.set_limit(queue => 'f', key_fifo => true)});
};

subtest 'leases' => sub {
	keyed('k', 'vacuum', 2, 'SELECT pg_sleep(0.05)');
	$node->safe_psql('postgres', q{CREATE PROCEDURE slow() LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(60); END$$;
		CREATE PROCEDURE quick() LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.02); COMMIT; END$$});
	my $id = $node->submit('CALL slow()', queue => 'k', concurrency_key => 'lease', transactional => 'f', max_attempts => 1);
	my $pid = $node->running_pid($id);
	my $next = $node->submit('SELECT 1', queue => 'k', concurrency_key => 'lease');
	$node->wait_for("SELECT dts.explain($next) ~ 'key \"lease\" is held by task $id'", 't');
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	$node->wait_state($next, 'succeeded');
	all_done('k');
	$node->submit('CALL quick()', queue => 'k', concurrency_key => 'q', transactional => 'f', labels => '{"k": "quick"}') for 1 .. 5;
	all_done('leased ones');
	is(most(q{labels ->> 'k' = 'quick'}), '1', 'one leased task at a time');
};

subtest 'a session in the way' => sub {
	gate('closed');
	my $first = $node->submit($gated, queue => 'k', concurrency_key => 'w');
	$node->running_pid($first);
	my ($a, $b) = map { $node->submit('SELECT 1', queue => 'k', concurrency_key => 'w') } 1 .. 2;
	my $s = $node->session;
	$s->query('BEGIN');
	$s->query("SELECT dts.cancel($a)");
	gate('open');
	$node->wait_state($b, 'succeeded');
	pass('an open cancel of the next one holds up nobody else');
	$s->query('ROLLBACK');
	$node->wait_state($a, 'succeeded');
	pass('rolled back, it runs');
	$s->query('BEGIN');
	$s->query(q{SELECT dts.submit('SELECT 1', queue => 'k', concurrency_key => 'w') FROM generate_series(1, 3)});
	keyed('k', 'w', 3, 'SELECT 1');
	$s->query('COMMIT');
	$s->close;
	all_done('late commits');
};

subtest 'a flood behind one key' => sub {
	my $head = $node->submit('SELECT pg_sleep(600)', queue => 'k', concurrency_key => 'flood');
	$node->running_pid($head);
	$node->safe_psql('postgres', q{SELECT count(*) FROM dts.submit_many('SELECT 1', array_fill('[]'::jsonb, '{2000}'), queue => 'k', concurrency_key => 'flood')});
	$node->safe_psql('postgres', q{SELECT count(*) FROM dts.submit_many('SELECT 1', array_fill('[]'::jsonb, '{20}'), queue => 'k', concurrency_key => 'calm')});
	$node->wait_for(q{SELECT count(*) FROM dts.task WHERE extra ->> 'concurrency_key' = 'calm'}, '0');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM dts.task WHERE state = 0 AND extra ->> 'concurrency_key' = 'flood'}), '1', 'the flood is out of the way of claims');
	$node->safe_psql('postgres', "SELECT dts.cancel($head)");
	$node->safe_psql('postgres', q{SELECT count(dts.cancel(id)) FROM dts.task WHERE id % 10 <> 0});
	all_done('the flood');
};

subtest 'kill -9' => sub {
	gate('closed');
	keyed('k', $_, 15, $gated) for qw(e1 e2);
	keyed('f', 'e3', 15, $gated);
	for (1 .. 2) {
		$node->wait_for(q{SELECT count(*) > 1 FROM dts.running}, 't');
		my ($victim) = split /\n/, $node->safe_psql('postgres', q{SELECT worker_pid FROM dts.running});
		$node->kill9($victim);
		$node->wait_back;
	}
	# Some of them end, and one is killed in the midst of that.
	gate('open');
	$node->wait_for(q{SELECT count(*) > 3 FROM dts.runs WHERE outcome = 'succeeded' AND labels ->> 'k' ~ 'e[123]'}, 't');
	gate('closed');
	my ($victim) = $node->worker_pids('executor');
	$node->kill9($victim) if defined $victim;
	$node->wait_back;
	gate('open');
	all_done('kill -9');
	is(most(q{outcome = 'succeeded' AND labels ->> 'k' ~ 'e[123]'}), '1', 'one at a time, before and after');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM dts.runs WHERE outcome = 'succeeded' AND labels ->> 'k' ~ 'e[123]'}), '45', 'each once');
	is($node->safe_psql('postgres', q{SELECT bool_and(ok) FROM (SELECT task > lag(task) OVER (ORDER BY started_at) AS ok FROM dts.runs WHERE labels ->> 'k' = 'f e3' AND outcome = 'succeeded') x}), 't', 'the strict ones in order');
};

$node->healthy;

# Rows written behind the functions: the sweep finds the key that is free.
my $behind = $node->submit('SELECT 1', queue => 'k', concurrency_key => 'behind', delay => '1 hour');
$node->safe_psql('postgres', "UPDATE dts.task SET state = 4, run_at = now() WHERE id = $behind");
$node->wait_state($behind, 'succeeded');
is($node->safe_psql('postgres', q{SELECT value FROM dts.stats() WHERE name = 'swept_tasks_total'}), '1', 'a task parked behind the functions is found by the sweep');
$node->stop;
done_testing();
