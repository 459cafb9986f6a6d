# Processes die by kill -9, and the server by an immediate shutdown, while tasks run: each task takes effect exactly once.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use DtsNode;

my $tasks = 60;
my $node = DtsNode->start_new('main', conf => "restart_after_crash = on\ndts.max_workers = 4\n");
$node->safe_psql(
	'postgres', q{
	CREATE TABLE effect (round text, n int);
	CREATE FUNCTION work(round text, n int) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN INSERT INTO effect VALUES (round, n); PERFORM pg_sleep(0.03); END $$;
	SELECT dts.create_queue('batched', batch_size => 20, retry => '{"base": 0.1, "cap": 0.5}');
	SELECT dts.create_queue('durable', durable => true, retry => '{"base": 0.1, "cap": 0.5}');
	SELECT dts.create_queue('leased', retry => '{"base": 0.1, "cap": 0.5}'); });

# Submits a round's tasks, waits until it is in full swing, strikes, and sees that everything was done once.
sub round {
	my ($name, $strike) = @_;
	# One task that surely runs in each executor's queue while we strike, the others short.
	$node->safe_psql(
		'postgres', qq{
		SELECT dts.submit('SELECT work(\$1, \$2)', jsonb_build_array('$name', n), queue => CASE n % 2 WHEN 0 THEN 'batched' ELSE 'durable' END)
		FROM generate_series(1, $tasks) n});
	$node->wait_for("SELECT count(*) > 4 FROM effect WHERE round = '$name'");
	$strike->();
	$node->wait_back;
	$node->wait_done;
	is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT n) FROM effect WHERE round = '$name'"), "$tasks|$tasks", "$name: each task took effect exactly once");
	is( $node->safe_psql('postgres', q{SELECT count(*) FROM (SELECT task FROM dts.runs WHERE outcome = 'succeeded' GROUP BY task HAVING count(*) > 1) x}),
		'0', "$name: no task succeeded twice in history");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM dts.dead_letters'), '0', "$name: nobody is a dead letter");
	$node->healthy;
	return;
}

sub kill_one {
	my ($sql) = @_;
	my ($pid) = split /\n/, $node->safe_psql('postgres', $sql);
	$node->kill9($pid) if $pid;
	# Connections of before the crash must not be taken for the server being back.
	$node->wait_for("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", '0') if $pid;
	return;
}

round('executor', sub { kill_one('SELECT worker_pid FROM dts.running LIMIT 1') });
round('scheduler', sub { kill_one(q{SELECT pid FROM dts.workers WHERE kind = 'scheduler'}) });
round('launcher', sub { kill_one(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'dts launcher'}) });

# A client dies with a submit that was not committed, and one that was.
my $lost;
my $kept;
round(
	'client',
	sub {
		my $client = $node->session;
		$kept = $client->query(q{SELECT dts.submit($$SELECT 'kept'$$)});
		$client->query('BEGIN');
		$lost = $client->query(q{SELECT dts.submit($$INSERT INTO effect VALUES ('client', -1)$$)});
		kill_one("SELECT $client->{pid}");
		$client->close;
	});
like($kept, qr/^\d+$/, 'the client submitted');
$node->wait_state($kept, 'succeeded');
is($node->safe_psql('postgres', "SELECT count(*) FROM dts.tasks WHERE id = $lost"), '0', 'a submit that was not committed is gone');

round('server', sub { $node->stop('immediate'); $node->start; });
round('restart', sub { $node->restart; });

# Outside a transaction a task runs at least once; the crash of its executor is noted, and it is tried again.
$node->safe_psql('postgres', q{CREATE PROCEDURE slow_steps() LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO effect VALUES ('leased', 1); COMMIT; PERFORM pg_sleep(CASE WHEN (SELECT count(*) FROM effect WHERE round = 'leased') > 1 THEN 0 ELSE 60 END); END $$});
my $leased = $node->submit('CALL slow_steps()', transactional => 'false', queue => 'leased');
my $pid = $node->running_pid($leased);
$node->wait_for(q{SELECT count(*) FROM effect WHERE round = 'leased'}, '1');
$node->kill9($pid);
$node->wait_for("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", '0');
$node->wait_back;
$node->wait_state($leased, 'succeeded');
is($node->safe_psql('postgres', q{SELECT count(*) FROM effect WHERE round = 'leased'}), '2', 'a leased task ran again after the crash');

# The same through an immediate shutdown: nobody's fault, so nothing is counted against it.
$node->safe_psql('postgres', q{DELETE FROM effect WHERE round = 'leased'});
$leased = $node->submit('CALL slow_steps()', transactional => 'false', queue => 'leased');
$node->running_pid($leased);
$node->wait_for(q{SELECT count(*) FROM effect WHERE round = 'leased'}, '1');
$node->stop('immediate');
$node->start;
$node->wait_back;
$node->wait_state($leased, 'succeeded');
is($node->safe_psql('postgres', q{SELECT count(*) FROM effect WHERE round = 'leased'}), '2', 'a leased task ran again after an immediate shutdown');
$node->healthy;
$node->stop;

done_testing();
