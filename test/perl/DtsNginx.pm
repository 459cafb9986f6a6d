# An nginx on loopback, and a certificate authority of its own, for tests of TLS and HTTP/2.
#
#   my $nginx = DtsNginx->start;          # undef where there is no nginx or openssl
#   $nginx->{folder}                      ca.pem, client.pem, client.key, other-ca.pem
#   $nginx->url('tls', 'path')            plain, tls (HTTP/2), other (a certificate for another name), expired, strange (of another authority), client (asks for a certificate)
package DtsNginx;

use strict;
use warnings;
use IO::Socket::INET;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

sub program {
	my ($name) = @_;
	for my $folder (split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin') { return "$folder/$name" if -x "$folder/$name"; }
	return;
}

sub run_quietly {
	my (@command) = @_;
	my ($out, $error);
	IPC::Run::run(\@command, '>', \$out, '2>', \$error) or BAIL_OUT("@command: $error");
	return;
}

# certificate(NAME, ISSUER, CN, SAN, FROM, TO): NAME.pem and NAME.key.
sub certificate {
	my ($self, $name, $issuer, $cn, $san, @days) = @_;
	my $d = $self->{folder};
	PostgreSQL::Test::Utils::append_to_file("$d/$name.ext", "subjectAltName = $san\n");
	run_quietly($self->{openssl}, 'req', '-new', '-newkey', 'rsa:2048', '-nodes', '-keyout', "$d/$name.key", '-out', "$d/$name.csr", '-subj', "/CN=$cn");
	run_quietly($self->{openssl}, 'x509', '-req', '-in', "$d/$name.csr", '-CA', "$d/$issuer.pem", '-CAkey', "$d/$issuer.key", '-CAcreateserial', '-out', "$d/$name.pem", '-extfile', "$d/$name.ext", '-days', $days[0]);
	return;
}

sub start {
	my ($class) = @_;
	my $self = bless { folder => PostgreSQL::Test::Utils::tempdir(), nginx => program('nginx'), openssl => program('openssl') }, $class;
	return unless $self->{nginx} && $self->{openssl};
	my $d = $self->{folder};
	for my $ca ('ca', 'other-ca') {
		run_quietly($self->{openssl}, 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', "$d/$ca.key", '-out', "$d/$ca.pem", '-subj', "/CN=$ca of a test", '-days', 2, '-addext', 'basicConstraints=critical,CA:TRUE');
	}
	$self->certificate('good', 'ca', 'localhost', 'DNS:localhost,IP:127.0.0.1', 2);
	$self->certificate('wrong', 'ca', 'other.example', 'DNS:other.example', 2);
	$self->certificate('old', 'ca', 'localhost', 'DNS:localhost,IP:127.0.0.1', 0);
	$self->certificate('strange', 'other-ca', 'localhost', 'DNS:localhost,IP:127.0.0.1', 2);
	$self->certificate('client', 'ca', 'dts', 'DNS:dts', 2);
	my %server = (
		plain => '', tls => 'ssl http2', other => 'ssl', expired => 'ssl', strange => 'ssl', client => 'ssl');
	my %pair = (tls => 'good', other => 'wrong', expired => 'old', strange => 'strange', client => 'good');
	my $servers = '';
	for my $name (sort keys %server) {
		$self->{$name} = PostgreSQL::Test::Cluster::get_free_port();
		$servers .= "server { listen 127.0.0.1:$self->{$name} $server{$name};\n";
		$servers .= "ssl_certificate $d/$pair{$name}.pem; ssl_certificate_key $d/$pair{$name}.key;\n" if $pair{$name};
		$servers .= "ssl_client_certificate $d/ca.pem; ssl_verify_client on;\n" if $name eq 'client';
		$servers .= "location / { default_type application/json; return 200 '{\"protocol\": \"\$server_protocol\", \"subject\": \"\$ssl_client_s_dn\", \"connection\": \$remote_port, \"uri\": \"\$request_uri\"}'; }\n";
		$servers .= "location /limited { limit_req zone=one; alias $d/packed; }\nlocation /packed { gzip on; gzip_types *; gzip_min_length 1; alias $d/packed; }\nlocation /upload { client_max_body_size 1k; proxy_pass http://127.0.0.1:1; }\n}\n";
	}
	PostgreSQL::Test::Utils::append_to_file("$d/packed", 'x' x 1_000_000);
	my $temp = join '', map { "${_}_temp_path $d/$_; " } qw(client_body proxy fastcgi uwsgi scgi);
	PostgreSQL::Test::Utils::append_to_file("$d/nginx.conf", <<"CONF");
daemon off; worker_processes 1; pid $d/nginx.pid; error_log $d/error.log;
events { worker_connections 512; }
http { $temp access_log $d/access.log; keepalive_requests 1000; limit_req_zone \$binary_remote_addr zone=one:1m rate=1r/s; $servers }
CONF
	$self->{run} = IPC::Run::start([ $self->{nginx}, '-p', $d, '-c', "$d/nginx.conf", '-e', "$d/error.log" ], '>', '/dev/null', '2>', "$d/stderr", IPC::Run::timeout(600));
	for (1 .. 600) {
		return $self if IO::Socket::INET->new(PeerAddr => "127.0.0.1:$self->{client}");
		select undef, undef, undef, 0.05;
	}
	BAIL_OUT('nginx does not start: ' . PostgreSQL::Test::Utils::slurp_file("$d/stderr") . PostgreSQL::Test::Utils::slurp_file("$d/error.log"));
}

sub url {
	my ($self, $server, $path, $host) = @_;
	return ($server eq 'plain' ? 'http' : 'https') . '://' . ($host // 'localhost') . ":$self->{$server}/" . ($path // '');
}

sub stop {
	my ($self) = @_;
	$self->{run}->kill_kill if $self->{run};
	delete $self->{run};
	return;
}

sub DESTROY { $_[0]->stop; return; }

1;
