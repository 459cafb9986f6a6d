# A task is parked behind its key while the holder is ending: whoever comes second must have the other looked at.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use Test::More;

my $node = DtsNode->start_new('keys', conf => "dts.sweep_interval = '1h'\ndts.max_workers = 2\n");
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

# ---- The next one is parked by a claim just while the holder looks: it has met that one's row as a ready one, and remembers that nothing is
# parked so far. That must not hide it.
my ($holder, $other) = $node->idle_executors(2);
my $folder = $node->data_dir . '/dts_points';
my $tried = 0;
for my $try (1 .. 50) {
	$node->pause_at('executor.started', $holder);
	$node->pause_at('claim.scanned', $other);
	$node->safe_psql('postgres', q{SELECT dts.submit('SELECT 1', concurrency_key => 'met') FROM generate_series(1, 2)});
	# Either the one takes the first task and the other meets the held key, or the other way round: then once more.
	$node->wait_reached('claim.scanned');
	until (-e "$folder/executor.started.reached") {
		last if $node->safe_psql('postgres', 'SELECT count(*) FROM dts.task WHERE state = 4') eq '1';
	}
	if (-e "$folder/executor.started.reached") {
		$tried++;
		$node->pause_at('keys.scanned', $holder);
		$node->release('executor.started');
		$node->wait_reached('keys.scanned');
		$node->release('claim.scanned');
		$node->wait_for(q{SELECT count(*) FROM dts.task WHERE state = 4}, '1');
		$node->wait_for(q{SELECT state FROM dts.workers WHERE pid = } . $other, 'idle');
	}
	$node->release($_) for 'keys.scanned', 'claim.scanned', 'executor.started';
	$node->wait_for('SELECT count(*) FROM dts.task', '0');
	last if $tried == 3;
}
is($tried, 3, 'parked behind the back of the holder, and not forgotten');
$node->healthy;
$node->stop;
done_testing();
