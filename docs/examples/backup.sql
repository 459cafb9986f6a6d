-- A backup with verification: copy, compare, repeat until equal, alarm if it never is.
CREATE SCHEMA bak;
CREATE TABLE bak.source (id int PRIMARY KEY, v text);
CREATE TABLE bak.copy (id int PRIMARY KEY, v text);
CREATE TABLE bak.alarm (text text);
INSERT INTO bak.source SELECT i, 'row ' || i FROM generate_series(1, 30) i;
SELECT dts.create_workflow('backup', '{
  "nodes": {
    "copy":   {"repeat": {"until": "$.output.left == 0", "interval": "0.05 s", "limit": 10},
               "sql": "WITH c AS (INSERT INTO bak.copy SELECT * FROM bak.source s WHERE NOT EXISTS (SELECT FROM bak.copy c WHERE c.id = s.id) LIMIT 10 RETURNING 1) SELECT (SELECT count(*) FROM bak.source) - (SELECT count(*) FROM bak.copy) - (SELECT count(*) FROM c) AS left"},
    "verify": {"needs": ["copy"], "sql": "SELECT count(*) AS differences FROM (TABLE bak.source EXCEPT TABLE bak.copy) d"},
    "good":   {"needs": ["verify"], "when": "$.nodes.verify.output.differences == 0", "sql": "SELECT 1"},
    "alarm":  {"needs": ["verify:failed,succeeded", "copy:ended"], "when": "$.nodes.verify.output.differences > 0", "sql": "INSERT INTO bak.alarm VALUES (''backup differs'')"}},
  "on": {"failure": {"sql": "INSERT INTO bak.alarm VALUES (''backup failed'')"}}}');
SELECT dts.start('backup') AS run;
-- Check: SELECT (SELECT count(*) FROM bak.copy) || ' ' || (SELECT count(*) FROM bak.alarm)
-- Gives: 30 0
