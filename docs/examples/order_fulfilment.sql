-- Order fulfilment: reserve, charge, pack, ship. What was done is undone, last first, when a later step fails for good.
-- Expected: 2 runs, one succeeded, one failed and undone.
CREATE SCHEMA shop;
CREATE TABLE shop.stock (article text PRIMARY KEY, pieces int CHECK (pieces >= 0));
CREATE TABLE shop.orders (id int PRIMARY KEY, article text, pieces int, state text DEFAULT 'new');
CREATE TABLE shop.payment (order_id int, amount numeric, at timestamptz DEFAULT now());
INSERT INTO shop.stock VALUES ('lamp', 10), ('desk', 10);
CREATE FUNCTION shop.ship(o int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
    IF (SELECT article FROM shop.orders WHERE id = o) = 'desk' THEN RAISE EXCEPTION 'too heavy for the carrier'; END IF;
    UPDATE shop.orders SET state = 'shipped' WHERE id = o; RETURN 'tracking ' || o; END $$;

SELECT dts.create_workflow('order_fulfilment', '{
  "params": {"order": {"type": "integer"}},
  "nodes": {
    "reserve": {"sql": "UPDATE shop.stock s SET pieces = s.pieces - o.pieces FROM shop.orders o WHERE o.id = ${params.order}::int AND s.article = o.article RETURNING o.pieces",
                "compensate": {"sql": "UPDATE shop.stock s SET pieces = s.pieces + o.pieces FROM shop.orders o WHERE o.id = ${params.order}::int AND s.article = o.article"}},
    "charge":  {"needs": ["reserve"], "sql": "INSERT INTO shop.payment (order_id, amount) VALUES (${params.order}::int, 10 * ${nodes.reserve.output.pieces}::int) RETURNING amount",
                "compensate": {"sql": "INSERT INTO shop.payment (order_id, amount) VALUES (${params.order}::int, - ${nodes.charge.output.amount}::numeric)"}},
    "pack":    {"needs": ["charge"], "sql": "UPDATE shop.orders SET state = ''packed'' WHERE id = ${params.order}::int"},
    "ship":    {"needs": ["pack"], "sql": "SELECT shop.ship(${params.order}::int) AS tracking", "max_attempts": 2, "retry": {"base": 0.1}}},
  "on": {"failure": {"sql": "UPDATE shop.orders SET state = ''given up'' WHERE id = ${params.order}::int"}},
  "output": "${nodes.ship.output.tracking}"}');

-- The run begins with the order, or not at all.
BEGIN;
INSERT INTO shop.orders VALUES (1, 'lamp', 2), (2, 'desk', 1);
SELECT dts.start('order_fulfilment', jsonb_build_object('order', id), key => 'order ' || id) FROM shop.orders;
COMMIT;
-- Check: SELECT string_agg(state, ', ' ORDER BY id) || '; ' || (SELECT sum(pieces) FROM shop.stock) || '; ' || (SELECT sum(amount) FROM shop.payment) FROM shop.orders
-- Gives: shipped, given up; 18; 20
