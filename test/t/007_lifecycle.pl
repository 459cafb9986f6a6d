# The life of an installation: dump and restore, standby and promotion, upgrade, too few worker slots.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use DtsNode;

my $node = DtsNode->start_new('main', allows_streaming => 1, conf => "max_wal_senders = 4\n");
$node->safe_psql(
	'postgres', q{
	CREATE ROLE worker LOGIN;
	SELECT dts.grant_usage('worker');
	CREATE TABLE effect (n int);
	GRANT ALL ON effect TO worker;
	SELECT dts.create_queue('mail', batch_size => 7, description => 'for letters');
	SELECT dts.create_handler('note', 'INSERT INTO effect SELECT ($1 ->> ''n'')::int', queue => 'mail')});

# ---- dump and restore
my $done = $node->submit('INSERT INTO effect VALUES (1)');
$node->wait_state($done, 'succeeded');
my $dead = $node->submit('SELECT 1/0', max_attempts => 1);
$node->wait_state($dead, 'failed');
my $waiting = $node->safe_psql('postgres', q{SELECT dts.submit_handler('note', '{"n": 2}', delay => '2 s', key => 'once', owner => 'worker')});
my $blocked = $node->submit('INSERT INTO effect VALUES (3)', delay => '1 hour');
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('restored'), $dump ], 'pg_restore into a server with dts');
$node->wait_state($waiting, 'succeeded');
is($node->safe_psql('restored', "SELECT state FROM dts.tasks WHERE id = $done"), 'succeeded', 'history came along');
is($node->safe_psql('restored', "SELECT sqlstate FROM dts.dead_letters WHERE id = $dead"), '22012', 'dead letters came along');
is($node->safe_psql('restored', q{SELECT batch_size, description FROM dts.queues WHERE name = 'mail'}), '7|for letters', 'queues came along');
is($node->safe_psql('restored', q{SELECT queue FROM dts.handlers WHERE name = 'note'}), 'mail', 'handlers came along');
is($node->safe_psql('restored', 'SELECT count(*) FROM dts.task'), '2', 'waiting tasks came along');
is($node->safe_psql('restored', "SELECT owner, key FROM dts.tasks WHERE id = $waiting"), 'worker|once', 'with owner and key');
$node->wait_for(q{SELECT dts._fence() ~ 'adopt'}, 't', 'restored');
like($node->safe_psql('restored', "SELECT dts.explain($waiting)"), qr/adopt/, 'nothing runs in the copy, and dts.explain says why');
# A submit there is taken, and waits with the others.
my $new = $node->submit('INSERT INTO effect VALUES (4)', dbname => 'restored');
cmp_ok($new, '>', $blocked, 'ids go on after those that came along');
$node->wait_for(q{SELECT sum(value) > 1 FROM dts.stats() WHERE name = 'scheduler_wakeups_total'}, 't', 'restored');
is($node->safe_psql('restored', 'SELECT count(*) FROM effect WHERE n > 1'), '0', 'nothing ran in the copy');
$node->safe_psql('restored', 'SELECT dts.adopt()');
$node->wait_state($_, 'succeeded', 'restored') for $waiting, $new;
is($node->safe_psql('restored', 'SELECT string_agg(n::text, $$,$$ ORDER BY n) FROM effect'), '1,2,4', 'after dts.adopt() it does');
is($node->safe_psql('restored', "SELECT dts.cancel($blocked)"), 'cancelled', 'the copy is steered on its own');
is($node->safe_psql('postgres', "SELECT state FROM dts.tasks WHERE id = $blocked"), 'scheduled', 'and the original does not notice');
$node->healthy('restored');
$node->safe_psql('postgres', 'DROP DATABASE restored');

# As plain text, into a database that the script fills while other work goes on.
$node->safe_psql('postgres', 'CREATE DATABASE plain');
command_ok([ 'pg_dump', '-f', "$dump.sql", $node->connstr('postgres') ], 'pg_dump as text');
command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-d', $node->connstr('plain'), '-f', "$dump.sql" ], 'restored with psql');
is($node->safe_psql('plain', 'SELECT count(*) FROM dts.task'), '1', 'the waiting task came along');
$node->safe_psql('postgres', 'DROP DATABASE plain');

