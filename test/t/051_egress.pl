# Where requests may go, what they may carry: egress rules checked on the address that is connected to, secrets, signatures, mail.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use Digest::SHA qw(hmac_sha256);
use MIME::Base64;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use DtsNode;
use DtsPeers;

my $peers = DtsPeers->start;
my $keys = PostgreSQL::Test::Utils::tempdir();
sub key_file {
	my ($name, $text, $mode) = @_;
	open my $f, '>', "$keys/$name" or die $!;
	print $f $text;
	close $f;
	chmod $mode // 0600, "$keys/$name";
	return;
}
key_file('one', 'ab' x 32);
my $node = DtsNode->start_new('main', conf => "dts.breaker_failures = 0\ndts.secret_key_file = '$keys/one'\ndts.smtp_tls = off\nlog_min_messages = debug1\n"
	. "dts.smtp_url = 'smtp://127.0.0.1:$peers->{smtp}'\ndts.smtp_sender = 'dts <dts\@example.com>'\n");
$node->safe_psql('postgres', q{CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; SELECT dts.grant_usage('alice'), dts.grant_usage('bob')});
my $port = $peers->{http};

sub sql { return $node->safe_psql('postgres', @_); }

sub allow {
	my (%options) = @_;
	return sql('SELECT dts.allow_host(' . join(', ', map { "$_ => " . DtsNode::quote($options{$_}) } sort keys %options) . ')');
}

# refused(URL, RE): it does not even become a task.
sub refused {
	my ($url, $re) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my (undef, undef, $error) = $node->psql('postgres', 'SELECT dts.submit_http(' . DtsNode::quote($url) . ')');
	return like($error, $re, "refused: $url");
}

