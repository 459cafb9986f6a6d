# What goes wrong while a schedule fires: what passes decides nothing and is tried again, what does not is on record with its reason; nothing
# is lost, nothing is fired twice, others never notice. Requests and mails, a backfill that is cancelled, and jitter that is always the same.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use DtsNode;
use DtsPeers;

my $peers = DtsPeers->start;
my $node = DtsNode->start_new('main', conf => "restart_after_crash = on\ndts.smtp_tls = off\ndts.smtp_url = 'smtp://127.0.0.1:$peers->{smtp}'\ndts.smtp_sender = 'dts\@example.com'\n");
my $sql = sub { return $node->safe_psql('postgres', @_) };
$sql->(
	qq{CREATE TABLE effect (schedule text, due timestamptz);
	CREATE TABLE gate (open boolean);
	SELECT dts.create_handler('note', 'INSERT INTO effect SELECT schedule, due_at FROM dts.scheduled()');
	SELECT dts.allow_host('127.0.0.1', schemes => '{http}', ports => '{$peers->{http}}'), dts.allow_host('example.com', schemes => '{mailto}')});
my $effect = 'INSERT INTO effect SELECT schedule, due_at FROM dts.scheduled()';

sub every_second {
	my ($name, $what, @more) = @_;
	return $sql->("SELECT dts.schedule('$name', '* * * * * *', $what, missed => 'all', missed_max => 1000, overlap => 'allow', overlap_max => 100" . join('', map { ", $_" } @more) . ')');
}

