# Attacks, and the matrix of rights: what docs/security.md says that each role may call and read is what the catalog says.
# DTS_WRITE_MATRIX=1 prints the table that belongs there.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use DtsNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = DtsNode->start_new('main', conf => "restart_after_crash = on\ndts.max_lanes = 64\n");
my $sql  = sub { return $node->safe_psql('postgres', @_) };
$sql->(q{CREATE ROLE matrix_u; CREATE ROLE matrix_m; CREATE ROLE matrix_a; SELECT dts.grant_usage('matrix_u'), dts.grant_monitor('matrix_m'), dts.grant_admin('matrix_a');
	CREATE ROLE mallory LOGIN; CREATE ROLE victim LOGIN; SELECT dts.grant_usage('mallory'), dts.grant_usage('victim');
	CREATE SCHEMA mallory AUTHORIZATION mallory; GRANT CREATE ON SCHEMA public TO mallory;
	CREATE TABLE secret (t text); INSERT INTO secret VALUES ('gold'); CREATE TABLE loot (t text); GRANT INSERT ON loot TO PUBLIC});

# ---- the matrix
my $is = $sql->(q{
	SELECT string_agg(format('| `%s` | %s |', name, rights), E'\n' ORDER BY views, name COLLATE "C") FROM (
		SELECT false AS views, proname AS name, concat_ws(' | ', CASE WHEN bool_and(u) THEN 'yes' ELSE '-' END, CASE WHEN bool_and(m) THEN 'yes' ELSE '-' END, CASE WHEN bool_and(a) THEN 'yes' ELSE '-' END) AS rights
		FROM (SELECT proname, has_function_privilege('matrix_u', oid, 'EXECUTE') AS u, has_function_privilege('matrix_m', oid, 'EXECUTE') AS m, has_function_privilege('matrix_a', oid, 'EXECUTE') AS a
			FROM pg_proc WHERE pronamespace = 'dts'::regnamespace AND proname !~ '^_') p GROUP BY proname HAVING bool_and(u) = bool_or(u) AND bool_and(m) = bool_or(m) AND bool_and(a) = bool_or(a)
		UNION ALL SELECT true, relname, concat_ws(' | ', CASE WHEN has_table_privilege('matrix_u', oid, 'SELECT') THEN 'yes' ELSE '-' END, CASE WHEN has_table_privilege('matrix_m', oid, 'SELECT') THEN 'yes' ELSE '-' END,
			CASE WHEN has_table_privilege('matrix_a', oid, 'SELECT') THEN 'yes' ELSE '-' END) FROM pg_class WHERE relnamespace = 'dts'::regnamespace AND relkind = 'v' AND relname !~ '^_') x});
