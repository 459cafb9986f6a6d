-- A medical test pipeline: samples are analysed after an incubation time; abnormal values go to a doctor, who has to confirm.
CREATE SCHEMA lab;
CREATE TABLE lab.sample (id int PRIMARY KEY, patient text, value numeric, report text);
CREATE TABLE lab.message (patient text, body text);
INSERT INTO lab.sample VALUES (1, 'Ann', 5.1), (2, 'Bob', 9.7);
SELECT dts.create_workflow('medical_test', '{
  "params": {"sample": {"type": "integer"}, "incubation": {"type": "string", "default": "2 days"}},
  "nodes": {
    "incubate": {"sleep": "${params.incubation}"},
    "analyse":  {"needs": ["incubate"], "sql": "SELECT patient, value FROM lab.sample WHERE id = ${params.sample}::int"},
    "triage":   {"needs": ["analyse"], "switch": {"abnormal": "$.nodes.analyse.output.value > 7", "else": true}},
    "notify_doctor": {"needs": ["triage.abnormal"], "sql": "INSERT INTO lab.message VALUES (''doctor'', format(''check %s: %s'', ${nodes.analyse.output.patient}::text, ${nodes.analyse.output.value}::text))"},
    "confirm":  {"needs": ["notify_doctor"], "approval": {"prompt": "abnormal value: confirm the finding", "expires": "3 days"}},
    "report":   {"needs": ["triage.else?", "confirm?"], "sql": "UPDATE lab.sample SET report = CASE WHEN ${nodes.confirm.state}::text = ''succeeded'' THEN ''abnormal, confirmed'' ELSE ''normal'' END WHERE id = ${params.sample}::int"}}}');
SELECT dts.start('medical_test', jsonb_build_object('sample', id, 'incubation', '0.2 s')) AS run FROM lab.sample ORDER BY id;
-- The doctor may decide before she is asked.
SELECT dts.approve(id, 'confirm', 'seen') FROM dts.workflow_runs WHERE workflow = 'medical_test' AND params ->> 'sample' = '2';
-- Check: SELECT string_agg(report, '; ' ORDER BY id) || '; ' || (SELECT count(*) FROM lab.message) FROM lab.sample
-- Gives: normal; abnormal, confirmed; 1
