# Transaction ids run out: the server refuses whatever needs one. dts is calm meanwhile, charges nobody, and goes on by itself as docs/operations.md says.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = DtsNode->start_new('main', conf => "autovacuum_naptime = 1s\ndts.max_workers = 2\n");
my $sql  = sub { return $node->safe_psql('postgres', @_) };
$sql->(q{CREATE TABLE effect (n int); CREATE TABLE fired (due_at timestamptz); SELECT dts.schedule('tick', 'every 1 second', 'INSERT INTO fired SELECT dts.scheduled_for()', missed => 'once')});
$node->wait_for('SELECT count(*) > 0 FROM fired');
$sql->('ALTER SYSTEM SET dts.enabled = off');
$node->reload;
my @waiting = map { $node->submit("INSERT INTO effect VALUES ($_)", max_attempts => 2) } 1 .. 5;
$sql->('CREATE TABLE held (n int); INSERT INTO held VALUES (1)');
my $oldest = $sql->(q{SELECT min(datfrozenxid::text::bigint) FROM pg_database});
$node->stop;
# Of the ids that are left the server keeps three million for emergencies.
my $next = $oldest + 2**31 - 1 - 3_000_000 - 200;
append_to_file($node->data_dir . sprintf('/pg_xact/%04X', $next / (8192 * 4 * 32)), "\0" x 262_144);
command_ok([ 'pg_resetwal', '-x', $next, $node->data_dir ], 'transaction ids are nearly used up');
$node->start;
# Somebody holds a lock that VACUUM wants: nothing becomes younger.
my $holder = $node->session('postgres');
$holder->query('BEGIN; LOCK TABLE held IN SHARE UPDATE EXCLUSIVE MODE');
my $error = '';
my $use_up = sub { $node->psql('postgres', 'DO $$ BEGIN LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$', stderr => \$error) };
$use_up->();
$node->wait_for(q{SELECT count(*) FROM pg_class WHERE relkind IN ('r', 't', 'm') AND age(relfrozenxid) > 1000000000}, '1');
$node->wait_for(q{SELECT count(*) FROM pg_database WHERE age(datfrozenxid) > 1000000000}, '1');
$use_up->();
like($error, qr/not accepting commands/, 'then they are');
my ($status, undef, $refused) = $node->psql('postgres', q{\set VERBOSITY verbose
SELECT dts.submit('SELECT 1')});
like($refused, qr/54000/, 'a submit is refused');
my $start = -s $node->logfile;
$sql->('ALTER SYSTEM SET dts.enabled = on');
$node->reload;
# They are due, executors try and cannot even claim them.
$node->wait_for(q{SELECT count(*) > 0 FROM dts.workers WHERE kind = 'executor'});
$sql->('SELECT pg_sleep(2)');
is($sql->('SELECT count(*) FROM effect'), '0', 'nothing runs');
is($sql->(q{SELECT count(*) FROM dts.workers WHERE kind = 'scheduler'}), '1', 'the scheduler lives');
like($sql->("SELECT dts.explain($waiting[0])"), qr/./, 'looking still works');
my $lines = () = slurp_file($node->logfile, $start) =~ /not accepting commands/g;
cmp_ok($lines, '<', 100, "no process repeats what cannot work at full speed ($lines errors in the log)");

# The run book: stop dts, find and end what is old, vacuum, switch it on.
$sql->('ALTER SYSTEM SET dts.enabled = off');
$node->reload;
is($sql->(q{SELECT relname FROM pg_class WHERE relkind IN ('r', 't', 'm') AND age(relfrozenxid) > 1000000000 AND relname = 'held'}), 'held', 'what is old is found');
$holder->query('COMMIT');
$holder->close;
$node->wait_for(q{SELECT max(age(datfrozenxid)) < 1000000000 FROM pg_database});
pass('autovacuum has frozen everything');
$sql->('ALTER SYSTEM RESET dts.enabled');
$node->reload;
$node->wait_state($_, 'succeeded') for @waiting;
is($sql->('SELECT count(*), count(DISTINCT n) FROM effect'), '5|5', 'what waited runs, once');
is($sql->(q{SELECT count(*) FROM dts.dead_letters}), '0', 'nobody was charged for it');
my $fired = $sql->('SELECT count(*) FROM fired');
$node->wait_for("SELECT count(*) > $fired FROM fired");
is($sql->('SELECT due_at FROM fired GROUP BY 1 HAVING count(*) > 1'), '', 'schedules go on, no due time twice');
$sql->(q{SELECT dts.pause_schedule('tick')});
$node->wait_done;
is($sql->('SELECT * FROM dts.stuck()'), '', 'nothing is stuck');
$node->stop;
done_testing();
