# Tenants take turns, by weight; inside a tenant priorities are strict, but waiting raises them.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use Test::More;

my $node = DtsNode->start_new('fair', conf => "dts.max_workers = 1\ndts.priority_ageing = '1s'\n");
$node->safe_psql('postgres', q{SELECT dts.create_queue('q')});

sub many {
	my ($n, $sql, %o) = @_;
	my $options = join '', map { ", $_ => '$o{$_}'" } sort keys %o;
	return $node->safe_psql('postgres', "SELECT count(*) FROM dts.submit_many('$sql', array_fill('[]'::jsonb, '{$n}'), queue => 'q'$options)");
}

subtest 'one task beside a flood' => sub {
	many(150, 'SELECT pg_sleep(0.02)', tenant => 'flood');
	$node->wait_for(q{SELECT count(*) > 3 FROM dts.runs}, 't');
	my $one = $node->submit('SELECT 1', queue => 'q', tenant => 'small');
	my $other = $node->submit('SELECT 1', queue => 'q', priority => 0);
	$node->wait_state($_, 'succeeded') for $one, $other;
	for ($one, $other) {
		cmp_ok($node->safe_psql('postgres', qq{SELECT count(*) FROM dts.runs f, dts.runs s WHERE s.task = $_ AND f.tenant = 'flood' AND f.started_at BETWEEN s.submitted_at AND s.started_at}),
			'<=', 3, 'it waits for its turn, not for the flood');
	}
	cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM dts.task}), '>', 20, 'the flood goes on');
	$node->safe_psql('postgres', q{SELECT count(dts.cancel(id)) FROM dts.task});
	$node->wait_done;
};

subtest 'weights' => sub {
	$node->safe_psql('postgres', q{SELECT dts.set_limit(tenant => 'gold', weight => 3), dts.pause('q')});
	many(60, 'SELECT pg_sleep(0.01)', tenant => $_) for qw(gold iron);
	$node->safe_psql('postgres', q{SELECT dts.resume('q')});
	$node->wait_done;
	my $gold = $node->safe_psql('postgres', q{SELECT count(*) FILTER (WHERE tenant = 'gold') FROM (SELECT tenant FROM dts.runs WHERE tenant IN ('gold', 'iron') ORDER BY started_at LIMIT 60) x});
	cmp_ok($gold, '>=', 38, "three quarters for the one with weight 3: $gold of 60");
	cmp_ok($gold, '<=', 52, 'and no more');
	my $first = $node->safe_psql('postgres', q{SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY started_at) - row_number() OVER (PARTITION BY tenant ORDER BY started_at) AS n FROM (SELECT tenant, started_at FROM dts.runs WHERE tenant IN ('gold', 'iron') ORDER BY started_at LIMIT 6) y) x});
	cmp_ok($first, '>', 0, 'both from the beginning');
};

subtest 'priorities' => sub {
	$node->safe_psql('postgres', q{SELECT dts.pause('q')});
	my @low = map { $node->submit('SELECT 1', queue => 'q', tenant => 't', priority => $_) } 3, 9, 5;
	$node->safe_psql('postgres', q{SELECT dts.resume('q')});
	$node->wait_done;
	is($node->safe_psql('postgres', q{SELECT string_agg(priority::text, ' ' ORDER BY started_at) FROM dts.runs WHERE tenant = 't'}), '9 5 3', 'strict inside a tenant');
	# A chain of which one task is always due would starve a lower priority for ever.
	$node->safe_psql('postgres', q{CREATE FUNCTION chain() RETURNS void LANGUAGE plpgsql AS $$BEGIN
		PERFORM pg_sleep(0.01); PERFORM dts.submit('SELECT chain()', queue => 'q', priority => 6, max_attempts => 1); PERFORM pg_sleep(0.01); END$$});
	$node->safe_psql('postgres', q{SELECT dts.submit('SELECT chain()', queue => 'q', priority => 6) FROM generate_series(1, 3)});
	$node->wait_for(q{SELECT count(*) > 5 FROM dts.runs WHERE sql ~ 'chain'}, 't');
	my $low = $node->submit('SELECT 1', queue => 'q', priority => 5);
	$node->wait_state($low, 'succeeded');
	cmp_ok($node->safe_psql('postgres', "SELECT extract(epoch FROM waited) FROM dts.runs WHERE task = $low"), '>', 0.5, 'higher ones came first for a while');
	pass('then waiting had raised it');
	$node->safe_psql('postgres', q{SELECT dts.pause('q')});
	$node->wait_for(q{SELECT count(*) FROM dts.running}, '0');
	$node->safe_psql('postgres', q{SELECT count(dts.cancel(id)) FROM dts.task});
};

# So many lanes that looks go over the bits of those that have work, and a choice sees some of them only.
subtest 'many tenants' => sub {
	$node->safe_psql('postgres', q{SELECT dts.create_queue('wide')});
	my $each = q{SELECT count(dts.submit('SELECT 1', queue => 'wide', tenant => 'w' || i %s)) FROM generate_series(1, 400) i};
	$node->safe_psql('postgres', sprintf $each, '');
	$node->wait_for(q{SELECT count(*) FROM dts.runs WHERE queue = 'wide'}, '400');
	pass('all of them, at once');
	$node->safe_psql('postgres', sprintf $each, q{, delay => i * '1 ms'::interval});
	$node->wait_for(q{SELECT count(*) FROM dts.runs WHERE queue = 'wide'}, '800');
	pass('all of them, by the clock');
	$node->safe_psql('postgres', q{SELECT dts.set_limit(queue => 'wide', concurrency => 1, rate => 400, per => '500 ms')});
	$node->safe_psql('postgres', sprintf $each, '');
	$node->wait_for(q{SELECT count(*) FROM dts.runs WHERE queue = 'wide'}, '1200');
	pass('all of them, under limits');
	# Inside a tenant the highest priority comes first, however many others there are.
	$node->safe_psql('postgres', q{SELECT dts.pause('wide'), dts.set_limit(queue => 'wide', reset => '{concurrency,rate}')});
	$node->safe_psql('postgres', sprintf $each, ", priority => $_") for 2, 7, 5;
	$node->safe_psql('postgres', q{SELECT dts.resume('wide')});
	$node->wait_for(q{SELECT count(*) FROM dts.runs WHERE queue = 'wide'}, '2400');
	is($node->safe_psql('postgres', q{SELECT DISTINCT p FROM (SELECT string_agg(priority::text, ' ' ORDER BY started_at) AS p FROM (SELECT * FROM dts.runs WHERE queue = 'wide' ORDER BY ended_at DESC LIMIT 1200) r GROUP BY tenant) x}), '7 5 2', 'by priority in each');
};

$node->safe_psql('postgres', q{SELECT dts.resume('q')});
$node->healthy;
$node->stop;
done_testing();
