-- A nightly ETL: sources in parallel, one of them optional; the load waits for all, the report says what was missing.
CREATE SCHEMA etl;
CREATE TABLE etl.raw (source text, n int);
CREATE TABLE etl.fact (source text, n int);
CREATE TABLE etl.report (line text);
SELECT dts.create_workflow('nightly_etl', '{
  "nodes": {
    "crm":    {"sql": "INSERT INTO etl.raw SELECT ''crm'', i FROM generate_series(1, 3) i"},
    "erp":    {"sql": "INSERT INTO etl.raw SELECT ''erp'', i FROM generate_series(1, 4) i"},
    "clicks": {"sql": "SELECT 1/0", "max_attempts": 2, "retry": {"base": 0.05}, "continue_on": {"failure": true}},
    "load":   {"needs": ["crm", "erp", "clicks"], "sql": "INSERT INTO etl.fact SELECT * FROM etl.raw"},
    "report": {"needs": ["load"], "sql": "INSERT INTO etl.report SELECT format(''%s rows; clicks %s'', (SELECT count(*) FROM etl.fact), ${nodes.clicks.state}::text)"},
    "vacuum": {"needs": ["load"], "sql": "VACUUM etl.fact", "transactional": false}}}');
SELECT dts.start('nightly_etl') AS run;
-- Check: SELECT line FROM etl.report
-- Gives: 7 rows; clicks failed
