# A PostgreSQL::Test::Cluster node that knows dts.
#
#   use DtsNode;
#   my $node = DtsNode->start_new('main');              # initialised, dts preloaded and created in database "postgres"
#   my $id   = $node->submit('SELECT 1', priority => 7);
#   $node->wait_state($id, 'succeeded');
#
# Nothing in here sleeps for a fixed time: everything waits for a state, up to a minute.
package DtsNode;

use strict;
use warnings;
use parent -norequire, 'PostgreSQL::Test::Cluster';

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# Long enough for a loaded machine, short enough that a hanging test is noticed.
our $wait_seconds = $ENV{DTS_WAIT} // 60;

# init(%options): as in the base class, and besides
#   preload  0: without dts in shared_preload_libraries
#   conf     more lines for postgresql.conf
sub init {
	my ($self, %options) = @_;
	my $preload = delete $options{preload} // 1;
	my $conf = delete $options{conf} // '';
	$self->SUPER::init(%options);
	# A lost wake-up shows in the sweep's counter (see healthy) only if the sweep comes by during the test, and one of a process only if no other
	# one takes its place after a minute.
	my $lines = "max_worker_processes = 32\ndts.sweep_interval = '1s'\ndts.worker_idle_timeout = '10min'\n$conf";
	$self->append_conf('postgresql.conf', ($preload ? "shared_preload_libraries = 'dts'\n" : '') . $lines);
	return;
}

# start_new(NAME, %options): a running node with dts in database "postgres"; options as for init.
sub start_new {
	my ($class, $name, %options) = @_;
	my $node = $class->new($name);
	$node->init(%options);
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION dts');
	return $node;
}

# poll_query_until(DBNAME, SQL, EXPECTED): as in the base class, but the query is an argument of psql: written to the standard input of one that could
# not connect, while the server restarts after a crash, it would end the test.
sub poll_query_until {
	my ($self, $dbname, $sql, $expected) = @_;
	$expected //= 't';
	local %ENV = $self->_get_env;
	my @psql = ($self->installed_command('psql'), '-XAtq', '-d', $self->connstr($dbname), '-c', $sql);
	my ($out, $error) = ('', '');
	my $end = time + $wait_seconds;
	do {
		IPC::Run::run \@psql, '<', \undef, '>', \$out, '2>', \$error;
		chomp($out, $error);
		return 1 if $out eq $expected && $error eq '';
		select undef, undef, undef, 0.1;
	} while (time < $end);
	diag("waited for: $sql\nwanted: $expected\nlast answer: $out\nlast error: $error");
	return 0;
}

