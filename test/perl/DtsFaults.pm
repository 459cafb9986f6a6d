# The faults of the chaos run, by name. Each is a function of the run; it gives nothing, or the reason why it is not possible here.
# A new one is one more entry.
package DtsFaults;

use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time usleep);

sub pid_of {
	my ($c, $kind) = @_;
	return $c->quiet("SELECT pid FROM dts.workers WHERE kind = '$kind' AND pid > 0 ORDER BY random() LIMIT 1");
}

sub pid_of_client { return $_[0]->quiet(q{SELECT pid FROM pg_stat_activity WHERE application_name = 'pgbench' ORDER BY random() LIMIT 1}) }

# strike(SIGNAL, PID): nothing to strike is no fault.
sub strike {
	my ($signal, $pid) = @_;
	return 'there was no such process' unless $pid && kill $signal, $pid;
	return;
}

sub stop_for_a_while {
	my ($c, $pid) = @_;
	strike('STOP', $pid);
	usleep(100_000 + int(rand(400_000)));
	kill 'CONT', $pid if $pid;
	return;
}

sub set {
	my ($c, $setting, $value) = @_;
	$c->quiet(defined $value ? "ALTER SYSTEM SET $setting = '$value'" : "ALTER SYSTEM RESET $setting", 'postgres');
	$c->quiet('SELECT pg_reload_conf()', 'postgres');
	return;
}

sub one_of { return $_[ int(rand(@_)) ] }

# fill(FOLDER): takes all the space that is left on a small volume, and gives it back.
sub fill {
	my ($c, $volume) = @_;
	my $folder = $c->{small}{$volume} or return 'needs root: a small volume is mounted for it';
	my $balloon = "$folder/balloon";
	open my $file, '>', $balloon or return "could not write $balloon: $!";
	binmode $file;
	my $block = "\0" x 1_048_576;
	while (syswrite $file, $block) { }
	syswrite $file, "\0" x 4096 for 1 .. 256;
	usleep(500_000 + int(rand(1_000_000)));
	close $file;
	unlink $balloon;
	return;
}

# agent(RUN): one of the programs that take commands, at random.
sub agent { my ($c) = @_; return $c->{agents}[ int(rand(@{ $c->{agents} })) ] }

# found(RUN, WHAT): something is wrong at once; the checker will say so.
sub found { my ($c, $what) = @_; $c->quiet('INSERT INTO chaos.found (what) VALUES (' . DtsNode::quote($what) . ')'); return }

# jump(RUN, SECONDS): the wall clock of the whole server is set. Where it goes back, the checker must not put instants in order. pg_sleep sleeps by the clock
# on the wall: tasks in it last longer by the jump, and a new one may have to wait for them.
sub jump {
	my ($c, $seconds) = @_;
	my $clock = $c->{clock} or return 'needs a C compiler';
	my $now = sub { return $c->quiet('SELECT clock_timestamp()') };
	my $from = $now->() // return;
	$clock->set($clock->{seconds} + $seconds);
	$c->quiet('SELECT pg_reload_conf()', 'postgres');
	return if $seconds > 0;
	for (1 .. 100) {
		last if defined $c->quiet("INSERT INTO chaos.blur VALUES (tstzrange('$from'::timestamptz + interval '$seconds s' - interval '2 s', '$from'::timestamptz + interval '2 s'))");
		usleep(100_000);
	}
	return;
}

# The version of the extension changes under running tasks, and back: meanwhile nothing runs in that database.
sub other_version {
	my ($c) = @_;
	chomp(my $folder = `pg_config --sharedir`);
	$folder .= '/extension';
	return 'needs a folder of extensions that it may write to' unless -w $folder;
	my $version = $c->quiet('SELECT dts.version()') // return;
	my %script = ("$folder/dts--$version--9.9chaos.sql" => "CREATE FUNCTION dts.of_chaos() RETURNS int LANGUAGE sql AS 'SELECT 1';\n", "$folder/dts--9.9chaos--$version.sql" => "DROP FUNCTION dts.of_chaos();\n");
	for my $file (keys %script) { append_to_file($file, $script{$file}) unless -e $file }
	$c->quiet(q{SET lock_timeout = '10s'; ALTER EXTENSION dts UPDATE TO '9.9chaos'});
	usleep(300_000);
	for (1 .. 100) {
		last if defined $c->quiet("SET lock_timeout = '10s'; ALTER EXTENSION dts UPDATE TO '$version'");
		$c->wait_alive;
	}
	unlink keys %script;
	return;
}

