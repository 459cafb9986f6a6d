#!/usr/bin/perl
# Rules for the text of the install script, as TAP: lint_sql.pl FILE... in the order in which they are joined.
# What can be seen in the catalog is checked there instead, in catalog_check.sql.
use strict;
use warnings;
use Test::More;

my $script = join '', map { open my $fh, '<', $_ or die "$_: $!\n"; local $/; scalar <$fh> } @ARGV;
my $first_command = $script =~ s/^\s*--.*\n//mgr;    # lines that are only a comment

like($first_command, qr/\A\s*\\echo Use "CREATE EXTENSION dts" to load this file\. \\quit\n/, 'psql refuses to run the script directly');
lacks('OR REPLACE: an object planted beforehand must make the installation fail', qr/\bCREATE\s+OR\s+REPLACE\b/i);
lacks('IF NOT EXISTS, for the same reason', qr/\b(?:CREATE|ADD)\s+(?:\w+\s+){1,4}?IF\s+NOT\s+EXISTS\b/i);
lacks('grants to PUBLIC', qr/^\s*GRANT\b[^;]*\bTO\s+PUBLIC\b/im);
lacks('psql commands', qr/^\\(?!echo Use)/m);
lacks('objects outside the schema dts',
	qr/^CREATE\s+(?:UNIQUE\s+)?(?:TABLE|VIEW|MATERIALIZED\s+VIEW|SEQUENCE|FUNCTION|PROCEDURE|AGGREGATE|TYPE|DOMAIN)\s+(?!dts\.)\S+/im);
lacks('tabs and trailing blanks', qr/\t|[ ]+$/m);
functions();
versions();
done_testing();

# Fails with the lines where the pattern is met.
sub lacks {
	my ($what, $pattern) = @_;
	my $text = $script =~ s/(?<=\s)--.*$|^--.*$/--/mgr;    # comments may say what the code may not
	my @found;
	while ($text =~ /$pattern/g) {
		my $line = 1 + (substr($text, 0, $-[0]) =~ tr/\n//);
		push @found, "line $line of the joined script: " . (substr($text, $-[0], 80) =~ s/\s+/ /gr);
	}
	ok(!@found, "no $what") or diag(join "\n", @found);
	return;
}

# Header = what stands between CREATE FUNCTION and the body.
sub functions {
	my (@no_volatility, @no_language);
	my $count = 0;
	while ($script =~ /^CREATE\s+FUNCTION\s+(dts\.\w+)(.*?)\bAS\s+(?:'|\$)/gmsi) {
		my ($name, $header) = ($1, $2);
		$count++;
		push @no_volatility, $name unless $header =~ /\b(?:IMMUTABLE|STABLE|VOLATILE)\b/;
		push @no_language, $name unless $header =~ /\bLANGUAGE\s+\w+/;
	}
	cmp_ok($count, '>', 0, 'the script has functions');
	is(join(', ', @no_volatility), '', 'every function says whether it is immutable, stable or volatile');
	is(join(', ', @no_language), '', 'every function names its language before its body');
	return;
}

# The version stands in dts.control; META.json repeats it, in three parts.
sub versions {
	my ($control, $meta) = map { open my $fh, '<', $_ or die "$_: $!\n"; local $/; scalar <$fh> } 'dts.control', 'META.json';
	my ($version) = $control =~ /^default_version\s*=\s*'([\d.]+)'/m;
	my %in_meta = map { $_ => 1 } $meta =~ /"version": "([\d.]+)"(?=,\n\s*"(?:maintainer|abstract)")/g;
	is(join(' ', keys %in_meta), $version =~ /^\d+\.\d+$/ ? "$version.0" : $version, 'META.json names the version of dts.control');
	return;
}
