# The soak (see run): the load of the chaos world and more, no faults. A clock that is set forward (test/clock) makes a day pass in a minute, so that
# history is made, kept for two days, and dropped. What is measured is compared between the second and the last quarter of the run.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use DtsPeers;
use IPC::Run;
use List::Util qw(sum max min);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $seconds = ($ENV{DTS_SOAK_MINUTES} // 10) * 60;
my $rate    = $ENV{DTS_SOAK_RATE}  // 30;
my $judge   = $ENV{DTS_SOAK_JUDGE} // 1;
my $every   = 5;                                  # seconds between two samples
my $kept    = 1024;                               # kB by which private memory may differ
my $folder  = PostgreSQL::Test::Utils::tempdir();
my ($library, $shift) = ("$folder/clock_shift.so", "$folder/shift");
die 'no C compiler' if system("cc -shared -fPIC -O1 -o $library $FindBin::Bin/../clock/clock_shift.c") != 0;

sub set_clock {
	my ($by) = @_;
	open my $out, -e $shift ? '+<' : '>', $shift or die $!;
	syswrite $out, pack('q', $by * 1_000_000) or die $!;
	close $out;
	return;
}

# ---- the world
my $peers = DtsPeers->start;
my $node  = DtsNode->new('soak');
append_to_file("$folder/key", 'ab' x 32);
chmod 0600, "$folder/key";
$node->init(conf => "dts.max_workers = 3\nlog_statement = none\nmax_connections = 60\nautovacuum_naptime = 5s\ndts.worker_idle_timeout = '1d'\ndts.sweep_interval = '30s'\n"
	. "dts.secret_key_file = '$folder/key'\ndts.smtp_url = 'smtp://127.0.0.1:$peers->{smtp}'\ndts.smtp_tls = off\ndts.smtp_sender = 'dts\@example.com'\nmax_wal_size = 256MB\nfsync = off\n"
	. "log_min_messages = log\n");
set_clock(0);
{
	# Inside a server under a sanitizer it is loaded after that.
	local $ENV{LD_PRELOAD} = $library;
	local $ENV{CLOCK_SHIFT_FILE} = $shift;
	$node->start;
}
my $sql = sub { return $node->safe_psql('postgres', @_) };
$sql->(q{CREATE EXTENSION dts; SELECT dts.create_queue('unjournalled'), dts.create_queue('probe')});
my @world = sort glob "$FindBin::Bin/../chaos/world/*.sql";
my $last  = pop @world;
$sql->(slurp_file($_)) for @world, "$FindBin::Bin/world.sql", $last;
$sql->("INSERT INTO chaos.peer VALUES ('" . $peers->url('') . "'); SELECT dts.allow_host('127.0.0.1', schemes => '{http}', ports => '{$peers->{http}}'), dts.allow_host('example.com', schemes => '{mailto}')");

# ---- clients, each one session for the whole run: what their sessions keep is measured as well
my @clients;

sub client {
	my ($name, $sql, @options) = @_;
	append_to_file("$folder/$name.sql", $sql);
	local $ENV{PGAPPNAME} = "soak $name";
	push @clients, IPC::Run::start([ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-T', $seconds + 60, '-f', "$folder/$name.sql", @options, 'postgres' ], '<', \undef, '>', "$folder/$name.out", '2>', "$folder/$name.err");
	return;
}
client('act', "SELECT chaos.try_act();\n", '-R', $rate, '-c', 2);
client('rollback', "BEGIN;\nSELECT chaos.try_act();\nROLLBACK;\n", '-R', $rate / 2);
client('steer', "SELECT chaos.steer();\n", '-R', 10);
client('agent', "SELECT chaos.agent_turn();\n", '-R', 5, '-U', 'soak_agent');
client('many', q{SELECT count(*) FROM dts.submit_many('SELECT $1::int', (SELECT array_agg(jsonb_build_array(n)) FROM generate_series(1, 50) n), queue => 'batch');} . "\n", '-R', $rate / 5);
# A connection for each: what a reader of all of history needs at once depends on how much there is.
client('look', "SELECT count(*) FROM (SELECT * FROM dts.tasks ORDER BY id DESC LIMIT 20) x;\nSELECT count(*) FROM dts.runs WHERE task = (SELECT max(id) FROM dts.task);\nSELECT * FROM dts.health();\n", '-R', 0.2, '-C');

# ---- samples
my (%sample, @times);
my $begin = time;
open my $out, '>', ($ENV{TMPDIR} // $folder) . '/samples.csv' or die $!;

sub keep {
	my ($kind, $name, $at, $value) = @_;
	push @{ $sample{$kind}{$name} }, [ $at, $value ];
	printf $out "%.1f,%s,%s,%s\n", $at, $kind, $name, $value;
	return;
}

# Private memory (what is neither shared nor backed by a file), in kB, and descriptors.
sub look_at_processes {
	my ($at) = @_;
	my $executor;
	for my $line ("postmaster|" . slurp_file($node->data_dir . '/postmaster.pid') =~ s/\n.*//sr,
		split /\n/, $sql->(q{SELECT coalesce(nullif(application_name, ''), backend_type) || ' ' || pid || '|' || pid FROM pg_stat_activity WHERE backend_type ~ '^dts' OR application_name ~ '^soak'}))
	{
		my ($name, $pid) = split /\|/, $line;
		my ($memory) = (eval { slurp_file("/proc/$pid/status") } // '') =~ /^RssAnon:\s+(\d+)/m or next;
		keep('memory', $name, $at, $memory);
		$executor = $memory if $name =~ /^dts executor/ && $memory > ($executor // 0);
		# The server keeps files of tables open, up to max_files_per_process.
		my @descriptors = grep { (readlink // '') !~ m{/(base|global|pg_wal|pg_xact)/} } glob "/proc/$pid/fd/*";
		keep('descriptors', $name, $at, scalar @descriptors);
	}
	# They come and go with the owners that have work.
	keep('memory', 'largest executor', $at, $executor) if defined $executor;
	return;
}

# Tables with what belongs to them, in kB; partitions count for the whole.
sub look_at_tables {
	my ($at) = @_;
	for my $line (split /\n/, $sql->(q{
		SELECT CASE WHEN c.relispartition THEN 'run' ELSE c.relname END, sum(pg_table_size(c.oid)) / 1024, sum(pg_indexes_size(c.oid)) / 1024
		FROM pg_class c WHERE relnamespace = 'dts'::regnamespace AND relkind = 'r' GROUP BY 1}))
	{
		my ($name, $table, $indexes) = split /\|/, $line;
		keep('table', $name, $at, int $table);
		keep('indexes', $name, $at, int $indexes);
	}
	keep('count', 'partitions', $at, $sql->(q{SELECT count(*) FROM pg_inherits WHERE inhparent = 'dts.run'::regclass}));
	return;
}

# What a process says of its memory contexts: name => bytes.
sub contexts {
	my ($pid) = @_;
	my $before = -s $node->logfile;
	$sql->("SELECT pg_log_backend_memory_contexts($pid)");
	my $log = '';
	for (1 .. 100) {
		$log = slurp_file($node->logfile, $before);
		last if $log =~ /\[$pid\].*Grand total/;
		sleep 0.1;
	}
	my %bytes;
	$bytes{$1} += $2 while $log =~ /\[$pid\].*level: \d+; ([^:]+): (\d+) total/g;
	return \%bytes;
}

my $day = 0;
while ((my $at = time - $begin) < $seconds) {
	# Half a day at a time: so that what is due within hours is met too.
	if (int($at / 30) > $day) {
		$day = int($at / 30);
		set_clock($day * 43200);
		$node->reload;
		$sql->('SELECT chaos.forget()') if $day % 2 == 0;
	}
	look_at_processes($at);
	look_at_tables($at);
	push @times, $at;
	sleep max(0.1, $at + $every - (time - $begin));
}

# ---- the verdict
my $ended = $sql->('SELECT sum(value) FROM dts.stats() WHERE name ~ \'^tasks_(succeeded|failed|cancelled|expired)_total$\'');
my ($start, $end) = ($times[0] // 0, $times[-1] // 0);

# The largest value within a part of the run, from and to as fractions of it; of memory the smallest: a leak lifts the floor, a task that needs much does not.
sub extreme {
	my ($kind, $samples, $from, $to) = @_;
	my @values = map { $_->[1] } grep { $_->[0] >= $start + $from * ($end - $start) && $_->[0] <= $start + $to * ($end - $start) } @$samples;
	return undef unless @values;
	return $kind eq 'memory' ? min(@values) : max(@values);
}

# Slope of a line through the later half, in units a minute.
sub slope {
	my ($samples) = @_;
	my @s = grep { $_->[0] >= $start + ($end - $start) / 2 } @$samples;
	return 0 if @s < 3;
	my ($mx, $my) = (sum(map { $_->[0] } @s) / @s, sum(map { $_->[1] } @s) / @s);
	my $d = sum(map { ($_->[0] - $mx)**2 } @s);
	return $d == 0 ? 0 : 60 * sum(map { ($_->[0] - $mx) * ($_->[1] - $my) } @s) / $d;
}

# allowed(KIND, BEFORE): what the last quarter may reach.
sub allowed {
	my ($kind, $before) = @_;
	return $before + $kept + $before * 0.05 if $kind eq 'memory';
	return $before * 1.5 + 1024 if $kind eq 'table' || $kind eq 'indexes';
	return $before + 10;
}
for my $kind (sort keys %sample) {
	my @bad;
	for my $name (sort keys %{ $sample{$kind} }) {
		my $samples = $sample{$kind}{$name};
		my ($before, $after) = (extreme($kind, $samples, 0.25, 0.5), extreme($kind, $samples, 0.75, 1));
		next unless defined $before && defined $after;
		my $slope = slope($samples);
		note(sprintf '%-12s %-28s %8d -> %8d, %+.1f a minute', $kind, $name, $before, $after, $slope) if $after > 0 && ($kind ne 'indexes' || $after > 100);
		push @bad, "$name: $before -> $after" . sprintf(', %+.1f a minute', $slope) if $after > allowed($kind, $before);
	}
	next unless $judge || $kind eq 'descriptors';
	ok(!@bad, "$kind: flat") or diag(join "\n", @bad);
	next unless $kind eq 'memory';
	for my $name (map { /^([^:]+):/ } @bad) {
		my ($pid) = $name =~ /(\d+)$/ or next;
		my $bytes = contexts($pid);
		my @most = (sort { $bytes->{$b} <=> $bytes->{$a} } keys %$bytes)[ 0 .. 14 ];
		diag("$name: " . join ', ', map { "$_ $bytes->{$_}" } grep { defined } @most);
	}
}
note("$ended tasks ended; a day in a minute: " . ($day / 2) . ' days');
cmp_ok($ended, '>', $seconds * $rate / 2, 'it worked meanwhile');
cmp_ok($sql->(q{SELECT count(*) FROM pg_inherits WHERE inhparent = 'dts.run'::regclass}), '<=', 9, 'partitions were dropped') if $day >= 8;
for my $c (@clients) { $c->kill_kill(grace => 2) }
is(join("\n", grep { /ERROR:/ && !/deadlock detected/ } map { split /\n/, slurp_file($_) } glob "$folder/*.err"), '', 'clients met no error');
is($sql->('SELECT * FROM dts.stuck()'), '', 'nothing is stuck');
is($sql->(q{SELECT value FROM dts.stats() WHERE name = 'swept_tasks_total'}), '0', 'the sweep found nothing');
# One kind of task asks for more memory than the server gives anybody.
is($sql->(q{SELECT task || ' ' || error FROM dts.runs WHERE error_fields ->> 'sqlstate' LIKE 'XX%' AND error !~ 'invalid memory alloc request size' LIMIT 5}), '', 'no internal error');
$node->stop;
done_testing();
