# What stands between agents and the server: a network that falls silent, and a pooler in transaction mode.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use IO::Select;
use IO::Socket::UNIX;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = DtsNode->start_new('main', conf => "dts.max_workers = 1\n");
$node->safe_psql('postgres', q{CREATE ROLE worker LOGIN; SELECT dts.grant_agent('worker', ARRAY['default'])});
$node->wait_state($node->submit('SELECT 1'), 'succeeded');
my $real = $node->host . '/.s.PGSQL.' . $node->port;

sub submit { return $node->safe_psql('postgres', "SELECT dts.submit_command(ARRAY['x'], retry => '{\"base\": 0.001}')") }

# ---- a relay that is stopped: neither side hears of it
my $folder = PostgreSQL::Test::Utils::tempdir_short();
my $relay = fork // die $!;
if ($relay == 0) {
	my $listen = IO::Socket::UNIX->new(Local => "$folder/.s.PGSQL.5432", Listen => 1) or die $!;
	my $client = $listen->accept or die $!;
	my $server = IO::Socket::UNIX->new(Peer => $real) or die $!;
	my %other = ($client => $server, $server => $client);
	my $both = IO::Select->new($client, $server);
	while (my @ready = $both->can_read) {
		for my $from (@ready) {
			my $n = sysread $from, my $data, 65536;
			if (!$n) { require POSIX; POSIX::_exit(0) }
			syswrite $other{$from}, $data;
		}
	}
}
for (1 .. 500) { last if -S "$folder/.s.PGSQL.5432"; select undef, undef, undef, 0.01 }
my $task = submit();
my $agent = DtsSession->new(bless({}, 'Relayed'), 'postgres', role => 'worker');
my ($token) = $agent->query(q{SELECT token FROM dts.claim('far away', lease => '1 s')});
like($token, qr/^[0-9a-f-]{36}$/, 'claimed through the relay');
kill 'STOP', $relay;
$agent->send("\\set VERBOSITY verbose\nSELECT dts.complete($task, '$token')");
$node->wait_for("SELECT outcome || ' ' || sqlstate FROM dts.runs WHERE task = $task", 'retry TQ012');
$node->wait_for("SELECT count(*) FROM dts.task WHERE id = $task AND state = 0 AND run_at <= clock_timestamp()", '1');
my $second = $node->as_role('worker', q{SELECT token FROM dts.claim('near')});
kill 'CONT', $relay;
$agent->query('SELECT 1');
like($agent->{err}, qr/TQ010/, 'what arrives late is refused');
is($node->as_role('worker', "SELECT dts.complete($task, '$second')"), 'succeeded', 'the other one ends it');
is($node->runs_of($task), "1 retry TQ012\n2 succeeded", 'two attempts');
is($node->as_role('worker', q{SELECT count(*) FROM dts.claim('near')}), '0', 'nothing is left');
$agent->close;
waitpid $relay, 0;

# ---- a pooler
my ($pooler) = grep { defined && -x } $ENV{PGBOUNCER}, '/usr/sbin/pgbouncer', '/usr/bin/pgbouncer', '/usr/local/bin/pgbouncer';
SKIP: {
	skip 'pgbouncer is not installed', 7 unless $pooler;
	my ($host, $port) = ($node->host, $node->port);
	append_to_file("$folder/users", qq{"worker" ""\n"postgres" ""\n});
	append_to_file("$folder/ini", <<"INI");
[databases]
postgres = host=$host port=$port dbname=postgres
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = $folder
auth_type = trust
auth_file = $folder/users
pool_mode = transaction
default_pool_size = 2
logfile = $folder/log
pidfile = $folder/pid
INI
	system($pooler, '-d', "$folder/ini") == 0 or BAIL_OUT('pgbouncer does not start');
	for (1 .. 1000) { last if -S "$folder/.s.PGSQL.6432"; select undef, undef, undef, 0.01 }
	my @agents = map { DtsSession->new(bless({}, 'Pooled'), 'postgres', role => 'worker') } 1 .. 3;
	$agents[0]->send(q{CALL dts.wait_for_work('pooled', timeout => '50 s')});
	$node->wait_for(q{SELECT state FROM dts.agents WHERE name = 'pooled'}, 'waiting');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'worker' AND wait_event_type = 'Extension' AND backend_xmin IS NULL}), '1', 'waits behind the pooler, without a snapshot');
	is($agents[1]->query(q{SELECT count(*) FROM dts.claim('idle', labels => ARRAY['x'])}), '0', 'another client uses another connection');
	my $pooled = submit();
	is($agents[0]->query(q{\echo}), 't', 'woken');
	my ($its) = $agents[0]->query(q{SELECT token FROM dts.claim('pooled', lease => '30 s')});
	# Whatever connection the pooler gives: nothing belongs to a session.
	for my $a (@agents) { is($a->query("SELECT state FROM dts.heartbeat('pooled', ARRAY['$its']::uuid[])"), 'held', 'renewed by whoever has the token') }
	$agents[1]->query('BEGIN');
	$agents[1]->query('SELECT 1');
	is($agents[2]->query("SELECT dts.complete($pooled, '$its', '{}')"), 'succeeded', 'completed while another client holds a connection');
	$agents[1]->query('ROLLBACK');
	$_->close for @agents;
	my ($pid) = slurp_file("$folder/pid") =~ /(\d+)/;
	kill 'INT', $pid;
}
$node->healthy;
$node->stop('fast');
done_testing();

# How DtsSession is told where to connect.
package Relayed;
sub connstr { return "host=$folder port=5432 dbname=postgres" }

package Pooled;
sub connstr { return "host=$folder port=6432 dbname=postgres" }
