# Submit, run, look: preloaded, and not preloaded.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use DtsNode;

my $node = DtsNode->start_new('main');
$node->safe_psql('postgres', 'CREATE TABLE effect (n int PRIMARY KEY)');

$node->safe_psql('postgres', q{SELECT dts.submit('INSERT INTO effect VALUES ($1)', jsonb_build_array(n)) FROM generate_series(1, 100) n});
$node->wait_for('SELECT count(*) FROM effect', '100');
$node->wait_for(q{SELECT count(*) FROM dts.runs WHERE outcome = 'succeeded'}, '100');
is($node->safe_psql('postgres', q{SELECT count(DISTINCT task), max(attempt), count(*) FILTER (WHERE ended_at >= started_at) FROM dts.runs}),
	'100|1|100', 'each task ran once, at its first attempt, and has its times');
is($node->safe_psql('postgres', q{SELECT count(*) FROM dts.tasks WHERE state <> 'succeeded'}), '0', 'nothing is left');

my $id = $node->submit(q{SELECT 6 * 7 AS answer}, priority => 9, labels => q({"who": "it's me"}));
$node->wait_state($id, 'succeeded');
is($node->safe_psql('postgres', "SELECT dts.result($id)"), '[{"answer": 42}]', 'the result is kept');

ok(scalar(grep { $_ } $node->worker_pids('scheduler')) == 1, 'one scheduler for one database');
$node->healthy;

# Tasks of a rolled-back transaction never existed.
$node->safe_psql('postgres', q{BEGIN; SELECT dts.submit('INSERT INTO effect VALUES (1000)'); ROLLBACK});
my $later = $node->submit('INSERT INTO effect VALUES (1001)');
$node->wait_state($later, 'succeeded');
is($node->safe_psql('postgres', 'SELECT string_agg(n::text, $$,$$) FROM effect WHERE n >= 1000'), '1001', 'a rolled-back submit left nothing');
$node->stop;

# Not preloaded: the work is kept for later, and the message says which line to add.
my $plain = DtsNode->start_new('plain', preload => 0);
my ($status, $out, $messages) = $plain->psql('postgres', q{SELECT dts.submit('SELECT 1')});
is($status, 0, 'a submit works without preloading');
like($messages, qr/WARNING:.*shared_preload_libraries/s, 'and warns with the line to add');
is($plain->safe_psql('postgres', 'SELECT count(*) FROM dts.tasks'), '1', 'the task waits');

$plain->append_conf('postgresql.conf', "shared_preload_libraries = 'dts'\n");
$plain->restart;
$plain->wait_state($out, 'succeeded');
$plain->stop;

done_testing();
