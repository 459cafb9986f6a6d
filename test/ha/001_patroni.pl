# Under Patroni with etcd, synchronous mode: the primary dies (kill -9 of everything on it), comes back, and then the other one is cut off from etcd, which
# makes its Patroni fence it. Meanwhile thousands of tasks, chains, leased tasks and a schedule are in flight. What was acknowledged, what ran where and
# when, what ran twice is counted. A ledger outside of the databases tells which server ran something when.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsPatroni;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

if (my @missing = DtsPatroni::missing()) { plan skip_all => "not installed: @missing" }

my $cluster = DtsPatroni->start('one', 'two');
my $first   = $cluster->leader(60);
my $ledger  = PostgreSQL::Test::Utils::tempdir() . '/ledger';
$cluster->must($first, q{CREATE EXTENSION dts; CREATE TABLE effect (k bigint, at timestamptz DEFAULT clock_timestamp()); CREATE TABLE fired (due_at timestamptz); CREATE TABLE leased (k bigint);
	SELECT dts.create_queue('batch', batch_size => 40), dts.create_queue('ledger');
	CREATE FUNCTION work(k bigint) RETURNS void LANGUAGE sql AS 'INSERT INTO effect VALUES (k)';
	CREATE PROCEDURE outside(k bigint) LANGUAGE plpgsql AS $$ BEGIN INSERT INTO leased VALUES (k); COMMIT; PERFORM pg_sleep(0.02); END $$;
	SELECT dts.schedule('tick', '* * * * * *', 'INSERT INTO fired SELECT dts.scheduled_for()', missed => 'all', missed_max => 1000, overlap => 'allow', overlap_max => 500)});
$cluster->wait_synchronous($first);
my ($k, @lines, @acknowledged) = (0);

