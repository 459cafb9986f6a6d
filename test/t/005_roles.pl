# Owners: dropped, locked out, without rights, many of them; and settings that are changed while the server runs.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use DtsNode;

my $node = DtsNode->start_new('main', conf => "dts.max_workers = 2\n");
my $soon = '{"base": 0.05, "cap": 0.1}';
for my $role (qw(alice bob carol dropped dropped_running), 'Odd "name"', map { "many_$_" } 1 .. 12) {
	my $quoted = '"' . ($role =~ s/"/""/gr) . '"';
	$node->safe_psql('postgres', "CREATE ROLE $quoted LOGIN; SELECT dts.grant_usage(" . DtsNode::quote($role) . ')');
}
$node->safe_psql('postgres', 'CREATE TABLE effect (who text DEFAULT current_user, session text DEFAULT session_user, n int); GRANT INSERT, SELECT ON effect TO PUBLIC');

sub reload {
	my ($setting, $value) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET $setting = $value");
	$node->reload;
	return $node->wait_for("SELECT current_setting('$setting')", $value);
}

sub end_executors {
	my ($role) = @_;
	$node->wait_for("SELECT count(*) FROM dts.workers w WHERE owner = '$role' AND (pid = 0 OR pg_terminate_backend(pid))", '0');
	return;
}

# ---- who runs it
for my $role ('alice', 'Odd "name"') {
	my $id = $node->as_role($role, q{SELECT dts.submit('INSERT INTO effect (n) VALUES (1)')});
	$node->wait_state($id, 'succeeded');
	is($node->safe_psql('postgres', 'SELECT who, session FROM effect WHERE who = ' . DtsNode::quote($role)), "$role|$role", "$role: runs as its owner");
}
my $id = $node->as_role('alice', q{SELECT dts.submit('RESET SESSION AUTHORIZATION; RESET ROLE; INSERT INTO effect (n) VALUES (2)')});
$node->wait_state($id, 'succeeded');
is($node->safe_psql('postgres', 'SELECT who, session FROM effect WHERE n = 2'), 'alice|alice', 'a task cannot leave its role');
my $superuser = $node->safe_psql('postgres', 'SELECT current_user');
$id = $node->as_role('alice', qq{SELECT dts.submit('SET SESSION AUTHORIZATION "$superuser"', max_attempts => 1)});
$node->wait_state($id, 'failed');
is($node->runs_of($id), '1 failed 42501', 'nor become another');
my ($status, undef, $error) = $node->psql('postgres', q{SELECT dts.submit('SELECT 1', owner => 'bob')}, extra_params => [ '-U', 'alice' ]);
ok($status != 0 && $error =~ /bob/, 'nobody submits for a role that he is no member of');

# ---- rights
$node->safe_psql('postgres', 'CREATE TABLE secret (n int); GRANT SELECT ON secret TO alice');
$id = $node->as_role('alice', qq{SELECT dts.submit('SELECT * FROM secret', delay => '1 hour', max_attempts => 1)});
$node->safe_psql('postgres', "REVOKE SELECT ON secret FROM alice; SELECT dts.reschedule($id)");
$node->wait_state($id, 'failed');
is($node->runs_of($id), '1 failed 42501', 'rights count when the task runs');
$node->safe_psql('postgres', q{SELECT dts.revoke_all('carol')});
$id = $node->submit('INSERT INTO effect (n) VALUES (3)', owner => 'carol');
$node->wait_state($id, 'succeeded');
is($node->safe_psql('postgres', 'SELECT who FROM effect WHERE n = 3'), 'carol', 'an owner without rights on dts can own tasks');

# ---- owners that are locked out
$id = $node->submit('SELECT 1', owner => 'bob', delay => '1 hour');
# A session that is open stays open: so an executor of his leaves first.
$node->safe_psql('postgres', 'ALTER ROLE bob NOLOGIN');
end_executors('bob');
$node->safe_psql('postgres', "SELECT dts.reschedule($id)");
$node->wait_for("SELECT dts.explain($id) ~ 'may not log in'");
my $other = $node->submit('SELECT 1', owner => 'alice');
$node->wait_state($other, 'succeeded');
($status, undef, $error) = $node->psql('postgres', q{SELECT dts.submit('SELECT 1', owner => 'bob')});
ok($status != 0 && $error =~ /log in|LOGIN/, 'a submit for a role that may not log in is refused');
$node->safe_psql('postgres', 'ALTER ROLE bob LOGIN');
$node->wait_state($id, 'succeeded');
is($node->runs_of($id), '1 succeeded', 'it costs no attempt');

$id = $node->submit('SELECT 1', owner => 'carol', delay => '1 hour');
$node->safe_psql('postgres', 'REVOKE CONNECT ON DATABASE postgres FROM PUBLIC; GRANT CONNECT ON DATABASE postgres TO alice, bob');
end_executors('carol');
$node->safe_psql('postgres', "SELECT dts.reschedule($id)");
$other = $node->submit('SELECT 1', owner => 'alice');
$node->wait_state($other, 'succeeded');
isnt($node->safe_psql('postgres', "SELECT state FROM dts.tasks WHERE id = $id"), 'succeeded', 'an owner without CONNECT runs nothing');
like($node->safe_psql('postgres', "SELECT dts.explain($id)"), qr/connect/i, 'dts.explain says so');
($status, undef, $error) = $node->psql('postgres', q{SELECT dts.submit('SELECT 1', owner => 'carol')});
ok($status != 0 && $error =~ /connect/i, 'a submit for a role without CONNECT is refused');
$node->safe_psql('postgres', 'GRANT CONNECT ON DATABASE postgres TO PUBLIC');
$node->wait_state($id, 'succeeded');

# ---- owners that are dropped
my $waiting = $node->submit('SELECT 1', owner => 'dropped', delay => '1 hour');
my $running = $node->submit('SELECT pg_sleep(0.5)', owner => 'dropped_running');
$node->running_pid($running);
$node->safe_psql('postgres', q{SELECT dts.revoke_all('dropped'), dts.revoke_all('dropped_running'); DROP ROLE dropped; DROP ROLE dropped_running});
$node->wait_state($waiting, 'failed');
is($node->safe_psql('postgres', "SELECT sqlstate FROM dts.dead_letters WHERE id = $waiting"), '42704', 'the task of a dropped role is a dead letter');
$node->wait_for("SELECT state IN ('succeeded', 'failed') FROM dts.tasks WHERE id = $running");
($status, undef, $error) = $node->psql('postgres', "SELECT dts.redrive($waiting)");
$node->wait_for("SELECT count(*) FROM dts.task WHERE id = $waiting", '0');
pass('a redriven task of a dropped role does not hang');

# ---- sharing
$node->safe_psql('postgres', q{SELECT dts.submit('SELECT pg_sleep(0.1)', owner => 'alice') FROM generate_series(1, 300)});
$node->wait_for(q{SELECT count(*) FROM dts.workers WHERE owner = 'alice' AND task IS NOT NULL}, '2');
$id = $node->submit('SELECT 1', owner => 'bob');
$node->wait_state($id, 'succeeded');
cmp_ok($node->safe_psql('postgres', "SELECT extract(epoch FROM waited) FROM dts.runs WHERE task = $id"), '<', 4, "a flood of one owner does not keep another's task waiting");
cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM dts.task t JOIN dts.lane l ON l.id = t.lane WHERE l.owner = 'alice'::regrole}), '>', 100, 'the flood was still there');
cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM dts.workers WHERE kind = 'executor'}), '<=', 2, 'dts.max_workers is kept to');

