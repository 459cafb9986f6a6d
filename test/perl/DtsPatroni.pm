# A cluster under Patroni: etcd, and servers with dts that Patroni makes, watches, fences and promotes. All on loopback, in temporary folders.
#
#   my $cluster = DtsPatroni->start('one', 'two');
#   my $leader = $cluster->leader;                      # a name, when there is one
#   $cluster->sql($leader, 'SELECT 1');
#   $cluster->kill9('one');  $cluster->run('one');      # the machine dies; it comes back
#   $cluster->cut_off('one');  $cluster->reconnect('one');  # from etcd: packets vanish, nothing is refused
package DtsPatroni;

use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;
use IPC::Run;
use JSON::PP;
use POSIX '_exit';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $started;

# Patroni allows no ttl below 20 s: that long after its last sign of life a leader is replaced.
our $ttl = 20;

sub missing { return grep { my $program = $_; !grep { -x "$_/$program" } split /:/, $ENV{PATH} } qw(patroni etcd) }

sub start {
	my ($class, @names) = @_;
	my $self = bless { dir => PostgreSQL::Test::Utils::tempdir_short(), nodes => {}, timer => IPC::Run::timeout(1200) }, $class;
	$started = $self;
	chomp($self->{bin} = `pg_config --bindir`);
	my ($client, $peer) = map { PostgreSQL::Test::Cluster::get_free_port() } 1 .. 2;
	my $url = "http://127.0.0.1:$peer";
	$self->{etcd} = $self->background('etcd', 'etcd', '--name', 'only', '--data-dir', "$self->{dir}/etcd", '--listen-client-urls', "http://127.0.0.1:$client", '--advertise-client-urls', "http://127.0.0.1:$client",
		'--listen-peer-urls', $url, '--initial-advertise-peer-urls', $url, '--initial-cluster', "only=$url");
	wait_until('etcd answers', 30, sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $client) });
	for my $name (@names) {
		my %node = (name => $name, port => PostgreSQL::Test::Cluster::get_free_port(), rest => PostgreSQL::Test::Cluster::get_free_port(), relay_port => PostgreSQL::Test::Cluster::get_free_port());
		$self->{nodes}{$name} = \%node;
		$node{relay} = relay($node{relay_port}, $client);
		append_to_file("$self->{dir}/$name.json", JSON::PP->new->encode($self->configuration(\%node)));
		$self->run($name);
	}
	return $self;
}

sub background {
	my ($self, $log, @command) = @_;
	my $file = "$self->{dir}/$log.log";
	return IPC::Run::start(\@command, '<', '/dev/null', '>>', $file, '2>>', $file, $self->{timer});
}

sub configuration {
	my ($self, $node) = @_;
	my $address = "127.0.0.1:$node->{port}";
	return {
		scope => 'dts', name => $node->{name},
		restapi => { listen => "127.0.0.1:$node->{rest}", connect_address => "127.0.0.1:$node->{rest}" },
		# A proxy, for Patroni: it must not look for other ways to etcd.
		etcd3 => { hosts => "127.0.0.1:$node->{relay_port}", use_proxies => JSON::PP::true },
		bootstrap => {
			dcs => { ttl => $ttl, loop_wait => 2, retry_timeout => 4, synchronous_mode => JSON::PP::true, postgresql => { use_pg_rewind => JSON::PP::true } },
			initdb => [ { encoding => 'UTF8' }, { locale => 'C' } ],
		},
		postgresql => {
			listen => $address, connect_address => $address, data_dir => "$self->{dir}/$node->{name}", bin_dir => $self->{bin}, pgpass => "$self->{dir}/$node->{name}.pgpass",
			pg_hba => [ 'local all all trust', 'host all all 127.0.0.1/32 trust', 'host replication all 127.0.0.1/32 trust' ],
			authentication => { superuser => { username => 'postgres' }, replication => { username => 'replicator' }, rewind => { username => 'postgres' } },
			parameters => {
				shared_preload_libraries => 'dts', unix_socket_directories => $self->{dir}, max_worker_processes => 32, wal_log_hints => 'on', wal_keep_size => '512MB', 'dts.max_workers' => 4,
				log_line_prefix => '%m [%p] %b ', 'dts.sweep_interval' => '1s', hot_standby => 'on',
			},
		},
	};
}

# run(NAME): its Patroni, which does the rest.
sub run {
	my ($self, $name) = @_;
	$self->{nodes}{$name}{patroni} = $self->background($name, 'patroni', "$self->{dir}/$name.json");
	return;
}

