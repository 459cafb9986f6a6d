-- All zones of the server's database, against SQL that looks at the wall clock: due times by the boundaries of the zone tables, and by AT TIME ZONE.
SELECT no_plan();
CREATE TABLE z AS SELECT name FROM pg_timezone_names WHERE name ~ '^[A-Z][A-Za-z]+/[A-Za-z_/-]+$' AND name !~* '^(posix|right|etc)/';
SELECT cmp_ok((SELECT count(*) FROM z), '>', 300::bigint, 'the server knows its zones');

SELECT is((SELECT string_agg(z.name, ' ') FROM z WHERE ARRAY(SELECT dts.next_runs('0 12 * * *', z.name, 730, '2026-01-01 00:00+00')) <>
    ARRAY(SELECT x.t FROM (SELECT (d + '12:00'::interval) AT TIME ZONE z.name AS t FROM generate_series('2025-12-31'::timestamp, '2028-01-03', '1 day') d) x WHERE x.t > '2026-01-01 00:00+00' ORDER BY x.t LIMIT 730)),
    NULL, 'noon on each day of two years');

-- Every quarter of an hour in the weeks in which clocks change.
CREATE TABLE wall AS SELECT z.name, w.n AS week, t, t AT TIME ZONE z.name AS wall
FROM z, (VALUES (1, '2026-03-07 00:00+00'::timestamptz), (2, '2026-03-28 00:00+00'), (3, '2026-10-24 00:00+00'), (4, '2026-10-31 00:00+00')) w(n, a), generate_series(w.a, w.a + '3 days', '15 min') t;
CREATE INDEX ON wall (name, week);
ANALYZE wall;
CREATE FUNCTION dues(timing text, zone text, a timestamptz, b timestamptz) RETURNS timestamptz[] LANGUAGE sql AS $$
    SELECT array_agg(d ORDER BY d) FROM dts.next_runs(timing, zone, 400, a) d WHERE d <= b $$;
SELECT is((SELECT string_agg(DISTINCT x.name, ' ') FROM (SELECT w.name, min(t) AS a, max(t) AS b, array_agg(t ORDER BY t) FILTER (WHERE extract(minute FROM wall) = 30 AND t > w.first) AS want
    FROM (SELECT wall.*, min(t) OVER (PARTITION BY name, week) AS first FROM wall) w GROUP BY name, week) x
    WHERE dues('30 * * * *', x.name, x.a, x.b) IS DISTINCT FROM x.want), NULL, 'a wildcard hour: whenever the wall shows it');
-- A fixed hour: the first instant at which the wall has come to it, once for each day.
SELECT is((SELECT string_agg(DISTINCT x.name, ' ') FROM (
    SELECT w.name, w.week, (SELECT min(t) FROM wall f WHERE f.name = w.name AND f.week = w.week) AS a, (SELECT max(t) FROM wall f WHERE f.name = w.name AND f.week = w.week) AS b,
           array_agg(DISTINCT w.t ORDER BY w.t) AS want
    FROM (SELECT name, week, t, wall, max(wall) OVER (PARTITION BY name, week ORDER BY t ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM wall) w
    WHERE w.before IS NOT NULL AND w.wall > w.before AND date_trunc('day', w.wall) + '02:15' <= w.wall AND date_trunc('day', w.wall) + '02:15' > w.before GROUP BY w.name, w.week) x
    WHERE dues('15 2 * * *', x.name, x.a, x.b) IS DISTINCT FROM x.want), NULL, 'a fixed hour: once, at the first instant not before it');
SELECT isnt(dts._zone_print('Europe/Berlin'), dts._zone_print('Europe/London'), 'zones differ');
SELECT is(dts._zone_print('Nowhere/Land'), NULL, 'one that the server does not know');
SELECT * FROM finish();
