# Requests to a real server, with TLS and HTTP/2, and answers that are none.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use DtsNginx;
use DtsNode;
use DtsPeers;

my $peers = DtsPeers->start;
my $keys = PostgreSQL::Test::Utils::tempdir();
PostgreSQL::Test::Utils::append_to_file("$keys/key", 'ab' x 32);
chmod 0600, "$keys/key";
my $node = DtsNode->start_new('main', conf => "dts.breaker_failures = 0\ndts.worker_idle_timeout = '60s'\ndts.secret_key_file = '$keys/key'\n");
my $soon = '{"base": 0.05, "cap": 0.1}';
sub sql { return $node->safe_psql('postgres', @_); }

sub http {
	my ($url, %options) = @_;
	return sql('SELECT dts.submit_http(' . join(', ', DtsNode::quote($url), map { "$_ => " . DtsNode::quote($options{$_}) } sort keys %options) . ')');
}

# ends(WHAT, URL, RUNS, %options): what becomes of it, as "attempt outcome sqlstate" for each attempt.
sub ends {
	my ($what, $url, $runs, %options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $id = http($url, retry => $soon, max_attempts => 1, %options);
	$node->wait_for("SELECT state IN ('failed', 'succeeded') FROM dts.tasks WHERE id = $id", 't');
	# What exactly a broken answer or key is called differs among versions of libcurl.
	like($node->runs_of($id), ref $runs ? $runs : qr/^\Q$runs\E$/, $what) or diag(sql("SELECT error FROM dts.tasks WHERE id = $id"));
	return $id;
}
sub result { return sql("SELECT result $_[1] FROM dts.tasks WHERE id = $_[0]"); }
sub came { my ($what) = @_; return scalar grep { /\Q$what\E/ } $peers->requests; }

sql("SELECT dts.allow_host('127.0.0.1', schemes => '{http}', ports => '{$peers->{http}}')");

# ---- an attempt is one request: what may not be sent twice is not sent again on a connection that was kept open and turns out to be dead
$node->wait_state(http($peers->url('once/first')), 'succeeded');
ends('a POST on a dead connection is an attempt that failed', $peers->url('once/post'), "1 retry 08006\n2 succeeded", method => 'POST', max_attempts => 2);
is(came('POST /once/post'), 2, 'as many requests as attempts');
my $id = ends('a GET is sent again', $peers->url('once/get'), '1 succeeded');
is(came('GET /once/get'), 2, 'both came');
is(result($id, "->> 'resent'"), '1', 'and the result says so');

# ---- answers that are none
for my $what ('length', 'negative', 'gzip', 'status', 'version', 'nul', 'line') {
	ends("wrong $what", $peers->url("wrong/$what"), '1 failed 08P01');
}
ends("wrong $_", $peers->url("wrong/$_"), qr/^1 failed 08(006|P01)$/) for 'chunk', 'lengths';
ends('nothing but line ends', $peers->url('wrong/empty'), '1 failed 08P01');

# ---- odd ones that are
for my $what ('latin', 'fold', 'early') {
	$id = ends("odd, but an answer: $what", $peers->url("wrong/$what"), '1 succeeded', keep_headers => '{*}');
	is(result($id, "->> 'status'"), '200', '... which is there');
}
$id = ends('headers', $peers->url('huge/10'), '1 succeeded', keep_headers => '{nothing}');
is(result($id, "-> 'headers'"), '{}', 'only those that are asked for are kept');

# ---- nginx
sub pem { return DtsNode::quote(PostgreSQL::Test::Utils::slurp_file($_[0])); }
SKIP: {
	my $nginx = DtsNginx->start;
	skip 'nginx and openssl are needed', 1 unless $nginx;
	my $ports = join ',', map { $nginx->{$_} } qw(plain tls other expired strange client);
	sql("SELECT dts.allow_host('localhost', schemes => '{http,https}', ports => '{$ports}', networks => '{127.0.0.0/8,::1}'), dts.allow_host('127.0.0.1', schemes => '{https}', ports => '{$ports}')");
	sql("SELECT dts.create_secret('$_->[0]', " . pem("$nginx->{folder}/$_->[1]") . ')')
		for [ 'ca' => 'ca.pem' ], [ 'other-ca' => 'other-ca.pem' ], [ 'certificate' => 'client.pem' ], [ 'key' => 'client.key' ], [ 'other-key' => 'strange.key' ];
	my $error = sub { return sql("SELECT error FROM dts.tasks WHERE id = $_[0]"); };

	ends('plain', $nginx->url('plain'), '1 succeeded');
	$id = ends('a certificate of an authority that nobody knows', $nginx->url('tls'), '1 failed 08004');
	like($error->($id), qr/certificate/, 'the error says so');
	$id = ends('the authority of a request', $nginx->url('tls', 'a'), '1 succeeded', ca => 'ca');
	is(result($id, "#>> '{body,protocol}'"), 'HTTP/2.0', 'HTTP/2 where the peer speaks it');
	cmp_ok(result($id, "#>> '{timings,tls}'"), '>', 0, 'the time of the handshake is there');
	ends('an address in the certificate', $nginx->url('tls', '', '127.0.0.1'), '1 succeeded', ca => 'ca');
	ends('what another request trusts does not count, also not on a connection that is open', $nginx->url('tls', 'b'), '1 failed 08004');
	ends('another authority does not either', $nginx->url('tls'), '1 failed 08004', ca => 'other-ca');
	$id = ends('a certificate for another name', $nginx->url('other'), '1 failed 08004', ca => 'ca');
	like($error->($id), qr/localhost/, 'the error names it');
	ends('an expired certificate', $nginx->url('expired'), '1 failed 08004', ca => 'ca');
	ends('TLS failures are tried again, since certificates are mended', $nginx->url('strange'), "1 retry 08004\n2 failed 08004", ca => 'ca', max_attempts => 2);
	ends('no TLS at the port', "https://localhost:$nginx->{plain}/", '1 failed 08004', ca => 'ca');
	ends('TLS at a port that is asked without', "http://localhost:$nginx->{client}/", '1 failed TQ400');
	$id = ends('a client certificate', $nginx->url('client'), '1 succeeded', ca => 'ca', certificate => 'certificate', private_key => 'key');
	is(result($id, "#>> '{body,subject}'"), 'CN=dts', 'the peer knows who it is');
	ends('without one it refuses', $nginx->url('client'), '1 failed TQ400', ca => 'ca');
	ends('a key of another certificate, while a connection with the right one is open', $nginx->url('client'), qr/^1 failed 08(004|P01)$/, ca => 'ca', certificate => 'certificate', private_key => 'other-key');
	unlike(sql("SELECT string_agg(concat(error, result, sql), ' ') FROM dts.runs"), qr/BEGIN/, 'no PEM comes out anywhere');

	# the server's own authority, by a setting
	$node->append_conf('postgresql.conf', "dts.http_ca_file = '$nginx->{folder}/ca.pem'");
	$node->reload;
	$node->wait_for('SHOW dts.http_ca_file', "$nginx->{folder}/ca.pem");
	ends('dts.http_ca_file', $nginx->url('tls'), "1 succeeded");

	# connections are shared
	my $many = sql("SELECT string_agg(dts.submit_http('" . $nginx->url('tls', 'many/') . "' || i)::text, ',') FROM generate_series(1, 300) i");
	$node->wait_for("SELECT count(*) FROM dts.tasks WHERE id IN ($many) AND state = 'succeeded'", '300');
	cmp_ok(sql("SELECT count(DISTINCT result #>> '{body,connection}') FROM dts.tasks WHERE id IN ($many)"), '<', 100, 'HTTP/2: by requests that are under way at once');
	is(sql("SELECT count(*) FROM dts.runs WHERE task IN ($many)"), '300', 'none needed a second attempt');
	my @turns = map { ends("one after the other: $_", $nginx->url('plain', 'turns'), '1 succeeded') } 1 .. 5;
	is(sql("SELECT count(DISTINCT result #>> '{body,connection}') FROM dts.tasks WHERE id IN (" . join(',', @turns) . ")"), '1', 'HTTP/1.1: by those that come after');

	# what it does by itself
	$id = ends('unpacked on the way, and cut', $nginx->url('plain', 'packed'), '1 succeeded', max_response => 2000);
	is(result($id, "->> 'cut'") . length(result($id, "->> 'body'")), 'true2000', 'at the size asked for');
	ends('a body that is too large for it', $nginx->url('plain', 'upload'), '1 failed TQ413', body_text => 'x' x 5000);
	my @limited = map { http($nginx->url('plain', 'limited'), retry => '{"base": 0.5, "cap": 1}', max_attempts => 20) } 1 .. 3;
	$node->wait_state($_, 'succeeded') for @limited;
	like(join(' ', map { $node->runs_of($_) } @limited), qr/retry TQ503/, 'what it refuses for now is tried again, and succeeds');
	$nginx->stop;
	ends('a server that has gone, with connections still open', $nginx->url('plain'), '1 failed 08001');
}

$node->wait_done;
$node->healthy;
$node->stop;
done_testing();
