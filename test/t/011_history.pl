# History: partitions are made ahead and dropped by retention, by dts itself, without making anybody wait.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = DtsNode->start_new('history');
my $db   = 'postgres';

sub sql { return $node->safe_psql($db, $_[0]); }

# Asks the scheduler to look after history now: it does so when the configuration is reloaded.
sub maintain { sql('SELECT pg_reload_conf()'); return; }

$node->wait_state(sql(q{SELECT dts.submit('SELECT 0')}), 'succeeded');
$node->wait_for(q{SELECT count(*) >= 4 FROM pg_inherits WHERE inhparent = 'dts.run'::regclass}, 't');
pass('partitions exist for the days ahead');
is(sql(q{SELECT bool_and(relrowsecurity) FROM pg_class WHERE oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'dts.run'::regclass)}),
    't', 'a partition refuses ordinary roles like its parent');

# A partition older than every queue's retention goes; a younger one stays.
sql(q{
    CREATE TABLE dts.run_20200101 PARTITION OF dts.run FOR VALUES FROM ('2020-01-01 00:00Z') TO ('2020-01-02 00:00Z');
    INSERT INTO dts.run (task, ended_at, due_at, submitted_at, row_count, lane, handler, worker_pid, flags, outcome, kind, attempt)
    VALUES (0, '2020-01-01 12:00Z', '2020-01-01', '2020-01-01', 0, 1, 0, 0, 0, 10, 0, 1);
});

# While a reader holds the parent, the drop is put off and tasks go on.
my $reader = $node->background_psql($db);
$reader->query_safe('BEGIN');
$reader->query_safe('SELECT count(*) FROM dts.run');
maintain();
my $id = sql(q{SELECT dts.submit('SELECT 1')});
$node->wait_state($id, 'succeeded');
is(sql(q{SELECT to_regclass('dts.run_20200101') IS NOT NULL}), 't', 'an old partition stays while a reader holds it');
$reader->query_safe('COMMIT');
$reader->quit;
maintain();
$node->wait_for(q{SELECT to_regclass('dts.run_20200101') IS NULL}, 't');
pass('an old partition is dropped');

# A queue with a shorter retention loses its rows and dead letters, others keep theirs.
sql(q{SELECT dts.create_queue('short', retention => '1 hour')});
my $short = sql(q{SELECT dts.submit('SELECT 1', queue => 'short')});
my $dead  = sql(q{SELECT dts.submit('SELECT 1/0', queue => 'short', max_attempts => 1)});
$node->wait_state($short, 'succeeded');
$node->wait_state($dead,  'failed');
sql(q{UPDATE dts.queue SET retention = '1 microsecond' WHERE name = 'short'});
maintain();
$node->wait_for("SELECT count(*) FROM dts.runs WHERE task IN ($short, $dead)", '0');
$node->wait_for('SELECT count(*) FROM dts.dead_letters', '0');
is(sql("SELECT count(*) FROM dts.runs WHERE task = $id"), '1', 'the history of other queues stays');

# A forgotten key goes too.
my $keyed = sql(q{SELECT dts.submit('SELECT 1', key => 'k', key_ttl => '1 ms')});
$node->wait_state($keyed, 'succeeded');
maintain();
$node->wait_for('SELECT count(*) FROM dts.key', '0');
pass('a forgotten key is removed');

# Without a partition for today a task waits, and the scheduler makes one.
sql(q{DO $$ DECLARE p regclass; BEGIN
        FOR p IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'dts.run'::regclass LOOP EXECUTE format('DROP TABLE %s', p); END LOOP; END $$});
my $later = sql(q{SELECT dts.submit('SELECT 1')});
$node->wait_state($later, 'succeeded');
pass('a missing partition is made again');

$node->stop;
done_testing();