# fails(URL, RE, %options): the courier refuses it, at once and for good.
sub fails {
	my ($url, $re, %options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $id = sql('SELECT dts.submit_http(' . join(', ', DtsNode::quote($url), map { "$_ => " . DtsNode::quote($options{$_}) } sort keys %options) . ')');
	$node->wait_state($id, 'failed');
	is($node->runs_of($id), '1 failed 42501', "refused when it is sent: $url");
	return like(sql("SELECT error FROM dts.tasks WHERE id = $id"), $re, '... and says why');
}

sub succeeds {
	my ($url, %options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $id = sql('SELECT dts.submit_http(' . join(', ', DtsNode::quote($url), map { "$_ => " . DtsNode::quote($options{$_}) } sort keys %options) . ')');
	$node->wait_state($id, 'succeeded');
	return $id;
}

# ---- nothing is allowed until somebody allows it
refused($peers->url('echo'), qr/requests to http:\/\/127.0.0.1:$port are not allowed/);
allow(host => '*', schemes => '{http,https}', ports => "{$port,80}");
for my $host ('127.0.0.1', '[::1]', '[::ffff:127.0.0.1]', '169.254.169.254', '[fd00:ec2::254]', '10.0.0.1', '192.168.1.1', '100.100.100.200', '[64:ff9b::7f00:1]', '[2002:7f00:1::]', '0.0.0.0', '[::]') {
	refused("http://$host:$port/echo", qr/private or special/);
}
refused("http://127.0.0.1:$port\@evil/", qr/user name/);
refused("file:///etc/passwd", qr/must begin with http/);
refused("gopher://127.0.0.1:$port/", qr/must begin with http/);

# ---- odd forms of addresses, and names: what counts is the address that would be connected to
for my $host ('127.1', '2130706433', '0x7f.1', '0177.0.0.1', 'localhost', 'LOCALHOST') {
	fails("http://$host:$port/echo", qr/address is not allowed/);
}
is(scalar(grep { /echo/ } $peers->requests), 0, 'none of them reached the server');

# ---- a redirect leads nowhere that could not be asked directly
allow(host => '127.0.0.1', schemes => '{http}', ports => "{$port}");
succeeds($peers->url('echo'));
fails($peers->url("goto/302?to=http://localhost:$port/echo/inside"), qr/address is not allowed/, follow => 3);
fails($peers->url('goto/307?to=http://169.254.169.254/latest/meta-data'), qr/redirect refused/, follow => 3);
fails($peers->url('goto/302?to=file:///etc/passwd'), qr/redirect refused/, follow => 3);
fails($peers->url("goto/302?to=http://127.0.0.1:1/"), qr/redirect refused: no rule allows/, follow => 3);
is(scalar(grep { /^GET \/echo\/inside/ } $peers->requests), 0, 'nor did those');

# ---- networks are for the hosts of their rule
my $rule = allow(host => 'localhost', schemes => '{http}', ports => "{$port}", networks => '{127.0.0.0/8,::1}');
succeeds("http://localhost:$port/echo");
sql("SELECT dts.remove_rule($rule)");
fails("http://localhost:$port/echo", qr/address is not allowed/);
$rule = sql('SELECT dts.deny_host(\'127.0.0.1\')');
refused($peers->url('echo'), qr/A rule denies it/);
sql("SELECT dts.remove_rule($rule)");

# ---- rules of a role; a connection that is still open from somebody who may does not help
sql("SELECT dts.remove_rule(rule) FROM dts.egress");
allow(host => 'localhost', schemes => '{http}', ports => "{$port}", role => 'alice', networks => '{127.0.0.0/8,::1}');
allow(host => 'localhost', schemes => '{http}', ports => "{$port}", role => 'bob');
my $url = DtsNode::quote("http://localhost:$port/echo");
my $id = $node->as_role('alice', "SELECT dts.submit_http($url)");
$node->wait_state($id, 'succeeded');
my $bobs = $node->as_role('bob', "SELECT dts.submit_http($url)");
$node->wait_state($bobs, 'failed');
like(sql("SELECT error FROM dts.tasks WHERE id = $bobs"), qr/address is not allowed/, 'the address is judged again for another role');
is($node->as_role('bob', "SELECT count(*) FROM dts.tasks WHERE id = $id"), '0', 'and he sees nothing of her request');
sql("SELECT dts.remove_rule(rule) FROM dts.egress");
allow(host => '127.0.0.1', schemes => '{http}', ports => "{$port}");

# ---- the environment of the server says nothing
$node->stop;
{
	local %ENV = (%ENV, http_proxy => 'http://127.0.0.1:1', ALL_PROXY => 'http://127.0.0.1:1', HOME => $keys);
	key_file('.netrc', "machine 127.0.0.1 login nobody password hush\n");
	$node->start;
}
$id = succeeds($peers->url('echo'));
unlike(sql("SELECT result FROM dts.tasks WHERE id = $id"), qr/Authorization/, 'no proxy, and no login from a file');

# ---- secrets
my $value = 'hush-4711-"quoted"';
$node->as_role('alice', "SELECT dts.create_secret('token', '$value', hosts => '{127.0.0.1}')");
(undef, undef, my $error) = $node->psql('postgres', q{SELECT dts.submit_http('http://127.0.0.1}. ":$port" . q{/', headers => '{"A": "${secret:token}"}')}, extra_params => [ '-U', 'bob' ]);
like($error, qr/secret "token" does not exist/, 'a secret is for its owner');
$id = $node->as_role('alice', 'SELECT dts.submit_http(' . DtsNode::quote($peers->url('echo/${secret:token}')) . q{, headers => '{"X-Secret": "Bearer ${secret:token}"}', body_text => 'a ${secret:token} b', keep_headers => '{*}')});
$node->wait_state($id, 'succeeded');
my $seen = sql("SELECT result FROM dts.tasks WHERE id = $id");
like($seen, qr/Bearer/, 'the echo came back');
unlike($seen, qr/hush/, 'the value does not come back with it');
like((grep { /^POST \/echo\/hush/ } $peers->requests)[0], qr/hush-4711-%22quoted%22/, 'it was sent, escaped for its place');
$node->as_role('alice', "SELECT dts.alter_secret('token', hosts => '{other.example}')");
$id = $node->as_role('alice', 'SELECT dts.submit_http(' . DtsNode::quote($peers->url('echo')) . q{, headers => '{"A": "${secret:token}"}')});
$node->wait_state($id, 'failed');
like(sql("SELECT error FROM dts.tasks WHERE id = $id"), qr/may not be sent to this host/, 'a secret goes to its hosts only');
$node->as_role('alice', "SELECT dts.alter_secret('token', hosts => '{127.0.0.1}', roles => '{bob}')");
$id = $node->as_role('bob', 'SELECT dts.submit_http(' . DtsNode::quote($peers->url('echo')) . q{, headers => '{"A": "${secret:token}"}')});
$node->wait_state($id, 'succeeded');
$id = $node->as_role('alice', 'SELECT dts.submit_http(' . DtsNode::quote($peers->url("goto/302?to=http://127.0.0.1:$port/echo/again")) . q{, headers => '{"A": "${secret:token}"}', follow => 1)});
$node->wait_state($id, 'succeeded');
is($node->as_role('bob', 'SELECT count(*) FROM dts.secrets'), '0', 'whoever may use a secret does not see it');
sql('CHECKPOINT');
for my $folder ('base', 'pg_wal') {
	is(`grep -rlaF 'hush-4711' @{[$node->data_dir]}/$folder | wc -l` + 0, 0, "the value is in no file of $folder");
}
is(`grep -F 'hush-4711' @{[$node->logfile]} | grep -vF 'create_secret('`, '', 'nor in the log, but for the statement that made it');

