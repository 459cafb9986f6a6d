-- What the install script made, on a live server with dts and pgTAP. Lists in here are the rule: who changes one explains why.
-- Partitions of dts.run come and go at run time and belong to nobody's list.
BEGIN;
SET search_path = public, pg_catalog;
SELECT plan(13);

CREATE TEMP VIEW routine AS
SELECT p.*, l.lanname, p.oid::regprocedure::text AS signature
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.pronamespace = 'dts'::regnamespace;

CREATE TEMP VIEW relation AS
SELECT c.*, c.oid::regclass::text AS full_name FROM pg_class c
WHERE c.relnamespace = 'dts'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND NOT c.relispartition;

-- Comments: the reference is made from them.
SELECT is_empty($$SELECT signature FROM routine WHERE obj_description(oid, 'pg_proc') IS NULL$$, 'every function has a comment');
SELECT is_empty($$SELECT full_name FROM relation c WHERE obj_description(oid, 'pg_class') IS NULL
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'i' AND c.relkind = 'S')$$,
    'every table, view and sequence (but those of identity columns) has a comment');
SELECT isnt(obj_description('dts'::regnamespace, 'pg_namespace'), NULL, 'the schema has a comment');
SELECT is_empty($$SELECT name FROM pg_settings WHERE name LIKE 'dts.%' AND COALESCE(short_desc, '') = ''$$, 'every setting has a description');

-- Inlined into queries, so they cannot have settings; they name nothing that could be shadowed.
CREATE TEMP TABLE inlined (name text);
INSERT INTO inlined VALUES ('_state_name'), ('_kind_name'), ('_admin_marker'), ('_monitor_marker');
SELECT is_empty($$SELECT signature FROM routine p WHERE lanname NOT IN ('c', 'internal') AND proname NOT IN (SELECT name FROM inlined)
    AND NOT COALESCE(proconfig, '{}') @> ARRAY['search_path=pg_catalog, pg_temp']$$, 'every function that is not C fixes its search_path');
SELECT is_empty($$SELECT i.name FROM inlined i WHERE NOT EXISTS (SELECT FROM routine p WHERE p.proname = i.name AND p.lanname = 'sql' AND p.proconfig IS NULL)$$,
    'the exceptions from that are SQL functions and needed');
SELECT is_empty($$SELECT signature FROM routine WHERE proname IN (SELECT name FROM inlined)
    AND prosrc ~* '\m(from|join|into|update)\M|::|\w\s*\('$$, 'the exceptions read no table and call no function');

SELECT set_eq($$SELECT proname::text FROM routine WHERE prosecdef$$, ARRAY['stuck', 'stats', 'metrics', 'health', 'doctor', 'validate_workflow'], 'security definer functions are exactly these');

-- Rights.
SELECT is_empty($$SELECT signature FROM routine p, aclexplode(COALESCE(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0$$, 'no function is granted to PUBLIC');
SELECT is_empty($$SELECT c.oid::regclass FROM pg_class c, aclexplode(COALESCE(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) a
    WHERE c.relnamespace = 'dts'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND a.grantee = 0$$, 'no table, view or sequence is granted to PUBLIC');
SELECT is_empty($$SELECT nspname FROM pg_namespace n, aclexplode(COALESCE(n.nspacl, acldefault('n', n.nspowner))) a WHERE n.nspname = 'dts' AND a.grantee = 0$$,
    'the schema is not granted to PUBLIC');
SELECT is_empty($$SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace = 'dts'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relrowsecurity$$,
    'row-level security is on for every table');

SELECT is_empty($$
    SELECT 'function ' || p.signature FROM routine p WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
    UNION ALL
    SELECT 'relation ' || c.full_name FROM relation c WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('e', 'i'))$$,
    'everything in the schema belongs to the extension');

SELECT * FROM finish();
ROLLBACK;