# A relay between a Patroni and etcd. Stopped (SIGSTOP) it is a network that loses everything.
sub relay {
	my ($port, $to) = @_;
	my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 50, ReuseAddr => 1) or die $!;
	my $pid = fork // die $!;
	return $pid if $pid;
	local $SIG{PIPE} = 'IGNORE';
	my %other;
	my $all = IO::Select->new($listen);
	while (my @ready = $all->can_read) {
		for my $from (@ready) {
			if ($from == $listen) {
				my $client = $listen->accept or next;
				my $server = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $to) or next;
				@other{ $client, $server } = ($server, $client);
				$all->add($client, $server);
				next;
			}
			my $peer = $other{$from} or next;
			my $data;
			next if sysread($from, $data, 65536) && syswrite $peer, $data;
			delete @other{ $from, $peer };
			$all->remove($from, $peer);
			close $_ for $from, $peer;
		}
	}
	_exit(0);
}

sub wait_until {
	my ($what, $seconds, $is) = @_;
	my $end = time + $seconds;
	while (time < $end) {
		my $found = $is->();
		return $found if defined $found && $found ne '';
		usleep(50_000);
	}
	BAIL_OUT("waited $seconds s until $what");
}

# sql(NAME, SQL): what it prints, or nothing if that server does not answer, or says no.
sub sql {
	my ($self, $name, $sql) = @_;
	my ($out, $err) = ('', '');
	my $ok = eval { IPC::Run::run([ $self->psql($name), '-c', $sql ], '<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(60)) };
	$self->{error} = $err;
	return unless $ok;
	chomp $out;
	return $out;
}

sub must {
	my ($self, $name, $sql) = @_;
	return $self->sql($name, $sql) // die "$sql\n$self->{error}";
}

sub psql {
	my ($self, $name) = @_;
	return ('psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-h', '127.0.0.1', '-p', $self->{nodes}{$name}{port}, '-U', 'postgres', '-d', 'postgres');
}

# leader(SECONDS[, EXCEPT]): the one that takes writes.
sub leader {
	my ($self, $seconds, $except) = @_;
	return wait_until('there is a leader', $seconds, sub {
		for my $name (sort keys %{ $self->{nodes} }) { return $name if $name ne ($except // '') && ($self->sql($name, 'SELECT pg_is_in_recovery()') // '') eq 'f' }
		return;
	});
}

# wait_synchronous(NAME): until its standby is a synchronous one, so that nothing is acknowledged that only one server has.
sub wait_synchronous {
	my ($self, $name) = @_;
	return wait_until("$name has a synchronous standby", 90, sub { ($self->sql($name, q{SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'}) // 0) == 1 || undef });
}

# The processes below one, with it.
sub family {
	my ($root) = @_;
	my %parent;
	for my $file (glob '/proc/[0-9]*/stat') {
		open my $in, '<', $file or next;
		$parent{$1} = $2 if (<$in> // '') =~ /^(\d+) \(.*\) \S (\d+)/;
	}
	my @all = ($root);
	for (my $i = 0; $i < @all; $i++) { push @all, grep { $parent{$_} == $all[$i] } keys %parent }
	return @all;
}

sub postmaster {
	my ($self, $name) = @_;
	open my $in, '<', "$self->{dir}/$name/postmaster.pid" or return;
	my $pid = <$in> // '';
	return $pid =~ /^(\d+)$/ && kill(0, $1) ? $1 : undef;
}

# kill9(NAME): the machine dies: Patroni, the server, and all its processes.
sub kill9 {
	my ($self, $name) = @_;
	my $patroni = $self->{nodes}{$name}{patroni};
	my @pids = map { family($_) } grep { defined } $self->postmaster($name);
	$patroni->signal('KILL');
	kill 'KILL', @pids;
	eval { $patroni->finish };
	return;
}

sub cut_off   { my ($self, $name) = @_; return kill 'STOP', $self->{nodes}{$name}{relay} }
sub reconnect { my ($self, $name) = @_; return kill 'CONT', $self->{nodes}{$name}{relay} }

# Whatever ends the test, no process stays behind.
END { local $?; $started->stop if $started }

sub stop {
	my ($self) = @_;
	$started = undef;
	for my $node (values %{ $self->{nodes} }) {
		eval { $node->{patroni}->signal('TERM'); $node->{patroni}->finish };
		kill 'CONT', $node->{relay};
		kill 'KILL', $node->{relay};
		waitpid $node->{relay}, 0;
		if (my $pid = $self->postmaster($node->{name})) { kill 'QUIT', $pid }
	}
	eval { $self->{etcd}->signal('TERM'); $self->{etcd}->finish };
	return;
}

1;
