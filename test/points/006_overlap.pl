# What is not to happen once more: a notification beyond its limit, a run of a schedule beside another one.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use DtsNode;

my $node = DtsNode->start_new('main');
my $sql = sub { return $node->safe_psql('postgres', @_) };

# ---- a notification: at most so many
$sql->(q{SELECT dts.create_notification('n', '{"sql": "SELECT 1"}', events => '{dead}', per_minute => 1)});
my @failing = map { $node->submit('SELECT 1/0', max_attempts => 1) } 1 .. 3;
$node->wait_state($_, 'failed') for @failing;
is($sql->('SELECT sent, held FROM dts.notifications'), '1|2', 'one is sent, the others are held back');
$sql->(q{SELECT dts.drop_notification('n')});

# ---- overlap: the next due time while a run is under way
my $gate = $node->session;
$gate->query('SELECT pg_advisory_lock(1)');
$sql->(q{SELECT dts.schedule('slow', '* * * * * *', 'SELECT pg_advisory_xact_lock(1)')});
$node->wait_for(q{SELECT count(*) > 1 FROM dts.fires WHERE schedule = 'slow'}, 't');
$node->wait_for(q{SELECT count(*) > 0 FROM dts.fires WHERE schedule = 'slow' AND decision = 'skipped' AND reason = 'overlap'}, 't');
is($sql->(q{SELECT count(*) FROM dts.fires WHERE schedule = 'slow' AND decision = 'fired'}), '1', 'nothing is started beside a run');
$sql->(q{SELECT dts.unschedule('slow')});
$gate->query('SELECT pg_advisory_unlock(1)');
$gate->close;
$node->wait_done;
$node->healthy;
done_testing();
