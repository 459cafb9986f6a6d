# pg_upgrade of a cluster with dts: definitions, and tasks in every state, come along; nothing is lost, nothing runs while the programs of pg_upgrade
# have either cluster open, nothing runs in the new one before dts.adopt(), nothing runs twice afterwards.
#
# DTS_OLD_INSTALL is the folder above bin of another major's server with dts (scripts/check --pg N sets it to the machine's own); without it both
# clusters are of the version under test, which goes through the same steps.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use File::Spec;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $old = DtsNode->new('old', $ENV{DTS_OLD_INSTALL} ? (install_path => $ENV{DTS_OLD_INSTALL}) : ());
# 18 has checksums by default.
my @plain = ('--no-locale', '--encoding', 'UTF8', '--data-checksums');
$old->init(extra => \@plain, conf => "dts.max_workers = 3\nsynchronous_commit = on\n");
$old->start;
my $sql = sub { return $old->safe_psql('postgres', @_) };
note('from ' . $sql->('SHOW server_version'));

# ---- a cluster with everything in it, in two databases
$sql->(q{CREATE DATABASE second});
$old->safe_psql($_, q{CREATE EXTENSION dts; CREATE TABLE effect (n int, at timestamptz DEFAULT clock_timestamp())}) for 'postgres', 'second';
$sql->(q{CREATE ROLE worker LOGIN; SELECT dts.grant_usage('worker'); GRANT ALL ON effect TO worker;
	CREATE TABLE fired (due_at timestamptz);
	SELECT dts.create_queue('mail', batch_size => 7, description => 'for letters'), dts.set_limit(queue => 'mail', concurrency => 2);
	SELECT dts.create_handler('note', 'INSERT INTO effect SELECT ($1 ->> ''n'')::int', queue => 'mail', shared => true);
	SELECT dts.create_workflow('flow', '{"nodes": {"a": {"sql": "INSERT INTO effect VALUES (101)"}, "hold": {"needs": ["a"], "approval": {"prompt": "go on?"}}, "b": {"needs": ["hold"], "sql": "INSERT INTO effect VALUES (102)"}}}');
	SELECT dts.schedule('tick', 'every 1 second', 'INSERT INTO fired SELECT dts.scheduled_for()', missed => 'skip');
	SELECT dts.allow_host('example.com')});
my $done = $old->submit('INSERT INTO effect VALUES (1)');
my $dead = $old->submit('SELECT 1/0', max_attempts => 1);
$old->wait_state($done, 'succeeded');
$old->wait_state($dead, 'failed');
my $flow = $sql->(q{SELECT dts.start('flow')});
$old->wait_for(q{SELECT count(*) FROM effect WHERE n = 101}, '1');
$old->wait_for('SELECT count(*) > 1 FROM fired');
my $cancelled = $old->submit('SELECT 1', delay => '1 hour');
$sql->("SELECT dts.cancel($cancelled)");
$sql->(q{SELECT dts.pause('mail')});
my $waiting   = $sql->(q{SELECT dts.submit_handler('note', '{"n": 2}', key => 'once', owner => 'worker')});
my $scheduled = $old->submit('INSERT INTO effect VALUES (3)', delay => '1 hour');
my $parent    = $old->submit('INSERT INTO effect VALUES (4)', queue => 'mail', args => '[]');
my $child     = $sql->(qq{SELECT dts.submit('INSERT INTO effect VALUES (5)', depends_on => dts.after(ARRAY[$parent]))});
my $retried   = $old->submit('SELECT 1/0', retry => '{"base": 3600}');
$old->wait_for("SELECT count(*) FROM dts.runs WHERE task = $retried", '1');
$sql->(q{SELECT count(*) FROM dts.submit_many('INSERT INTO effect VALUES ($1)', (SELECT array_agg(jsonb_build_array(n)) FROM generate_series(1001, 1500) n), queue => 'mail')});
# It runs when the old server stops: neither effect nor end, and it runs in the new one.
my $cut = $old->submit('INSERT INTO effect VALUES (6); SELECT pg_sleep(CASE WHEN current_setting($$port$$) = $$' . $old->port . '$$ THEN 300 ELSE 0 END)');
$old->running_pid($cut);
# Due in a moment, so that whatever starts workers during pg_upgrade would run it.
my $due = $old->submit('INSERT INTO effect VALUES (7)', delay => '3 s', dbname => 'second');
$old->stop('fast');

