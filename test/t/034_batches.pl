# Batches: what is counted, what waits for a batch, batches that grow while they run; with processes killed in the middle of a large one.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = DtsNode->start_new('batches', conf => "restart_after_crash = on\ndts.max_workers = 4\n");
$node->safe_psql('postgres', q{
	CREATE ROLE ann LOGIN; GRANT ann TO CURRENT_USER; SELECT dts.grant_usage('ann');
	SELECT dts.create_queue('held', paused => true), dts.create_queue('many', batch_size => 60), dts.create_queue('silent', history => 'none'), dts.create_queue('frugal', history => 'failures')});

# counts(BATCH): tasks/succeeded/failed/expired/cancelled/skipped, and what is left.
sub counts {
	my ($batch) = @_;
	return $node->safe_psql('postgres', "SELECT concat_ws('/', tasks, succeeded, failed, expired, cancelled, skipped), waiting + running FROM dts.batch_progress('$batch')");
}

# refused(SQL): the SQLSTATE of a statement, or nothing.
sub refused {
	my ($sql, $role) = @_;
	my (undef, undef, $error) = $node->psql('postgres', "\\set VERBOSITY sqlstate\n$sql", $role ? (extra_params => [ '-U', $role ]) : ());
	return $error =~ /ERROR:\s+(\w+)/ ? $1 : '';
}

subtest 'counts' => sub {
	my @id = split /\n/, $node->safe_psql('postgres', q{SELECT dts.submit_many('SELECT 1', array_fill('[]'::jsonb, '{4}'), queue => 'held', batch => 'a')});
	my $bad = $node->submit('SELECT 1/0', queue => 'held', batch => 'a', max_attempts => 2, retry => '{"base": 0.01}');
	$node->submit('SELECT 1', queue => 'held', batch => 'a', expires => '2000-01-01');
	$node->safe_psql('postgres', q{SELECT dts.submit_many('[{"sql": "SELECT 1", "batch": "a", "queue": "held", "name": "x"}, {"sql": "SELECT 1", "batch": "a", "queue": "held", "depends_on": ["x"]}]'::jsonb)});
	$node->safe_psql('postgres', q{BEGIN; SELECT dts.submit('SELECT 1', batch => 'a'); SAVEPOINT s; SELECT dts.submit('SELECT 1', batch => 'a'); ROLLBACK TO s; ROLLBACK;
		BEGIN; SAVEPOINT s; SELECT dts.submit('SELECT 1', queue => 'held', batch => 'a'); ROLLBACK TO s; COMMIT});
	$node->wait_for(q{SELECT expired FROM dts.batch_progress('a')}, '1');
	is(counts('a'), '8/0/0/1/0/0|7', 'submitted in every way, and not what rolled back');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM dts.tasks WHERE batch = 'a'}), '8', 'dts.tasks shows the batch');
	is($node->safe_psql('postgres', q{SELECT done FROM dts.batches WHERE name = 'a'}), 'f', 'not done');
	$node->safe_psql('postgres', "SELECT dts.cancel($id[0])");
	$node->safe_psql('postgres', "BEGIN; SELECT dts.cancel($id[1]); ROLLBACK");
	$node->safe_psql('postgres', q{SELECT dts.resume('held')});
	$node->wait_for(q{SELECT done FROM dts.batches WHERE name = 'a'}, 't');
	is(counts('a'), '8/5/1/1/1/0|0', 'every end');
	is($node->safe_psql('postgres', q{SELECT per_second > 0, expected_end IS NULL, last_end_at > created_at FROM dts.batch_progress('a')}), 't|t|t', 'rate and end');
	is($node->safe_psql('postgres', q{SELECT batch FROM dts.dead_letters}), 'a', 'dts.dead_letters shows the batch');
	$node->safe_psql('postgres', q{SELECT dts.pause('held')});
	$node->safe_psql('postgres', "SELECT dts.redrive($bad)");
	is(counts('a'), '8/5/0/1/1/0|1', 'a redriven task has not ended');
	$node->safe_psql('postgres', "SELECT dts.cancel($bad)");
	is(counts('a'), '8/5/0/1/2/0|0', 'and ends again');
	my $k = $node->submit('SELECT 1', queue => 'held', batch => 'k', key => 'k');
	is($node->submit('SELECT 1', queue => 'held', batch => 'k2', key => 'k'), $k, 'an existing key');
	is(counts('k') . ' ' . counts('k2'), '1/0/0/0/0/0|1 0/0/0/0/0/0|0', '... stays in its batch');
	is($node->submit('SELECT 2', queue => 'held', key => 'k', on_conflict => 'replace'), $k, 'replaced');
	$node->safe_psql('postgres', "SELECT dts.cancel($k)");
	is(counts('k'), '1/0/0/0/1/0|0', '... it stays in its batch, too');
	is(refused(q{SELECT dts.batch_progress('nope')}), '42704', 'an unknown batch');
	is(refused(q{SELECT dts.batch_progress('a')}, 'ann'), '42704', "another role's batch");
	is(refused(q{SELECT dts.submit('SELECT 1', depends_on => dts.after_batch('a'))}, 'ann'), '42704', '... is not waited for either');
	is($node->as_role('ann', q{SELECT dts.submit('SELECT 1', queue => 'held', batch => 'a'); SELECT tasks FROM dts.batch_progress('a')}) =~ s/.*\n//r, '1', 'a name belongs to its owner');
};

