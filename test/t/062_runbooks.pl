# Every command in docs/operations.md is tried: each statement in a code span or block runs without error on a server where the numbers and
# names that the page uses exist. A statement that a release breaks, or that never worked, shows here.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = DtsNode->start_new('main');
my $sql  = sub { return $node->safe_psql('postgres', @_) };
$sql->(q{CREATE ROLE app; CREATE ROLE prometheus; CREATE ROLE ops; SELECT dts.create_queue('mail'), dts.create_queue('q'), dts.schedule('nightly', '0 3 * * *', 'SELECT 1');
	CREATE PROCEDURE hang() LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(300); END $$});
my $dead = $sql->(q{SELECT dts.submit('SELECT 1/0', max_attempts => 1)});
$node->wait_state($dead, 'failed');
my $hangs = $sql->(q{SELECT dts.submit('SELECT pg_sleep(300)')});
my $pid   = $node->running_pid($hangs);

my $page = slurp_file("$FindBin::Bin/../../docs/operations.md");
my @found;
# Blocks of SQL first, then code spans outside of them.
while ($page =~ s/^```sql\n(.*?)^```//ms) { push @found, $1 }
$page =~ s/^```.*?^```//msg;
push @found, $1 while $page =~ /`([^`\n]+)`/g;

my %seen;
my @statements;
for my $text (@found) {
	$text =~ s/--[^\n]*//g;
	for my $statement (split /;/, $text) {
		$statement =~ s/^\s+|\s+$//g;
		next unless $statement =~ /^(?:SELECT|CALL|ALTER SYSTEM|ALTER EXTENSION|VACUUM|dts\.\w+\()/;
		next if $statement =~ / (?:gives it|lets its?) /;  # an answer of dts that names a statement, not one
		push @statements, $statement unless $seen{$statement}++;
	}
}
cmp_ok(scalar @statements, '>', 25, 'the page has statements');

# What stands for something of the reader's.
for my $statement (@statements) {
	my $try = $statement;
	$try = "SELECT $try" if $try =~ /^dts\./;
	$try =~ s/\b4711\b/$dead/g;
	$try =~ s/\bN\b/$hangs/g;
	$try =~ s/WHERE \.\.\./WHERE false/;
	# A bare function with a column as argument: of some row.
	$try =~ s/\((pid|worker_pid)\)$/($pid)/ if $try !~ /FROM/;
	$try =~ s/\((?:id|task)\)$/($dead)/ if $try !~ /FROM/;
	my ($status, undef, $error) = $node->psql('postgres', $try, timeout => 30);
	# What takes running processes away is told here, and what was already done does no harm.
	is($status, 0, $statement) or diag("$try\n$error");
}

# Some of these have switched things off.
$sql->('ALTER SYSTEM RESET ALL; SELECT pg_reload_conf(), dts.resume_schedule(name) FROM dts.schedules');

# The run books, as stories: what the page says happens, happens.
$sql->('ALTER SYSTEM SET dts.enabled = off; SELECT pg_reload_conf()');
$node->wait_for(q{SELECT dts._fence() ~ 'dts.enabled is off'});
my $held = $sql->('SELECT dts.submit($$SELECT 1$$)');
like($sql->("SELECT dts.explain($held)"), qr/nothing runs in this database: dts\.enabled is off/, 'nothing runs: dts.explain says why');
is($sql->(q{SELECT ok FROM dts.health()}), 'f', 'the probe says so');
like($sql->(q{SELECT string_agg(finding, ' ') FROM dts.doctor()}), qr/dts\.enabled is off/, 'so does dts.doctor');
$sql->('ALTER SYSTEM RESET dts.enabled; SELECT pg_reload_conf()');
$node->wait_state($held, 'succeeded');
is($sql->(q{SELECT ok FROM dts.health()}), 't', 'what it advises helps');
my $stays = $sql->(q{SELECT dts.submit('SELECT pg_sleep(300)', max_attempts => 1)});
$node->running_pid($stays);
$sql->("SELECT pg_terminate_backend(worker_pid) FROM dts.running WHERE id = $stays");
$node->wait_state($stays, 'failed');
pass('a task that hangs is ended by ending its process');
$sql->("SELECT dts.cancel($hangs)");
$node->wait_done;

# The disk is full: what used up its attempts is found, and redriven.
$sql->(q{CREATE TABLE room (); CREATE FUNCTION write() RETURNS text LANGUAGE plpgsql AS $$ BEGIN IF EXISTS (SELECT FROM pg_class WHERE relname = 'full') THEN RAISE disk_full; END IF; RETURN 'written'; END $$;
	ALTER TABLE room RENAME TO "full"});
my $full = $sql->(q{SELECT dts.submit('SELECT write()', max_attempts => 1)});
$node->wait_state($full, 'failed');
$sql->('ALTER TABLE "full" RENAME TO room');
is($sql->(q{SELECT string_agg(dts.redrive(id), ' ') FROM dts.dead_letters WHERE sqlstate LIKE '53%'}), 'redriven', 'disk full: its victims are found');
$node->wait_state($full, 'succeeded');

# The scheduler hangs behind a lock: the page's query tells who holds it, and ending the scheduler does no harm.
my $locker = $node->session('postgres');
$locker->query('BEGIN; LOCK TABLE dts.task');
$sql->('SELECT dts.rescan()');
$node->wait_for(q{SELECT pg_blocking_pids(pid) = ARRAY[} . $locker->{pid} . q{] FROM pg_stat_activity WHERE backend_type = 'dts scheduler'});
pass('a scheduler that hangs: who is in its way');
my ($before) = $node->worker_pids('scheduler');
$sql->(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'dts scheduler' AND datname = current_database()});
$node->wait_for("SELECT count(*) FROM dts.workers WHERE kind = 'scheduler' AND pid <> $before", '1');
$locker->query('COMMIT');
$locker->close;
my $after = $sql->(q{SELECT dts.submit('SELECT 1')});
$node->wait_state($after, 'succeeded');
pass('ended, it comes again');

# Restore into staging: nothing of production's runs there, and staging's own does.
$sql->(q{CREATE TABLE mails (n int); SELECT dts.create_workflow('chain', '{"nodes": {"a": {"sql": "INSERT INTO mails VALUES (1)"}, "b": {"needs": ["a"], "sql": "INSERT INTO mails VALUES (2)"}}}');
	SELECT dts.pause('mail'), dts.schedule('often', 'every 1 second', 'INSERT INTO mails VALUES (3)', missed => 'all'), dts.allow_host('example.com')});
$sql->(q{SELECT dts.submit('INSERT INTO mails VALUES (4)', queue => 'mail', delay => '1 s')});
$node->wait_for('SELECT count(*) > 1 FROM mails');
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$sql->(q{SELECT dts.start('chain') FROM generate_series(1, 5)});
command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
$sql->('CREATE DATABASE staging');
command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('staging'), $dump ], 'pg_restore');
my $staging = sub { return $node->safe_psql('staging', @_) };
my $mails = $staging->('SELECT count(*) FROM mails');
$page = slurp_file("$FindBin::Bin/../../docs/operations.md");
my ($book) = $page =~ /^### Restore into staging\n(.*?)^### /ms;
my @steps = grep { /^SELECT/ } $book =~ /`([^`\n]+)`/g;
is(scalar @steps, 6, 'the run book has its steps');
$staging->($_) for @steps;
my $own = $node->submit('SELECT 1', dbname => 'staging');
$node->wait_state($own, 'succeeded', 'staging');
$node->wait_for('SELECT count(*) FROM dts.task', '0', 'staging');
is($staging->('SELECT count(*) FROM mails'), $mails, 'restore into staging: nothing of the original runs there');
is($staging->('SELECT count(*) FROM dts.egress'), '0', 'and no request may leave');
$sql->(q{SELECT dts.pause_schedule(name) FROM dts.schedules; SELECT dts.resume('mail')});
$node->wait_done;
$node->healthy;
$node->stop;
done_testing();