# What must be the same before and after. Read from a server that runs nothing.
my %look = (
	tasks     => q{SELECT id, replace(state, 'scheduled', 'ready'), kind, queue, owner, priority, attempts, key, run_at, max_attempts FROM dts.tasks ORDER BY id},
	runs      => 'SELECT task, attempt, outcome, sqlstate, error, ended_at FROM dts.runs ORDER BY task, attempt, ended_at',
	dead      => 'SELECT id, sqlstate, queue FROM dts.dead_letters ORDER BY id',
	edges     => 'SELECT child, parent FROM dts.dependency ORDER BY 1, 2',
	queues    => 'SELECT name, paused, batch_size, description FROM dts.queues ORDER BY 1',
	handlers  => 'SELECT name, queue, owner FROM dts.handlers ORDER BY 1',
	workflows => 'SELECT id, state FROM dts.workflow_runs ORDER BY id',
	schedules => 'SELECT name, timing FROM dts.schedules ORDER BY 1',
	audit     => 'SELECT at, action, object FROM dts.audit ORDER BY 1, 2, 3',
	effects   => 'SELECT n, at FROM effect ORDER BY n, at',
	rights    => q{SELECT proname, proacl::text FROM pg_proc WHERE pronamespace = 'dts'::regnamespace ORDER BY 1, 2},
);
sub look {
	my ($node) = @_;
	return { map { $_ => $node->safe_psql('postgres', $look{$_}) } keys %look };
}
$old->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$old->start;
my $before = look($old);
$old->stop;
$old->append_conf('postgresql.conf', "shared_preload_libraries = 'dts'\n");

# ---- pg_upgrade, while both clusters would run tasks if they were asked to
my $new = DtsNode->new('new');
$new->init(extra => \@plain, conf => "dts.max_workers = 3\n");

# upgrade(OLD, NEW, OPTION...): what it said if it failed, with the end of the log that tells why.
sub upgrade {
	my ($from, $to, @options) = @_;
	my $said    = '';
	my $folder  = PostgreSQL::Test::Utils::tempdir();  # it leaves a script where it runs
	my @command = ('pg_upgrade', '--no-sync', '-d', File::Spec->rel2abs($from->data_dir), '-D', File::Spec->rel2abs($to->data_dir), '-b', $from->config_data('--bindir'), '-B', $to->config_data('--bindir'),
		'-s', $to->host, '-p', $from->port, '-P', $to->port, '-U', scalar getpwuid($<), @options);
	return '' if IPC::Run::run(\@command, '<', \undef, '>', \$said, '2>&1', init => sub { chdir $folder });
	return join '', $said, map { grep { /error:|FATAL/ } split /^/ } map { slurp_file($_) } glob $to->data_dir . '/pg_upgrade_output.d/*/log/pg_upgrade_dump_*.log';
}

# Some releases cannot take a cluster of another one at all: one with a plain table says whether it is that.
sub plain_fails {
	my $plain = DtsNode->new('plain', $ENV{DTS_OLD_INSTALL} ? (install_path => $ENV{DTS_OLD_INSTALL}) : ());
	my $into  = DtsNode->new('into');
	$_->init(extra => \@plain, preload => 0) for $plain, $into;
	$plain->start;
	$plain->safe_psql('postgres', 'CREATE TABLE plain (n int)');
	$plain->stop;
	return upgrade($plain, $into);
}