# another key
key_file('two', encode_base64(pack('H*', 'cd' x 32), ''));
$node->append_conf('postgresql.conf', "dts.secret_key_file = '$keys/two'\ndts.secret_old_key_file = '$keys/one'");
$node->reload;
$node->wait_for("SHOW dts.secret_key_file", "$keys/two");
$id = $node->as_role('alice', 'SELECT dts.submit_http(' . DtsNode::quote($peers->url('echo')) . q{, headers => '{"A": "${secret:token}"}', max_attempts => 1)});
$node->wait_state($id, 'failed');
like(sql("SELECT error FROM dts.tasks WHERE id = $id"), qr/encrypted with another key/, 'a secret under another key is not guessed at');
is(sql('SELECT dts.reencrypt_secrets()'), '1', 'secrets can be encrypted anew');
is(sql('SELECT dts.reencrypt_secrets()'), '0', '... once');
$id = $node->as_role('alice', 'SELECT dts.submit_http(' . DtsNode::quote($peers->url('echo')) . q{, headers => '{"A": "${secret:token}"}')});
$node->wait_state($id, 'succeeded');
key_file('two', 'x', 0644);
(undef, undef, $error) = $node->psql('postgres', q{SELECT dts.create_secret('b', 'b')});
like($error, qr/can be read by others/, 'a key file that others can read is refused');
key_file('two', 'short', 0600);
(undef, undef, $error) = $node->psql('postgres', q{SELECT dts.create_secret('b', 'b')});
like($error, qr/not 32 bytes/, 'as is a key that is none');
$node->append_conf('postgresql.conf', "dts.secret_key_file = ''\ndts.secret_key_command = 'echo @{['ab' x 32]}'");
$node->reload;
$node->wait_for("SHOW dts.secret_key_file", '');
sql(q{SELECT dts.create_secret('sign1', 'whsec_} . encode_base64('k' x 24, '') . q{'), dts.create_secret('sign2', 'plain')});

# ---- signatures after Standard Webhooks, checked as a receiver would
$id = succeeds($peers->url('echo'), body => '{"type": "order.paid"}', sign => '{sign1,sign2}');
my %field = sql("SELECT result #>> '{body,headers}' FROM dts.tasks WHERE id = $id") =~ /"(webhook-[a-z]+): ([^"]*)"/g;
my $signed = "$field{'webhook-id'}.$field{'webhook-timestamp'}." . sql("SELECT result #>> '{body,body}' FROM dts.tasks WHERE id = $id");
is($field{'webhook-signature'}, join(' ', map { 'v1,' . encode_base64(hmac_sha256($signed, $_), '') } 'k' x 24, 'plain'), 'both signatures are right');
cmp_ok(abs(time - $field{'webhook-timestamp'}), '<', 60, 'the time stamp is of now');

