-- A report for each region, found by a query, then one that holds them all.
CREATE SCHEMA sales;
CREATE TABLE sales.sale (region text, amount int);
CREATE TABLE sales.report (region text, total int);
INSERT INTO sales.sale SELECT (ARRAY['north', 'south', 'east'])[1 + i % 3], i FROM generate_series(1, 30) i;
SELECT dts.create_workflow('regional_reports',
    dts.node('regions', 'SELECT jsonb_agg(DISTINCT region) AS names FROM sales.sale'),
    dts.node('each', 'INSERT INTO sales.report SELECT region, sum(amount) FROM sales.sale WHERE region = ${item}::text GROUP BY region RETURNING total', needs => '{regions}', map => '{"items": "${nodes.regions.output.names}"}'),
    dts.node('all', 'INSERT INTO sales.report SELECT ''all'', sum((t ->> ''total'')::int) FROM jsonb_array_elements(${nodes.each.output}) t', needs => '{each}'));
SELECT dts.start('regional_reports') AS run;
-- Check: SELECT string_agg(region || ' ' || total, ', ' ORDER BY region) FROM sales.report
-- Gives: all 465, east 155, north 165, south 145
