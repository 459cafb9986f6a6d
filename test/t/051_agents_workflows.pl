# The ported workflows of the documentation, played by an agent to their end: it claims their commands, fails where it is told to, and
# completes the rest. Mails and requests are commands here.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $examples = "$FindBin::Bin/../../docs/examples/ported";
$examples = "$ENV{DTS_EXAMPLES}/ported" if $ENV{DTS_EXAMPLES};
plan skip_all => "no examples at $examples" unless -d $examples;
my $node = DtsNode->start_new('main', conf => "dts.max_workers = 3\n");
$node->safe_psql('postgres', q{CREATE ROLE player LOGIN; SELECT dts.grant_agent('player', ARRAY['default'])});

my %given = map { $_ => { default => '' } } qw(SOURCE ENV IMAGE ITEM TYPE DATA SYSTEM EMPLOYEE MODEL PARAMS BATCH TOKEN);
for my $sub (qw(extractors/database deploy/kubernetes queries/extract reports/generate onboarding/create-account backup/database ml/train sync/update-system process/batch)) {
	my $definition = encode_json({ params => \%given, nodes => { work => { command => [ 'play', $sub ] } }, output => '${params.SOURCE}${params.SYSTEM}${params.TYPE}${params.MODEL}' });
	$node->safe_psql('postgres', "SELECT dts.create_workflow('$sub', \$json\$$definition\$json\$)");
}

# As it is, but for who does it, and how long it waits before it tries again.
sub playable {
	my ($definition) = @_;
	my $d = decode_json($definition);
	for my $part ($d->{nodes}, $d->{on} // {}) {
		for my $n (values %$part) {
			for my $kind (grep { exists $n->{$_} } qw(mail http)) {
				$n->{command} = [ $kind, encode_json(delete $n->{$kind}) ];
			}
			$n->{retry}{base} = 0.02 if $n->{retry} && $n->{retry}{base} > 0.02;
		}
	}
	return encode_json($d);
}

my $agent = $node->session('postgres', role => 'player');