# crowd(NAME): work that waits and runs for the next minute. Returns how much of each kind.
sub crowd {
	my ($name) = @_;
	my $base = $k += 1_000_000;
	$cluster->must($name, "SELECT count(*) FROM dts.submit_many('SELECT work(\$1)', (SELECT array_agg(jsonb_build_array($base + n)) FROM generate_series(1, 3000) n), queue => 'batch', delay => '4 s');
		SELECT count(*) FROM (SELECT dts.submit('SELECT work(\$1)', jsonb_build_array($base + 10000 + n), delay => n * interval '20 ms') FROM generate_series(1, 3000) n) x;
		SELECT count(*) FROM (SELECT dts.submit_many(jsonb_build_array(jsonb_build_object('name', 'a', 'sql', format('SELECT work(%s)', $base + 20000 + n), 'delay', '4 s'),
			jsonb_build_object('name', 'b', 'sql', format('SELECT work(%s)', $base + 30000 + n), 'depends_on', '[\"a\"]'::jsonb))) FROM generate_series(1, 300) n) x;
		SELECT count(*) FROM (SELECT dts.submit(format('CALL outside(%s)', $base + 40000 + n), transactional => false, max_attempts => 20, retry => '{\"base\": 0.1}', delay => n * interval '20 ms') FROM generate_series(1, 1000) n) x;
		SELECT count(*) FROM (SELECT dts.submit(format(\$\$COPY (SELECT current_setting('port'), extract(epoch FROM clock_timestamp())) TO PROGRAM 'cat >> $ledger'\$\$), queue => 'ledger', priority => 9, max_attempts => 20,
			delay => n * interval '100 ms') FROM generate_series(1, 600) n) x");
	return $base;
}

# Clients that submit one task after the other, and print the key when its commit was acknowledged.
sub clients {
	my ($name) = @_;
	return map {
		my $base = ($k += 100_000);
		my $sql  = join '', map { 'SELECT ' . ($base + $_) . " FROM dts.submit('SELECT work(\$1)', '[" . ($base + $_) . "]');\n" } 1 .. 50_000;
		my $out  = '';
		{ out => \$out, run => IPC::Run::start([ $cluster->psql($name), '-f', '-' ], '<', \$sql, '>', \$out, '2>', '/dev/null', IPC::Run::timeout(180)) };
	} 1 .. 4;
}

sub pump_for {
	my ($seconds, @clients) = @_;
	my $until = time + $seconds;
	while (time < $until) { eval { $_->{run}->pump_nb } for @clients; usleep(5_000) }
	return;
}

# fail_over(WHAT, FROM, BREAK): the work, the failure, the successor; returns its name.
sub fail_over {
	my ($what, $from, $break) = @_;
	my $base = crowd($from);
	my @clients = clients($from);
	pump_for(7, @clients);
	my $down = time;
	$break->();
	my ($to) = grep { $_ ne $from } sort keys %{ $cluster->{nodes} };
	DtsPatroni::wait_until("$to is promoted", 90, sub { eval { $_->{run}->pump_nb } for @clients; ($cluster->sql($to, 'SELECT pg_is_in_recovery()') // '') eq 'f' || undef });
	my $promoted = time;
	eval { $_->{run}->kill_kill(grace => 1) } for @clients;
	my $got = 0;
	# A line that was cut off is none.
	for my $c (@clients) { my @keys = ${ $c->{out} } =~ /^(\d+)\n/mg; push @acknowledged, @keys; $got += @keys }
	cmp_ok($got, '>', 50, "$what: submits were acknowledged before the failure");
	my $id = $cluster->must($to, q{SELECT dts.submit('SELECT work(0)', priority => 9)});
	DtsPatroni::wait_until('a new task runs', 60, sub { ($cluster->sql($to, "SELECT state FROM dts.tasks WHERE id = $id") // '') eq 'succeeded' || undef });
	my %port = map { $_ => $cluster->{nodes}{$_}{port} } $from, $to;
	my @of = map { [ split /\t/ ] } split /\n/, slurp_file($ledger);
	my ($last)  = reverse sort { $a <=> $b } map { $_->[1] } grep { $_->[0] == $port{$from} && $_->[1] < $promoted + 100 } @of;
	my ($start) = sort { $a <=> $b } map { $_->[1] } grep { $_->[0] == $port{$to} && $_->[1] > $down } @of;
	cmp_ok($last, '<', $start, "$what: the old primary ran nothing any more when the new one began");
	push @lines, { what => $what, acknowledged => $got, base => $base, from => $from, to => $to, last => $last > $down ? $last - $down : 0, promoted => $promoted - $down, gap => $start - $last, start => $start };
	return $to;
}

my $second = fail_over('the primary is killed', $first, sub { $cluster->kill9($first) });
$cluster->run($first);
$cluster->wait_synchronous($second);
is($cluster->sql($first, q{SELECT pg_is_in_recovery(), (SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'dts%')}), 't|0', 'the old primary came back as a standby, and runs nothing');

my $third = fail_over('the primary is cut off from etcd', $second, sub { $cluster->cut_off($second) });
is($cluster->sql($second, q{SELECT pg_is_in_recovery(), (SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'dts%')}) // 't|0', 't|0', 'the old primary is fenced: it runs nothing while it is cut off');
$cluster->reconnect($second);
$cluster->wait_synchronous($third);

# ---- everything ends; then the count
$cluster->must($third, q{SELECT dts.pause_schedule('tick')});
DtsPatroni::wait_until('all tasks have ended', 180, sub { ($cluster->sql($third, 'SELECT count(*) FROM dts.task') // 1) == 0 || undef });
my $file = PostgreSQL::Test::Utils::tempdir() . '/acknowledged';
append_to_file($file, join '', map { "$_\n" } @acknowledged);
$cluster->must($third, "CREATE TABLE acknowledged (k bigint); COPY acknowledged FROM '$file'");
my $count = sub { return $cluster->must($third, "SELECT count(*) FROM ($_[0]) x") };
my $lost  = $count->('SELECT k FROM acknowledged EXCEPT SELECT k FROM effect');
is($lost, '0', 'nothing that was acknowledged is lost');
my $twice = $count->('SELECT k FROM effect WHERE k > 0 GROUP BY k HAVING count(*) > 1');
is($twice, '0', 'nothing transactional had its effect twice');
my $again = $count->('SELECT k FROM leased GROUP BY k HAVING count(*) > 1');
for my $line (@lines) {
	my $b = $line->{base};
	is($count->("SELECT n FROM generate_series(1, 3000) n WHERE NOT EXISTS (SELECT FROM effect WHERE k = $b + n) OR NOT EXISTS (SELECT FROM effect WHERE k = $b + 10000 + n)"), '0', "$line->{what}: the crowd ran");
	is($count->("SELECT n FROM generate_series(1, 300) n WHERE NOT EXISTS (SELECT FROM effect WHERE k = $b + 20000 + n) OR NOT EXISTS (SELECT FROM effect WHERE k = $b + 30000 + n)"), '0', "$line->{what}: and the chains");
	is($count->("SELECT a.k FROM effect a JOIN effect b ON b.k = a.k + 10000 WHERE a.k BETWEEN $b + 20001 AND $b + 20300 AND b.at < a.at"), '0', "$line->{what}: in their order");
	is($count->("SELECT n FROM generate_series(1, 1000) n WHERE NOT EXISTS (SELECT FROM leased WHERE k = $b + 40000 + n)"), '0', "$line->{what}: leased tasks ran at least once");
}
is($count->('SELECT l.k FROM leased l GROUP BY l.k HAVING count(*) > (SELECT max(r.attempt) FROM dts.runs r WHERE r.sql = format($$CALL outside(%s)$$, l.k))'), '0', 'and each time is an attempt on record');
is($count->(q{SELECT task FROM dts.runs WHERE outcome <> 'retry' GROUP BY 1 HAVING count(*) > 1}), '0', 'no task has two ends');
is($count->('SELECT due_at FROM fired GROUP BY 1 HAVING count(*) > 1'), '0', 'no due time of the schedule came twice');
is($cluster->must($third, 'SELECT count(*) - (extract(epoch FROM max(due_at) - min(due_at)) + 1)::int FROM fired'), '0', 'and none was left out');
is($cluster->must($third, 'SELECT * FROM dts.stuck()'), '', 'nothing is stuck');
is($cluster->must($third, q{SELECT value FROM dts.stats() WHERE name = 'swept_tasks_total'}), '0', 'the sweep found nothing');

my @table = ('| | ' . join(' | ', map { $_->{what} } @lines) . ' |', '|---|' . '---|' x @lines,
	map { my $row = $_; "| $row->[0] | " . join(' | ', map { sprintf $row->[1], $_->{ $row->[2] } } @lines) . ' |' }
	[ 'submits acknowledged to clients', '%d', 'acknowledged' ], [ 'the old primary ran its last task after', '%.1f s', 'last' ], [ 'the other one was primary after', '%.1f s', 'promoted' ], [ 'nothing ran for', '%.1f s', 'gap' ]);
push @table, '', "Lost of what was acknowledged: $lost. Transactional effects that came twice: $twice. Of 2,000 leased tasks, begun again after their effect: $again. Due times of the schedule lost or doubled: 0.";
note($_) for @table;
append_to_file($ENV{DTS_HA_REPORT}, join "\n", @table, '') if $ENV{DTS_HA_REPORT};
$cluster->stop;
done_testing();
