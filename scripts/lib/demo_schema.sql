-- The bank of scripts/demo: functions over pgbench's tables. Loaded as the role "clerk", who owns them and all tasks.
UPDATE pgbench_accounts SET abalance = 1000 WHERE aid <= 10000;

CREATE TABLE report (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, branch int NOT NULL, accounts bigint NOT NULL, money numeric NOT NULL,
                     made_at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE settlement (branch int PRIMARY KEY, settled_at timestamptz NOT NULL);

-- Moves money, and leaves one line in pgbench_history for each time that it did: a task that ran twice would show there.
CREATE FUNCTION transfer(sender int, receiver int, amount int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE first int := least(sender, receiver); second int := greatest(sender, receiver);
BEGIN
    -- Always in the same order, so that two transfers cannot lock each other out.
    PERFORM FROM pgbench_accounts WHERE aid = first FOR UPDATE;
    PERFORM FROM pgbench_accounts WHERE aid = second FOR UPDATE;
    UPDATE pgbench_accounts SET abalance = abalance - amount WHERE aid = sender;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'account % does not exist', sender USING ERRCODE = 'foreign_key_violation';
    END IF;
    UPDATE pgbench_accounts SET abalance = abalance + amount WHERE aid = receiver;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'account % does not exist', receiver USING ERRCODE = 'foreign_key_violation';
    END IF;
    INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (receiver, 1, sender, amount, clock_timestamp());
    RETURN amount;
END $$;

-- Fails until the ledger opens: what a retry is for.
CREATE FUNCTION settle(branch int, opens_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF clock_timestamp() < opens_at THEN
        RAISE EXCEPTION 'the ledger of branch % is closed', branch USING HINT = format('It opens at %s.', opens_at);
    END IF;
    INSERT INTO settlement VALUES (branch, clock_timestamp());
END $$;

SELECT dts.create_handler('branch_report', $$
    INSERT INTO report (branch, accounts, money)
    SELECT bid, count(*), sum(abalance) FROM pgbench_accounts WHERE bid = ($1 ->> 'branch')::int GROUP BY bid
    RETURNING branch, accounts, money
$$, queue => 'reports', description => 'Sums up one branch into the table report.') \g /dev/null
