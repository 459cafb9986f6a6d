# dts beside other things of a database's life: logical replication of user tables, template databases, DROP EXTENSION and its return under
# work, an upgrade script under load.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = DtsNode->start_new('main', allows_streaming => 'logical', conf => "dts.max_workers = 4\nmax_wal_senders = 8\nmax_logical_replication_workers = 4\n");
my $sql = sub { return $node->safe_psql('postgres', @_) };

# ---- logical replication: what tasks do to user tables arrives, dts's own tables stay where they are
$sql->(q{CREATE TABLE effect (n int PRIMARY KEY); CREATE TABLE audit_log (n int);
	CREATE FUNCTION log_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM dts.submit('INSERT INTO audit_log VALUES ($1)', jsonb_build_array(NEW.n)); RETURN NULL; END $$});
$sql->('CREATE PUBLICATION user_tables FOR TABLE effect');
$sql->('CREATE DATABASE subscriber');
$node->safe_psql('subscriber', q{CREATE EXTENSION dts; CREATE TABLE effect (n int PRIMARY KEY); CREATE TABLE audit_log (n int);
	CREATE FUNCTION log_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM dts.submit('INSERT INTO audit_log VALUES ($1)', jsonb_build_array(NEW.n)); RETURN NULL; END $$;
	CREATE TRIGGER log AFTER INSERT ON effect FOR EACH ROW EXECUTE FUNCTION log_it(); ALTER TABLE effect ENABLE ALWAYS TRIGGER log});
$sql->(q{SELECT pg_create_logical_replication_slot('sub', 'pgoutput')});
$node->safe_psql('subscriber', "CREATE SUBSCRIPTION sub CONNECTION " . DtsNode::quote($node->connstr('postgres')) . " PUBLICATION user_tables WITH (create_slot = false, copy_data = false)");
$sql->(q{SELECT count(*) FROM dts.submit_many('INSERT INTO effect VALUES ($1)', (SELECT array_agg(jsonb_build_array(n)) FROM generate_series(1, 200) n))});
$node->wait_for('SELECT count(*) FROM effect', '200', 'subscriber');
is($node->safe_psql('subscriber', 'SELECT count(*) FROM dts.runs WHERE sql ~ $$effect$$'), '0', 'the tasks themselves are not replicated');
# A trigger that the apply worker fires may submit: the tasks run there.
$node->wait_for('SELECT count(*), count(DISTINCT n) FROM audit_log', '200|200', 'subscriber');
pass('tasks submitted by triggers under the apply worker run, once each');
$node->wait_done('subscriber');
$node->healthy('subscriber');
$node->safe_psql('subscriber', 'DROP SUBSCRIPTION sub');
$sql->('DROP DATABASE subscriber WITH (FORCE)');

# ---- a template with dts in it
$sql->('CREATE DATABASE mould');
$node->safe_psql('mould', q{CREATE EXTENSION dts; SELECT dts.create_queue('ready_made'), dts.create_handler('hello', 'SELECT 1 AS x', queue => 'ready_made')});
$sql->(q{ALTER DATABASE mould IS_TEMPLATE true ALLOW_CONNECTIONS false});
$sql->('CREATE DATABASE cast1 TEMPLATE mould');
$node->wait_for(q{SELECT count(*) FROM dts.workers WHERE database = 'mould'}, '0');
pass('after it was copied a template has no process of dts');
my $first = $node->safe_psql('cast1', q{SELECT dts.submit_handler('hello')});
$node->wait_state($first, 'succeeded', 'cast1');
pass('a database made from a template whose dts had never a task runs its own, without dts.adopt');

# ---- the extension is dropped while tasks run and wait, and comes back
for my $round (1 .. 3) {
	$node->safe_psql('cast1', q{SELECT count(*) FROM dts.submit_many('SELECT pg_sleep($1)', (SELECT array_agg(jsonb_build_array(0.02)) FROM generate_series(1, 50))), dts.schedule('tick', '* * * * * *', 'SELECT 1')});
	$node->wait_for('SELECT count(*) > 0 FROM dts.running', 't', 'cast1');
	my ($status, undef, $error) = $node->psql('cast1', q{SET statement_timeout = '30s'; DROP EXTENSION dts CASCADE});
	is($status, 0, "round $round: DROP EXTENSION with tasks running and waiting") or diag($error);
	$node->wait_for(q{SELECT count(*) FROM dts.workers WHERE database = 'cast1'}, '0');
	is($node->safe_psql('cast1', q{SELECT count(*) FROM pg_class c LEFT JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'dts'}), '0', 'nothing is left of it');
	$node->safe_psql('cast1', 'CREATE EXTENSION dts');
	my $id = $node->submit('SELECT 1', dbname => 'cast1');
	$node->wait_state($id, 'succeeded', 'cast1');
}
$node->healthy('cast1');