# play(RUN, FAILS): does the commands of a run until it has ended; returns what it did, in order, and how often it failed.
sub play {
	my ($run, $fails, $code) = @_;
	my ($trace, $failed, $left) = ('', 0, { %$fails });
	for (1 .. 500) {
		my $rows = $agent->query(q{SELECT json_build_array(task, token, CASE WHEN argv[1] = 'play' THEN argv[2] ELSE regexp_replace(task_labels ->> 'node', '^on\.', '') END, argv, env, container)
			FROM dts.claim('player', max => 20)});
		for my $row (map { decode_json($_) } split /\n/, $rows) {
			my ($task, $token, $name, $argv, $env) = @$row;
			die "what is to be run is not all text" if grep { ref $_ } @$argv, values %{ $env // {} };
			if (($left->{$name} // 0) > 0) {
				$left->{$name}--;
				$failed++;
				$agent->query("SELECT dts.fail($task, '$token', 'as told', $code)");
			} else {
				$trace .= "$name ";
				$agent->query("SELECT dts.log($task, '$token', 'done')");
				$agent->query("SELECT dts.complete($task, '$token', '{\"accuracy\": 0.93, \"batches\": [\"b1\", \"b2\"]}')");
			}
			die $agent->{err} if $agent->{err} =~ /ERROR/;
		}
		return ($trace, $failed) if $agent->query("SELECT 1") && $node->safe_psql('postgres', "SELECT NOT EXISTS (SELECT FROM dts.task)") eq 't';
		$agent->query(q{CALL dts.wait_for_work('player', timeout => '0.3 s')}) if $rows eq '';
	}
	return ($trace, $failed);
}

# parameters, what fails how often with which exit code, end of the run, what is done, how often it failed
my %runs = (
	'daily-etl' => [ {}, {}, 1, 'succeeded', qr/^(extractors\/database ){3}transform-data load-warehouse update-analytics $/, 0 ],
	'daily-etl ' => [ {}, { 'load-warehouse' => 9 }, 1, 'failed', qr/^(extractors\/database ){3}transform-data failure $/ ],
	'data-quality-checks' => [ {}, { 'check-freshness' => 9 }, 1, 'succeeded', qr/generate-report $/ ],
	'deploy-application' => [ {}, {}, 1, 'succeeded', qr/^run-tests build-image deploy\/kubernetes $/, 0 ],
	'provision-infrastructure' => [ {}, {}, 1, 'succeeded', qr/^validate-terraform plan-changes apply-changes update-inventory $/, 0 ],
	'monthly-reports' => [ { MONTH => 'May' }, {}, 1, 'succeeded', qr/^(queries\/extract ){3}(reports\/generate ){3}distribute-reports $/, 0 ],
	'employee-onboarding' => [ { EMPLOYEE_ID => '7' }, {}, 1, 'succeeded', qr/^(onboarding\/create-account ){4}(assign-equipment |schedule-training ){2}notify-manager $/, 0 ],
	'backup-critical-systems' => [ {}, { 'verify-backups' => 2 }, 1, 'succeeded', qr/^(backup\/database ){2}backup-files verify-backups upload-offsite $/, 2 ],
	'system-maintenance' => [ {}, {}, 1, 'succeeded', qr/system-updates $/, 0 ],
	'genomics-analysis' => [ { SAMPLE_ID => 's1' }, {}, 1, 'succeeded', qr/^quality-control alignment variant-calling annotation $/, 0 ],
	'ml-training-pipeline' => [ {}, {}, 1, 'succeeded', qr/^prepare-data (ml\/train ){3}evaluate-models deploy-winner $/, 0 ],
	'sync-customer-data' => [ {}, { 'verify-sync' => 3 }, 1, 'succeeded', qr/^extract-changes transform-data (sync\/update-system ){4}verify-sync $/, 3 ],
	# Only this exit code is worth another attempt, the file says.
	'api-integration' => [ {}, { 'fetch-data' => 5 }, 429, 'succeeded', qr/^authenticate fetch-data (process\/batch ){2}aggregate-results $/, 5 ],
	'api-integration ' => [ {}, { 'fetch-data' => 5 }, 1, 'failed', qr/^authenticate $/, 1 ],
	'migrate-to-cloud' => [ {}, {}, 1, 'succeeded', qr/^backup-legacy migrate-data validate-migration switch-traffic $/, 0 ],
	'migrate-to-cloud ' => [ { ROLLBACK => 'true' }, {}, 1, 'succeeded', qr/^backup-legacy migrate-data validate-migration rollback $/, 0 ],
);
is(scalar(grep { !/ $/ } keys %runs), scalar(my @all = glob "$examples/*.json"), 'each ported workflow is played');
for my $key (sort keys %runs) {
	my ($params, $fails, $code, $state, $does, $failures) = @{ $runs{$key} };
	my $name = $key =~ s/ $//r;
	my $json = playable(slurp_file("$examples/$name.json"));
	my $given = encode_json($params);
	my $run = $node->safe_psql('postgres', "SELECT dts.create_workflow('play $name', \$json\$$json\$json\$); SELECT dts.start('play $name', '$given')") =~ s/.*\n//sr;
	my ($trace, $failed) = play($run, $fails, $code);
	is($node->safe_psql('postgres', "SELECT state FROM dts.workflow_runs WHERE id = $run"), $state, "$key $state")
		or diag($node->safe_psql('postgres', "SELECT node, state, error FROM dts.workflow_nodes WHERE run = $run ORDER BY task"));
	like($trace, $does, 'in this order');
	is($failed, $failures, 'with these failures') if defined $failures;
}
is($node->safe_psql('postgres', "SELECT count(*) FROM dts.lease"), '0', 'no lease is left');

# A handler of kind external is a node like any other: its condition and payload are known at its turn.
$node->safe_psql('postgres', q{SELECT dts.create_handler('resize', kind => 'external');
	SELECT dts.create_workflow('pictures', '{"params": {"width": {"type": "integer", "default": 3}}, "nodes": {
		"ask": {"sql": "SELECT ${params.width}::int * 2 AS w"},
		"resize": {"handler": "resize", "payload": {"w": "${nodes.ask.output.w}"}, "needs": ["ask"]},
		"never": {"handler": "resize", "when": "$.nodes.ask.output.w > 100", "needs": ["ask"]},
		"store": {"sql": "SELECT ${nodes.resize.output.size}::int + 1 AS n", "needs": ["resize", "never?"]}}, "output": {"n": "${nodes.store.output.n}"}}')});
my $pictures = $node->safe_psql('postgres', q{SELECT dts.start('pictures')});
$node->wait_for(q{SELECT count(*) FROM dts.task t JOIN dts.lane l ON l.id = t.lane WHERE l.runner = 2 AND t.state = 0}, '1');
my ($job, $key, $payload) = split /\|/, $agent->query(q{SELECT task, token, payload FROM dts.claim('player', max => 5)});
is($payload, '{"w": 6}', 'a payload from another node');
is($agent->query(qq(SELECT dts.complete($job, '$key', '{"size": 41}'))), 'succeeded', 'done');
$node->wait_for("SELECT state || output FROM dts.workflow_runs WHERE id = $pictures", 'succeeded{"n": 42}');

# What is wrong with a command is found when the workflow is made.
for ([ '{"command": []}', 'array of at least one string' ], [ '{"command": "ls"}', 'array of at least one string' ], [ '{"command": ["ls"], "env": []}', 'env' ],
	[ '{"command": ["ls"], "shell": true}', 'unknown key "shell"' ], [ '{"command": ["ls"], "retry_exit_codes": ["a"]}', 'whole numbers' ]) {
	my ($def, $says) = @$_;
	like($node->safe_psql('postgres', "SELECT string_agg(message, ' ') FROM dts.validate_workflow('{\"nodes\": {\"a\": $def}}')"), qr/\Q$says\E/, $def);
}
$agent->close;
$node->healthy;
$node->stop('fast');
done_testing();
