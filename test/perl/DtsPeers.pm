# The peers of test/servers/peers.py, for tests that talk to the network: only loopback is used.
#
#   my $peers = DtsPeers->start;
#   $peers->{http}, $peers->{smtp}   ports
#   $peers->requests                 lines "METHOD TARGET" that came in
#   $peers->mail(1)                  the first mail, with envelope
package DtsPeers;

use strict;
use warnings;
use FindBin;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

sub start {
	my ($class) = @_;
	my $self = bless { folder => PostgreSQL::Test::Utils::tempdir() }, $class;
	$self->{timer} = IPC::Run::timeout($ENV{DTS_PEERS_SECONDS} // 600);
	$self->{run} = IPC::Run::start([ 'python3', "$FindBin::Bin/../servers/peers.py", $self->{folder} ], $self->{timer});
	for my $what ('http', 'smtp') {
		my $file = "$self->{folder}/$what";
		for (1 .. 600) { last if -e $file; select undef, undef, undef, 0.05; }
		BAIL_OUT("test/servers/peers.py does not start") unless -e $file;
		$self->{$what} = PostgreSQL::Test::Utils::slurp_file($file);
	}
	return $self;
}

sub url {
	my ($self, $path, $host) = @_;
	return 'http://' . ($host // '127.0.0.1') . ":$self->{http}/$path";
}

sub requests {
	my ($self) = @_;
	my $file = "$self->{folder}/requests";
	return () unless -e $file;
	return split /\n/, PostgreSQL::Test::Utils::slurp_file($file);
}

sub mail {
	my ($self, $n) = @_;
	my $file = "$self->{folder}/mail.$n";
	return -e $file ? PostgreSQL::Test::Utils::slurp_file($file) : '';
}

sub stop {
	my ($self) = @_;
	$self->{run}->kill_kill if $self->{run};
	delete $self->{run};
	return;
}

sub DESTROY { $_[0]->stop; return; }

1;
