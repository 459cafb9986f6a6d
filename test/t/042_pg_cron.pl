# The jobs of a real pg_cron are taken over: shown first, then once, and from then on they run here and no longer there.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use DtsNode;

my $share = `pg_config --sharedir`;
chomp $share;
plan skip_all => 'pg_cron is not installed' unless -e "$share/extension/pg_cron.control";

my $node = DtsNode->new('main');
$node->init(preload => 0, conf => "shared_preload_libraries = 'pg_cron, dts'\ncron.database_name = 'postgres'\ncron.host = ''\ncron.use_background_workers = on\n");
$node->start;
my $sql = sub { return $node->safe_psql('postgres', @_) };
$sql->(
	q{CREATE EXTENSION dts; CREATE EXTENSION pg_cron; CREATE DATABASE other;
	CREATE ROLE worker LOGIN; SELECT dts.grant_usage('worker'); GRANT USAGE ON SCHEMA cron TO worker;
	CREATE TABLE effect (who text, at timestamptz DEFAULT clock_timestamp()); GRANT ALL ON effect TO worker});
$node->as_role('worker', q{SELECT cron.schedule('often', '* * * * *', 'INSERT INTO effect VALUES (current_user)')});
$sql->(
	q{SELECT cron.schedule('nightly vacuum', '0 3 * * *', 'VACUUM');
	SELECT cron.schedule('0 12 1 JAN,jun mon', 'SELECT 1');
	SELECT cron.schedule('off', '5 4 * * *', 'SELECT 2');
	UPDATE cron.job SET active = false WHERE jobname = 'off';
	SELECT cron.schedule_in_database('far', '0 1 * * *', 'SELECT 3', 'other')});

my $all = $sql->('SELECT jobname, active FROM cron.job ORDER BY jobid');
is($sql->('SELECT count(*), count(*) FILTER (WHERE outcome = \'would be taken over\') FROM dts.import_pg_cron()'), '5|4', 'dry run: four of five');
is($sql->('SELECT count(*) FROM dts.schedules'), '0', '... and nothing is made');
is($sql->('SELECT jobname, active FROM cron.job ORDER BY jobid'), $all, '... nor changed there');
is($sql->(q{SELECT name, outcome, COALESCE(problem, '') FROM dts.import_pg_cron(dry_run => false) ORDER BY jobid}),
	"often|taken over|\nnightly vacuum|taken over|\npg_cron 3|taken over|\noff|taken over|\nfar|not taken over|belongs to database other: run the statement there", 'taken over');
is($sql->('SELECT jobname FROM cron.job WHERE active'), 'far', 'what was taken over is inactive there');
is($sql->(q{SELECT name, owner, timing, state, missed, overlap, zone FROM dts.schedules ORDER BY name}),
	"nightly vacuum|" . $sql->('SELECT current_user') . "|0 3 * * *|active|skip|queue one|UTC\noff|" . $sql->('SELECT current_user') . "|5 4 * * *|paused|skip|queue one|UTC\noften|worker|* * * * *|active|skip|queue one|UTC\n"
	  . "pg_cron 3|" . $sql->('SELECT current_user') . "|0 12 1 JAN,jun mon|active|skip|queue one|UTC", 'names, users, timings, active flags');
my $task = $sql->(q{SELECT dts.run_now('often')});
$node->wait_state($task, 'succeeded');
is($sql->('SELECT DISTINCT who FROM effect'), 'worker', 'it runs as its user');
$task = $sql->(q{SELECT dts.run_now('nightly vacuum')});
$node->wait_state($task, 'succeeded');
pass('VACUUM runs outside of a transaction');
my $statement = $sql->(q{SELECT statement FROM dts.import_pg_cron() WHERE name = 'far'});
$node->safe_psql('other', "CREATE EXTENSION dts; $statement");
is($node->safe_psql('other', 'SELECT name, timing FROM dts.schedules'), 'far|0 1 * * *', 'the statement for another database does there what it says');
is($sql->('SELECT count(*) FROM dts.import_pg_cron(false) WHERE outcome = \'taken over\''), '0', 'nothing is taken over twice');

done_testing();
