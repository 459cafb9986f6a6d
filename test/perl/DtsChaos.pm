# The chaos run: a world of random work (test/chaos/world), random faults (DtsFaults), and a checker, which is the world's own views.
#
#   my $chaos = DtsChaos->new(seed => 1, seconds => 20);
#   $chaos->run;       # load and faults for that long, then calm until all is done
#   $chaos->check;     # a test point for each promise
#   $chaos->report;    # what happened, as a hash
package DtsChaos;

use strict;
use warnings;
use DtsClock;
use DtsFaults;
use DtsNode;
use DtsPeers;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $db = 'chaos';

# new(%options): seed, seconds; small: folders on small volumes, as {data => , wal => }, or nothing.
sub new {
	my ($class, %options) = @_;
	my $self = bless { small => {}, %options, done => {}, skipped => {}, recovery => {}, swept => 0, dir => PostgreSQL::Test::Utils::tempdir() }, $class;
	srand($self->{seed});
	my $node = $self->{node} = DtsNode->new('chaos');
	$self->{clock} = DtsClock->new;
	$self->{agents} = [];
	$self->{peers} = DtsPeers->start;
	$node->init(conf => "dts.max_workers = 4\nrestart_after_crash = on\nlog_statement = none\nmax_connections = 60\nautovacuum_naptime = 5s\nmax_wal_size = 128MB\nmin_wal_size = 32MB\n"
		. "deadlock_timeout = 50ms\nfsync = on\ndts.smtp_tls = off\ndts.smtp_url = 'smtp://127.0.0.1:$self->{peers}{smtp}'\ndts.smtp_sender = 'dts\@example.com'\n");
	if (my $wal = $self->{small}{wal}) {
		my $old = $node->data_dir . '/pg_wal';
		system('mv', $old, "$wal/pg_wal") == 0 && symlink("$wal/pg_wal", $old) or die "could not move the WAL";
	}
	$self->under_clock(sub { $node->start });
	my $space = '';
	if (my $data = $self->{small}{data}) {
		mkdir "$data/space";
		$node->safe_psql('postgres', "CREATE TABLESPACE small LOCATION '$data/space'");
		$space = 'TABLESPACE small';
	}
	$node->safe_psql('postgres', "CREATE DATABASE $db $space");
	$node->safe_psql($db, "CREATE EXTENSION dts; SELECT dts.create_queue('probe'), dts.create_queue('unjournalled')");
	my $world = $self->{world} // "$FindBin::Bin/../chaos/world";
	$node->safe_psql($db, slurp_file($_)) for sort glob "$world/*.sql";
	$node->safe_psql($db, "INSERT INTO chaos.peer VALUES ('" . $self->{peers}->url('') . "'); SELECT dts.allow_host('127.0.0.1', schemes => '{http}', ports => '{$self->{peers}{http}}')");
	append_to_file("$self->{dir}/act.sql",      "SELECT chaos.act();\n");
	append_to_file("$self->{dir}/rollback.sql", "BEGIN;\nSELECT chaos.act();\nROLLBACK;\n");
	append_to_file("$self->{dir}/steer.sql",    "SELECT chaos.steer();\n\\sleep 5 ms\n");
	return $self;
}

