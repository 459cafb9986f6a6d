# Random workflows against a reference interpreter, also while processes are terminated and the server is killed; dump and restore of
# runs that are under way.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = DtsNode->start_new('main', conf => "dts.max_workers = 4\nrestart_after_crash = on\n");

# Every node ends as in the reference (test/graphs/semantics.py), also while workers are terminated and the server crashes. More of it: DTS_ROUNDS=100.
sub proof {
	my ($name, @options) = @_;
	local @ENV{qw(PGHOST PGPORT PGDATABASE)} = ($node->host, $node->port, 'postgres');
	my $seed = $ENV{DTS_SEED} // time;
	my $rounds = $ENV{DTS_ROUNDS} // 1;
	ok(!system('python3', "$FindBin::Bin/../graphs/proof.py", '--seed', $seed, '--rounds', $rounds, @options), "$name, seed $seed");
	return;
}
proof('random workflows', qw(--batch 60));
proof('random workflows, with kills', qw(--batch 80 --kill 3 --crash));
$node->wait_back;

# Signals and decisions that come at the moment when a node begins to wait for them.
$node->safe_psql('postgres', q{SELECT dts.create_workflow('race', '{"nodes": {"a": {"approval": {"prompt": "now?"}}, "s": {"signal": "go"}, "z": {"needs": ["a", "s"], "noop": 1}}}')});
$node->safe_psql('postgres', q{DO $$ DECLARE r bigint; BEGIN FOR i IN 1 .. 200 LOOP
	r := dts.start('race'); COMMIT; PERFORM dts.approve(r, 'a'); COMMIT; PERFORM pg_sleep(random() * 0.002); PERFORM dts.signal(r, 'go'); COMMIT; END LOOP; END $$});
$node->wait_for(q{SELECT count(*) FROM dts.workflow_runs WHERE workflow = 'race' AND state = 'succeeded'}, '200');

# A run that waits goes on in a restored copy.
$node->safe_psql('postgres', q{SELECT dts.create_workflow('waits', dts.node('s', signal => 'go'), dts.node('a', 'SELECT 5 AS five', needs => '{s}'))});
my $run = $node->safe_psql('postgres', q{SELECT dts.start('waits')});
$node->wait_for("SELECT state FROM dts.workflow_nodes WHERE run = $run AND node = 's'", 'waiting');
# Subscriptions and what is gathered for them go along.
$node->safe_psql('postgres', q{CREATE TABLE watched (i int); CREATE TABLE told (what text);
	SELECT dts.on_event('heard', 'news', '{"sql": "INSERT INTO told VALUES (${event.payload.x})"}'), dts.on_change('grown', 'watched', '{"sql": "INSERT INTO told VALUES (${change.rows})"}', rows => 3);
	INSERT INTO watched VALUES (1), (2)});
my $dump = $node->basedir . '/dump';
command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('copy'), $dump ], 'pg_restore');
$node->safe_psql('copy', "SELECT dts.adopt(), dts.signal($run, 'go')");
$node->wait_for("SELECT state FROM dts.workflow_runs WHERE id = $run", 'succeeded', 'copy');
is($node->safe_psql('copy', q{INSERT INTO watched VALUES (3); SELECT dts.emit('news', '{"x": "heard"}')}), '1', 'subscriptions');
$node->wait_for(q{SELECT string_agg(what, ', ' ORDER BY what) FROM told}, '3, heard', 'copy');
is($node->safe_psql('copy', q{SELECT dts.create_workflow('waits', dts.node('a', 'SELECT 1'))}), '2', 'versions go on');
$node->safe_psql('postgres', "SELECT dts.cancel_run($run)");
$node->wait_for("SELECT state FROM dts.workflow_runs WHERE id = $run", 'cancelled');
$node->healthy;
$node->stop('fast');
done_testing();