# More owners than workers: each has its turn while the flood goes on.
my @many = map { $node->submit('SELECT pg_sleep(0.01)', owner => "many_$_") } 1 .. 12;
$node->wait_state($_, 'succeeded') for @many;
cmp_ok($node->safe_psql('postgres', q{SELECT max(extract(epoch FROM waited)) FROM dts.runs WHERE task IN (} . join(',', @many) . ')'), '<', 25, 'twelve owners have their turn with two workers');

# ---- settings that are reloaded
reload('dts.max_workers', '4');
$node->safe_psql('postgres', q{SELECT dts.cancel(id) FROM dts.tasks WHERE state IN ('ready', 'running') AND owner = 'alice'});
$node->wait_done;
my @four = map { $node->submit('SELECT pg_sleep(60)') } 1 .. 4;
$node->wait_for('SELECT count(*) FROM dts.running', '4');
pass('more workers after a reload');
$node->safe_psql('postgres', "SELECT dts.cancel($_)") for @four;
reload('dts.max_workers', '1');
$node->wait_for(q{SELECT count(*) <= 1 FROM dts.workers WHERE kind = 'executor'});
pass('fewer workers after a reload');
reload('dts.max_workers', '0');
$id = $node->submit('SELECT 1', owner => 'bob');
like($node->safe_psql('postgres', "SELECT dts.explain($id)"), qr/dts\.max_workers = 0/, 'without workers dts.explain says so');
reload('dts.max_workers', '2');
$node->wait_state($id, 'succeeded');

reload('dts.enabled', 'off');
$id = $node->submit('SELECT 1', owner => 'alice');
my $own = $node->submit('SELECT 1');
like($node->safe_psql('postgres', "SELECT dts.explain($id)"), qr/dts\.enabled is off/, 'disabled: dts.explain says so');
$node->safe_psql('postgres', 'SELECT pg_sleep(0.3)');
is($node->safe_psql('postgres', "SELECT count(*) FROM dts.runs WHERE task IN ($id, $own)"), '0', 'disabled: nothing starts');
reload('dts.enabled', 'on');
$node->wait_state($_, 'succeeded') for $id, $own;

$own = $node->submit('SELECT 1', delay => '1 hour');
reload('dts.allow_superuser_tasks', 'off');
($status, undef, $error) = $node->psql('postgres', q{SELECT dts.submit('SELECT 1')});
ok($status != 0 && $error =~ /superuser/, 'tasks of superusers can be forbidden');
$node->safe_psql('postgres', "SELECT dts.reschedule($own)");
$id = $node->as_role('alice', q{SELECT dts.submit('SELECT 1')});
$node->wait_state($id, 'succeeded');
is($node->safe_psql('postgres', "SELECT count(*) FROM dts.runs WHERE task = $own AND outcome = 'succeeded'"), '0', 'one that was submitted before does not run');
like($node->safe_psql('postgres', "SELECT dts.explain($own)"), qr/superuser/, 'and dts.explain says why') if $node->safe_psql('postgres', "SELECT count(*) FROM dts.task WHERE id = $own");
reload('dts.allow_superuser_tasks', 'on');
$node->wait_for("SELECT count(*) FROM dts.task WHERE id = $own", '0');
$node->healthy;
$node->stop;

done_testing();
