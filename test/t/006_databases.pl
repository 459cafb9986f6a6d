# Several databases: dts runs in those that have it, costs nothing in the others, and keeps out of the way of DDL on databases.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use DtsNode;

my $node = DtsNode->start_new('main', conf => "dts.max_workers = 6\n");
my $soon = '{"base": 0.05, "cap": 0.1}';

sub create {
	my ($db) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, 'CREATE EXTENSION dts; CREATE TABLE effect (n int)');
	return;
}

# ran(DB, WHAT): a task is run there, so executors are there and idle afterwards.
sub ran {
	my ($db, $what) = @_;
	my $id = $node->submit('INSERT INTO effect VALUES (1)', dbname => $db);
	$node->wait_state($id, 'succeeded', $db);
	pass("$what: tasks run in $db");
	return;
}

# quickly(SQL, WHAT): a statement that succeeds within three seconds.
sub quickly {
	my ($sql, $what) = @_;
	my $begin = time;
	my ($status, undef, $error) = $node->psql('postgres', $sql);
	is($status, 0, "$what: $sql") or diag($error);
	cmp_ok(time - $begin, '<', 3, "$what: in time");
	return;
}

# ---- several at once
create($_) for qw(one two three);
$node->safe_psql('postgres', 'CREATE DATABASE without');
my @dbs = qw(one two three);
$node->safe_psql($_, q{SELECT dts.submit('INSERT INTO effect SELECT $1::int', jsonb_build_array(n)) FROM generate_series(1, 50) n}) for @dbs;
for my $db (@dbs) {
	$node->wait_done($db);
	is($node->safe_psql($db, 'SELECT count(*), count(DISTINCT n) FROM effect'), '50|50', "$db: its tasks ran there");
}
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'without'}), '0', 'a database without dts has no process of dts');
is($node->safe_psql('postgres', q{SELECT count(*) FROM dts.workers WHERE kind = 'scheduler'}), '4', 'the others have a scheduler each');

# ---- drop, rename, move, copy while idle
ran('one', 'before');
quickly('ALTER DATABASE one RENAME TO uno', 'rename');
ran('uno', 'renamed');
quickly('DROP DATABASE uno', 'drop');
is($node->safe_psql('postgres', q{SELECT count(*) FROM dts.workers WHERE database = 'uno'}), '0', 'its processes are gone');
$node->wait_for(q{SELECT count(*) FROM dts.workers WHERE kind = 'scheduler'}, '3');
quickly('DROP DATABASE without', 'a database without dts');
my $space = PostgreSQL::Test::Utils::tempdir_short();
$node->safe_psql('postgres', "CREATE TABLESPACE elsewhere LOCATION '$space'");
ran('two', 'before');
quickly('ALTER DATABASE two SET TABLESPACE elsewhere', 'move');
ran('two', 'moved');

my $later = $node->submit('INSERT INTO effect VALUES (99)', dbname => 'two', delay => '1 s');
quickly('CREATE DATABASE copy TEMPLATE two', 'copy');
ran('two', 'copied');
$node->wait_state($later, 'succeeded', 'two');
like($node->safe_psql('copy', 'SELECT dts._fence()'), qr/adopt/, 'the copy is fenced') if $node->wait_for(q{SELECT dts._fence() ~ 'adopt'}, 't', 'copy');
like($node->safe_psql('copy', "SELECT dts.explain($later)"), qr/adopt/, 'dts.explain says so');
is($node->safe_psql('copy', 'SELECT count(*) FROM effect WHERE n = 99'), '0', 'nothing runs in the copy');
$node->safe_psql('copy', 'SELECT dts.adopt()');
$node->wait_state($later, 'succeeded', 'copy');
is($node->safe_psql('copy', 'SELECT count(*) FROM effect WHERE n = 99'), '1', 'after dts.adopt() it does, once');
quickly('DROP DATABASE copy', 'the copy');

# A session that waits in such a statement is ended: the database goes on being served.
my $blocker = $node->session('three');
my $dropper = $node->session('postgres');
$dropper->send('DROP DATABASE three');
$node->wait_for("SELECT count(*) FROM pg_stat_activity WHERE pid = $dropper->{pid} AND query LIKE 'DROP%' AND state = 'active'", '1');
$node->wait_for(q{SELECT count(*) FROM dts.workers WHERE database = 'three'}, '0');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($dropper->{pid})");
$dropper->close;
ran('three', 'after the end of a session that was dropping it');
$dropper = $node->session('postgres');
$dropper->send('DROP DATABASE three');
$node->wait_for("SELECT count(*) FROM pg_stat_activity WHERE pid = $dropper->{pid} AND query LIKE 'DROP%' AND state = 'active'", '1');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($dropper->{pid})");
$dropper->close;
ran('three', 'after a cancelled drop');

# ---- drop while it waits for an executor: others must not go on making room for it
$node->safe_psql('postgres', 'ALTER SYSTEM SET dts.max_workers = 1');
$node->safe_psql('postgres', 'CREATE ROLE second LOGIN');
$node->reload;
$node->safe_psql('two', q{SELECT dts.grant_usage('second')});
$node->wait_state($node->submit('SELECT 1', dbname => 'two', owner => 'second'), 'succeeded', 'two');
my $hog = $node->submit('SELECT pg_sleep(120)', dbname => 'two');
$node->wait_for("SELECT count(*) FROM dts.running WHERE id = $hog", '1', 'two');
create('wants');
$node->submit('SELECT 1', dbname => 'wants');
$node->wait_for(q{SELECT sum(value) FROM dts.stats() WHERE name = 'pools_wanting'}, '1');
quickly('DROP DATABASE wants WITH (FORCE)', 'a database that waits for an executor');
is($node->safe_psql('postgres', q{SELECT sum(value) FROM dts.stats() WHERE name = 'pools_wanting'}), '0', 'nobody waits for one any more');
$node->safe_psql('two', "SELECT dts.cancel($hog)");
$node->wait_state($node->submit('SELECT 1', dbname => 'two', owner => 'second'), 'succeeded', 'two');
pass('an executor of another owner is started');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET dts.max_workers');
$node->reload;

