# Ways in which a task, its commit, or what its role has set can go wrong: each ends as an ordinary attempt, and the executor goes on.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use DtsNode;

my $node = DtsNode->start_new('main', conf => "deadlock_timeout = '100ms'\ndts.max_workers = 4\n");
my $soon = '{"base": 0.05, "cap": 0.1}';
my $log = -s $node->logfile;
$node->safe_psql(
	'postgres', qq{
	CREATE ROLE worker LOGIN;
	SELECT dts.grant_usage('worker');
	SELECT dts.create_queue('batched', batch_size => 20, retry => '$soon');
	CREATE TABLE effect (n int);
	GRANT ALL ON effect TO worker;
	GRANT CREATE ON SCHEMA public TO worker});

# fails(WHAT, SQL, SQLSTATE, %options): a task with two attempts, which both fail like this, and one after it, which succeeds.
sub fails {
	my ($what, $sql, $sqlstate, %options) = @_;
	my $id = $node->submit($sql, max_attempts => 2, retry => $soon, %options);
	$node->wait_state($id, 'failed');
	is($node->runs_of($id), "1 retry $sqlstate\n2 failed $sqlstate", "$what: two failed attempts");
	goes_on($what, %options);
	return $id;
}

sub succeeds {
	my ($what, $sql, %options) = @_;
	my $id = $node->submit($sql, max_attempts => 1, %options);
	$node->wait_state($id, $options{end} // 'succeeded');
	is($node->runs_of($id), '1 succeeded', "$what: the task succeeds");
	return $id;
}

sub goes_on {
	my ($what, %options) = @_;
	my $next = $node->submit('INSERT INTO effect VALUES (0)', $options{owner} ? (owner => $options{owner}) : (), $options{queue} ? (queue => $options{queue}) : ());
	$node->wait_state($next, 'succeeded');
	is($node->runs_of($next), '1 succeeded', "$what: the next task runs");
	return;
}

# ---- deferred constraints and triggers
$node->safe_psql(
	'postgres', q{
	CREATE TABLE parent (id int PRIMARY KEY);
	CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
	CREATE TABLE fired (who text, session text);
	CREATE TABLE watched (n int);
	GRANT ALL ON parent, child, fired, watched TO worker;
	CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN INSERT INTO fired VALUES (current_user, session_user); RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER fire AFTER INSERT ON watched DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fire()});
fails('deferred constraint', 'INSERT INTO child VALUES (1)', '23503');
is($node->safe_psql('postgres', 'SELECT count(*) FROM child'), '0', 'deferred constraint: no effect is left');
unlike(slurp_file($node->logfile), qr/a task's transaction failed/, 'deferred constraint: it failed the task, not the commit');
succeeds('deferred trigger', 'INSERT INTO watched VALUES (1)', owner => 'worker');
is($node->safe_psql('postgres', 'SELECT * FROM fired'), 'worker|worker', 'a deferred trigger runs as the owner of the task');
fails('deferred constraint in a batch', 'INSERT INTO child VALUES (1)', '23503', queue => 'batched');

# ---- the commit itself fails
# A holdable cursor is computed at commit, when it is too late for the subtransaction of the task.
my $late = 'DECLARE c CURSOR WITH HOLD FOR SELECT 1 / (n - 2) FROM generate_series(1, 3) n';
fails('commit fails', "INSERT INTO effect VALUES (1); $late", '22012');
is($node->safe_psql('postgres', 'SELECT count(*) FROM effect WHERE n = 1'), '0', 'commit fails: no effect is left');
$node->safe_psql('postgres', q{SELECT dts.pause('batched')});
my @company = map { $node->submit("INSERT INTO effect VALUES ($_)", queue => 'batched') } 101 .. 105;
my $bad = $node->submit($late, queue => 'batched', max_attempts => 2, retry => $soon);
push @company, map { $node->submit("INSERT INTO effect VALUES ($_)", queue => 'batched') } 106 .. 110;
$node->safe_psql('postgres', q{SELECT dts.resume('batched')});
$node->wait_state($bad, 'failed');
$node->wait_done;
is($node->runs_of($bad), "1 retry 22012\n2 failed 22012", 'commit of a batch fails: charged to the task that did it');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT n) FROM effect WHERE n > 100'), '10|10', 'commit of a batch fails: its companions took effect once');
is($node->safe_psql('postgres', 'SELECT string_agg(DISTINCT outcome || attempt, $$,$$) FROM dts.runs WHERE task IN (' . join(',', @company) . ')'),
	'succeeded1', 'commit of a batch fails: its companions are not charged');

SKIP: {
	skip 'postgres_fdw is not installed', 3
	  unless $node->safe_psql('postgres', q{SELECT count(*) FROM pg_available_extensions WHERE name = 'postgres_fdw'});
	my ($host, $port) = ($node->host, $node->port);
	$node->safe_psql(
		'postgres', qq{
		CREATE EXTENSION postgres_fdw;
		CREATE SERVER loopback FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$host', port '$port', dbname 'postgres');
		CREATE USER MAPPING FOR CURRENT_USER SERVER loopback OPTIONS (user 'postgres');
		CREATE FOREIGN TABLE far_child (id int) SERVER loopback OPTIONS (table_name 'child')} =~ s/user 'postgres'/"user '" . getpwuid($<) . "'"/er);
	fails('remote commit fails', 'INSERT INTO far_child VALUES (1)', '23503');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM child'), '0', 'remote commit fails: no effect is left');
}

# ---- what roles have set
sub with_setting {
	my ($setting, $value, $body) = @_;
	$node->safe_psql('postgres', "ALTER ROLE worker SET $setting = '$value'");
	# Executors took their settings when they began.
	$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid, 10000) FROM dts.workers WHERE owner = 'worker'});
	$body->("$setting = $value");
	$node->safe_psql('postgres', "ALTER ROLE worker RESET $setting");
	$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid, 10000) FROM dts.workers WHERE owner = 'worker'});
	return;
}