sub drop_extension {
	my ($c) = @_;
	$c->quiet('CREATE DATABASE chaos_ext', 'postgres');
	$c->quiet('CREATE EXTENSION IF NOT EXISTS dts', 'chaos_ext');
	$c->quiet(q{SELECT dts.submit('SELECT pg_sleep(random() / 10)') FROM generate_series(1, 20)}, 'chaos_ext');
	return if !defined $c->quiet(q{SET lock_timeout = '5s'; DROP EXTENSION dts CASCADE}, 'chaos_ext');
	my $left = $c->quiet(q{SELECT count(*) FROM pg_namespace WHERE nspname = 'dts'}, 'chaos_ext');
	found($c, 'objects after DROP EXTENSION') if $left;
	for (1 .. 300) {
		$left = $c->quiet(q{SELECT count(*) FROM dts.workers WHERE database = 'chaos_ext'});
		return if defined $left && $left eq '0';
		usleep(100_000);
	}
	found($c, 'processes after DROP EXTENSION');
	return;
}

sub restart_with {
	my ($c, $setting, $value, $seconds) = @_;
	$c->stop_load;
	set($c, $setting, $value);
	$c->stop_server('fast');
	$c->start_again;
	usleep($seconds * 1_000_000);
	set($c, $setting);
	$c->stop_server('fast');
	$c->start_again;
	return;
}

# A session of its own that holds something for some seconds.
sub hold {
	my ($c, $sql) = @_;
	$c->background('held', 'psql', '-XAtq', '-d', $c->{node}->connstr('chaos'), '-c', $sql);
	return;
}

my $serial = 0;