# ---- drop while a task runs
$blocker->close;
my $running = $node->submit('SELECT pg_sleep(60)', dbname => 'three');
$node->wait_for("SELECT count(*) FROM dts.running WHERE id = $running", '1', 'three');
$dropper = $node->session('postgres');
$dropper->send('DROP DATABASE three');
quickly('DROP DATABASE two', 'another database meanwhile');
$dropper->query('SELECT 1');
like($dropper->{err}, qr/being accessed by other users/, 'a running task counts as a session');
is($node->safe_psql('three', "SELECT state FROM dts.tasks WHERE id = $running"), 'running', 'and runs on');
ran('three', 'after a drop that was refused');
$dropper->close;
$node->safe_psql('postgres', 'CREATE ROLE stranger LOGIN');
my ($status, undef, $error) = $node->psql('postgres', 'DROP DATABASE three', extra_params => [ '-U', 'stranger' ]);
like($error, qr/must be owner/, 'who may not drop it');
is($node->safe_psql('postgres', q{SELECT count(*) FROM dts.workers WHERE database = 'three' AND kind = 'scheduler'}), '1', 'does not throw out its processes');
quickly('DROP DATABASE three WITH (FORCE)', 'with force');
$node->wait_for(q{SELECT count(*) FROM dts.workers WHERE kind = 'scheduler'}, '1');

# A database of the same name, and many that come and go.
create('three');
ran('three', 'a new one of the same name');
for my $n (1 .. 5) {
	$node->safe_psql('postgres', 'CREATE DATABASE shortlived');
	quickly('DROP DATABASE shortlived', 'at once after its creation');
}

# ---- drop and create the extension
my $waiting = $node->submit('INSERT INTO effect VALUES (50)', dbname => 'three', delay => '1 hour');
ran('three', 'before DROP EXTENSION');
$node->safe_psql('three', 'BEGIN; DROP EXTENSION dts; ROLLBACK');
ran('three', 'after a DROP EXTENSION that was rolled back');
$node->safe_psql('three', 'DROP EXTENSION dts');
$node->wait_for(q{SELECT count(*) FROM dts.workers WHERE database = 'three'}, '0');
pass('without the extension the processes leave');
is($node->safe_psql('three', q{SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('dts')}), '0', 'nothing is left of it');
$node->safe_psql('three', 'CREATE EXTENSION dts');
ran('three', 'after CREATE EXTENSION');
is($node->safe_psql('three', 'SELECT count(*) FROM dts.tasks'), '1', 'the new one begins empty');

# With a running task: it waits for it, as any DDL does, and takes nothing down.
$running = $node->submit('INSERT INTO effect VALUES (60); SELECT pg_sleep(1)', dbname => 'three');
$node->wait_for("SELECT count(*) FROM dts.running WHERE id = $running", '1', 'three');
$node->safe_psql('three', q{SELECT dts.submit('INSERT INTO effect VALUES (61)') FROM generate_series(1, 20); DROP EXTENSION dts});
$node->wait_for(q{SELECT count(*) FROM dts.workers WHERE database = 'three'}, '0');
cmp_ok($node->safe_psql('three', 'SELECT count(*) FROM effect WHERE n = 60'), '<=', 1, 'a running task took effect once or not at all');
$node->safe_psql('three', 'CREATE EXTENSION dts');
ran('three', 'after DROP EXTENSION with running tasks');

my ($result, undef, $refused) = $node->psql('three', 'DROP SCHEMA dts CASCADE');
if ($result == 0) {
	$node->wait_for(q{SELECT count(*) FROM dts.workers WHERE database = 'three'}, '0');
	$node->safe_psql('three', 'CREATE EXTENSION dts');
}
else {
	like($refused, qr/extension dts requires it/, 'the schema belongs to the extension');
}
ran('three', 'after DROP SCHEMA');
$node->safe_psql('three', 'BEGIN; DROP EXTENSION dts; CREATE EXTENSION dts; COMMIT');
ran('three', 'after both in one transaction');
$node->healthy('three');

# A database that takes no connections is left alone, and served again later.
$node->safe_psql('postgres', 'ALTER DATABASE three ALLOW_CONNECTIONS false; SELECT pg_terminate_backend(pid) FROM dts.workers WHERE database = $$three$$');
my $id = $node->submit('SELECT 1');
$node->wait_state($id, 'succeeded');
$node->safe_psql('postgres', 'ALTER DATABASE three ALLOW_CONNECTIONS true');
ran('three', 'after connections were allowed again');

# dts in one that is marked as a template.
$node->safe_psql('postgres', 'ALTER DATABASE three IS_TEMPLATE true');
$node->restart;
is($node->safe_psql('postgres', q{SELECT count(*) FROM dts.workers WHERE database = 'three'}), '0', 'nothing runs in a template') if $node->wait_for(q{SELECT count(*) FROM dts.workers WHERE kind = 'scheduler' AND database = 'postgres'}, '1');
quickly('CREATE DATABASE copy TEMPLATE three', 'copy of a template');
$node->healthy;
$node->stop;

done_testing();
