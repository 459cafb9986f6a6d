-- Fleet dispatch: each open delivery gets the nearest free vehicle, one after the other where they compete; drivers are told.
CREATE SCHEMA fleet;
CREATE TABLE fleet.vehicle (id int PRIMARY KEY, place int, busy boolean DEFAULT false);
CREATE TABLE fleet.delivery (id int PRIMARY KEY, place int, vehicle int, told boolean DEFAULT false);
INSERT INTO fleet.vehicle SELECT i, i * 10 FROM generate_series(1, 5) i;
INSERT INTO fleet.delivery SELECT i, i * 10 + 1 FROM generate_series(1, 5) i;
SELECT dts.create_workflow('fleet_dispatch',
    dts.node('open', 'SELECT jsonb_agg(id ORDER BY id) AS ids FROM fleet.delivery WHERE vehicle IS NULL'),
    dts.node('assign', 'WITH v AS (SELECT v.id FROM fleet.vehicle v, fleet.delivery d WHERE d.id = ${item}::int AND NOT v.busy ORDER BY abs(v.place - d.place) LIMIT 1 FOR UPDATE OF v SKIP LOCKED),
                             b AS (UPDATE fleet.vehicle x SET busy = true FROM v WHERE x.id = v.id)
                        UPDATE fleet.delivery d SET vehicle = v.id FROM v WHERE d.id = ${item}::int RETURNING d.id, d.vehicle',
             needs => '{open}', map => '{"items": "${nodes.open.output.ids}", "max_parallel": 1}'),
    dts.node('tell', 'UPDATE fleet.delivery SET told = true WHERE id = ${item.id}::int', needs => '{assign}', map => '{"items": "${nodes.assign.output}"}'),
    dts.node('left_over', 'SELECT count(*) AS n FROM fleet.delivery WHERE vehicle IS NULL', needs => '{tell}'),
    dts.node('call_partner', 'SELECT 1', needs => '{left_over}', "when" => '$.nodes.left_over.output.n > 0'));
SELECT dts.start('fleet_dispatch') AS run;
-- Check: SELECT count(DISTINCT vehicle) || ' ' || bool_and(told) FROM fleet.delivery
-- Gives: 5 true