subtest 'what waits for a batch' => sub {
	$node->safe_psql('postgres', q{SELECT dts.submit_many('SELECT 1', array_fill('[]'::jsonb, '{3}'), queue => 'held', batch => 'w')});
	my $bad = $node->submit('SELECT 1/0', queue => 'held', batch => 'w', max_attempts => 1);
	my %after = map { $_ => $node->safe_psql('postgres', "SELECT dts.submit('SELECT 1', depends_on => dts.after_batch('w', '{$_}', on_unsatisfied => 'cancel'))") } ('succeeded', 'ended', 'failed', 'succeeded,failed');
	like($node->safe_psql('postgres', "SELECT dts.explain($after{ended})"), qr/^blocked: it waits for 4 task\(s\)/, 'explain');
	$node->safe_psql('postgres', q{SELECT dts.resume('held')});
	$node->wait_state($after{succeeded}, 'cancelled');
	$node->wait_state($after{failed}, 'cancelled');
	$node->wait_state($after{ended}, 'succeeded');
	$node->wait_state($after{'succeeded,failed'}, 'succeeded');
	is($node->safe_psql('postgres', "SELECT min(started_at) >= (SELECT max(ended_at) FROM dts.runs WHERE batch = 'w') FROM dts.runs WHERE task = $after{ended}"), 't', 'after the last one');
	# Once it has ended the counts decide, whatever history keeps.
	my $late = $node->safe_psql('postgres', q{SELECT dts.submit('SELECT 1', depends_on => dts.after_batch('w'))});
	is($node->safe_psql('postgres', "SELECT dts.state($late)"), 'skipped', 'a batch with a failure, waited for too late');
	$node->wait_state($node->safe_psql('postgres', q{SELECT dts.submit('SELECT 1', depends_on => dts.after_batch('w', '{ended}'))}), 'succeeded');
	$node->submit('SELECT 1', queue => $_, batch => 's') for qw(silent frugal);
	$node->wait_for(q{SELECT done FROM dts.batches WHERE name = 's'}, 't');
	$node->wait_state($node->safe_psql('postgres', q{SELECT dts.submit('SELECT 1', depends_on => dts.after_batch('s'))}), 'succeeded');
	# In one transaction with the batch; also of a queue without history.
	my $same = $node->safe_psql('postgres', q{BEGIN; SELECT count(*) FROM dts.submit_many('SELECT 1', array_fill('[]'::jsonb, '{200}'), queue => 'silent', batch => 'same');
		SELECT dts.submit('SELECT 1', depends_on => dts.after_batch('same')); COMMIT}) =~ s/.*\n//r;
	$node->wait_state($same, 'succeeded');
	is(counts('same'), '200/200/0/0/0/0|0', 'all of them');
	is(refused(q{SELECT dts.submit('SELECT 1', depends_on => dts.after_batch('nope'))}), '42704', 'an unknown batch');
	is(refused(q{SELECT dts.submit('SELECT 1', depends_on => '{"batch": "w", "need": "any"}')}), '22023', 'a part of a batch');
	is(refused(q{SELECT dts.submit('SELECT 1', batch => 'x', key => 'k', on_conflict => 'push')}), '22023', 'push');
};

subtest 'a batch that grows' => sub {
	$node->safe_psql('postgres', q{CREATE FUNCTION grow(depth int) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
		IF depth > 0 THEN PERFORM dts.submit_many('SELECT grow($1)', ARRAY[jsonb_build_array(depth - 1), jsonb_build_array(depth - 1)], batch => 'tree', queue => 'many');
		PERFORM dts.submit('SELECT pg_sleep(0.01)', batch => 'tree'); END IF; END $$;
		CREATE PROCEDURE grow_outside() LANGUAGE plpgsql AS $$ BEGIN PERFORM dts.submit('SELECT grow(2)', batch => 'tree'); COMMIT; PERFORM pg_sleep(0.2); END $$});
	my $after = $node->safe_psql('postgres', q{BEGIN; SELECT dts.submit('SELECT grow(6)', batch => 'tree'); SELECT dts.submit('CALL grow_outside()', transactional => false, batch => 'tree');
		SELECT dts.submit('SELECT tasks = succeeded FROM dts.batch_progress(''tree'')', depends_on => dts.after_batch('tree')); COMMIT}) =~ s/.*\n//sr;
	$node->wait_state($after, 'succeeded');
	# 127 nodes of the tree with 63 leaves beside them; the procedure, its tree of 7, and 3.
	is(counts('tree'), '201/201/0/0/0/0|0', 'all that grew');
	is($node->safe_psql('postgres', "SELECT min(started_at) >= (SELECT max(ended_at) FROM dts.runs WHERE batch = 'tree') FROM dts.runs WHERE task = $after"), 't', 'what waits came last');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM dts.dependency'), '0', 'no edge is left');
};