# beats(NAME): it fires due times that come from now on.
sub beats {
	my ($name, $decision) = @_;
	my $now = $sql->('SELECT clock_timestamp()');
	return $node->wait_for("SELECT count(*) > 0 FROM dts.fires WHERE schedule = '$name' AND decision = '" . ($decision // 'fired') . "' AND due_at > '$now'");
}

# Each second from the first decision to the last was decided once, and each that was fired had its effect once.
sub exactly_once {
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$sql->("SELECT dts.pause_schedule('$name')");
	$node->wait_for("SELECT count(*) FROM dts.task t JOIN dts.schedule_run r ON r.task = t.id JOIN dts.schedule s ON s.id = r.schedule WHERE s.name = '$name'", '0');
	is( $sql->("SELECT sum(count) = extract(epoch FROM max(due_to) - min(due_at)) + 1, sum(count) FILTER (WHERE decision = 'fired') = (SELECT count(*) FROM effect WHERE schedule = '$name'),
			(SELECT count(*) FROM (SELECT FROM effect WHERE schedule = '$name' GROUP BY due HAVING count(*) > 1) x) FROM dts.fires WHERE schedule = '$name'"),
		't|t|0', "$name: each due time was decided once, and what was fired had its effect once");
	return $sql->("SELECT dts.resume_schedule('$name')");
}

every_second('good', "'$effect'");
every_second('weak', "handler => 'note'");

beats('weak');

# ---- what passes: a statement of the fire fails
for my $case ([ '40001', 'a serialization failure' ], [ '53100', 'a full disk' ]) {
	my ($code, $what) = @$case;
	$sql->(
		qq{CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \$\$BEGIN RAISE 'refused' USING ERRCODE = '$code'; END\$\$;
		CREATE FUNCTION is_weak(s int) RETURNS boolean STABLE LANGUAGE sql AS \$\$ SELECT EXISTS (SELECT FROM dts.schedule x WHERE x.id = s AND x.name = 'weak') \$\$;
		CREATE TRIGGER refuse BEFORE INSERT ON dts.fire FOR EACH ROW WHEN (public.is_weak(NEW.schedule)) EXECUTE FUNCTION refuse()});
	$node->wait_for(q{SELECT trouble FROM dts.schedules WHERE name = 'weak'}, 'could not be looked at; see the server log');
	my $decided = $sql->(q{SELECT max(due_to) FROM dts.fires WHERE schedule = 'weak'});
	is($sql->(q{SELECT fired_until FROM dts.schedules WHERE name = 'weak'}), $decided, "$what: nothing is decided meanwhile");
	beats('good');
	pass("$what: others go on");
	$sql->('DROP FUNCTION refuse() CASCADE; DROP FUNCTION is_weak(int)');
	# It is looked at again ten seconds later; a change of it does not have to wait.
	$sql->(q{SELECT dts.alter_schedule('weak', description => 'mended')});
	beats('weak');
	is($sql->("SELECT count(*) FROM dts.fires WHERE schedule = 'weak' AND decision = 'failed'"), '0', "$what: no due time was given up");
	is($sql->(q{SELECT trouble IS NULL FROM dts.schedules WHERE name = 'weak'}), 't', "$what: and nothing is left of it");
}
exactly_once('weak');

# ---- what does not pass by itself: the handler, the queue, the workflow is gone, a quota is used up
sub gives_up {
	my ($what, $break, $says, $mend) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$sql->($break);
	beats('weak', 'failed');
	like($sql->(q{SELECT detail FROM dts.fires WHERE schedule = 'weak' AND decision = 'failed' ORDER BY due_at DESC LIMIT 1}), $says, "$what: on record, with its reason");
	like($sql->(q{SELECT dts.explain_schedule('weak')}), qr/last decision: failed \(could not be submitted\) for .*$says/, "$what: explain says so");
	$sql->($mend);
	beats('weak');
	return pass("$what: mended, it goes on");
}
# Its tasks are done before it may go.
sub quietly { return "DO \$\$BEGIN PERFORM dts.pause_schedule('weak'); COMMIT; FOR i IN 1..600 LOOP EXIT WHEN NOT EXISTS (SELECT FROM dts.schedule_run r JOIN dts.task t ON t.id = r.task JOIN dts.schedule s ON s.id = r.schedule WHERE s.name = 'weak'); COMMIT; PERFORM pg_sleep(0.05); END LOOP; END\$\$; $_[0]; SELECT dts.resume_schedule('weak')" }
gives_up('handler', quietly(q{SELECT dts.drop_handler('note')}), qr/handler "note" does not exist/, "SELECT dts.create_handler('note', '$effect')");
$sql->(q{SELECT dts.create_queue('q'), dts.alter_schedule('weak', task => '{"queue": "q"}')});
beats('weak');
gives_up('queue', quietly(q{SELECT dts.drop_queue('q')}), qr/queue "q" does not exist/, q{SELECT dts.create_queue('q')});
gives_up('cap', q{SELECT dts.set_limit(queue => 'q', max_waiting => 1), dts.pause('q')}, qr/TQ001: .*queue "q"/, q{SELECT dts.resume('q'), dts.set_limit(queue => 'q', reset => '{max_waiting}')});
exactly_once('weak');
exactly_once('good');
$sql->(q{SELECT dts.unschedule('weak')});

# ---- requests and mails
my $ping = $peers->url('echo/ping');
every_second('ping', qq[task => '{"http": {"url": "$ping", "body": {"from": "dts"}}}'], 'max_runs => 3');
every_second('post', q[task => '{"mail": {"to": ["ops@example.com"], "subject": "daily", "body": "all is well"}}'], 'max_runs => 2');
$node->wait_for(q{SELECT string_agg(name || ' ' || state || ' ' || succeeded, ', ' ORDER BY name) FROM dts.schedules WHERE name IN ('ping', 'post')}, 'ping ended 3, post ended 2');
is(scalar(grep { /^POST \/echo\/ping/ } $peers->requests), 3, 'a request for each due time');
like($peers->mail($_), qr/Subject: daily.*all is well/s, "mail $_") for 1, 2;
is($peers->mail(3), '', 'and no more');
is($sql->(q{SELECT string_agg(DISTINCT t.kind, ' ' ORDER BY t.kind), count(DISTINCT f.due_at) FROM dts.fires f JOIN dts.tasks t ON t.id = f.task WHERE f.schedule IN ('ping', 'post') AND f.decision = 'fired' GROUP BY f.schedule ORDER BY 1}), "http|3\nmail|2", 'on record');
$sql->(q{SELECT dts.unschedule('ping'), dts.unschedule('post')});

# ---- a backfill that is cancelled while it runs: what runs goes on and counts, the rest is given up
my $slow = 'DO $$BEGIN LOOP EXIT WHEN EXISTS (SELECT FROM gate); PERFORM pg_sleep(0.01); END LOOP; END$$; ' . $effect;
$sql->("SELECT dts.schedule('fill', '0 12 * * *', '$slow', paused => true)");
my $fill = $sql->(q{SELECT dts.backfill('fill', '2026-01-01', '2026-01-11', max_parallel => 2)});
my $progress = "SELECT state, total, waiting, running, succeeded, failed FROM dts.backfills WHERE id = $fill";
$node->wait_for($progress, 'running|10|8|2|0|0');
pass('a backfill: two at once');
is($sql->("SELECT dts.cancel_backfill($fill)"), '8', 'cancelled: the rest is given up');
is($sql->($progress), 'cancelled|10|0|2|0|0', '... what runs goes on');
$sql->('INSERT INTO gate VALUES (true)');
$node->wait_for($progress, 'cancelled|10|0|0|2|0');
pass('... and is counted');
is($sql->("SELECT dts.cancel_backfill($fill)"), '0', 'twice: nothing more');
$node->wait_for("SELECT count(*) FROM dts.schedule_run WHERE backfill = $fill", '0');
pass('... and nothing is kept of it');
$sql->('DELETE FROM gate');
$fill = $sql->(q{SELECT dts.backfill('fill', '2026-01-01', '2026-01-11', max_parallel => 3, "order" => 'newest first', only_missing => true)});
$progress = "SELECT state, total, waiting, running, succeeded, failed FROM dts.backfills WHERE id = $fill";
$node->wait_for($progress, 'running|8|5|3|0|0');
is($sql->("SELECT string_agg(extract(day FROM due_at AT TIME ZONE 'UTC')::text, ' ' ORDER BY due_at) FROM dts.schedule_run WHERE backfill = $fill"), '8 9 10', 'only what is missing, newest first');
# A scheduler that dies meanwhile: neither more at once, nor one twice.
my ($scheduler) = $sql->(q{SELECT pid FROM dts.workers WHERE kind = 'scheduler' AND database = 'postgres'}) =~ /(\d+)/;
$node->kill9($scheduler);
$node->wait_back;
$node->wait_for($progress, 'running|8|5|3|0|0');
$sql->('INSERT INTO gate VALUES (true)');
$node->wait_for($progress, 'done|8|0|0|8|0');
is($sql->(q{SELECT count(*), count(DISTINCT due) FROM effect WHERE schedule = 'fill'}), '10|10', 'each day once, through a crash');
is($sql->("SELECT ended_at IS NOT NULL FROM dts.backfills WHERE id = $fill"), 't', 'and it says when it ended');
$fill = $sql->(q{SELECT dts.backfill('fill', '2026-01-01', '2026-01-11', only_missing => true)});
is($sql->("SELECT state, total, ended_at IS NOT NULL FROM dts.backfills WHERE id = $fill"), 'done|0|t', 'nothing is missing');
$sql->(q{SELECT dts.unschedule('fill')});

# ---- jitter: the same due time, the same start, after a reload, a restart, and on another server
$sql->(q{SELECT dts.create_queue('held', paused => true)});
every_second('spread', q{'SELECT 1'}, q{task => '{"queue": "held"}'}, q{jitter => '1 hour'}, 'paused => true');
# spread(NODE): how far the tasks of ten due times, always the same ones, are put off. The mark is set back by hand for that.
my $from = $sql->(q{SELECT date_trunc('second', clock_timestamp())});
sub spread {
	my ($n) = @_;
	my $q = sub { return $n->safe_psql('postgres', @_) };
	$q->(q{SELECT count(dts.cancel(id)) FROM dts.tasks WHERE queue = 'held' AND ended_at IS NULL; DELETE FROM dts.fire; DELETE FROM dts.schedule_run});
	$q->("UPDATE dts.schedule_clock c SET fired_until = '$from' FROM dts.schedule s WHERE s.id = c.schedule AND s.name = 'spread'; SELECT dts.resume_schedule('spread')");
	$n->wait_for("SELECT count(*) FROM dts.fires WHERE schedule = 'spread' AND due_at <= '$from'::timestamptz + '10 s'::interval AND decision = 'fired' AND reason = 'due'", '10');
	$q->(q{SELECT dts.pause_schedule('spread')});
	return $q->("SELECT string_agg(extract(epoch FROM t.run_at - f.due_at)::text, ' ' ORDER BY f.due_at) FROM dts.fires f JOIN dts.tasks t ON t.id = f.task WHERE f.schedule = 'spread' AND f.due_at <= '$from'::timestamptz + '10 s'::interval");
}
my $offsets = spread($node);
my @offset = split / /, $offsets;
my %different = map { $_ => 1 } @offset;
is(scalar(keys %different), 10, 'each due time has its own');
is(scalar(grep { $_ < 0 || $_ >= 3600 } @offset), 0, 'within the bound');
cmp_ok((sort { $b <=> $a } @offset)[0] - (sort { $a <=> $b } @offset)[0], '>', 600, 'spread out');
$node->reload;
is(spread($node), $offsets, 'the same after a reload');
$node->restart;
is(spread($node), $offsets, 'after a restart');
$sql->(q{SELECT dts.unschedule('spread')});
every_second('spread', q{'SELECT 1'}, q{task => '{"queue": "held"}'}, q{jitter => '1 hour'}, 'paused => true');
is(spread($node), $offsets, 'made anew under the same name');
my $other = DtsNode->start_new('other');
$other->safe_psql('postgres', q{SELECT dts.create_queue('held', paused => true); SELECT dts.schedule('first', '@yearly', 'SELECT 1');
	SELECT dts.schedule('spread', '* * * * * *', 'SELECT 1', task => '{"queue": "held"}', jitter => '1 hour', missed => 'all', missed_max => 1000, overlap => 'allow', overlap_max => 100, paused => true)});
is(spread($other), $offsets, 'on another server');
$sql->(q{SELECT count(dts.cancel(id)) FROM dts.tasks WHERE queue = 'held' AND ended_at IS NULL});
$node->healthy;
$peers->stop;
done_testing();