my @harmless = (
	[ default_transaction_read_only => 'on' ],
	[ default_transaction_isolation => 'serializable' ],
	[ default_transaction_isolation => 'repeatable read' ],
	[ default_transaction_deferrable => 'on' ],
	[ idle_in_transaction_session_timeout => '1ms' ],
	[ idle_session_timeout => '1ms' ],
	[ search_path => 'nowhere' ],
	[ row_security => 'off' ],
	[ standard_conforming_strings => 'off' ],
	[ client_min_messages => 'error' ],
	[ DateStyle => 'German' ],
	[ IntervalStyle => 'sql_standard' ],
	[ TimeZone => 'Pacific/Kiritimati' ],
	[ bytea_output => 'escape' ],
	[ client_encoding => 'LATIN1' ],
	[ check_function_bodies => 'off' ],
	[ plan_cache_mode => 'force_generic_plan' ],
	[ synchronous_commit => 'off' ],
	[ extra_float_digits => '-10' ],
	[ transform_null_equals => 'on' ],
	[ default_tablespace => 'nowhere' ],
);
for my $s (@harmless) {
	with_setting(
		@$s,
		sub {
			my ($what) = @_;
			succeeds($what, 'INSERT INTO public.effect VALUES (7)', owner => 'worker');
			my $id = $node->submit('SELECT 1/0', owner => 'worker', max_attempts => 2, retry => $soon);
			$node->wait_state($id, 'failed');
			is($node->runs_of($id), "1 retry 22012\n2 failed 22012", "$what: a failure is recorded");
		});
}
# A timeout for locks strikes the task's statements, and none of dts's own.
my $locker = $node->session;
$locker->query('BEGIN; LOCK TABLE effect');
with_setting('lock_timeout', '20ms', sub { my $id = $node->submit('INSERT INTO effect VALUES (8)', owner => 'worker', max_attempts => 2, retry => $soon);
		$node->wait_state($id, 'failed');
		is($node->runs_of($id), "1 retry 55P03\n2 failed 55P03", 'lock_timeout of a role: failed attempts'); });
$locker->query('ROLLBACK');
goes_on('lock_timeout of a role', owner => 'worker');
with_setting('statement_timeout', '50ms', sub { fails('statement_timeout of a role', 'SELECT pg_sleep(30)', '57014', owner => 'worker') });

# ---- what tasks set
fails('SET TRANSACTION READ ONLY', 'SET TRANSACTION READ ONLY; INSERT INTO effect VALUES (9)', '25006');
succeeds('SET TRANSACTION READ ONLY and no write', 'SET TRANSACTION READ ONLY; SELECT 1');
fails('SET TRANSACTION ISOLATION LEVEL', 'SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; SELECT 1', '25001');
for my $sql ('BEGIN', 'COMMIT', 'ROLLBACK', 'SAVEPOINT a', 'PREPARE TRANSACTION $$x$$') {
	my ($status, undef, $error) = $node->psql('postgres', 'SELECT dts.submit($sql$' . $sql . '$sql$)');
	ok($status != 0 && $error =~ /transaction/, "$sql in a task is refused");
}
fails('transaction control in a procedure', 'DO $$ BEGIN COMMIT; END $$', '2D000');
fails('transaction control in dynamic SQL', q{DO $$ BEGIN EXECUTE 'ROLLBACK'; END $$}, '0A000');

