# Reserved workers: long tasks never take all slots; what is reserved is free at once; and given back, whoever dies.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use Test::More;

my $node = DtsNode->start_new('reserved', conf => "restart_after_crash = on\ndts.max_workers = 3\ndts.sweep_interval = '1h'\n");
$node->safe_psql('postgres', q{CREATE ROLE ann LOGIN; GRANT ann TO CURRENT_USER; SELECT dts.grant_usage('ann');
	SELECT dts.create_queue('fast'), dts.create_queue('slow'); SELECT dts.set_limit(queue => 'fast', reserved => 1)});
my $running = q{SELECT count(*) FROM dts.running WHERE queue = 'slow'};

# still_two(WHAT): two long ones run, however often executors look.
sub still_two {
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->wait_for($running, '2');
	$node->wait_for(q{SELECT dts.explain(max(id)) FROM dts.task t WHERE NOT EXISTS (SELECT FROM dts.running r WHERE r.id = t.id)}, 'the workers that are free are reserved: 1 for queue "fast"');
	return is($node->safe_psql('postgres', $running), '2', $what);
}

subtest 'a queue' => sub {
	my @slow = map { $node->submit('SELECT pg_sleep(600)', queue => 'slow', max_attempts => 100, retry => '{"base": 0.01, "cap": 0.01}') } 1 .. 5;
	still_two('two of three workers');
	for my $who (qw(postgres ann)) {
		$node->wait_state($node->submit('SELECT 1', queue => 'fast', owner => $who), 'succeeded');
		pass("the third serves the queue, for $who");
	}
	still_two('and is free again');
	$node->safe_psql('postgres', "SELECT dts.cancel($_)") for $node->safe_psql('postgres', q{SELECT min(id) FROM dts.running});
	still_two('an end lets one more start');
	my $pid = $node->safe_psql('postgres', q{SELECT min(worker_pid) FROM dts.running});
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	$node->wait_for("SELECT count(*) FROM dts.running WHERE worker_pid = $pid", '0');
	still_two('an executor that is terminated');
	for my $kind (qw(executor scheduler launcher)) {
		$node->kill9(($node->worker_pids($kind))[0]);
		$node->wait_back;
		still_two("kill -9 of the $kind");
		$node->wait_state($node->submit('SELECT 1', queue => 'fast', owner => 'ann'), 'succeeded');
	}
	$node->reload;
	still_two('reload');
	$node->safe_psql('postgres', q{SELECT dts.set_limit(queue => 'fast', reset => '{reserved}')});
	$node->wait_for($running, '3');
	pass('without the reservation all of them are used');
	$node->safe_psql('postgres', q{SELECT dts.set_limit(queue => 'fast', reserved => 2)});
	$node->safe_psql('postgres', q{SELECT count(dts.cancel(id)) FROM (SELECT id FROM dts.running WHERE queue = 'slow' LIMIT 2) x});
	$node->wait_for($running, '1');
	$node->wait_state($node->submit('SELECT 1', queue => 'fast'), 'succeeded');
	is($node->safe_psql('postgres', $running), '1', 'two reserved: one is left to all');
	$node->safe_psql('postgres', q{SELECT count(dts.cancel(id)) FROM dts.task; SELECT dts.set_limit(queue => 'fast', reset => '{reserved}')});
	$node->wait_done;
};

# The sweep, which would find it as well, does not come by here.
subtest 'another owner is told' => sub {
	$node->safe_psql('postgres', q{SELECT dts.set_limit(queue => 'fast', reserved => 1)});
	my @mine = map { $node->submit('SELECT pg_sleep(600)', queue => 'slow') } 1 .. 2;
	$node->wait_for($running, '2');
	my $hers = $node->submit('SELECT 1', queue => 'slow', owner => 'ann');
	$node->wait_for("SELECT dts.explain($hers)", 'the workers that are free are reserved: 1 for queue "fast"');
	$node->safe_psql('postgres', "SELECT dts.cancel($mine[0])");
	$node->wait_state($hers, 'succeeded');
	pass('a place that somebody else gives back');
	$node->safe_psql('postgres', qq{SELECT dts.cancel($mine[1]); SELECT dts.set_limit(queue => 'fast', reset => '{reserved}')});
	$node->wait_done;
};

subtest 'a priority' => sub {
	$node->safe_psql('postgres', q{SELECT dts.set_limit(priority => 8, reserved => 1)});
	$node->submit('SELECT pg_sleep(600)', queue => 'slow', priority => $_) for 1, 5, 7, 7;
	$node->wait_for($running, '2');
	$node->wait_state($node->submit('SELECT 1', priority => $_), 'succeeded') for 8, 9;
	is($node->safe_psql('postgres', $running), '2', 'for this priority and above');
	is($node->safe_psql('postgres', q{SELECT scope, name, running, reserved FROM dts.limits WHERE scope = 'priority'}), 'priority|8|0|1', 'dts.limits');
	# A limit of its own takes priority 9 out of the one for 8; also what runs already.
	my $nine = $node->submit('SELECT pg_sleep(600)', queue => 'fast', priority => 9);
	$node->running_pid($nine);
	is($node->safe_psql('postgres', q{SELECT running FROM dts.limits WHERE name = '8'}), '1', 'counted at the lower one');
	$node->safe_psql('postgres', q{SELECT dts.set_limit(priority => 9, concurrency => 1)});
	is($node->safe_psql('postgres', q{SELECT string_agg(name || ':' || running, ' ' ORDER BY name) FROM dts.limits WHERE scope = 'priority'}), '8:0 9:1', 'moved to the new one');
	$node->safe_psql('postgres', q{SELECT count(dts.cancel(id)) FROM dts.task});
	$node->wait_done;
	is($node->safe_psql('postgres', 'SELECT sum(running) FROM dts.limits'), '0', 'every place was given back');
};

$node->healthy;
$node->stop;
done_testing();
