# The examples of the documentation run, and give what they say. The ported workflows are created as they are; their runs are played with
# a handler in the place of each command, mail and HTTP call.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $examples = "$FindBin::Bin/../../docs/examples";
$examples = $ENV{DTS_EXAMPLES} if $ENV{DTS_EXAMPLES};
plan skip_all => "no examples at $examples" unless -d $examples;
my $node = DtsNode->start_new('main', conf => "dts.max_workers = 4\n");

for my $file (sort glob "$examples/*.sql") {
	my ($name) = $file =~ m{([^/]+)\.sql$};
	my $text = slurp_file($file);
	my ($check, $gives) = $text =~ /^-- Check: (.*)\n-- Gives: (.*)$/m;
	die "$file does not say what it gives" unless defined $gives;
	$node->safe_psql('postgres', $text);
	$node->wait_for('SELECT count(*) FROM dts.task', '0');
	is($node->safe_psql('postgres', $check), $gives, $name) or diag($node->safe_psql('postgres', 'SELECT run, node, state, error FROM dts.workflow_nodes ORDER BY run DESC, task LIMIT 20'));
}

# ---- ported
$node->safe_psql('postgres', q{
	CREATE TABLE played (n int GENERATED ALWAYS AS IDENTITY, node text, failures int DEFAULT 0);
	CREATE TABLE fails (node text, times int);
	CREATE FUNCTION play(p jsonb) RETURNS TABLE (accuracy numeric, batches jsonb, text text) LANGUAGE plpgsql AS $$
	DECLARE tries int;
	BEGIN
		SELECT count(*) INTO tries FROM dts.runs r WHERE r.task = dts.current_task();
		IF tries < (SELECT f.times FROM fails f WHERE f.node = p ->> 'node') THEN RAISE EXCEPTION 'as told'; END IF;
		INSERT INTO played (node, failures) VALUES (p ->> 'node', tries);
		RETURN QUERY SELECT 0.93, '["b1", "b2"]'::jsonb, p ->> 'node';
	END $$;
	SELECT dts.create_handler('agent', 'SELECT * FROM play($1)')});