is(upgrade($old, $new, '--check'), '', 'pg_upgrade --check');
my $failed = upgrade($old, $new);
if ($failed && (my $why = plain_fails())) {
	my ($error) = $why =~ /(error: .*)/;
	SKIP: { skip 'this pg_upgrade cannot take a plain table of that release either: ' . ($error // $why), 1 }
	done_testing();
	exit 0;
}
is($failed, '', 'pg_upgrade') or BAIL_OUT('pg_upgrade failed');
$new->start;
note('to ' . $new->safe_psql('postgres', 'SHOW server_version'));

# ---- the new cluster is fenced, and says so
$new->wait_for(q{SELECT dts._fence() ~ 'adopt'}, 't', $_) for 'postgres', 'second';
my $after = look($new);
is($after->{$_}, $before->{$_}, "$_: as they were") for sort keys %look;
is($new->safe_psql('postgres', q{SELECT ok, reason ~ 'adopt' FROM dts.health()}), 'f|t', 'the probe says what to do');
like($new->safe_psql('postgres', q{SELECT string_agg(finding || advice, ' ') FROM dts.doctor() WHERE severity = 'error'}), qr/SELECT dts\.adopt/, 'so does dts.doctor');
$new->wait_for(q{SELECT clock_timestamp() > run_at + interval '1 s' FROM dts.tasks WHERE id = } . $due, 't', 'second');
is($new->safe_psql('second', 'SELECT count(*) FROM effect'), '0', 'nothing ran by itself, neither during pg_upgrade nor after it');
my $held = $new->submit('INSERT INTO effect VALUES (8)');
cmp_ok($held, '>', $cut, 'ids go on');
is($new->safe_psql('postgres', q{SELECT dts.submit_handler('note', '{"n": 2}', key => 'once', owner => 'worker')}), $waiting, 'keys came along');

# ---- adopted, everything goes on
$new->safe_psql($_, 'SELECT dts.adopt()') for 'postgres', 'second';
$new->wait_state($due, 'succeeded', 'second');
$new->wait_state($_, 'succeeded') for $held, $cut;
$new->safe_psql('postgres', q{SELECT dts.resume('mail')});
$new->wait_state($_, 'succeeded') for $waiting, $parent, $child;
$new->safe_psql('postgres', "SELECT dts.approve($flow, 'hold')");
$new->wait_for("SELECT state FROM dts.workflow_runs WHERE id = $flow", 'succeeded');
$new->wait_for('SELECT count(*) FROM effect WHERE n > 1000', '500');
is($new->safe_psql('postgres', 'SELECT string_agg(n::text, $$,$$ ORDER BY n) FROM effect WHERE n < 1000'), '1,2,4,5,6,7,8,101,102' =~ s/7,//r, 'each task had its effect once');
is($new->safe_psql('postgres', 'SELECT count(*), count(DISTINCT n) FROM effect WHERE n > 1000'), '500|500', 'also those that waited in a paused queue');
is($new->safe_psql('second', 'SELECT count(*) FROM effect'), '1', 'and in the other database');
my $fires = $new->safe_psql('postgres', 'SELECT count(*) FROM fired');
$new->wait_for("SELECT count(*) > $fires FROM fired");
is($new->safe_psql('postgres', 'SELECT due_at FROM fired GROUP BY 1 HAVING count(*) > 1'), '', 'no due time of a schedule came twice');
is($new->safe_psql('postgres', "SELECT dts.cancel($scheduled), dts.cancel($retried)"), 'cancelled|cancelled', 'what is due later can be steered');
$new->safe_psql('postgres', "SELECT dts.redrive($dead)");
$new->wait_for("SELECT count(*) FROM dts.runs WHERE task = $dead AND outcome = 'failed'", '2');
pass('a dead letter is redriven');
$new->safe_psql('postgres', q{SELECT dts.pause_schedule('tick')});
$new->wait_done;
is($new->safe_psql('postgres', q{SELECT string_agg(concat_ws(': ', subject, finding), E'\n') FROM dts.doctor() WHERE severity = 'error' AND subject <> 'fsync'}), '', 'dts.doctor finds no error');
$new->healthy;
$new->safe_psql('postgres', 'DROP EXTENSION dts CASCADE');
is($new->safe_psql('postgres', q{SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('dts')}), '0', 'it is still one extension: DROP EXTENSION takes all of it');
$new->safe_psql('postgres', 'CREATE EXTENSION dts');
$new->stop;
done_testing();