# wait_for(SQL, EXPECTED[, DBNAME]): polls until the query gives this text. Else says what it gave last and ends the test:
# what comes after would wait for the same thing again.
sub wait_for {
	my ($self, $sql, $expected, $dbname) = @_;
	return 1 if $self->poll_query_until($dbname // 'postgres', $sql, $expected // 't');
	$self->say_why($dbname);
	return give_up("waited $wait_seconds s for: $sql");
}

# say_why([DBNAME]): what tasks are left, and why they do not move, by dts itself.
sub say_why {
	my ($self, $dbname) = @_;
	my (undef, $why, $error) = $self->psql($dbname // 'postgres',
		'SELECT id, queue, state, dts.explain(id) FROM dts.tasks WHERE ended_at IS NULL ORDER BY id LIMIT 10; SELECT * FROM dts.running; SELECT * FROM dts.stuck()');
	return diag($why // '', $error // '');
}

sub give_up {
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 2;
	fail($what);
	done_testing();
	exit 1;
}

# wait_state(TASK, STATE): waits until the task is in that state. If it never is, dts itself is asked why.
sub wait_state {
	my ($self, $task, $state, $dbname) = @_;
	my $sql = "SELECT COALESCE((SELECT state FROM dts.tasks WHERE id = $task), 'unknown')";
	return 1 if $self->poll_query_until($dbname // 'postgres', $sql, $state);
	my (undef, $why, $error) = $self->psql($dbname // 'postgres', "SELECT dts.explain($task)");
	diag("task $task: " . ($why || $error));
	return give_up("waited $wait_seconds s for task $task to be $state");
}

# submit(SQL, %options): the task's id. Options are those of dts.submit, by name, and dbname; values are quoted here.
sub submit {
	my ($self, $sql, %options) = @_;
	my $dbname = delete $options{dbname} // 'postgres';
	my $arguments = join '', map { ", $_ => " . quote($options{$_}) } sort keys %options;
	return $self->safe_psql($dbname, 'SELECT dts.submit(' . quote($sql) . "$arguments)");
}

# An untyped literal, which takes the type of the argument that it is given for.
sub quote {
	my ($value) = @_;
	return 'NULL' unless defined $value;
	return "'" . ($value =~ s/'/''/gr) . "'";
}

# worker_pids([KIND]): process ids of dts's workers (launcher, scheduler, executor, ...) of all databases, lowest first.
sub worker_pids {
	my ($self, $kind) = @_;
	my $filter = defined $kind ? 'WHERE kind = ' . quote($kind) : '';
	return split /\n/, $self->safe_psql('postgres', "SELECT pid FROM dts.workers $filter ORDER BY pid");
}

# kill9(PID): a process dies without a word, as under the out-of-memory killer; the server then restarts all others.
sub kill9 {
	my ($self, $pid) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$self->{killed} = $pid;
	return is(kill('KILL', $pid), 1, "killed process $pid");
}

# as_role(ROLE, SQL[, DBNAME]): the output of statements run in a session of that role; an error ends the test.
sub as_role {
	my ($self, $role, $sql, $dbname) = @_;
	return $self->safe_psql($dbname // 'postgres', $sql, extra_params => [ '-U', $role ]);
}

# wait_back([DBNAME]): waits until the server takes connections again after a crash, and its launcher is there. Whom kill9 killed is listed
# until the server has noticed.
sub wait_back {
	my ($self, $dbname) = @_;
	my $killed = $self->{killed} // 0;
	return $self->wait_for("SELECT count(*) FILTER (WHERE backend_type = 'dts launcher') - count(*) FILTER (WHERE pid = $killed) FROM pg_stat_activity", '1', $dbname);
}

# running_pid(TASK): waits until the task runs, and gives the process that runs it.
sub running_pid {
	my ($self, $task, $dbname) = @_;
	$self->wait_for("SELECT count(*) FROM dts.running WHERE id = $task AND worker_pid > 0", '1', $dbname);
	return $self->safe_psql($dbname // 'postgres', "SELECT worker_pid FROM dts.running WHERE id = $task");
}

# idle_executors(N): waits until N executors of the user "postgres" have nothing to do, and gives the ids of all processes of that kind. So many tasks
# that end only when all of them run: one after the other they would do with fewer.
sub idle_executors {
	my ($self, $n) = @_;
	my $gate = $self->session('postgres');
	$gate->query('SELECT pg_advisory_lock(4711)');
	my @ids = map { $self->submit('SELECT pg_advisory_xact_lock_shared(4711)') } 1 .. $n;
	$self->running_pid($_) for @ids;
	$gate->close;
	$self->wait_state($_, 'succeeded') for @ids;
	$self->wait_for("SELECT count(*) >= $n FROM dts.workers WHERE kind = 'executor' AND state = 'idle'");
	return $self->worker_pids('executor');
}

# runs_of(TASK): its attempts in order, as "attempt outcome sqlstate", one in each line.
sub runs_of {
	my ($self, $task, $dbname) = @_;
	return $self->safe_psql($dbname // 'postgres',
		"SELECT concat_ws(' ', attempt, outcome, sqlstate) FROM dts.runs WHERE task = $task ORDER BY ended_at");
}

# wait_done([DBNAME]): waits until no task is left that is ready or running.
sub wait_done {
	my ($self, $dbname) = @_;
	return $self->wait_for('SELECT count(*) FROM dts.task WHERE state IN (0, 2)', '0', $dbname);
}

# pause_at(POINT[, PID]): whoever comes to that pause point (src/pg/point.hpp), or only that process, stops there. Needs a build with POINTS=1.
sub pause_at {
	my ($self, $point, $pid) = @_;
	my $folder = $self->data_dir . '/dts_points';
	mkdir $folder;
	unlink "$folder/$point.reached" unless -e "$folder/$point";
	# In one step, so that one who has stopped there and is meant goes on waiting.
	open my $file, '>', "$folder/new.$point" or die $!;
	print $file "$pid\n" if defined $pid;
	close $file;
	rename "$folder/new.$point", "$folder/$point";
	return;
}

# wait_reached(POINT): waits until somebody has stopped there, and gives its process id.
sub wait_reached {
	my ($self, $point) = @_;
	my $file = $self->data_dir . "/dts_points/$point.reached";
	for (1 .. $wait_seconds * 100) {
		return PostgreSQL::Test::Utils::slurp_file($file) + 0 if -e $file;
		select undef, undef, undef, 0.01;
	}
	return give_up("waited $wait_seconds s for somebody to come to $point");
}

# release(POINT): whoever stopped there goes on, and nobody stops there any more.
sub release {
	my ($self, $point) = @_;
	unlink $self->data_dir . "/dts_points/$point";
	return;
}

# hold_scheduler(): it stops at the end of its next turn, until release('scheduler.turned'). Whenever it is awake it looks at everything, and so
# hides a wake-up that was lost, or does a little later what another one forgot.
sub hold_scheduler {
	my ($self) = @_;
	my ($pid) = $self->worker_pids('scheduler');
	$self->pause_at('scheduler.turned', $pid);
	kill 'USR1', $pid;    # which sets its latch, and nothing else
	return $self->wait_reached('scheduler.turned');
}

# session(DBNAME, %options): a psql that stays open (see DtsSession below); role: who it is.
sub session {
	my ($self, $dbname, %options) = @_;
	return DtsSession->new($self, $dbname // 'postgres', %options);
}

# healthy([DBNAME]): what must hold at the end of every test: nothing is stuck, and no wake-up was lost.
sub healthy {
	my ($self, $dbname) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($self->safe_psql($dbname // 'postgres', 'SELECT * FROM dts.stuck()'), '', 'nothing is stuck');
	is($self->safe_psql($dbname // 'postgres', q{SELECT value FROM dts.stats() WHERE name = 'swept_tasks_total'}), '0', 'the sweep found nothing');
	return;
}

# An open session: what a test does in the middle of somebody's transaction. The same on all versions of the server.
package DtsSession;

use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

sub new {
	my ($class, $node, $dbname, %options) = @_;
	my $self = bless { in => '', out => '', err => '', turn => 0 }, $class;
	my @command = ('psql', '-XAtq', '-v', 'ON_ERROR_STOP=0', '-d', $node->connstr($dbname), $options{role} ? ('-U', $options{role}) : (), '-f', '-');
	$self->{timer} = IPC::Run::timeout($DtsNode::wait_seconds);
	$self->{run} = IPC::Run::start(\@command, '<', \$self->{in}, '>', \$self->{out}, '2>', \$self->{err}, $self->{timer});
	$self->{pid} = $self->query('SELECT pg_backend_pid()');
	return $self;
}

# send(SQL): without waiting for the end.
sub send {
	my ($self, $sql) = @_;
	$self->{in} .= "$sql;\n";
	$self->{run}->pump_nb;
	return;
}

# query(SQL): waits for the end and returns what it printed; errors are in $session->{err}.
sub query {
	my ($self, $sql) = @_;
	my $mark = 'end-of-query-' . ++$self->{turn};
	$self->{out} = $self->{err} = '';
	$self->{timer}->start($DtsNode::wait_seconds);
	$self->{in} .= "$sql;\n\\echo $mark\n";
	$self->{run}->pump until $self->{out} =~ /^$mark$/m;
	my $out = $self->{out} =~ s/^$mark\n//mr;
	chomp $out;
	return $out;
}

sub close {
	my ($self) = @_;
	$self->{in} .= "\\q\n";
	eval { $self->{run}->finish };
	return;
}

1;
