# Chaos in short: random work under random faults, then the checker (test/perl/DtsChaos.pm, test/chaos/world). test/chaos/run is the
# same for as long as you like. Seed and length come from the environment (DTS_CHAOS_SEED, DTS_CHAOS_SECONDS).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsChaos;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my %env = map { $_ => $ENV{"DTS_CHAOS_$_"} } qw(SEED SECONDS DATA WAL REPORT ONLY);
my $chaos = DtsChaos->new(
	seed => $env{SEED} // int(rand(1_000_000)), seconds => $env{SECONDS} // 25,
	small => { $env{DATA} ? (data => $env{DATA}) : (), $env{WAL} ? (wal => $env{WAL}) : () },
	$env{ONLY} ? (only => { map { $_ => 1 } split /,/, $env{ONLY} }) : ());
note("seed $chaos->{seed}, $chaos->{seconds} s");
$chaos->run;
$chaos->check;
my $report = $chaos->report;
my $text = JSON::PP->new->canonical->pretty->encode($report);
note($text);
append_to_file($env{REPORT}, $text) if $env{REPORT};
$chaos->{node}->stop;
done_testing();
