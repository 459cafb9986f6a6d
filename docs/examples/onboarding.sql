-- On-boarding: accounts in parallel, approval by two, a deadline for the whole.
CREATE SCHEMA hr;
CREATE TABLE hr.account (employee text, system text);
SELECT dts.create_workflow('onboarding', '{
  "params": {"employee": {"type": "string"}}, "deadline": "5 days",
  "nodes": {
    "budget":   {"approval": {"prompt": "new employee: budget?", "quorum": 1, "expires": "2 days"}},
    "accounts": {"needs": ["budget"], "map": {"items": ["mail", "chat", "code"]}, "sql": "INSERT INTO hr.account VALUES (${params.employee}::text, ${item}::text) RETURNING system"},
    "laptop":   {"needs": ["budget"], "signal": {"name": "laptop", "expires": "4 days"}},
    "welcome":  {"needs": ["accounts", "laptop"], "sql": "SELECT format(''%s has %s and %s'', ${params.employee}::text, ${nodes.accounts.output}, ${nodes.laptop.output.model}::text) AS text"}},
  "output": "${nodes.welcome.output.text}"}');
SELECT dts.start('onboarding', '{"employee": "Eve"}') AS run \gset
SELECT dts.approve(:run, 'budget', 'within plan');
SELECT dts.signal(:run, 'laptop', '{"model": "T14"}');
-- Check: SELECT output #>> '{}' FROM dts.workflow_runs WHERE workflow = 'onboarding'
-- Gives: Eve has [{"system": "mail"}, {"system": "chat"}, {"system": "code"}] and T14
