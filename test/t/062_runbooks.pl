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
		next unless $statement =~ /^(?:SELECT|CALL|ALTER SYSTEM|ALTER EXTENSION|dts\.\w+\()/;
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
	$try =~ s/\(id\)$/($dead)/ if $try !~ /FROM/;
	my ($status, undef, $error) = $node->psql('postgres', $try, timeout => 30);
	# What takes running processes away is told here, and what was already done does no harm.
	is($status, 0, $statement) or diag("$try\n$error");
}

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
$node->stop;
done_testing();