# ---- a standby
my $backup = 'copy';
$node->backup($backup);
my $standby = DtsNode->new('standby');
$standby->init_from_backup($node, $backup, has_streaming => 1);
$standby->start;
$node->safe_psql('postgres', q{SELECT dts.submit('INSERT INTO effect SELECT $1::int', jsonb_build_array(n)) FROM generate_series(1001, 1050) n});
$node->wait_for('SELECT count(*) FROM effect WHERE n BETWEEN 1001 AND 1050', '50');
my @late = map { $node->submit("INSERT INTO effect VALUES ($_)", delay => '4 s') } 2001 .. 2010;
$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
is($standby->safe_psql('postgres', 'SELECT count(*) FROM effect WHERE n BETWEEN 1001 AND 1050'), '50', 'the standby has what was done');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'dts%'}), '0', 'no process of dts runs there');
is($standby->safe_psql('postgres', "SELECT state FROM dts.tasks WHERE id = $late[0]"), 'scheduled', 'tasks can be looked at there');
my ($status, undef, $error) = $standby->psql('postgres', q{SELECT dts.submit('SELECT 1')});
ok($status != 0 && $error =~ /recovery|read-only/, 'a submit there is refused');
($status, undef, $error) = $standby->psql('postgres', "SELECT dts.explain($late[0])");
is($status, 0, 'dts.explain answers there') or diag($error);
($status, undef, $error) = $standby->psql('postgres', 'SELECT * FROM dts.stats()');
is($status, 0, 'dts.stats answers there') or diag($error);
$node->stop('immediate');
$standby->promote;
$standby->wait_state($_, 'succeeded') for @late;
is($standby->safe_psql('postgres', 'SELECT count(*), count(DISTINCT n) FROM effect WHERE n BETWEEN 2001 AND 2010'), '10|10', 'after the promotion work goes on, nothing twice');
is($standby->safe_psql('postgres', 'SELECT count(*), count(DISTINCT n) FROM effect WHERE n BETWEEN 1001 AND 1050'), '50|50', 'and nothing again');
$new = $standby->submit('INSERT INTO effect VALUES (3001)');
$standby->wait_state($new, 'succeeded');
$standby->healthy;

# ---- a new version of the script, under live workers
my $share = `pg_config --sharedir`;
chomp $share;
# Of the private copy that scripts/check tests.
my $folder = "$share/extension";
SKIP: {
	skip "$folder is not writable", 6 unless -w $folder;
	PostgreSQL::Test::Utils::append_to_file("$folder/dts--1.0--9.9test.sql", "CREATE FUNCTION dts.made_by_upgrade() RETURNS int LANGUAGE sql AS 'SELECT 99';\n");
	PostgreSQL::Test::Utils::append_to_file("$folder/dts--9.9test--1.0.sql", "DROP FUNCTION dts.made_by_upgrade();\n");
	my $slow = $standby->submit('INSERT INTO effect VALUES (4001); SELECT pg_sleep(1)');
	$standby->running_pid($slow);
	$standby->safe_psql('postgres', q{ALTER EXTENSION dts UPDATE TO '9.9test'});
	is($standby->safe_psql('postgres', 'SELECT dts.made_by_upgrade()'), '99', 'the update script ran beside live workers');
	$standby->wait_state($slow, 'succeeded');
	pass('the running task ended well');
	$standby->wait_for(q{SELECT dts._fence() ~ '9.9test'});
	my $held = $standby->submit('INSERT INTO effect VALUES (4002)');
	like($standby->safe_psql('postgres', "SELECT dts.explain($held)"), qr/version is 9\.9test but the library's is/, 'another version of the library: nothing runs, and dts says why');
	like(slurp_file($standby->logfile), qr/LOG:.*version is 9\.9test but the library's is .*ALTER EXTENSION/, 'the log says it too');
	$standby->safe_psql('postgres', q{ALTER EXTENSION dts UPDATE TO '1.0'});
	$standby->wait_state($held, 'succeeded');
	pass('with the right version work goes on');
	unlink "$folder/dts--1.0--9.9test.sql", "$folder/dts--9.9test--1.0.sql";
	$standby->healthy;
}
$standby->stop;

# ---- too few worker slots: launcher, logical replication launcher and two schedulers take all
my $small = DtsNode->new('small');
$small->init(conf => "max_worker_processes = 4\n");
$small->start;
my $before = -s $small->logfile;
$small->safe_psql('postgres', 'CREATE DATABASE other');
$small->safe_psql($_, 'CREATE EXTENSION dts') for 'postgres', 'other';
$small->wait_for(q{SELECT count(*) FROM dts.workers WHERE kind = 'scheduler'}, '2');
my @stuck = map { $small->submit("SELECT $_") } 1 .. 5;
# The scheduler tries again every second: two tries, one message.
$small->safe_psql('postgres', 'SELECT pg_sleep(2.5)');
my @told = slurp_file($small->logfile, $before) =~ /(no background worker slot is free\n.*max_worker_processes)/g;
is(scalar @told, 1, 'the log says once that worker slots are used up, and which setting to raise');
like($small->safe_psql('postgres', "SELECT dts.explain($stuck[0])"), qr/max_worker_processes/, 'dts.explain says so');
$small->safe_psql('other', 'DROP EXTENSION dts');
$small->wait_state($_, 'succeeded') for @stuck;
pass('with a free slot the tasks run');
$small->healthy;
$small->stop;

# Not even a scheduler finds a slot at first.
my $tiny = DtsNode->new('tiny');
$tiny->init(conf => "max_worker_processes = 4\n");
$tiny->start;
$tiny->safe_psql('postgres', "CREATE DATABASE $_") for 'first', 'second', 'third';
$tiny->safe_psql($_, 'CREATE EXTENSION dts') for 'first', 'second';
$tiny->wait_for(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dts scheduler'}, '2');
$tiny->safe_psql('third', 'CREATE EXTENSION dts');
my $alone = $tiny->submit('SELECT 1', dbname => 'third');
$tiny->safe_psql('postgres', 'SELECT pg_sleep(4)');
$tiny->safe_psql($_, 'DROP EXTENSION dts') for 'first', 'second';
local $DtsNode::wait_seconds = 15;
$tiny->wait_state($alone, 'succeeded', 'third');
pass('a scheduler that found no slot comes soon after one is free');
$tiny->stop;

done_testing();
