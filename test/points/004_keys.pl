# A task is parked behind its key while the holder is ending: whoever comes second must have the other looked at.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use Test::More;

my $node = DtsNode->start_new('keys', conf => "dts.sweep_interval = '1h'\n");
for my $round (1 .. 3) {
	# The submit has seen that the key is taken; its row is not visible yet.
	$node->pause_at('executor.started');
	my $holder = $node->submit("SELECT 'holder'", concurrency_key => 'k');
	my $pid = $node->wait_reached('executor.started');
	my $late = $node->session;
	$late->query(q{BEGIN; SELECT dts.submit('SELECT 17', concurrency_key => 'k')});
	# The holder ends: it looks for parked tasks, finds none, and stops before its commit.
	$node->pause_at('executor.before_commit', $pid);
	$node->release('executor.started');
	$node->wait_reached('executor.before_commit');
	# Now the parked row is there for all to see; the key is still taken.
	$late->query('COMMIT');
	$late->close;
	is($node->safe_psql('postgres', 'SELECT count(*) FROM dts.task WHERE state = 4'), '1', "round $round: the second one is parked");
	$node->release('executor.before_commit');
	$node->wait_for('SELECT count(*) FROM dts.task', '0');
	pass("round $round: and it is not forgotten");
}
$node->healthy;
$node->stop;
done_testing();
