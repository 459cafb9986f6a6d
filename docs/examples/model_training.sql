-- Model training: a map over candidates; the best one is deployed if it is good enough.
CREATE SCHEMA ml;
CREATE TABLE ml.deployed (model text, accuracy numeric);
CREATE FUNCTION ml.train(model text, depth int) RETURNS numeric LANGUAGE sql AS $$ SELECT round(0.7 + depth * 0.05, 2) $$;
SELECT dts.create_workflow('model_training', '{
  "params": {"candidates": {"type": "array", "default": [{"model": "small", "depth": 1}, {"model": "medium", "depth": 2}, {"model": "large", "depth": 4}]}, "enough": {"type": "number", "default": 0.85}},
  "nodes": {
    "train":  {"map": {"items": "${params.candidates}", "max_parallel": 2, "tolerate": 1}, "sql": "SELECT ${item.model}::text AS model, ml.train(${item.model}::text, ${item.depth}::int) AS accuracy"},
    "best":   {"needs": ["train"], "sql": "SELECT m ->> ''model'' AS model, (m ->> ''accuracy'')::numeric AS accuracy FROM jsonb_array_elements(${nodes.train.output}) m WHERE m <> ''null'' ORDER BY 2 DESC LIMIT 1"},
    "deploy": {"needs": ["best"], "when": "$.nodes.best.output.accuracy >= $.params.enough", "sql": "INSERT INTO ml.deployed VALUES (${nodes.best.output.model}::text, ${nodes.best.output.accuracy}::numeric)"}}}');
SELECT dts.start('model_training') AS run, dts.start('model_training', '{"enough": 0.99}') AS not_good_enough;
-- Check: SELECT string_agg(model || ' ' || accuracy, ', ') FROM ml.deployed
-- Gives: large 0.90