# ---- mail
sub mail {
	my (%options) = @_;
	return sql('SELECT dts.submit_mail(' . join(', ', map { ($_ eq 'to' ? '"to"' : $_) . ' => ' . DtsNode::quote($options{$_}) } sort keys %options) . ')');
}
(undef, undef, $error) = $node->psql('postgres', q{SELECT dts.submit_mail('{ann@example.com}', 'x', 'y')});
like($error, qr/requests to mailto:example.com are not allowed/, 'mails need a rule as well');
allow(host => 'example.com', schemes => '{mailto}');
$id = mail(to => "{\"J\x{c3}\x{b6}rg <ann\@example.com>\",bob\@example.com}", cc => '{cc@example.com}', bcc => '{hidden@example.com}', reply_to => 'reply@example.com',
	subject => "Gr\x{c3}\x{bc}\x{c3}\x{9f}e", body => "Line one\nLine two \x{e2}\x{82}\x{ac}\n.\nend", html => '<p>Hi</p>',
	attachments => '[{"name": "a.txt", "type": "text/plain", "base64": "aGVsbG8="}]', headers => '{"X-Campaign": "7"}');
$node->wait_state($id, 'succeeded');
my ($from, $to, $login, $text) = split /\n/, $peers->mail(1), 4;
is($from, 'MAIL FROM:<dts@example.com>', 'sender');
is(join(' ', $to =~ /<(.*?)>/g), 'ann@example.com bob@example.com cc@example.com hidden@example.com', 'recipients');
unlike($text, qr/hidden/, 'blind copies are not in the mail');
like($text, qr/^Subject: =\?UTF-8\?B\?R3LDvMOfZQ==\?=\r$/m, 'subject in another alphabet');
like($text, qr/^To: =\?UTF-8\?B\?SsO2cmc=\?= <ann\@example.com>,\r\n bob\@example.com\r$/m, 'names, too');
like($text, qr/^Reply-To: reply\@example.com\r$/m, 'reply to');
like($text, qr/^X-Campaign: 7\r$/m, 'a header');
like($text, qr/^Message-ID: <[0-9a-f-]{36}\@example.com>\r$/m, 'a message id');
like($text, qr/multipart\/mixed.*multipart\/alternative.*text\/plain; charset=utf-8.*=E2=82=AC.*text\/html.*filename="a.txt".*aGVsbG8=/s, 'text, HTML and attachment');
$id = mail(to => '{refused@example.com}', subject => 'x', body => 'y', max_attempts => 3);
$node->wait_state($id, 'failed');
is($node->runs_of($id), '1 failed TQ550', 'a mailbox that does not exist: for good');
$id = mail(to => '{busy@example.com}', subject => 'x', body => 'y', max_attempts => 3, retry => '{"base": 0.05, "cap": 0.1}');
$node->wait_state($id, 'succeeded');
is($node->runs_of($id), "1 retry TQ451\n2 succeeded", 'a busy one: again later');
for my $case ([ to => "{\"ann\@example.com\r\nBcc: x\@y.z\"}" ], [ subject => "x\r\nBcc: x\@y.z" ], [ reply_to => "a\@b.c\nX: y" ], [ headers => '{"X-A": "b\r\nBcc: c"}' ], [ headers => '{"Bcc": "c@d.e"}' ]) {
	my %options = (to => '{ann@example.com}', subject => 'x', body => 'y', @$case);
	(undef, undef, $error) = $node->psql('postgres', 'SELECT dts.submit_mail(' . join(', ', map { ($_ eq 'to' ? '"to"' : $_) . ' => ' . DtsNode::quote($options{$_}) } sort keys %options) . ')');
	like($error, qr/invalid value for argument "$case->[0]"/, "no second header by $case->[0]");
}
$node->append_conf('postgresql.conf', "dts.smtp_user = 'relay'\ndts.smtp_password = 'sign2'");
$node->reload;
$node->wait_for("SHOW dts.smtp_user", 'relay');
$id = mail(to => '{ann@example.com}', subject => 'x', body => 'y');
$node->wait_state($id, 'succeeded');
is((split /\n/, $peers->mail(3))[2], '|relay|plain', 'login with a secret');
$node->append_conf('postgresql.conf', 'dts.smtp_tls = on');
$node->reload;
$node->wait_for("SHOW dts.smtp_tls", 'on');
$id = mail(to => '{ann@example.com}', subject => 'x', body => 'y', max_attempts => 1);
$node->wait_state($id, 'failed');
is($node->runs_of($id), '1 failed 08004', 'without encryption nothing is sent where it is asked for');

$node->wait_done;
$node->healthy;
$node->stop;
done_testing();
