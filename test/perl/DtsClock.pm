# A server whose wall clock a test may set (test/clock): timers and the monotonic clock stay, as when somebody sets a machine's clock.
#
#   my $clock = DtsClock->new;                 # nothing where there is no C compiler
#   $clock->under(sub { $node->start });       # a server that is started under it
#   $clock->set(3600, $node);                  # from now on an hour ahead of the machine
#   $clock->set(3600, undef, told => 1);       # and the kernel tells who asked to be told
package DtsClock;

use strict;
use warnings;
use Fcntl;
use FindBin;
use POSIX ();
use PostgreSQL::Test::Utils;

sub new {
	my ($class) = @_;
	my $folder = PostgreSQL::Test::Utils::tempdir();
	my $self   = bless { library => "$folder/clock_shift.so", file => "$folder/shift", seconds => 0 }, $class;
	return if system("cc -shared -fPIC -O1 -o $self->{library} $FindBin::Bin/../clock/clock_shift.c 2>/dev/null") != 0;
	PostgreSQL::Test::Utils::append_to_file($self->{file}, pack('q', 0));
	POSIX::mkfifo("$self->{file}.set", 0600) or die $!;
	return $self;
}

sub under {
	my ($self, $body) = @_;
	local $ENV{LD_PRELOAD} = $self->{library};
	local $ENV{CLOCK_SHIFT_FILE} = $self->{file};
	return $body->();
}

# set(SECONDS[, NODE, told => 1]): how far the clock is off from now on. All processes see it at once. The kernel, which would tell the scheduler of a
# clock that was set, knows nothing of it: told => 1 speaks for it, to one process that asked; else a reload of the node has the scheduler look.
sub set {
	my ($self, $seconds, $node, %how) = @_;
	open my $out, '+<', $self->{file} or die $!;
	syswrite $out, pack('q', $seconds * 1_000_000) or die $!;
	close $out;
	$self->{seconds} = $seconds;
	if ($how{told}) {
		sysopen my $pipe, "$self->{file}.set", O_RDWR | O_NONBLOCK or die $!;
		syswrite $pipe, 'clockset' or die $!;
		close $pipe;
	} elsif (defined $node) {
		$node->reload;
	}
	return;
}

1;