my ($said) = slurp_file("$FindBin::Bin/../../docs/security.md") =~ /^\| function or view \|[^\n]*\n\|[-|]+\n((?:\|[^\n]*\n)+)/m;
chomp($said //= '');
print STDERR "$is\n" if $ENV{DTS_WRITE_MATRIX};
is($said, $is, 'the matrix in docs/security.md is what the catalog says');

# run_as(ROLE, SQL): state and message of a task of that role, when it has ended.
sub run_as {
	my ($role, $text, %options) = @_;
	my $id = $node->as_role($role, 'SELECT dts.submit(' . DtsNode::quote($text) . ', max_attempts => 1' . ($options{more} // '') . ')');
	$node->wait_for("SELECT count(*) FROM dts.task WHERE id = $id", '0');
	return $sql->("SELECT concat_ws(' ', state, result, error) FROM dts.tasks WHERE id = $id");
}

# ---- becoming somebody else
for my $try ('RESET ROLE', 'SET ROLE NONE', 'RESET SESSION AUTHORIZATION', 'RESET ALL') {
	like(run_as('mallory', "$try; SELECT current_user || ' ' || session_user AS x"), qr/^succeeded .*mallory mallory/, "$try leads to the owner again");
}
like(run_as('mallory', $_), qr/^failed .*permission denied/, $_) for 'SET ROLE postgres', 'SET SESSION AUTHORIZATION postgres', 'SELECT * FROM secret', 'SELECT * FROM dts.task', 'DELETE FROM dts.run', 'SELECT dts._purge(1)';
like(run_as('mallory', q{DO $$ BEGIN COMMIT; END $$}), qr/^failed .*transaction/, 'no COMMIT in a block');
like(run_as('mallory', q{DO $$ BEGIN PERFORM set_config('role', 'postgres', false); END $$}), qr/^failed .*permission denied/, 'nor by set_config');

# ---- what dts picks up by name: functions, operators, casts, tables in schemas that come first
$node->as_role('mallory', q{
	CREATE FUNCTION public.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.loot SELECT t FROM public.secret; RETURN clock_timestamp(); END $$;
	CREATE FUNCTION public.format(text, VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.loot SELECT t FROM public.secret; RETURN 'x'; END $$;
	CREATE FUNCTION public.taken(a bigint, b bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.loot SELECT t FROM public.secret; RETURN a = b; END $$;
	CREATE OPERATOR public.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = public.taken);
	CREATE FUNCTION public.grabs(a jsonb, b text) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.loot SELECT t FROM public.secret; RETURN a; END $$;
	CREATE OPERATOR public.-> (LEFTARG = jsonb, RIGHTARG = text, FUNCTION = public.grabs);
	CREATE FUNCTION public.minus(a bigint, b int) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.loot SELECT t FROM public.secret; RETURN pg_catalog.int84mi(a, b); END $$;
	CREATE OPERATOR public.- (LEFTARG = bigint, RIGHTARG = int, FUNCTION = public.minus);
	CREATE TABLE public.pg_class (oid oid); CREATE TABLE public.task (id bigint)});
$sql->(q{ALTER DATABASE postgres SET search_path = public, pg_catalog});
$node->restart;
$sql->(q{SET search_path = public, pg_catalog; SELECT dts.create_queue('q'), dts.alter_queue('q', batch_size => 3), dts.set_limit(queue => 'q', concurrency => 3);
	SELECT dts.schedule('s', 'every 1 second', 'SELECT 1', task => '{"queue": "q"}'); SELECT dts.create_workflow('w', '{"nodes": {"a": {"sql": "SELECT 1 AS n"}, "b": {"needs": ["a"], "sql": "SELECT ${nodes.a.output.n}::int"}}}')});
$sql->(q{CREATE TABLE watched (n int); SELECT dts.on_change('watched', 'watched', '{"sql": "SELECT $1::text", "args": ["${row.n}"]}', '{insert}'); SET search_path = public, pg_catalog; INSERT INTO watched VALUES (1)});
my $run = $sql->(q{SET search_path = public, pg_catalog; SELECT dts.start('w')});
$node->wait_for(qq{SELECT pg_catalog.concat(state) FROM dts.workflow_runs WHERE id OPERATOR(pg_catalog.=) $run}, 'succeeded');
$node->wait_for(q{SELECT pg_catalog.count(*) OPERATOR(pg_catalog.>) 1 FROM dts.fires}, 't');
$sql->(q{SET search_path = public, pg_catalog; SELECT pg_catalog.count(*) FROM dts.doctor(), dts.stuck(), dts.stats(); SELECT dts.metrics(), dts.health()});
is($sql->('SELECT pg_catalog.count(*) FROM loot'), '0', 'functions and operators that lie in wait in a search_path are not called');
$sql->(q{ALTER DATABASE postgres RESET search_path; SELECT dts.unschedule('s')});
$node->as_role('mallory', 'DROP FUNCTION public.now(), public.format(text, text[]); DROP OPERATOR public.= (bigint, bigint), public.-> (jsonb, text), public.- (bigint, int); DROP TABLE public.pg_class, public.task');
$node->restart;

# ---- triggers, deferred ones, event triggers, input functions: all as the owner
$node->as_role('mallory', q{
	CREATE TABLE mallory.t (n int);
	CREATE FUNCTION mallory.grab() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.loot VALUES (current_user || ' ' || session_user); INSERT INTO public.loot SELECT t FROM public.secret; RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER late AFTER INSERT ON mallory.t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION mallory.grab()});
like(run_as('mallory', 'INSERT INTO mallory.t VALUES (1)'), qr/^failed .*permission denied for table secret/, 'a deferred trigger runs as the owner, and fails the task alone');
is($sql->('SELECT count(*) FROM loot'), '0', 'and took nothing');
for my $table (qw(dts.task dts.run dts.queue dts.request)) {
	my (undef, undef, $error) = $node->psql('postgres', "CREATE TRIGGER t AFTER INSERT ON $table FOR EACH ROW EXECUTE FUNCTION mallory.grab()", extra_params => [ '-U', 'mallory' ]);
	like($error, qr/permission denied/, "no trigger on $table");
}
my (undef, undef, $denied) = $node->psql('postgres', q{CREATE FUNCTION mallory.e() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$; CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION mallory.e()}, extra_params => [ '-U', 'mallory' ]);
like($denied, qr/permission denied to create event trigger/, 'nor an event trigger');

# ---- a function of the victim's rights, called by mallory: the task is the definer's, and only what he wrote
$sql->(q{CREATE FUNCTION public.kind(what text) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$ SELECT dts.submit('SELECT $1::text', jsonb_build_array(what)) $$; ALTER FUNCTION public.kind(text) OWNER TO victim});
my $bound = $node->as_role('mallory', q{SELECT public.kind('x''); SELECT t FROM secret; --')});
$node->wait_for("SELECT count(*) FROM dts.task WHERE id = $bound", '0');
like($sql->("SELECT concat_ws(' ', state, owner, result) FROM dts.tasks WHERE id = $bound"), qr/^succeeded victim .*x'\); SELECT t FROM secret/, 'arguments are bound, never pasted');
my (undef, $seen, $error) = $node->psql('postgres', "SELECT dts.result($bound)", extra_params => [ '-U', 'mallory' ]);
like($error, qr/does not exist/, 'and the result is not for who called');

# ---- a private handler of somebody else: not when it is named, and not when it comes later under the name of one's own
$node->as_role('victim', q{SELECT dts.create_handler('private', 'SELECT 4711 AS gold')});
for my $call (q{dts.submit_handler('private')}, q{dts.schedule('h', 'every 1 second', handler => 'private')}, q{dts.on_event('h', 'h', '{"handler": "private"}')}, q{dts.create_workflow('h', '{"nodes": {"a": {"handler": "private"}}}')},
	q{dts.create_notification('h', '{"handler": "private"}')}, q{dts.submit_many('[{"handler": "private"}]'::jsonb)})
{
	(undef, undef, $error) = $node->psql('postgres', "SELECT $call", extra_params => [ '-U', 'mallory' ]);
	like($error, qr/permission denied for handler "private"|handler "private" does not exist/, $call);
}
$node->as_role('mallory', q{SELECT dts.create_handler('name', 'SELECT 1'); SELECT dts.on_event('h', 'h', '{"handler": "name"}', roles => '{public}'), dts.create_workflow('h', '{"nodes": {"a": {"handler": "name"}}}'),
	dts.schedule('h', 'every 1 second', handler => 'name'), dts.create_notification('h', '{"handler": "name"}', '{success}'); SELECT dts.drop_handler('name')});
$node->as_role('victim', q{SELECT dts.create_handler('name', 'SELECT 4711 AS gold'), dts.emit('h')});
(undef, undef, $error) = $node->psql('postgres', q{SELECT dts.start('h')}, extra_params => [ '-U', 'mallory' ]);
like($error, qr/permission denied for handler "name"/, 'a workflow does not get it');
like(run_as('mallory', 'SELECT 1'), qr/^succeeded/, 'of which the notification would tell');
$node->wait_for(q{SELECT count(*) > 0 FROM dts.fires WHERE schedule = 'h' AND decision = 'failed' AND detail ~ 'permission denied for handler "name"'}, 't');
is($sql->(q{SELECT count(*) FROM dts.tasks WHERE handler IN ('private', 'name') AND owner = 'mallory' AND sql ~ '4711'}), '0', 'neither does anything else');
$node->as_role('mallory', q{SELECT dts.unschedule('h'), dts.drop_subscription('h'), dts.drop_notification('h')});

# ---- a condition of somebody else, which never ends, on an event of one's own
my $condition = '@ == 77';
$condition = "exists(\@.** ? ($condition))" for 1 .. 6;
$condition =~ s/^exists\(\@/exists(\$.event.payload/;
$node->as_role('mallory', 'SELECT dts.on_event(\'evil\', \'e\', \'{"sql": "SELECT 1"}\', "when" => ' . DtsNode::quote($condition) . q{, roles => '{public}')});
my $emit = q{SET statement_timeout = '30s'; SELECT dts.emit('e', (repeat('[', 300) || '1' || repeat(']', 300))::jsonb)};
my (undef, $emitted, $warned) = $node->psql('postgres', $emit, extra_params => [ '-U', 'victim' ]);
is($emitted, '0', 'who emits is not held up');
like($warned, qr/subscription "evil" failed: its condition took longer/, 'and told');
(undef, undef, $warned) = $node->psql('postgres', $emit, extra_params => [ '-U', 'victim' ]);
is($warned, '', 'once');
like($node->as_role('mallory', q{SELECT trouble FROM dts.subscriptions WHERE name = 'evil'}), qr/took longer/, 'its owner sees why');

# ---- crafted names
for my $name (q{q"; DROP TABLE secret; --}, q{q'; SELECT 1}, '%s%n', '${run.id}', 'pg_temp') {
	my $quoted = DtsNode::quote($name);
	$sql->("SELECT dts.create_queue($quoted), dts.create_handler($quoted, 'SELECT 1 AS x', queue => $quoted), dts.schedule($quoted, '* * * * * *', handler => $quoted), dts.set_limit(queue => $quoted, rate => 5)");
	my $id = $sql->("SELECT dts.submit_handler($quoted, tenant => $quoted, key => $quoted, concurrency_key => $quoted, labels => jsonb_build_object($quoted, $quoted))");
	$node->wait_state($id, 'succeeded');
	$sql->("SELECT dts.explain($id), dts.explain_schedule($quoted); SELECT dts.unschedule($quoted)");
}
is($sql->(q{SELECT count(*) FROM secret}), '1', 'names are names');
unlike($sql->('SELECT dts.metrics()'), qr/^(?!#|dts_)/m, 'Prometheus text with crafted names has no torn line');

# ---- what a task leaves is not found by the next of another role; temporary objects do not shadow
like(run_as('mallory', q{CREATE TEMP TABLE task (id int); CREATE TEMP TABLE run (id int); SET search_path = pg_temp; SELECT set_config('fuzz.x', 'stolen', false), set_config('lock_timeout', '1', false)}), qr/^succeeded/, 'a task that leaves things');
like(run_as('mallory', q{SELECT current_setting('fuzz.x', true) AS x, to_regclass('pg_temp.task') AS t, current_setting('lock_timeout') AS l}), qr/"l": "0", "t": null, "x": (null|"")/, 'is followed by one that does not see them');

# ---- signals of somebody who may signal backends
$sql->('GRANT pg_signal_backend TO mallory');
my $long = $node->as_role('victim', q{SELECT dts.submit('SELECT pg_sleep(0.5)', retry => '{"base": 0.05, "cap": 0.1}', max_attempts => 20)});
my $pid  = $node->running_pid($long);
$node->as_role('mallory', "SELECT pg_cancel_backend($pid)");
$node->wait_for("SELECT count(*) > 0 FROM dts.runs WHERE task = $long AND outcome = 'retry'");
($_, undef, $error) = $node->psql('postgres', q{SELECT pg_terminate_backend(pid) FROM dts.workers WHERE kind IN ('launcher', 'scheduler')}, extra_params => [ '-U', 'mallory' ]);
$node->wait_state($long, 'succeeded');
pass('who may signal backends costs attempts, no task');

# ---- by size and number: the lanes in shared memory are not for who has most of them; the rest is bounded by settings
$node->as_role('mallory', q{DO $$ BEGIN FOR i IN 1 .. 300 LOOP PERFORM dts.submit('SELECT pg_sleep(0.5)', tenant => 't' || i); END LOOP; END $$});
my $modest = $node->as_role('victim', q{SELECT dts.submit('SELECT 1', tenant => 'one')});
$node->wait_state($modest, 'succeeded');
cmp_ok($sql->(q{SELECT count(*) FROM dts.tasks WHERE owner = 'mallory' AND state = 'ready'}), '>', 150, 'a task of one who has few lanes does not wait for all of one who has many');
$sql->(q{SELECT count(dts.cancel(id)) FROM dts.tasks WHERE owner = 'mallory' AND state IN ('ready', 'running')});
$sql->(q{SELECT dts.set_limit(owner => 'mallory', max_waiting => 5)});
my ($status, undef, $full) = $node->psql('postgres', q{SELECT dts.submit('SELECT 1', delay => '1 h') FROM generate_series(1, 10)}, extra_params => [ '-U', 'mallory' ]);
like($full, qr/has reached its cap/, 'a cap on unfinished tasks holds');
($status, undef, $full) = $node->psql('postgres', q{SELECT dts.submit('SELECT $1', jsonb_build_array(repeat('x', 3000000)))}, extra_params => [ '-U', 'mallory' ]);
like($full, qr/dts\.max_payload/, 'so does one on the payload');
($status, undef, $full) = $node->psql('postgres', q{SELECT dts.create_calendar('c' || n, '{mon}') FROM generate_series(1, 1001) n}, extra_params => [ '-U', 'mallory' ]);
like($full, qr/role "mallory" has too many definitions: 1000/, 'and on definitions');
($status, undef, $full) = $node->psql('postgres', q{SET dts.max_definitions = 2000}, extra_params => [ '-U', 'mallory' ]);
like($full, qr/permission denied to set parameter/, 'which a role cannot raise');
$sql->('ALTER ROLE mallory SET dts.max_definitions = 1');
is($node->as_role('mallory', q{SELECT dts.create_calendar('c', '{mon}')}), '', 'up to the limit of a role');
($status, undef, $full) = $node->psql('postgres', q{SELECT dts.create_calendar('d', '{mon}')}, extra_params => [ '-U', 'mallory' ]);
like($full, qr/too many definitions: 1/, 'and no further');
$node->wait_done;
is($node->safe_psql('postgres', 'SELECT * FROM dts.stuck()'), '', 'nothing is stuck');
$node->stop;
done_testing();