my %faults = (
	kill9_executor    => sub { strike('KILL', pid_of($_[0], 'executor')) },
	kill9_scheduler   => sub { strike('KILL', pid_of($_[0], 'scheduler')) },
	kill9_launcher    => sub { strike('KILL', pid_of($_[0], 'launcher')) },
	kill9_client      => sub { strike('KILL', pid_of_client($_[0])) },
	terminate_executor  => sub { strike('TERM', pid_of($_[0], 'executor')) },
	terminate_scheduler => sub { strike('TERM', pid_of($_[0], 'scheduler')) },
	terminate_launcher  => sub { strike('TERM', pid_of($_[0], 'launcher')) },
	terminate_client    => sub { strike('TERM', pid_of_client($_[0])) },
	kill9_courier     => sub { strike('KILL', pid_of($_[0], 'courier')) },
	terminate_courier => sub { strike('TERM', pid_of($_[0], 'courier')) },
	stop_courier      => sub { stop_for_a_while($_[0], pid_of($_[0], 'courier')) },
	cancel_executor   => sub { strike('INT', pid_of($_[0], 'executor')) },
	stop_executor     => sub { stop_for_a_while($_[0], pid_of($_[0], 'executor')) },
	stop_scheduler    => sub { stop_for_a_while($_[0], pid_of($_[0], 'scheduler')) },
	stop_launcher     => sub { stop_for_a_while($_[0], pid_of($_[0], 'launcher')) },
	stop_client       => sub { stop_for_a_while($_[0], pid_of_client($_[0])) },
	kill9_postmaster  => sub { my ($c) = @_; strike('KILL', $c->postmaster) // do { $c->stop_load; 0 } || undef },
	stop_postmaster   => sub { stop_for_a_while($_[0], $_[0]->postmaster) },
	# Outside of the server: what it has claimed comes back when the lease is over; one that was only slow is told that it is too late.
	kill9_agent       => sub {
		my ($c) = @_;
		my $agent = agent($c) or return;
		eval { $agent->signal('KILL'); $agent->finish };
		return;
	},
	stop_agent        => sub {
		my ($c) = @_;
		my $agent = agent($c) or return;
		eval { $agent->signal('STOP') };
		usleep(2_500_000);
		eval { $agent->signal('CONT') };
		return;
	},
	immediate_stop    => sub { my ($c) = @_; $c->stop_server('immediate'); $c->start_again; return },
	fast_restart      => sub { my ($c) = @_; $c->stop_server('fast'); $c->start_again; return },
	# A task that kills its own process: the server restarts, and the task is a dead letter in the end.
	poison => sub {
		my ($c) = @_;
		$c->quiet(q{SELECT chaos.note(dts.submit('COPY (SELECT 1) TO PROGRAM ''kill -9 $PPID''', max_attempts => 5, queue => 'batch'), 'poison', NULL)});
		usleep(500_000);
		return;
	},
	few_worker_slots  => sub { restart_with($_[0], 'max_worker_processes', 3, 1.5) },
	disk_full_data    => sub { fill($_[0], 'data') },
	disk_full_wal     => sub { fill($_[0], 'wal') },
	long_snapshot     => sub { hold($_[0], 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM chaos.pair; SELECT pg_sleep(4); COMMIT') },
	open_submit       => sub { hold($_[0], 'BEGIN; SELECT chaos.load_plain(), chaos.load_diamond(); SELECT pg_sleep(2); COMMIT') },
	open_cancel       => sub { hold($_[0], q{BEGIN; INSERT INTO chaos.cancelled SELECT x.task, dts.cancel(x.task) FROM (SELECT task FROM chaos.journal ORDER BY task DESC LIMIT 5) x; SELECT pg_sleep(1.5); } . one_of('COMMIT', 'ROLLBACK')) },
	lock_history      => sub { hold($_[0], 'BEGIN; SELECT count(*) FROM dts.run; SELECT pg_sleep(2); COMMIT') },
	row_locks         => sub { hold($_[0], 'BEGIN; SELECT id FROM dts.task ORDER BY id LIMIT 50 FOR UPDATE SKIP LOCKED; SELECT pg_sleep(1); COMMIT') },
	settings          => sub {
		my ($c) = @_;
		my %choice = ('dts.max_workers' => [ 1 .. 6 ], 'dts.batch_budget' => [ '1ms', '20ms' ], 'dts.worker_idle_timeout' => [ '100ms', '60s' ], 'dts.worker_max_tasks' => [ 5, 1000 ],
			'dts.max_crashes' => [ 1, 3 ], 'dts.priority_ageing' => [ '0', '1s' ], 'dts.sweep_interval' => [ '1s', '5s' ], 'dts.max_result_size' => [ '0', '8kB' ]);
		my $name = one_of(sort keys %choice);
		set($c, $name, one_of(@{ $choice{$name} }));
		return;
	},
	disabled          => sub { my ($c) = @_; set($c, 'dts.enabled', 'off'); usleep(300_000); set($c, 'dts.enabled'); return },
	paused            => sub { my ($c) = @_; $c->quiet(q{SELECT dts.pause('batch'), dts.pause(handler => 'single')}); usleep(300_000); $c->quiet(q{SELECT dts.resume('batch'), dts.resume(handler => 'single')}); return },
	limits_changed    => sub {
		my ($c) = @_;
		# Only downwards below what the checker allows, and back.
		$c->quiet(q{SELECT dts.set_limit(queue => 'narrow', concurrency => 1), dts.set_limit(queue => 'paced', rate => 5), dts.set_limit(queue => 'batch', concurrency => 1)});
		usleep(200_000);
		$c->quiet(q{SELECT dts.set_limit(queue => 'narrow', concurrency => 2), dts.set_limit(queue => 'paced', rate => 20), dts.set_limit(queue => 'batch', reset => '{concurrency}')});
		return;
	},
	drop_role         => sub {
		my ($c) = @_;
		my $role = 'chaos_gone_' . ++$serial;
		$c->quiet("CREATE ROLE $role LOGIN IN ROLE chaos_users");
		$c->quiet("SELECT chaos.submit('orphan', nap => 0.05, owner => '$role') FROM generate_series(1, 10)");
		usleep(100_000);
		$c->quiet("DROP OWNED BY $role");
		$c->quiet("DROP ROLE $role");
		return;
	},
	rename_role       => sub {
		my ($c) = @_;
		$c->quiet('ALTER ROLE chaos_bob RENAME TO chaos_robert');
		usleep(200_000);
		for (1 .. 100) { last if defined $c->quiet('ALTER ROLE chaos_robert RENAME TO chaos_bob'); $c->wait_alive }
		return;
	},
	alter_table       => sub { my ($c) = @_; $c->quiet("SET lock_timeout = '2s'; ALTER TABLE chaos.effect $_ of_chaos int") for 'ADD', 'DROP'; return },
	alter_queue       => sub { my ($c) = @_; $c->quiet("SELECT dts.alter_queue('batch', batch_size => $_, durable => " . one_of('true', 'false') . ')') for 1, 60; return },
	no_login          => sub { my ($c) = @_; $c->quiet('ALTER ROLE chaos_bob NOLOGIN'); usleep(200_000); $c->quiet('ALTER ROLE chaos_bob LOGIN'); return },
	drop_queue        => sub {
		my ($c) = @_;
		my $queue = 'chaos_queue_' . ++$serial;
		$c->quiet("SELECT dts.create_queue('$queue', batch_size => 5)");
		$c->quiet("SELECT chaos.submit('plain', queue => '$queue') FROM generate_series(1, 10)");
		for (1 .. 20) { last if defined $c->quiet("SELECT dts.drop_queue('$queue')"); usleep(50_000) }
		return;
	},
	change_handler    => sub {
		my ($c) = @_;
		my $name = 'chaos_handler_' . ++$serial;
		$c->quiet("SELECT dts.create_handler('$name', 'SELECT 1/0', max_attempts => 60)");
		$c->quiet(qq{WITH k AS MATERIALIZED (SELECT nextval('chaos.k') AS k FROM generate_series(1, 5)) SELECT chaos.note(dts.submit_handler('$name', jsonb_build_object('k', k), retry => '{"base": 0.05, "cap": 0.1}'), 'plain', k) FROM k});
		$c->quiet(qq{SELECT dts.alter_handler('$name', sql => 'SELECT chaos.work((\$1 ->> ''k'')::bigint)')});
		for (1 .. 20) { last if defined $c->quiet("SELECT dts.drop_handler('$name')"); usleep(50_000) }
		return;
	},
	drop_database     => sub {
		my ($c) = @_;
		my $name = 'chaos_other_' . ++$serial;
		return if !defined $c->quiet("CREATE DATABASE $name", 'postgres');
		$c->quiet('CREATE EXTENSION dts', $name);
		$c->quiet(q{SELECT dts.submit('SELECT pg_sleep(random() / 10)') FROM generate_series(1, 20)}, $name);
		$c->quiet("DROP DATABASE $name WITH (FORCE)", 'postgres');
		return;
	},
	drop_extension    => \&drop_extension,
	alter_extension   => \&other_version,
	connection_storm  => sub {
		my ($c) = @_;
		$c->pgbench('held', 1, '-C', '-c', 70, '-f', "$c->{dir}/act.sql");
		usleep(1_000_000);
		return;
	},
	clock_jump        => sub { jump($_[0], one_of(-1, 1) * (2 + int(rand(9)))) },
	# The clock of schedules alone goes ahead, and comes back.
	clock_step        => sub { my ($c) = @_; set($c, 'dts.debug_schedule_clock', 5 + int(rand(10)) . 's'); usleep(500_000); set($c, 'dts.debug_schedule_clock'); return },
	vacuum_full       => sub { my ($c) = @_; $c->quiet(one_of('VACUUM FULL dts.task', 'REINDEX INDEX CONCURRENTLY dts.task_claim', 'ANALYZE dts.task', 'CHECKPOINT')); return },
	rescan            => sub { my ($c) = @_; $c->quiet('SELECT dts.rescan()'); return },
);

sub names { my @names = sort keys %faults; return @names }

# inject(RUN, NAME): nothing, or why it was not possible.
sub inject {
	my ($c, $name) = @_;
	my $why = $faults{$name}->($c);
	return defined $why && !ref $why && $why =~ /[a-z]/ && $why =~ /needs/ ? $why : undef;
}

# undo_all(RUN): the settings as they were.
sub undo_all {
	my ($c) = @_;
	$c->wait_alive;
	$c->quiet('ALTER SYSTEM RESET ALL', 'postgres');
	$c->quiet('SELECT pg_reload_conf()', 'postgres');
	$c->quiet('ALTER ROLE chaos_bob LOGIN');
	$c->quiet(q{SELECT dts.resume('batch'), dts.resume(handler => 'single'), dts.set_limit(queue => 'batch', reset => '{concurrency}')});
	return;
}

1;
