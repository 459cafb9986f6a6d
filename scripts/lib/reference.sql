-- Makes docs/reference.md: psql -X -A -t -q -f reference.sql, in a database with dts, on a server that has it preloaded.
-- Ordered by name and free of ids, dates and versions, so that the same sources give the same text.
SET client_min_messages = warning;
SET search_path = pg_catalog;

-- Who may call what: asked of the server, by granting to three roles that vanish with the transaction.
BEGIN;
CREATE ROLE dts_reference_user;
CREATE ROLE dts_reference_monitor;
CREATE ROLE dts_reference_admin;
CREATE ROLE dts_reference_agent;
DO $$ BEGIN
    PERFORM dts.grant_usage('dts_reference_user'), dts.grant_monitor('dts_reference_monitor'), dts.grant_admin('dts_reference_admin'), dts.grant_agent('dts_reference_agent', ARRAY['default']);
END $$;

CREATE FUNCTION pg_temp.short(type text) RETURNS text LANGUAGE sql AS $$
    SELECT replace(replace(replace(replace(replace(type, 'timestamp with time zone', 'timestamptz'), 'double precision', 'float8'),
                                   'integer', 'int'), 'character varying', 'varchar'), 'smallint', 'int2') $$;

-- A cell of a table, or text under a heading: what Markdown would take for markup is kept as it is written.
CREATE FUNCTION pg_temp.cell(value text) RETURNS text LANGUAGE sql AS $$ SELECT replace(replace(COALESCE(value, ''), '|', '\|'), E'\n', ' ') $$;
CREATE FUNCTION pg_temp.prose(value text) RETURNS text LANGUAGE sql AS $$ SELECT regexp_replace(COALESCE(value, ''), '([<*])', '\\\1', 'g') $$;

CREATE FUNCTION pg_temp.callers(routine oid) RETURNS text LANGUAGE sql AS $$
    SELECT COALESCE('For ' || string_agg(word, ', ' ORDER BY ord) || '.', 'For superusers and the owner of the extension.')
    FROM (VALUES (1, 'dts_reference_user', 'users'), (2, 'dts_reference_monitor', 'monitors'), (3, 'dts_reference_admin', 'administrators'), (4, 'dts_reference_agent', 'agents')) r(ord, role, word)
    WHERE has_function_privilege(r.role, routine, 'EXECUTE') $$;

-- dts.f(a int, b text DEFAULT NULL): on one line if it fits, else one argument a line.
CREATE FUNCTION pg_temp.signature(routine oid) RETURNS text LANGUAGE sql AS $$
    WITH argument AS (
        SELECT a.ord, concat_ws(' ', CASE WHEN mode = 'b' THEN 'INOUT' WHEN mode = 'v' THEN 'VARIADIC' WHEN mode = 'o' THEN 'OUT' END, NULLIF(name, ''), pg_temp.short(format_type(type, NULL)),
               'DEFAULT ' || regexp_replace(pg_get_function_arg_default(p.oid, (count(*) FILTER (WHERE mode IN ('i', 'b', 'v')) OVER (ORDER BY a.ord))::int), '::[a-z" ]+(\[\])?$', '')) AS line
        FROM pg_proc p
        CROSS JOIN LATERAL (SELECT u.type, u.ord, COALESCE(p.proargmodes[u.ord], 'i') AS mode, p.proargnames[u.ord] AS name
                            FROM unnest(COALESCE(p.proallargtypes, p.proargtypes::oid[])) WITH ORDINALITY u(type, ord)) a
        WHERE p.oid = routine AND a.mode <> 't'
    ), joined AS (SELECT string_agg(line, ', ' ORDER BY ord) AS short, string_agg('    ' || line, E',\n' ORDER BY ord) AS long FROM argument)
    SELECT 'dts.' || p.proname || '(' || CASE WHEN length(j.short) <= 110 THEN j.short WHEN j.long IS NULL THEN '' ELSE E'\n' || j.long || E'\n' END || ')'
           || COALESCE(' → ' || pg_temp.short(pg_get_function_result(p.oid)), '')
    FROM pg_proc p, joined j WHERE p.oid = routine $$;

CREATE TEMP VIEW public_routine AS
SELECT p.oid, p.proname, p.prokind, pg_get_function_identity_arguments(p.oid) AS identity, obj_description(p.oid, 'pg_proc') AS comment
FROM pg_proc p WHERE p.pronamespace = 'dts'::regnamespace AND left(p.proname, 1) <> '_';

CREATE TEMP VIEW public_view AS
SELECT c.oid, c.relname, obj_description(c.oid, 'pg_class') AS comment
FROM pg_class c WHERE c.relnamespace = 'dts'::regnamespace AND c.relkind = 'v' AND left(c.relname, 1) <> '_';

\qecho '# Reference'
\qecho
\qecho 'Made by `scripts/gen-reference` from the comments in `src/sql` and the descriptions of the settings: change those, not this page.'
\qecho
\qecho 'Who may call or read what is handed out by `dts.grant_usage` (users), `dts.grant_monitor` (monitors) and `dts.grant_admin` (administrators).'

\qecho
\qecho '## Functions and procedures'
SELECT E'\n### ' || CASE p.prokind WHEN 'p' THEN 'CALL ' ELSE '' END || 'dts.' || p.proname
       || E'\n' || string_agg(E'\n```\n' || pg_temp.signature(p.oid) || E'\n```\n\n' || pg_temp.prose(p.comment)
                              || CASE WHEN p.comment ~ '\mFor (superusers|administrators|monitors)' THEN '' ELSE ' ' || pg_temp.callers(p.oid) END, E'\n' ORDER BY p.identity)
FROM public_routine p GROUP BY p.proname, p.prokind ORDER BY p.proname COLLATE "C";

\qecho
\qecho '## Views'
SELECT E'\n### dts.' || v.relname || E'\n\n' || pg_temp.prose(v.comment) || E'\n\n| column | type | |\n|---|---|---|\n'
       || string_agg('| ' || a.attname || ' | ' || pg_temp.short(format_type(a.atttypid, a.atttypmod)) || ' | ' || pg_temp.cell(col_description(v.oid, a.attnum)) || ' |', E'\n' ORDER BY a.attnum)
FROM public_view v JOIN pg_attribute a ON a.attrelid = v.oid AND a.attnum > 0 AND NOT a.attisdropped
GROUP BY v.oid, v.relname, v.comment ORDER BY v.relname COLLATE "C";

\qecho
\qecho '## Settings'
\qecho
\qecho '| name | default | unit | range | changed by | meaning |'
\qecho '|---|---|---|---|---|---|'
SELECT format('| `%s` | %s | %s | %s | %s | %s |', s.name, CASE WHEN s.boot_val = '' THEN '(empty)' ELSE '`' || pg_temp.cell(s.boot_val) || '`' END, COALESCE(s.unit, ''),
              COALESCE(s.min_val || ' to ' || s.max_val, pg_temp.cell(array_to_string(s.enumvals, ', ')), ''),
              CASE s.context WHEN 'postmaster' THEN 'restart' WHEN 'sighup' THEN 'reload' WHEN 'superuser' THEN 'superuser' WHEN 'user' THEN 'anyone' ELSE s.context END,
              pg_temp.cell(concat_ws(' ', s.short_desc, s.extra_desc)))
FROM pg_settings s WHERE s.name LIKE 'dts.%' ORDER BY s.name COLLATE "C";
ROLLBACK;
