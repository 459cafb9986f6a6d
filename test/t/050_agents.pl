# Outside workers: what an agent may claim, how its leases end, and what becomes of its tasks when it dies, stops, or is cut off.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use Test::More;

my $node = DtsNode->start_new('main', conf => "dts.max_workers = 2\n");
$node->safe_psql('postgres', q{
	CREATE ROLE ann LOGIN; CREATE ROLE worker LOGIN; CREATE ROLE other LOGIN;
	SELECT dts.grant_usage('ann'); SELECT dts.create_queue('ext'); SELECT dts.create_queue('more'); SELECT dts.grant_agent('worker', ARRAY['ext', 'more']);
	CREATE TABLE effect (task bigint); GRANT ALL ON effect TO PUBLIC;});
$node->wait_state($node->submit('SELECT 1'), 'succeeded');

# submit(SQL call): a task of ann.
sub submit { return $node->as_role('ann', "SELECT dts.$_[0]") }
# claimed(arguments): "task token" of each task that the worker claims.
sub claimed {
	my ($more) = @_;
	return split /\n/, $node->as_role('worker', q{SELECT task || ' ' || token FROM dts.claim('w1'} . ($more ? ", $more" : '') . ')');
}
sub claim_one {
	my ($more) = @_;
	my ($row) = claimed($more);
	return split / /, $row // '';
}
# as_worker(SQL): (output, SQLSTATE)
sub as_worker {
	my ($sql, $role) = @_;
	my ($out, $err) = ('', '');
	$node->psql('postgres', "\\set VERBOSITY verbose\n$sql", stdout => \$out, stderr => \$err, extra_params => [ '-U', $role // 'worker' ], on_error_stop => 0);
	my ($state) = $err =~ /ERROR:  ([0-9A-Z]{5}):/;
	return ($out, $state // '');
}

# ---- who claims what
my $t1 = submit(q{submit_command(ARRAY['echo', 'hello; rm -rf /'], env => '{"A": 1}', stdin => 'in', dir => '/tmp', queue => 'ext', labels => '{"job": 1}')});
my $t2 = submit(q{submit_command(ARRAY['train'], requires => ARRAY['gpu', 'os=linux'], queue => 'ext')});
my $sql = submit(q{submit('SELECT pg_sleep(0)', queue => 'ext')});
$node->wait_state($sql, 'succeeded');
is($node->safe_psql('postgres', "SELECT state FROM dts.tasks WHERE id IN ($t1, $t2)"), "ready\nready", 'executors leave commands alone');
like($node->as_role('ann', "SELECT dts.explain($t2)"), qr/^no agent for queue "ext" with labels gpu,os=linux was seen/, 'explained: no agent');
is((as_worker(q{SELECT * FROM dts.claim('x', ARRAY['default'])}))[1], '42501', 'a queue that is not granted');
is((as_worker(q{SELECT * FROM dts.claim('x')}, 'other'))[1], '42501', 'a role without rights');
is((as_worker(q{SELECT * FROM dts.claim('x', ARRAY['nope'])}))[1], '42704', 'a queue that is not there');
is($node->as_role('worker', q{SELECT task, attempt, kind, queue, owner, argv::text, env, stdin, dir, task_labels, lease_until > now() FROM dts.claim('w1', max => 5)}),
	qq($t1|1|command|ext|ann|{echo,"hello; rm -rf /"}|{"A": "1"}|in|/tmp|{"job": 1}|t), 'what is handed out, and nothing whose labels are not offered');
is($node->safe_psql('postgres', "SELECT state, (SELECT agent FROM dts.running r WHERE r.id = t.id) FROM dts.tasks t WHERE id = $t1"), 'running|w1', 'it runs');
like($node->as_role('ann', "SELECT dts.explain($t1)"), qr/^running for .* by agent "w1" \(role "worker"\), attempt 1/, 'explained: by whom');
is($node->safe_psql('postgres', "SELECT name, role, state, tasks FROM dts.agents"), "w1|worker|working|{$t1}", 'dts.agents');
is(scalar(claimed(q{labels => ARRAY['os=linux']})), 0, 'one label of two is not enough');
like($node->as_role('ann', "SELECT dts.explain($t2)"), qr/^no agent for queue "ext" with labels/, 'nor does it count as an agent for it');
is(scalar(claimed(q{labels => ARRAY['eu', 'gpu', 'os=linux']})), 1, 'all labels and one more are');
my %token = map { split / / } split /\n/, $node->safe_psql('postgres', "SELECT task || ' ' || token FROM dts.lease");

# ---- ends
is((as_worker("SELECT dts.complete($t1, '$token{$t2}')"))[1], 'TQ010', 'the token of another task');
is((as_worker("SELECT dts.complete($t1, gen_random_uuid())"))[1], 'TQ010', 'an invented token');
$node->safe_psql('postgres', "SELECT dts.grant_agent('other', ARRAY['ext'])");
is((as_worker("SELECT dts.complete($t1, '$token{$t1}')", 'other'))[1], 'TQ010', 'the right token in the hands of another role');
is(join('|', as_worker("SELECT dts.complete($t1, '$token{$t1}', '{\"n\": 1}')")), 'succeeded|', 'complete');
is(join('|', as_worker("SELECT dts.complete($t1, '$token{$t1}', '{\"n\": 2}')")), 'succeeded|', 'the same again is answered as the first time');
is($node->safe_psql('postgres', "SELECT outcome, agent, result, sql, started_at < ended_at FROM dts.runs WHERE task = $t1"), 'succeeded|w1|{"n": 1}|["echo", "hello; rm -rf /"]|t', 'and changes nothing');
is((as_worker("SELECT dts.fail($t1, '$token{$t1}', 'no')"))[1], 'TQ010', 'a success is not undone');
is(join('|', as_worker("SELECT dts.fail($t2, '$token{$t2}', 'disk full', 28, retry => true, delay => '1 ms', fields => '{\"disk\": \"sda\"}')")), 'retry|', 'fail');
is(join('|', as_worker("SELECT dts.fail($t2, '$token{$t2}', 'disk full')")), 'retry|', 'the same again');
is($node->safe_psql('postgres', "SELECT outcome, sqlstate, error, error_fields ->> 'exit_code', error_fields -> 'fields', agent FROM dts.runs WHERE task = $t2"),
	'retry|TQ011|disk full|28|{"disk": "sda"}|w1', 'in history');
my $gpu = q{labels => ARRAY['gpu', 'os=linux']};
my ($again, $token) = claim_one($gpu);
is($again, $t2, 'claimed again');
is(join('|', as_worker("SELECT dts.fail($t2, '$token', 'bad input', retry => false)")), 'failed|', 'not worth another attempt');
is($node->safe_psql('postgres', "SELECT attempts, error FROM dts.dead_letters WHERE id = $t2"), '2|bad input', 'a dead letter');
is($node->as_role('ann', "SELECT dts.redrive($t2)"), 'redriven', 'redriven');
($again, $token) = claim_one($gpu);
is($again, $t2, 'and claimed once more');
is($node->as_role('ann', "SELECT dts.cancel($t2)"), 'cancelled', 'cancelled while an agent has it');
is($node->as_role('worker', "SELECT state FROM dts.heartbeat('w1', ARRAY['$token', gen_random_uuid()]::uuid[]) ORDER BY 1"), "cancelled\nlost", 'the agent hears of it');
is((as_worker("SELECT dts.complete($t2, '$token')"))[1], 'TQ010', 'and cannot complete it');
my $codes = submit(q{submit_command(ARRAY['x'], retry_exit_codes => ARRAY[75], retry => '{"base": 0.001}', queue => 'ext')});
(undef, $token) = claim_one();
is((as_worker("SELECT dts.fail($codes, '$token', 'temporary', 75)"))[0], 'retry', 'an exit code that is worth it');
$node->wait_for("SELECT run_at <= clock_timestamp() FROM dts.task WHERE id = $codes", 't');
(undef, $token) = claim_one();
is((as_worker("SELECT dts.fail($codes, '$token', 'usage', 64)"))[0], 'failed', 'one that is not');

# ---- effects in the transaction of complete
my $once = submit(q{submit_command(ARRAY['x'], queue => 'ext')});
(undef, $token) = claim_one(q{lease => '1 s'});
my $agent = $node->session('postgres', role => 'worker');
$agent->query('BEGIN');
$agent->query("INSERT INTO effect VALUES ($once)");
is($agent->query("SELECT dts.complete($once, '$token')"), 'succeeded', 'complete within a transaction');
is($node->as_role('ann', "SET dts.steer_wait = 0; SELECT dts.cancel($once)"), 'finishing', 'a cancel meanwhile promises nothing');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($agent->{pid})");
$agent->close;
$node->wait_for("SELECT count(*) FROM dts.runs WHERE task = $once", '1');
is($node->safe_psql('postgres', "SELECT outcome, agent FROM dts.runs WHERE task = $once"), 'cancelled|w1', 'cut off before the commit: it ends as was asked');
is($node->safe_psql('postgres', 'SELECT count(*) FROM effect'), '0', 'and the effect is gone');

# ---- leases that are not renewed
my $lapse = submit(q{submit_command(ARRAY['x'], queue => 'ext', max_attempts => 2, retry => '{"base": 0.001}')});
(undef, my $old) = claim_one(q{lease => '1 s'});
$node->wait_for("SELECT outcome || sqlstate FROM dts.runs WHERE task = $lapse", 'retryTQ012');
is((as_worker("SELECT dts.complete($lapse, '$old')"))[1], 'TQ010', 'a late completion');
is((as_worker("SELECT dts.fail($lapse, '$old', 'late')"))[1], 'TQ010', 'a late failure');
is((as_worker("SELECT dts.log($lapse, '$old', 'late')"))[1], 'TQ010', 'a late line');
(undef, $token) = claim_one(q{lease => '1 s'});
isnt($token, $old, 'the next attempt has a token of its own');
for (1 .. 4) {
	select undef, undef, undef, 0.5;
	is($node->as_role('worker', "SELECT state FROM dts.heartbeat('w1', ARRAY['$token']::uuid[])"), 'held', 'renewed');
}
$node->wait_for("SELECT outcome || attempt FROM dts.runs WHERE task = $lapse ORDER BY ended_at DESC LIMIT 1", 'failed2');
my $timeout = submit(q{submit_command(ARRAY['x'], queue => 'ext', timeout => '1 s', max_attempts => 1)});
(undef, $token) = claim_one(q{lease => '1 hour'});
is($node->as_role('worker', "SELECT lease_until < now() + '2 s' FROM dts.heartbeat('w1', ARRAY['$token']::uuid[])"), 't', 'no lease beyond the timeout');
$node->wait_for("SELECT outcome || ' ' || error FROM dts.runs WHERE task = $timeout", 'failed the agent did not end it within its timeout');

# ---- a real process: claims, is stopped past its lease while another one does the work, wakes up and is refused
my $work = submit(q{submit_command(ARRAY['x'], queue => 'ext', retry => '{"base": 0.001}')});
my $stopped = $node->session('postgres', role => 'worker');
my ($its) = $stopped->query(q{SELECT token FROM dts.claim('stopped', lease => '1 s')});
my $process = $stopped->{run}->{KIDS}[0]{PID};
kill 'STOP', $process;
$node->wait_for("SELECT count(*) FROM dts.runs WHERE task = $work AND outcome = 'retry'", '1');
$node->wait_for("SELECT count(*) FROM dts.task WHERE id = $work AND state = 0 AND run_at <= clock_timestamp()", '1');
(undef, $token) = claim_one();
is((as_worker("BEGIN; INSERT INTO effect VALUES ($work); SELECT dts.complete($work, '$token'); COMMIT"))[0], 'succeeded', 'another agent does it');
kill 'CONT', $process;
$stopped->query("\\set VERBOSITY verbose\nBEGIN");
$stopped->query("INSERT INTO effect VALUES ($work)");
$stopped->query("SELECT dts.complete($work, '$its')");
like($stopped->{err}, qr/TQ010/, 'the one that was stopped is refused');
$stopped->query('COMMIT');
$stopped->close;
is($node->safe_psql('postgres', "SELECT count(*) FROM effect WHERE task = $work"), '1', 'one effect');

# ---- waiting
my $waiting = $node->session('postgres', role => 'worker');
$waiting->send(q{CALL dts.wait_for_work('idle', timeout => '50 s')});
$node->wait_for(q{SELECT state FROM dts.agents WHERE name = 'idle'}, 'waiting');
is($node->safe_psql('postgres', "SELECT backend_xmin IS NULL, backend_xid IS NULL, wait_event_type FROM pg_stat_activity WHERE pid = $waiting->{pid}"), 't|t|Extension', 'it waits without a snapshot');
my $started = time;
my $wakes = submit(q{submit_command(ARRAY['x'], queue => 'more')});
is($waiting->query(q{\echo}), "t", 'woken by a submit');
cmp_ok(time - $started, '<', 20, 'at once');
is($waiting->query(q{SELECT task FROM dts.claim('idle')}), $wakes, 'and gets it');
is($waiting->query(q{SELECT task FROM dts.claim('idle')}), '', 'nothing else is there');
$waiting->send(q{CALL dts.wait_for_work('idle', ARRAY['more'], timeout => '50 s')});
$node->wait_for(q{SELECT state FROM dts.agents WHERE name = 'idle'}, 'waiting');
submit(q{submit_command(ARRAY['x'], queue => 'ext')});
submit(q{submit_command(ARRAY['x'], queue => 'more', requires => ARRAY['gpu'])});
submit(q{submit_command(ARRAY['x'], queue => 'more', delay => '1 s')});
is($waiting->query(q{\echo}), 't', 'woken when something for it is due');
is($waiting->query(q{SELECT queue FROM dts.claim('idle', ARRAY['more'])}), 'more', 'and only then');
is($waiting->query(q{SELECT task FROM dts.claim('idle', ARRAY['more'])}), '', 'nothing else is there');
is($waiting->query(q{CALL dts.wait_for_work('idle', ARRAY['more'], timeout => '10 ms')}), 'f', 'nothing more');
is((as_worker(q{BEGIN; CALL dts.wait_for_work('idle')}))[1], '25001', 'not within a transaction block');
# The one that is woken dies before it claims: another one is called.
my @pair = map { $node->session('postgres', role => 'worker') } 1, 2;
$pair[$_]->send("CALL dts.wait_for_work('pair $_', ARRAY['more'], timeout => '50 s')") for 0, 1;
$node->wait_for(q{SELECT count(*) FROM dts.agents WHERE name LIKE 'pair%' AND state = 'waiting'}, '2');
submit(q{submit_command(ARRAY['x'], queue => 'more')});
$node->wait_for(q{SELECT count(*) FROM dts.agents WHERE name LIKE 'pair%' AND state = 'waiting'}, '0');
is($_->query(q{\echo}), 't', 'called') for @pair;
is(scalar(grep { $_ eq 'more' } map { $_->query(q{SELECT queue FROM dts.claim('pair', ARRAY['more'])}) } @pair), 1, 'one gets it');
$_->close for @pair, $waiting;
$node->safe_psql('postgres', 'SELECT dts.cancel(id) FROM dts.tasks WHERE ended_at IS NULL');

# ---- limits, keys, pause
$node->safe_psql('postgres', q{SELECT dts.set_limit(queue => 'ext', concurrency => 2)});
submit(q{submit_command(ARRAY['x'], queue => 'ext')}) for 1 .. 4;
my @held = claimed('max => 10');
is(scalar(@held), 2, 'a limit of places holds for leases');
is(scalar(claimed('max => 10')), 0, 'also in the next call');
like($node->safe_psql('postgres', q{SELECT dts.explain(id) FROM dts.tasks WHERE state = 'ready' LIMIT 1}), qr/^queue "ext" has reached its limit of 2 running at once: held by task/, 'explained');
$node->stop('immediate');
$node->start;
$node->wait_back;
$node->wait_for(q{SELECT running FROM dts.limits WHERE name = 'ext'}, '2');
is(scalar(claimed('max => 10')), 0, 'and after a crash');
my ($task, $first) = split / /, $held[0];
is((as_worker("SELECT dts.complete($task, '$first')"))[0], 'succeeded', 'a lease outlives a crash of the server');
my ($next) = claimed('max => 10');
ok($next, 'its place is given back');
is($node->safe_psql('postgres', q{SELECT dts.in_progress('ext')}), '2', 'in_progress counts leases');
# A rollback to a savepoint gives back what was claimed since.
($task, $first) = split / /, $next;
is((as_worker("SELECT dts.complete($task, '$first')"))[0], 'succeeded', 'one more ends');
is((as_worker(q{BEGIN; SAVEPOINT a; SELECT count(*) FROM dts.claim('w1', max => 3); ROLLBACK TO a; SELECT count(*) FROM dts.claim('w1', max => 3); ROLLBACK}))[0], "1\n1", 'claims roll back, with their places');
my @rest = (split(/ /, $held[1]), map { split / / } claimed());
while (my ($id, $t) = splice @rest, 0, 2) { as_worker("SELECT dts.complete($id, '$t')") }
$node->wait_for(q{SELECT running FROM dts.limits WHERE name = 'ext'}, '0');
$node->safe_psql('postgres', q{SELECT dts.set_limit(queue => 'ext', reset => ARRAY['concurrency'])});
my @keyed = map { submit(q{submit_command(ARRAY['x'], queue => 'ext', concurrency_key => 'k')}) } 1 .. 3;
for my $n (1 .. 3) {
	$node->wait_for('SELECT count(*) > 0 FROM dts.task WHERE state = 0', 't') if $n > 1;
	my @got = claimed('max => 10');
	is(scalar(@got), 1, "one of a concurrency key, $n");
	my ($id, $t) = split / /, $got[0];
	is((as_worker("SELECT dts.complete($id, '$t')"))[0], 'succeeded', 'ended');
}
$node->safe_psql('postgres', q{SELECT dts.pause('ext')});
submit(q{submit_command(ARRAY['x'], queue => 'ext')});
is(scalar(claimed()), 0, 'a paused queue gives nothing');
$node->safe_psql('postgres', q{SELECT dts.resume('ext')});
is(scalar(@rest = claimed(q{lease => '1 s'})), 1, 'and goes on');
$node->safe_psql('postgres', q{SELECT dts.cancel(id) FROM dts.tasks WHERE ended_at IS NULL});

# ---- parents, children, logs
my $parent = submit(q{submit_command(ARRAY['a'], queue => 'ext')});
my $child = submit("submit_command(ARRAY['b'], queue => 'ext', depends_on => dts.after($parent))");
($task, $token) = claim_one();
is((as_worker("SELECT dts.complete($parent, '$token', '[1, 2]')"))[0], 'succeeded', 'the parent ends');
($task, $token) = claim_one();
is($task, $child, 'its child is there at once');
is($node->as_role('worker', "SELECT dts.claimed_parents($child, '$token')"), qq([{"task": $parent, "state": "succeeded", "result": [1, 2]}]), 'what its parents gave');
is((as_worker("SELECT dts.claimed_parents($child, gen_random_uuid())"))[1], 'TQ010', 'for who has it in hand');
$node->append_conf('postgresql.conf', "dts.max_log_size = '2kB'\n");
$node->reload;
is($node->as_role('worker', "SELECT dts.log($child, '$token', 'one', seq => 1)"), 't', 'a line');
is($node->as_role('worker', "SELECT dts.log($child, '$token', 'one', seq => 1)"), 't', 'sent twice');
$node->wait_for(q{SELECT current_setting('dts.max_log_size')}, '2kB');
is($node->as_role('worker', "SELECT dts.log($child, '$token', repeat('x', 5000), 'stderr')"), 'f', 'too much');
is($node->as_role('worker', "SELECT dts.log($child, '$token', 'more')"), 'f', 'and no more');
is($node->as_role('ann', "SELECT count(*), bool_or(chunk LIKE '%(cut: dts.max_log_size is reached)%') FROM dts.task_log($child)"), '2|t', 'read by the owner, cut with a mark');
is((as_worker("SELECT * FROM dts.task_log($child)"))[1], '42501', 'the agent may not');
is($node->safe_psql('postgres', q{SET ROLE ann; SELECT count(*) FROM dts.agents}), '0', 'ann sees no agents of others');

submit(q{submit_command(ARRAY['x'], queue => 'more', requires => ARRAY['moon'], run_at => now() - '10 minutes'::interval)});
like($node->safe_psql('postgres', q{SELECT finding FROM dts.doctor() WHERE subject = 'queue more'}), qr/^tasks for agents with labels moon wait since/, 'dts.doctor names work without an agent');

# ---- what was revoked
$node->safe_psql('postgres', q{SELECT dts.revoke_agent('worker', ARRAY['ext'])});
is((as_worker(q{SELECT * FROM dts.claim('w1', ARRAY['ext'])}))[1], '42501', 'revoked');
is((as_worker("SELECT dts.complete($child, '$token')"))[0], 'succeeded', 'what it has in hand it may end');

# ---- another installation in the same transaction: ids mean something else now
$node->safe_psql('postgres', q{
	BEGIN; DROP EXTENSION dts; CREATE EXTENSION dts; SELECT dts.grant_usage('ann'); SELECT dts.create_queue('ext'); SELECT dts.grant_agent('worker', ARRAY['ext']); COMMIT});
my $fresh = submit(q{submit('SELECT current_user AS me')});
my @none = claimed('max => 10');
is(scalar(@none), 0, 'an agent gets no SQL task');
$node->wait_state($fresh, 'succeeded');
is($node->as_role('ann', "SELECT dts.result($fresh) -> 0 ->> 'me'"), 'ann', 'which runs as its owner');
$node->healthy;
$node->stop('fast');
done_testing();
