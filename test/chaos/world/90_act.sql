-- What a client does: one of the functions chaos.load_*, at random. Last, so that it knows them all.
CREATE TABLE chaos.load AS SELECT row_number() OVER (ORDER BY proname)::int AS n, format('SELECT chaos.%I()', proname) AS call FROM pg_proc WHERE pronamespace = 'chaos'::regnamespace AND proname ~ '^load_';
-- What has succeeded at least once.
CREATE TABLE chaos.acted (n int PRIMARY KEY);
CREATE FUNCTION chaos.act() RETURNS void LANGUAGE plpgsql AS $$
DECLARE i int := 1 + floor(random() * (SELECT max(n) FROM chaos.load));
BEGIN
    EXECUTE (SELECT call FROM chaos.load WHERE n = i);
    INSERT INTO chaos.acted VALUES (i) ON CONFLICT DO NOTHING;
END $$;
GRANT SELECT ON ALL TABLES IN SCHEMA chaos TO chaos_users;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA chaos TO chaos_users;