# ---- a library that is newer than the script, and one that is older: clear words, no crash, and after the update all that was kept runs
chomp(my $shared = `pg_config --sharedir`);
SKIP: {
	skip 'the folder of extensions is not writable', 9 unless -w "$shared/extension";
	my $version = $node->safe_psql('cast1', 'SELECT dts.version()');
	my %file = map { $_ => "$shared/extension/dts--$_.sql" } '0.1test', "0.1test--$version", "$version--9.1test", "9.1test--9.2test";
	# An older script, whose table of tasks has one column less.
	my $script = slurp_file("$shared/extension/dts--$version.sql");
	is(($script =~ s/(CREATE TABLE dts\.task \(.*?),\n    extra jsonb,\n/$1,\n/s), 1, 'the script can be aged');
	$script =~ s/\bt\.extra\b/NULL::jsonb/g;
	append_to_file($file{'0.1test'}, "SET check_function_bodies = off;\n$script");
	append_to_file($file{"0.1test--$version"}, "ALTER TABLE dts.task ADD COLUMN extra jsonb;\n");
	append_to_file($file{"$version--9.1test"}, "ALTER TABLE dts.task ADD COLUMN of_the_future int;\n");
	append_to_file($file{"9.1test--9.2test"}, "CREATE TABLE dts.half (n int); CREATE FUNCTION dts.of_the_future() RETURNS int LANGUAGE c AS 'MODULE_PATHNAME', 'dts_of_the_future';\n");
	my @calls = (q{SELECT dts.submit('SELECT 1')}, q{SELECT dts.submit_many(ARRAY['SELECT 1', 'SELECT 2'])}, 'SELECT dts.cancel(1)', 'SELECT dts.retry(1)', 'SELECT dts.reschedule(1)', 'SELECT dts.set_priority(1, 1)',
		'SELECT dts.redrive(1)', q{CALL dts.wait(1, '1 ms')}, 'SELECT dts.explain(1)', q{SELECT * FROM dts.claim('a')}, q{SELECT dts.complete(1, gen_random_uuid())}, 'SELECT * FROM dts.tasks', 'SELECT * FROM dts.doctor()', 'SELECT * FROM dts.stuck()',
		q{SELECT dts.schedule('s', 'every 1 hour', 'SELECT 1')}, q{SELECT dts.run_now('s')}, q{SELECT dts.create_workflow('w', '{"nodes": {"a": {"sql": "SELECT 1"}}}')}, q{SELECT dts.start('w')});
	my $crashes = sub { return scalar(() = slurp_file($node->logfile) =~ /was terminated by signal/g) };
	$node->safe_psql('postgres', 'CREATE DATABASE older');
	$node->safe_psql('older', q{CREATE EXTENSION dts VERSION '0.1test'});
	my (undef, undef, $refused) = $node->psql('older', "\\set VERBOSITY verbose\n$calls[0]");
	like($refused, qr/55000.*table dts\.task is not that of the library's version.*ALTER EXTENSION dts UPDATE/s, 'the library is newer, and so is its table: a submit is refused, and says what to do');
	$node->psql('older', $_) for @calls;
	is($crashes->(), 0, 'no call crashes');
	$node->safe_psql('older', "ALTER EXTENSION dts UPDATE TO '$version'");
	my $updated = $node->submit('SELECT 1', dbname => 'older');
	$node->wait_state($updated, 'succeeded', 'older');
	pass('after the update it runs');
	$node->safe_psql('older', q{ALTER EXTENSION dts UPDATE TO '9.1test'});
	(undef, undef, $refused) = $node->psql('older', $calls[0]);
	like($refused, qr/table dts\.task is not that of the library's version/, 'the library is older: the same');
	$node->psql('older', $_) for @calls;
	is($crashes->(), 0, 'no call crashes');
	$node->wait_for(q{SELECT dts._fence() ~ '9.1test'}, 't', 'older');
	pass('and nothing runs');
	my ($status, undef, $error) = $node->psql('older', q{ALTER EXTENSION dts UPDATE TO '9.2test'});
	isnt($status, 0, 'an update that needs a newer library fails');
	is($node->safe_psql('older', q{SELECT to_regclass('dts.half') IS NULL}), 't', 'and leaves nothing');
	unlink values %file;
	$node->safe_psql('postgres', 'DROP DATABASE older WITH (FORCE)');
}

# ---- an upgrade script, again and again, under load
chomp(my $share = `pg_config --sharedir`);
my $folder = "$share/extension";
SKIP: {
	skip "$folder is not writable", 2 unless -w $folder;
	my $version = $node->safe_psql('cast1', 'SELECT dts.version()');
	my @script = ("$folder/dts--$version--8.8test.sql", "$folder/dts--8.8test--$version.sql");
	append_to_file($script[0], "CREATE FUNCTION dts.only_in_test() RETURNS int LANGUAGE sql AS 'SELECT 1';\n");
	append_to_file($script[1], "DROP FUNCTION dts.only_in_test();\n");
	$node->safe_psql('cast1', q{CREATE TABLE e (n int); SELECT count(*) FROM dts.submit_many('INSERT INTO e VALUES ($1)', (SELECT array_agg(jsonb_build_array(n)) FROM generate_series(1, 2000) n))});
	for (1 .. 4) { $node->safe_psql('cast1', "ALTER EXTENSION dts UPDATE TO '$_'") for '8.8test', $version }
	$node->wait_for('SELECT count(*), count(DISTINCT n) FROM e', '2000|2000', 'cast1');
	pass('every task had its effect once, whatever the version was meanwhile');
	unlink @script;
	$node->wait_done('cast1');
	$node->healthy('cast1');
}
$node->stop;
done_testing();