subtest 'dump and restore' => sub {
	$node->safe_psql('postgres', q{SELECT dts.pause('held')});
	$node->safe_psql('postgres', q{SELECT dts.submit_many('SELECT 1', array_fill('[]'::jsonb, '{3}'), queue => 'held', batch => 'd', concurrency_key => 'd');
		SELECT dts.submit('SELECT 2', depends_on => dts.after_batch('d'), labels => '{"after": "d"}')});
	my $file = $node->basedir . '/batches.dump';
	command_ok([ 'pg_dump', '-Fc', '-f', $file, $node->connstr('postgres') ], 'dumped');
	$node->safe_psql('postgres', 'CREATE DATABASE restored');
	command_ok([ 'pg_restore', '-d', $node->connstr('restored'), $file ], 'restored');
	$node->safe_psql('restored', q{SELECT dts.adopt(), dts.resume('held')});
	$node->safe_psql('postgres', q{SELECT dts.resume('held')});
	for my $db (qw(postgres restored)) {
		$node->wait_for(q{SELECT state FROM dts.tasks WHERE labels ->> 'after' = 'd'}, 'succeeded', $db);
		is($node->safe_psql($db, q{SELECT tasks, succeeded, done FROM dts.batch_progress('d')}), '3|3|t', "$db: counted on");
	}
	$node->safe_psql('postgres', 'DROP DATABASE restored WITH (FORCE)');
};

subtest 'kill -9 in the middle of a large one' => sub {
	my $n = 20000;
	$node->safe_psql('postgres', qq{SELECT count(*) FROM dts.submit_many('SELECT 1', array_fill('[]'::jsonb, '{$n}'), queue => 'many', batch => 'large', retry => '{"base": 0.01}')});
	my @after = map { $node->safe_psql('postgres', "SELECT dts.submit('SELECT done FROM dts.batch_progress(''large'')', depends_on => dts.after_batch('large', '{$_}'))") } qw(succeeded ended);
	for my $kind (qw(executor scheduler launcher)) {
		my $ended = $node->safe_psql('postgres', q{SELECT succeeded FROM dts.batch_progress('large')});
		$node->wait_for("SELECT succeeded > $ended + 500 OR done FROM dts.batch_progress('large')", 't');
		$node->safe_psql('postgres', 'SELECT dts._compact_batches()');
		my ($pid) = $node->worker_pids($kind);
		$node->kill9($pid) if $pid;
		$node->wait_back;
		my $sums = $node->safe_psql('postgres', q{SELECT tasks, waiting + running = (SELECT count(*) FROM dts.task t JOIN dts.batch b ON b.id = t.batch WHERE b.name = 'large') FROM dts.batch_progress('large')});
		is($sums, "$n|t", 'counts agree with the rows');
	}
	$node->wait_state($_, 'succeeded') for @after;
	is(counts('large'), "$n/$n/0/0/0/0|0", 'each ended once');
	is($node->safe_psql('postgres', "SELECT string_agg(result->0->>'done', ',') FROM dts.runs WHERE task IN ($after[0], $after[1]) AND outcome = 'succeeded'"), 'true,true', 'what waited saw it done');
	$node->safe_psql('postgres', 'SELECT dts._compact_batches()');
	is(counts('large'), "$n/$n/0/0/0/0|0", 'adding up changes nothing');
	cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM dts.batch_tally}), '<', 400, 'and few rows are left');
	$node->safe_psql('postgres', q{UPDATE dts.batch_tally SET at = at - interval '1 year'; UPDATE dts.batch SET created_at = created_at - interval '1 year'; UPDATE dts.queue SET retention = '1 day'; SELECT dts._purge(1000)});
	$node->submit('SELECT 1', batch => 'large');
	is($node->safe_psql('postgres', q{SELECT name, tasks FROM dts.batches}), 'large|1', 'retention removes what has ended; the name is free again');
};

$node->wait_done;
$node->healthy;
$node->stop;
done_testing();
