# Failover: the primary dies while thousands of tasks, graphs and schedules are in flight, and the standby is promoted; with synchronous and
# with asynchronous replication. What was acknowledged, what ran, what ran twice is counted; the old primary comes back as a standby.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $clients = 4;

# Each client submits one task after the other, and prints the key when the commit was acknowledged.
sub start_client {
	my ($node, $n, $out) = @_;
	my $sql = join '', map { my $k = $n * 100_000 + $_; "SELECT $k FROM dts.submit('SELECT work(\$1)', '[$k]', queue => '" . ($_ % 2 ? 'batch' : 'default') . "', delay => '" . ($_ % 5 ? 0 : 2) . " s');\n" } 1 .. 20_000;
	return IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', '-' ], '<', \$sql, '>', $out, '2>', '/dev/null');
}

sub failover {
	my ($mode) = @_;
	my $primary = DtsNode->new("primary_$mode");
	$primary->init(allows_streaming => 1, conf => "max_wal_senders = 8\nwal_log_hints = on\nwal_keep_size = 512MB\nautovacuum_naptime = 5s\n");
	$primary->start;
	$primary->safe_psql('postgres', q{CREATE EXTENSION dts; CREATE TABLE effect (k bigint, at timestamptz DEFAULT clock_timestamp());
		CREATE TABLE fired (due_at timestamptz); SELECT dts.create_queue('batch', batch_size => 40);
		CREATE FUNCTION work(k bigint) RETURNS void LANGUAGE sql AS 'INSERT INTO effect VALUES (k)';
		SELECT dts.schedule('tick', '* * * * * *', 'INSERT INTO fired SELECT dts.scheduled_for()', missed => 'all', overlap => 'allow', overlap_max => 100)});
	$primary->backup('copy');
	my $standby = DtsNode->new("standby_$mode");
	$standby->init_from_backup($primary, 'copy', has_streaming => 1);
	$standby->start;
	if ($mode eq 'synchronous') {
		$primary->safe_psql('postgres', q{ALTER SYSTEM SET synchronous_standby_names = '*'});
		$primary->reload;
		$primary->wait_for(q{SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'}, '1');
	}
	# A crowd that waits, chains among it, and clients that go on submitting until the end.
	$primary->safe_psql('postgres', q{SELECT count(*) FROM dts.submit_many('SELECT work($1)', (SELECT array_agg(jsonb_build_array(n)) FROM generate_series(1, 3000) n), queue => 'batch', delay => '1 s')});
	$primary->safe_psql('postgres', q{SELECT dts.submit_many(jsonb_build_array(jsonb_build_object('name', 'a', 'sql', format('SELECT work(%s)', 10000 + n), 'delay', '1.5 s'),
		jsonb_build_object('name', 'b', 'sql', format('SELECT work(%s)', 20000 + n), 'depends_on', '["a"]'::jsonb))) FROM generate_series(1, 200) n});
	my @out = ('') x $clients;
	my @client = map { start_client($primary, $_ + 1, \$out[$_]) } 0 .. $clients - 1;
	my $until = time + 2;
	while (time < $until) { $_->pump_nb for @client; usleep(10_000) }
	my $down = time;
	$primary->stop('immediate');
	for my $c (@client) { eval { $c->finish } }
	$standby->promote;
	my $at = $standby->safe_psql('postgres', 'SELECT clock_timestamp()');
	$standby->safe_psql('postgres', q{ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf()});
	my $first = $standby->submit('SELECT work(0)', priority => 9);
	$standby->wait_state($first, 'succeeded');
	my $outage = time - $down;
	$standby->safe_psql('postgres', q{SELECT pg_sleep(1); SELECT dts.pause_schedule('tick')});
	$standby->wait_for('SELECT count(*) FROM dts.task', '0');

	my @acknowledged = map { split /\n/ } @out;
	my $file = PostgreSQL::Test::Utils::tempdir() . "/acknowledged";
	append_to_file($file, "$_\n") for @acknowledged;
	$standby->safe_psql('postgres', "CREATE TABLE acknowledged (k bigint); COPY acknowledged FROM '$file'");
	my $count = sub { return $standby->safe_psql('postgres', "SELECT count(*) FROM ($_[0]) x") };
	my $lost = $count->('SELECT k FROM acknowledged EXCEPT SELECT k FROM effect');
	my $again = $count->("SELECT k FROM effect WHERE at > '$at'");
	cmp_ok(scalar @acknowledged, '>', 50, "$mode: submits were acknowledged before the failure");
	is($count->('SELECT k FROM effect GROUP BY k HAVING count(*) > 1'), '0', "$mode: nothing had its effect twice");
	is($lost, '0', "$mode: nothing that was acknowledged is lost") if $mode eq 'synchronous';
	is($count->('SELECT n FROM generate_series(1, 3000) n EXCEPT SELECT k FROM effect'), '0', "$mode: the crowd that waited ran");
	is($count->('SELECT n FROM generate_series(1, 200) n WHERE NOT EXISTS (SELECT FROM effect WHERE k = 10000 + n) OR NOT EXISTS (SELECT FROM effect WHERE k = 20000 + n)'), '0', "$mode: and the chains");
	is($count->('SELECT a.k FROM effect a JOIN effect b ON b.k = a.k + 10000 WHERE a.k BETWEEN 10001 AND 10200 AND b.at < a.at'), '0', "$mode: in their order");
	is($count->(q{SELECT task FROM dts.runs WHERE outcome <> 'retry' GROUP BY 1 HAVING count(*) > 1}), '0', "$mode: no task has two ends");
	is($count->('SELECT due_at FROM fired GROUP BY 1 HAVING count(*) > 1'), '0', "$mode: no due time of a schedule twice");
	is($standby->safe_psql('postgres', q{SELECT count(*) - (extract(epoch FROM max(due_at) - min(due_at)) + 1)::int FROM fired}), '0', "$mode: and none left out");
	$standby->healthy;
	note(sprintf '%s: %d submits acknowledged, %d lost, %d tasks after the promotion, nothing ran for %.1f s, of which the promotion took its part', $mode, scalar @acknowledged, $lost, $again, $outage);

	# The old primary comes back: made a standby of the new one, it runs nothing.
	$standby->safe_psql('postgres', 'CHECKPOINT');  # until then pg_rewind sees the old timeline only
	command_ok([ 'pg_rewind', '--source-server', $standby->connstr('postgres'), '--target-pgdata', $primary->data_dir, '--no-sync' ], "$mode: pg_rewind of the old primary");
	$primary->append_conf('postgresql.conf', "port = " . $primary->port . "\nunix_socket_directories = '" . $primary->host . "'\nsynchronous_standby_names = ''\n");
	$primary->enable_streaming($standby);
	$primary->start;
	my $more = $standby->submit('SELECT work(-1)');
	$standby->wait_state($more, 'succeeded');
	$standby->wait_for_catchup($primary, 'replay', $standby->lsn('flush'));
	is($primary->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'dts%'}), '0', "$mode: the old primary, a standby now, runs nothing");
	is($primary->safe_psql('postgres', 'SELECT count(*), count(DISTINCT k) FROM effect'), $standby->safe_psql('postgres', 'SELECT count(*), count(DISTINCT k) FROM effect'), "$mode: and has what the new one has");
	$primary->stop;
	$standby->stop;
	return;
}

failover($_) for qw(synchronous asynchronous);
done_testing();