# quiet(SQL[, DB]): what it gives, or nothing: the server may be down, or going down.
sub quiet {
	my ($self, $sql, $dbname) = @_;
	# It dies if the connection breaks while the query is being sent.
	my ($status, $out) = eval { $self->{node}->psql($dbname // $db, $sql, timeout => 20, timed_out => \my $late) };
	return defined $status && $status == 0 ? $out : undef;
}

# background(LIST, COMMAND...): LIST is clients, which are started anew when they are gone, or held, which end by themselves.
sub background {
	my ($self, $list, @command) = @_;
	local %ENV = (%ENV, $list eq 'agents' ? (PGAPPNAME => 'agent') : ());
	my $h = eval { IPC::Run::start(\@command, '<', \undef, '>', '/dev/null', '2>', '/dev/null') };
	push @{ $self->{$list} }, $h if $h;
	return;
}

sub pgbench {
	my ($self, $list, $seconds, @rest) = @_;
	my $node = $self->{node};
	$self->background($list, 'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-T', int($seconds) + 1, @rest, $db);
	return;
}

# A client of pgbench ends with its first error, or when the server crashes under it: those that are missing are started.
sub keep_load {
	my ($self) = @_;
	my $dir  = $self->{dir};
	my $left = $self->{end} - time;
	my $n    = $left < 1 ? undef : $self->quiet(q{SELECT count(*) FILTER (WHERE query ~ 'act'), count(*) FILTER (WHERE query ~ 'steer') FROM pg_stat_activity WHERE application_name = 'pgbench'}, 'postgres');
	return unless defined $n;
	my ($act, $steer) = split /\|/, $n;
	$self->pgbench('clients', $left, '-c', 1, '-R', 20, '-f', "$dir/act.sql\@9", '-f', "$dir/rollback.sql\@1") for $act + 1 .. 3;
	$self->pgbench('clients', $left, '-c', 1, '-f', "$dir/steer.sql") unless $steer;
	return $self->keep_agents;
}

# Agents work until the very end: their tasks have to end, too.
sub keep_agents {
	my ($self) = @_;
	my $n = $self->quiet(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'agent'}, 'postgres') // return;
	@{ $self->{agents} } = grep { eval { $_->pumpable } } @{ $self->{agents} };
	$self->pgbench('agents', 100_000, '-c', 1, '-U', 'chaos_agent', '-f', "$FindBin::Bin/../chaos/agent.sql") for $n + 1 .. 2;
	return;
}

sub stop_load {
	my ($self) = @_;
	for my $h (map { @{ $self->{$_} // [] } } 'clients', 'held') { eval { $h->kill_kill(grace => 2); 1 } or note("load: $@") }
	$self->{clients} = $self->{held} = [];
	return;
}

sub alive { return defined $_[0]->quiet('SELECT 1', 'postgres') }

# wait_alive(): until the server answers; one whose postmaster is gone is started, as an init system would.
sub wait_alive {
	my ($self) = @_;
	my $end = time + 120;
	until ($self->alive) {
		die 'the server does not come back' if time > $end;
		$self->start_again unless $self->postmaster;
		usleep(50_000);
	}
	return;
}

# The postmaster's process id by its own file, or nothing.
sub postmaster {
	my ($self) = @_;
	open my $file, '<', $self->{node}->data_dir . '/postmaster.pid' or return;
	my $pid = <$file> // '';
	chomp $pid;
	return $pid =~ /^\d+$/ && kill(0, $pid) ? $pid : undef;
}

sub under_clock { my ($self, $body) = @_; return $self->{clock} ? $self->{clock}->under($body) : $body->() }

# control(ARGUMENT...): pg_ctl by hand, since that of the base class ends the test when the server is not as it thinks.
sub control {
	my ($self, @arguments) = @_;
	my $node = $self->{node};
	$self->under_clock(sub { IPC::Run::run([ 'pg_ctl', '-D', $node->data_dir, '-l', $node->logfile, '-w', @arguments ], '<', \undef, '>', '/dev/null', '2>', '/dev/null') });
	$node->{_pid} = $self->postmaster;
	return;
}

sub start_again { return $_[0]->control('start') }

# A fast shutdown during the recovery from a crash may hang in the server itself (15: it forgets the checkpointer); then the hard way.
sub stop_server {
	my ($self, $mode) = @_;
	$self->control('stop', '-m', $mode, '-t', 20);
	return unless my $pid = $self->postmaster;
	note("a shutdown ($mode) did not end");
	$self->{hung}{$mode}++;
	kill 'KILL', $pid;
	usleep(100_000) while kill 0, $pid;
	return;
}

# probe(): a task from submit to end. How long until one does is the time of recovery.
sub probe {
	my ($self, $patience) = @_;
	my $begin = time;
	while (time < $begin + $patience) {
		my $id = $self->quiet(q{SELECT dts.submit('SELECT 1', queue => 'probe', priority => 9, max_attempts => 60)});
		my $state = defined $id ? $self->quiet("CALL dts.wait($id, '15 s')") : undef;
		return time - $begin if defined $state && $state =~ /succeeded/;
		$self->start_again unless $self->postmaster;
		usleep(50_000);
	}
	return;
}

sub look_at_sweep {
	my ($self) = @_;
	my $n = $self->quiet(q{SELECT value FROM dts.stats() WHERE name = 'swept_tasks_total'});
	$self->{swept} += $n if $n;
	diag("the sweep found $n task(s)") if $n;
	return;
}

# say_why(): what a person would look at.
sub say_why {
	my ($self) = @_;
	diag($self->quiet($_) // 'no answer') for
		q{SELECT string_agg(id || ': ' || dts.explain(id), E'\n') FROM (SELECT t.id FROM dts.task t JOIN dts.lane l ON l.id = t.lane ORDER BY l.priority DESC, t.id LIMIT 10) x},
		q{SELECT string_agg(concat_ws(' ', pid, backend_type, state, wait_event_type, wait_event, now() - state_change, pg_blocking_pids(pid), left(query, 80)), E'\n') FROM pg_stat_activity WHERE backend_type ~ 'dts' OR state <> 'idle'},
		q{SELECT string_agg(w::text, E'\n') FROM dts.workers w}, q{SELECT string_agg(d::text, E'\n') FROM dts.doctor() d}, q{SELECT string_agg(l::text, E'\n') FROM dts.limits l};
	return;
}

sub inject {
	my ($self, $name) = @_;
	my $before = $self->postmaster;
	note(sprintf '%6.1f s %s', time - $self->{begin}, $name);
	my $why = DtsFaults::inject($self, $name);
	if (defined $why) {
		$self->{skipped}{$name} = $why;
		return;
	}
	$self->{done}{$name}++;
	my $took = $self->probe($self->{patience} // 60);
	if (!defined $took) {
		fail("after $name tasks run again within a minute");
		$self->say_why;
		$self->{lame} = 1;
	}
	push @{ $self->{recovery}{$name} }, $took if defined $took;
	return;
}

# One of each that is possible, in random order, before any comes twice.
sub next_fault {
	my ($self) = @_;
	my $deck = $self->{deck} //= [];
	if (!@$deck) {
		my @names = grep { !$self->{skipped}{$_} && ($self->{only} ? $self->{only}{$_} : $_ ne 'clock_jump' || $self->{seconds} >= 60) } DtsFaults::names();
		while (@names) { push @$deck, splice @names, int(rand(@names)), 1 }
	}
	return shift @$deck;
}

sub run {
	my ($self) = @_;
	$self->{begin} = time;
	$self->{end}   = time + $self->{seconds};
	$self->keep_load;
	while (time < $self->{end} && !$self->{lame}) {
		usleep(100_000 + int(rand(700_000)));
		$self->look_at_sweep;
		$self->inject($self->next_fault);
		$self->wait_alive;
		$self->keep_load;
	}
	$self->calm;
	return;
}

# Without faults everything ends.
sub calm {
	my ($self) = @_;
	my $node = $self->{node};
	$self->stop_load;
	DtsFaults::undo_all($self);
	$self->wait_alive;
	$self->quiet('SELECT chaos.pause_schedules()');
	my $begin = time;
	my $left;
	while (time < $begin + 60 + $self->{seconds}) {
		$left = $self->quiet('SELECT count(*) FROM dts.task') // 'unknown';
		last if $left eq '0';
		$self->keep_agents;
		usleep(100_000);
	}
	for my $h (@{ $self->{agents} }) { eval { $h->kill_kill(grace => 1) } }
	is($left, '0', 'when all is calm, everything ends');
	$self->{calm} = time - $begin;
	$self->say_why if $left ne '0';
	# What no task comes by any more is for the scheduler's next tidying; what that leaves is a fault.
	my $until = time + 30;
	usleep(100_000) while time < $until && ($self->quiet('SELECT count(*) FROM dts.dependency') // '') ne '0';
	$self->look_at_sweep;
	return;
}

# check(): each view chaos.check_* is empty.
sub check {
	my ($self) = @_;
	my $node = $self->{node};
	my $came = "$self->{dir}/came";
	append_to_file($came, join '', map { /[?&]k=(\d+)/ ? "$1\n" : () } $self->{peers}->requests);
	$node->safe_psql($db, "COPY chaos.came FROM '$came'");
	$node->safe_psql($db, 'INSERT INTO chaos.mailed VALUES ' . join ', ', map { /^Subject: chaos (\d+)/m ? "($1)" : () } 'Subject: chaos 0', map { slurp_file($_) } glob "$self->{peers}{folder}/mail.*");
	cmp_ok($node->safe_psql($db, 'SELECT count(*) FROM chaos.journal'), '>', 20 * ($self->{seconds} > 10 ? 5 : 1), 'there was something to check');
	is($node->safe_psql($db, 'SELECT call FROM chaos.load WHERE n NOT IN (SELECT n FROM chaos.acted)'), '', 'there was work of each kind') if $self->{seconds} >= 60;
	for (split /\n/, $node->safe_psql($db, q{SELECT relname || '|' || obj_description(oid) FROM pg_class WHERE relnamespace = 'chaos'::regnamespace AND relname ~ '^check_' ORDER BY relname})) {
		my ($view, $promise) = split /\|/, $_, 2;
		my $n = $node->safe_psql($db, "SELECT count(*) FROM chaos.$view");
		is($n, '0', $promise) or diag("$view:\n" . $node->safe_psql($db, "SELECT * FROM chaos.$view LIMIT 10"));
		push @{ $self->{checks} }, { check => $view =~ s/^check_//r, promise => $promise, violations => $n };
	}
	# Signal 9 is ours. Any other end of a process is a bug, which restarts of the server would hide.
	my @crashes = slurp_file($node->logfile) =~ /^(.* was terminated by signal (?!9\b).*|.*PANIC:(?!.*No space left).*|TRAP:.*)$/mg;
	is(scalar @crashes, 0, 'no process crashed by itself') or diag(join "\n", @crashes[ 0 .. ($#crashes > 5 ? 5 : $#crashes) ]);
	push @{ $self->{checks} }, { check => 'crash', promise => 'no process crashes but those that are killed', violations => scalar @crashes };
	# Rows that somebody locks behind the functions are passed by, and nobody offers them when he lets go: for them there is the sweep.
	my $lost = $self->{done}{row_locks} ? 0 : $self->{swept};
	is($lost, 0, 'no wake-up was lost: the sweep found nothing');
	push @{ $self->{checks} }, { check => 'sweep', promise => 'no wake-up is lost: the sweep found nothing', violations => $lost };
	return;
}

sub rows {
	my ($self, $sql) = @_;
	return { map { split /\|/, $_, 2 } split /\n/, $self->{node}->safe_psql($db, $sql) };
}

sub report {
	my ($self) = @_;
	my %recovery;
	for my $name (keys %{ $self->{recovery} }) {
		my @t = sort { $a <=> $b } @{ $self->{recovery}{$name} };
		$recovery{$name} = { median => $t[ $#t / 2 ], max => $t[-1] } if @t;
	}
	return {
		cores => scalar(() = PostgreSQL::Test::Utils::slurp_file('/proc/cpuinfo') =~ /^processor/mg), seed => $self->{seed}, seconds => $self->{seconds}, calm => $self->{calm}, server => $self->{node}->safe_psql($db, 'SHOW server_version'), version => $self->{node}->safe_psql($db, 'SELECT dts.version()'),
		faults => $self->{done}, kinds => scalar(() = DtsFaults::names()), hung => $self->{hung} // {}, skipped => $self->{skipped}, recovery => \%recovery, checks => $self->{checks},
		tasks => $self->rows('SELECT kind, count(*) FROM chaos.journal GROUP BY 1'), outcomes => $self->rows('SELECT outcome, count(*) FROM dts.runs GROUP BY 1'),
		fires => $self->rows('SELECT decision, sum(count) FROM dts.fires GROUP BY 1'), runs => $self->rows('SELECT state, count(*) FROM dts.workflow_runs GROUP BY 1'),
	};
}

1;