# ---- deadlock: run again at once, not counted
$node->safe_psql(
	'postgres', q{
	CREATE TABLE pair (id int PRIMARY KEY, n int);
	INSERT INTO pair VALUES (1, 0), (2, 0);
	CREATE FUNCTION update_two(a int, b int) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			UPDATE pair SET n = n + 1 WHERE id = a;
			PERFORM pg_sleep(0.2);
			UPDATE pair SET n = n + 1 WHERE id = b;
		END $$});
my @both = map { $node->submit("SELECT update_two($_)", max_attempts => 1) } '1, 2', '2, 1';
$node->wait_state($_, 'succeeded') for @both;
is(join(';', map { $node->runs_of($_) } @both), '1 succeeded;1 succeeded', 'a deadlock between two tasks costs no attempt');
is($node->safe_psql('postgres', 'SELECT sum(n) FROM pair'), '4', 'and both took effect once');
$node->wait_for(q{SELECT deadlocks > 0 FROM pg_stat_database WHERE datname = 'postgres'});

# ---- timeouts
fails('timeout', 'SELECT pg_sleep(60)', '57014', timeout => '100ms');
fails('timeout of a batch', 'SELECT pg_sleep(60)', '57014', timeout => '100ms', queue => 'batched');
my $stubborn = q{DO $$ BEGIN LOOP BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$};
my $id = $node->submit($stubborn, timeout => '100ms', max_attempts => 1);
$node->wait_state($id, 'failed');
is($node->runs_of($id), '1 failed 57P01', 'a task that swallows its timeout is terminated');
# One that swallows it and ends well by then has succeeded.
succeeds('timeout swallowed', q{DO $$ BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END $$}, timeout => '100ms');

# ---- resources
fails('too large a value', q{SELECT repeat('x', 1100000000)}, '54000');
fails('recursion', 'WITH RECURSIVE f(n) AS (SELECT 1) SELECT recurse(1) FROM f', '54001') if $node->safe_psql('postgres', q{
	CREATE FUNCTION recurse(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN recurse(n + 1); END $$; SELECT 1});
fails('bytes that are no text', q{SELECT convert_from('\xff'::bytea, 'UTF8')}, '22021');
fails('an error without text', q{DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'TQ999', MESSAGE = ''; END $$}, 'TQ999');
fails('an assertion', 'DO $$ BEGIN ASSERT false; END $$', 'P0004');
my $huge = $node->submit(q{DO $$ BEGIN RAISE EXCEPTION '%', repeat('ä', 5000000); END $$}, max_attempts => 1);
$node->wait_state($huge, 'failed');
is($node->safe_psql('postgres', "SELECT length(error) BETWEEN 1000 AND 20000 FROM dts.runs WHERE task = $huge"), 't', 'a huge message is cut');
# Five levels of subtransactions and 200 of them one after the other.
succeeds('subtransactions', q{DO $$ BEGIN FOR i IN 1 .. 200 LOOP BEGIN INSERT INTO effect VALUES (10); PERFORM 1 / (i % 2); EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$});

# ---- what tasks may do to dts itself
succeeds('submit in a task', q{SELECT dts.submit('INSERT INTO effect VALUES (11)')});
$node->wait_for('SELECT count(*) FROM effect WHERE n = 11', '1');
my $suicide = $node->submit('SELECT pg_sleep(0.1)', delay => '1 hour');
succeeds('cancel in a task', "SELECT dts.cancel($suicide)");
$node->wait_state($suicide, 'cancelled');
$id = $node->submit(q{SELECT dts.cancel((SELECT max(id) FROM dts.running))}, max_attempts => 1);
$node->wait_for("SELECT state IN ('cancelled', 'succeeded', 'failed') FROM dts.tasks WHERE id = $id");
goes_on('a task that cancels itself');
is($node->safe_psql('postgres', "SELECT state FROM dts.tasks WHERE id = $id"), 'cancelled', 'a task that cancels itself is cancelled');
fails('dropping dts in a task', 'DROP EXTENSION dts', '55006');
fails('truncating its own table', 'TRUNCATE dts.task', '55006');

my $text = slurp_file($node->logfile, $log);
unlike($text, qr/PANIC|TRAP|terminated by signal|was not undone|leak/, 'nothing crashed, nothing leaked');
$node->healthy;
$node->stop;

done_testing();
