# A hostile name server: names that lead to forbidden addresses, at once, beside others, or the second time; names that answer late or never.
# The whole test runs in a network of its own, where there is nothing but loopback, a public address and that name server.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use File::Temp;
use Test::More;

my $folder;

BEGIN {
	$folder = $ENV{DTS_NAMES};
	if (!$folder) {
		my @outside = ('unshare', '--user', '--map-root-user', '--net', '--mount');
		plan skip_all => 'the system lets nobody make a network of his own'
		  if system(join(' ', @outside) . " sh -c 'PATH=\$PATH:/usr/sbin:/sbin; ip link set lo up && unshare --user --map-user=$> true' >/dev/null 2>&1") != 0;
		$folder = File::Temp::tempdir(CLEANUP => 0);
		chmod 0777, $folder;
		$ENV{DTS_NAMES} = $folder;
		exec @outside, 'python3', "$FindBin::Bin/../servers/names.py", $folder, 'unshare', '--user', "--map-user=$>", $^X, (map { "-I$_" } @INC), $0;
	}
}

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time);
use DtsNode;

my $node = DtsNode->start_new('main', conf => "dts.breaker_failures = 0\ndts.http_lookups = 4\ndts.worker_idle_timeout = '60s'\n");
sub sql { return $node->safe_psql('postgres', @_); }
sub lines { my ($name) = @_; return -e "$folder/$name" ? split(/\n/, PostgreSQL::Test::Utils::slurp_file("$folder/$name")) : (); }
sub came { my ($what) = @_; return scalar grep { /\Q$what\E/ } lines('requests'); }

sub http {
	my ($name, %options) = @_;
	return sql("SELECT dts.submit_http('http://$name.test:8080/$name'" . join('', map { ", $_ => " . DtsNode::quote($options{$_}) } sort keys %options) . ')');
}

sub ends {
	my ($what, $name, $runs, %options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $id = http($name, max_attempts => 1, %options);
	$node->wait_for("SELECT state IN ('failed', 'succeeded') FROM dts.tasks WHERE id = $id", 't');
	is($node->runs_of($id), $runs, $what) or diag(sql("SELECT error FROM dts.tasks WHERE id = $id"));
	return $id;
}

sql("SELECT dts.allow_host('*.test', schemes => '{http}', ports => '{8080}')");
ends('a name with a public address', 'public', '1 succeeded');
is(came('public.test:8080 93.184.216.34 /public'), 1, 'the request came');
ends("a name that leads to $_", $_, '1 failed 42501') for qw(private six mapped metadata alias);
ends('a forbidden address beside a public one', 'both', '1 succeeded');
is(came('both.test:8080 93.184.216.34 /both'), 1, 'is passed over');
is(came('127.0.0.1') + came('::1'), 0, 'nothing came to a forbidden address');

# ---- the same name, another answer: the check is made where the connection is
ends('a name that is public today', 'flip', '1 succeeded');
my ($courier) = $node->worker_pids('courier');
sql("SELECT pg_terminate_backend($courier)");
$node->wait_for("SELECT count(*) FROM dts.workers WHERE pid = $courier", '0');
ends('and private tomorrow', 'flip', '1 failed 42501');
is(came('/flip'), 1, 'the second request came nowhere');
sql("SELECT dts.allow_host('flip.test', schemes => '{http}', ports => '{8080}', networks => '{127.0.0.0/8}')");
ends('unless a rule names the network', 'flip', '1 succeeded');
is(came('127.0.0.1 /flip'), 1, 'then it comes');

# ---- names that do not exist, are answered late, or never; others are not kept waiting
ends('no such name', 'nowhere', '1 failed 08001');
my $before = () = grep { /^nowhere\.test$/ } lines('questions');
my $lost = sql("SELECT string_agg(dts.submit_http('http://nowhere.test:8080/', max_attempts => 1)::text, ',') FROM generate_series(1, 20)");
$node->wait_for("SELECT count(*) FROM dts.tasks WHERE id IN ($lost) AND state = 'failed'", '20');
cmp_ok((scalar grep { /^nowhere\.test$/ } lines('questions')) - $before, '<', 20, 'one of many asks for all');
ends('another name', 'public', '1 succeeded');
my $dead = http('dead', max_attempts => 1, connect_timeout => '8 s');
my $slow = sql("SELECT string_agg(dts.submit_http('http://slow-' || least(i, 8) || '.test:8080/')::text, ',') FROM generate_series(1, 50) i");
$node->wait_for("SELECT count(*) FROM dts.running WHERE id = $dead", '1');
my $began = time;
ends('a name that is known, meanwhile', 'public', '1 succeeded');
cmp_ok(time - $began, '<', 2.5, 'does not wait');
$node->wait_for("SELECT count(*) FROM dts.tasks WHERE id IN ($slow) AND state = 'succeeded'", '50');
is(scalar(grep { /^slow-8\.test$/ } lines('questions')), 2, 'forty requests, one look-up (for both kinds of addresses)');
$node->wait_state($dead, 'failed');
like($node->runs_of($dead), qr/^1 failed (08001|57014)$/, 'no answer at all: the time limit of connecting');

# ---- thousands of requests to a host that cannot be connected to
sql("SELECT count(dts.submit_http('http://hole.test:8080/', max_attempts => 1, connect_timeout => '8 s')) FROM generate_series(1, 3000)");
$node->wait_for("SELECT in_flight > 1500 FROM dts.hosts WHERE host = 'hole.test:8080'", 't');
$began = time;
ends('meanwhile', 'public', '1 succeeded');
cmp_ok(time - $began, '<', 4, 'others do not wait');
cmp_ok(sql("SELECT count(*) FROM dts.running"), '>', 1000, 'they still hang');
sql("SELECT count(dts.cancel(id)) FROM dts.task");
$node->wait_for('SELECT count(*) FROM dts.task', '0');

# ---- a look-up that hangs keeps nothing alive
$dead = http('dead', max_attempts => 1, timeout => '60 s', connect_timeout => '60 s');
$node->wait_for("SELECT count(*) FROM dts.running WHERE id = $dead", '1');
is(sql("SELECT dts.cancel($dead)"), 'cancelled', 'it can be cancelled');
my $other = http('dead', max_attempts => 1, timeout => '60 s', connect_timeout => '60 s');
$node->wait_for("SELECT count(*) FROM dts.running WHERE id = $other", '1');
$began = time;
$node->stop('fast');
cmp_ok(time - $began, '<', 15, 'a shutdown does not wait for a name server');
$node->start;
sql("SELECT dts.cancel($other)");
$node->wait_done;
$node->healthy;
$node->stop;
done_testing();
