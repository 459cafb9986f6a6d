# A full NOTIFY queue makes the commit fail, after the task itself has succeeded: an ordinary failed attempt. The queue can be bounded
# from 17 on; on older servers it holds 8 GB, which no test fills.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use Test::More;

my $probe = DtsNode->start_new('notify');
if ($probe->safe_psql('postgres', 'SHOW server_version_num') < 170000) {
	$probe->stop;
	plan skip_all => 'the NOTIFY queue cannot be bounded before PostgreSQL 17';
}
$probe->append_conf('postgresql.conf', 'max_notify_queue_pages = 64');
$probe->restart;
my $node = $probe;
$node->safe_psql('postgres', 'CREATE TABLE effect (n int)');

# A listener in an open transaction keeps the queue from being emptied.
my $listener = $node->session;
$listener->query('LISTEN x');
$listener->query('BEGIN');
$listener->query('SELECT 1');
$node->psql('postgres', q{SELECT pg_notify('x', repeat('a', 7000) || i) FROM generate_series(1, 20) i}) for 1 .. 10;
my $id = $node->submit(q{WITH n AS (SELECT pg_notify('x', repeat('b', 7000) || i) FROM generate_series(1, 80) i) INSERT INTO effect SELECT count(*) FROM n},
	max_attempts => 1);
$node->wait_state($id, 'failed');
like($node->safe_psql('postgres', "SELECT error FROM dts.runs WHERE task = $id"), qr/NOTIFY queue/, 'a full NOTIFY queue fails the attempt');
is($node->safe_psql('postgres', 'SELECT count(*) FROM effect'), '0', 'its effect is taken back');
my $next = $node->submit('INSERT INTO effect VALUES (1)');
$node->wait_state($next, 'succeeded');
pass('the executor goes on');
$listener->query('COMMIT');
$listener->close;
$node->stop;
done_testing();