my %subs = map { $_ => 1 } qw(extractors/database deploy/kubernetes queries/extract reports/generate onboarding/create-account backup/database ml/train sync/update-system process/batch);
for my $sub (keys %subs) {
	$node->safe_psql('postgres', qq{SELECT dts.create_workflow('$sub', '{"params": {"SOURCE": {"default": ""}, "ENV": {"default": ""}, "IMAGE": {"default": ""}, "ITEM": {"default": ""}, "TYPE": {"default": ""},
		"DATA": {"default": ""}, "SYSTEM": {"default": ""}, "EMPLOYEE": {"default": ""}, "MODEL": {"default": ""}, "PARAMS": {"default": ""}, "BATCH": {"default": ""}, "TOKEN": {"default": ""}},
		"nodes": {"work": {"handler": "agent", "payload": {"node": "$sub"}}}, "output": "\${params.SOURCE}\${params.SYSTEM}\${params.TYPE}\${params.MODEL}"}')});
}

# The same graph with a handler for what an agent, a mail server or a web server would do.
sub playable {
	my ($definition) = @_;
	my $d = decode_json($definition);
	for my $part ($d->{nodes}, $d->{on} // {}) {
		for my $name (keys %$part) {
			my $n = $part->{$name};
			next unless grep { exists $n->{$_} } qw(command mail http);
			$n->{payload} = { node => $name, map { exists $n->{$_} ? ($_ => $n->{$_}) : () } qw(command mail http env container) };
			$n->{handler} = 'agent';
			delete @$n{qw(command mail http env container retry_exit_codes)};
			$n->{retry} = { base => 0.02 } if $n->{max_attempts};
			$n->{max_attempts} //= 1;
		}
	}
	return encode_json($d);
}

my %runs = (
	'daily-etl' => [ {}, [], 'succeeded', qr/^(extractors\/database ){3}transform-data load-warehouse update-analytics $/ ],
	'data-quality-checks' => [ {}, [ 'check-freshness', 9 ], 'succeeded', qr/generate-report $/ ],
	'deploy-application' => [ {}, [], 'succeeded', qr/^run-tests build-image deploy\/kubernetes $/ ],
	'deploy-application ' => [ { ENVIRONMENT => 'moon' }, [], 'succeeded', qr/^run-tests build-image $/ ],
	'provision-infrastructure' => [ {}, [], 'succeeded', qr/^validate-terraform plan-changes apply-changes update-inventory $/ ],
	'provision-infrastructure ' => [ { ENVIRONMENT => 'production' }, [], 'succeeded', qr/^validate-terraform plan-changes $/ ],
	'monthly-reports' => [ { MONTH => 'May' }, [], 'succeeded', qr/^(queries\/extract ){3}(reports\/generate ){3}distribute-reports $/ ],
	'employee-onboarding' => [ { EMPLOYEE_ID => '7' }, [], 'succeeded', qr/^(onboarding\/create-account ){4}(assign-equipment |schedule-training ){2}notify-manager $/ ],
	'backup-critical-systems' => [ {}, [ 'verify-backups', 2 ], 'succeeded', qr/^(backup\/database ){2}backup-files verify-backups upload-offsite $/ ],
	'system-maintenance' => [ {}, [], 'succeeded', qr/system-updates $/ ],
	'genomics-analysis' => [ { SAMPLE_ID => 's1' }, [], 'succeeded', qr/^quality-control alignment variant-calling annotation $/ ],
	'ml-training-pipeline' => [ {}, [], 'succeeded', qr/^prepare-data (ml\/train ){3}evaluate-models deploy-winner $/ ],
	'sync-customer-data' => [ {}, [ 'verify-sync', 3 ], 'succeeded', qr/^extract-changes transform-data (sync\/update-system ){4}verify-sync $/ ],
	'sync-customer-data ' => [ {}, [ 'transform-data', 9 ], 'failed', qr/^extract-changes $/ ],
	'api-integration' => [ {}, [ 'fetch-data', 5 ], 'succeeded', qr/^authenticate fetch-data (process\/batch ){2}aggregate-results $/ ],
	'migrate-to-cloud' => [ {}, [], 'succeeded', qr/^backup-legacy migrate-data validate-migration switch-traffic $/ ],
	'migrate-to-cloud ' => [ { ROLLBACK => 'true' }, [], 'succeeded', qr/^backup-legacy migrate-data validate-migration rollback $/ ],
	'daily-etl ' => [ {}, [ 'load-warehouse', 9 ], 'failed', qr/^(extractors\/database ){3}transform-data failure $/ ],
);
is(scalar(grep { !/ $/ } keys %runs), scalar(my @all = glob "$examples/ported/*.json"), 'each ported workflow is run');
for my $key (sort keys %runs) {
	my ($params, $fails, $state, $trace) = @{ $runs{$key} };
	my $name = $key =~ s/ $//r;
	my $definition = slurp_file("$examples/ported/$name.json");
	$node->safe_psql('postgres', "SELECT dts.create_workflow('$name', \$json\$$definition\$json\$)") if $name eq $key;
	my $json = playable($definition);
	my $given = encode_json($params);
	$node->safe_psql('postgres', 'TRUNCATE played; TRUNCATE fails; ' . (@$fails ? "INSERT INTO fails VALUES ('$fails->[0]', $fails->[1]);" : ''));
	my $run = $node->safe_psql('postgres', "SELECT dts.create_workflow('play $name', \$json\$$json\$json\$); SELECT dts.start('play $name', '$given')") =~ s/.*\n//sr;
	$node->wait_for('SELECT count(*) FROM dts.task', '0');
	is($node->safe_psql('postgres', "SELECT state FROM dts.workflow_runs WHERE id = $run"), $state, "$key $state")
		or diag($node->safe_psql('postgres', "SELECT node, state, error FROM dts.workflow_nodes WHERE run = $run ORDER BY task"));
	like($node->safe_psql('postgres', q{SELECT string_agg(node || ' ', '' ORDER BY n) FROM played}), $trace, 'in this order');
}
$node->healthy;
$node->stop('fast');
done_testing();
