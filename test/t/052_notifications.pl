# Notifications that leave the server: webhook and mail; dead letters out.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use DtsNode;
use DtsPeers;

my $peers = DtsPeers->start;
my $node = DtsNode->start_new('main', conf => "restart_after_crash = on\ndts.smtp_tls = off\ndts.smtp_url = 'smtp://127.0.0.1:$peers->{smtp}'\ndts.smtp_sender = 'dts\@example.com'\n");
my $soon = '{"base": 0.05, "cap": 0.1}';

sub sql { return $node->safe_psql('postgres', @_); }
sub notification {
	my ($name, $events, $target, %options) = @_;
	return sql('SELECT dts.create_notification(' . join(', ', (map { DtsNode::quote($_) } $name, $target, $events), map { "$_ => " . DtsNode::quote($options{$_}) } sort keys %options) . ')');
}

sql(qq{
	SELECT dts.allow_host('127.0.0.1', schemes => '{http}', ports => '{$peers->{http}}'), dts.allow_host('example.com', schemes => '{mailto}');
	SELECT dts.create_queue('orders')});

# ---- dead letters go out by webhook and by mail
notification('hook', '{dead}', '{"http": "' . $peers->url('echo/dead') . '"}', queue => 'orders');
notification('own', '{dead}', '{"http": {"url": "' . $peers->url('echo/task/${event.task}?e=${event.error.message}') . '", "body": {"n": "${event.task}"}}}', queue => 'orders');
notification('mail', '{dead}', '{"mail": {"to": ["ops@example.com"]}}', queue => 'orders', per_minute => 1);
my $one = $node->submit('SELECT no_such_column', queue => 'orders', max_attempts => 1);
$node->wait_state($one, 'failed');
$node->wait_for("SELECT count(*) FROM dts.tasks WHERE labels ? 'notification' AND state = 'succeeded'", '3');
is(scalar(grep { /^POST \/echo\/dead/ } $peers->requests), 1, 'a webhook');
is((grep { /^POST \/echo\/task/ } $peers->requests)[0], "POST /echo/task/$one?e=column%20%22no_such_column%22%20does%20not%20exist", 'what happened, escaped for its place');
my $mail = $peers->mail(1);
like($mail, qr/Subject: dts: task $one: dead/, 'a mail');
like($mail =~ s{=\r?\n}{}gr, qr/no_such_column/, 'with the error');
my $sent = sql("SELECT result #> '{body}' ->> 'body' FROM dts.tasks WHERE kind = 'http' AND labels ->> 'notification' = 'hook'");
is(sql('SELECT ' . DtsNode::quote($sent) . "::jsonb ->> 'task'"), $one, 'the webhook holds the event');

# ---- a request that fails is told of; the webhook about it, which fails as well, is not
notification('down', '{failure}', '{"http": "' . $peers->url('status/500') . '", "max_attempts": 1}');
sql("SELECT dts.drop_notification(n) FROM unnest(ARRAY['hook', 'own', 'mail']) n");
my $request = sql("SELECT dts.submit_http('" . $peers->url('status/404') . "')");
$node->wait_state($request, 'failed');
$node->wait_for("SELECT count(*) FROM dts.tasks WHERE labels ->> 'notification' = 'down' AND state = 'failed'", '1');
$node->wait_done;
is(sql("SELECT count(*) FROM dts.tasks WHERE labels ->> 'notification' = 'down'"), '1', 'nobody is told that nobody could be told');

# ---- a request that takes long is late
notification('late', '{late}', '{"http": "' . $peers->url('echo/late') . '"}', longer_than => '1 s');
my $slow = sql("SELECT dts.submit_http('" . $peers->url('slow/4') . "')");
$node->wait_for("SELECT count(*) FROM dts.tasks WHERE labels ->> 'notification' = 'late' AND state = 'succeeded'", '1');
is(sql("SELECT state FROM dts.tasks WHERE id = $slow"), 'running', 'told while it is under way');
$node->wait_state($slow, 'succeeded');

# ---- what may not be asked is refused when the notification is made
for my $case ([ '{"http": "http://10.0.0.1/"}', 'not allowed' ], [ '{"mail": {"to": []}}', '"to" must not be null' ], [ '{"http": {"url": "https://${event.task}/"}}', '"url"' ]) {
	my (undef, undef, $error) = $node->psql('postgres', 'SELECT dts.create_notification(' . DtsNode::quote('bad') . ', ' . DtsNode::quote($case->[0]) . ", '{failure}')");
	like($error, qr/$case->[1]/, "refused: $case->[0]");
}

$node->wait_done;
$node->healthy;
$node->stop;
done_testing();
