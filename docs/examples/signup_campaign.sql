-- A mail campaign for each user who signs up: welcome, wait for the confirmation, remind, follow up.
-- Mail goes through a handler: here it writes to a table.
CREATE SCHEMA mail;
CREATE TABLE mail.sent (to_whom text, subject text, n int GENERATED ALWAYS AS IDENTITY);
SELECT dts.create_handler('campaign_mail', 'INSERT INTO mail.sent (to_whom, subject) VALUES ($1 ->> ''to'', $1 ->> ''subject'')');
SELECT dts.create_workflow('signup', '{
  "params": {"user": {"type": "string"}, "patience": {"type": "string", "default": "3 days"}},
  "nodes": {
    "welcome":   {"handler": "campaign_mail", "payload": {"to": "${params.user}", "subject": "Welcome, ${params.user}"}},
    "patience":  {"needs": ["welcome"], "sleep": "${params.patience}"},
    "remind":    {"needs": ["patience"], "handler": "campaign_mail", "payload": {"to": "${params.user}", "subject": "Please confirm"}},
    "confirmed": {"needs": ["remind"], "signal": "confirmed"},
    "follow_up": {"needs": ["confirmed"], "handler": "campaign_mail", "payload": {"to": "${params.user}", "subject": "Thank you for ${nodes.confirmed.output.plan}"}}}}');
-- From a trigger: the campaign begins in the transaction of the row.
CREATE TABLE mail.users (name text PRIMARY KEY);
CREATE FUNCTION mail.begin() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM dts.start('signup', jsonb_build_object('user', NEW.name, 'patience', '0.1 s'), key => NEW.name); RETURN NEW; END $$;
CREATE TRIGGER signed_up AFTER INSERT ON mail.users FOR EACH ROW EXECUTE FUNCTION mail.begin();
INSERT INTO mail.users VALUES ('ann'), ('bob');
SELECT dts.signal(id, 'confirmed', '{"plan": "gold"}') FROM dts.workflow_runs WHERE workflow = 'signup';
-- Check: SELECT string_agg(subject, ', ' ORDER BY n) FROM mail.sent WHERE to_whom = 'ann'
-- Gives: Welcome, ann, Please confirm, Thank you for gold
