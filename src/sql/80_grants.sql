-- Rights. Nothing is granted to PUBLIC; three functions hand out three sets of rights.

CREATE FUNCTION dts._admin_marker() RETURNS void LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT $$;
COMMENT ON FUNCTION dts._admin_marker() IS 'Who may execute this is an administrator of dts: it is what dts.grant_admin grants.';
CREATE FUNCTION dts._monitor_marker() RETURNS void LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT $$;
COMMENT ON FUNCTION dts._monitor_marker() IS 'Who may execute this is a monitor of dts: it is what dts.grant_monitor grants.';

CREATE FUNCTION dts._grant(role text, functions text[], views text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE x text;
BEGIN
    IF role IS NULL THEN
        RAISE EXCEPTION 'argument "role" must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'Give the name of a role.';
    ELSIF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
        RAISE EXCEPTION 'role "%" does not exist', role USING ERRCODE = 'undefined_object', HINT = 'Role names are case-sensitive here.';
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA dts TO %I', role);
    FOR x IN SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'dts'::regnamespace AND p.proname = ANY (functions) LOOP
        EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO %I', x, role);
    END LOOP;
    FOREACH x IN ARRAY views LOOP
        EXECUTE format('GRANT SELECT ON dts.%I TO %I', x, role);
    END LOOP;
END $$;
COMMENT ON FUNCTION dts._grant(text, text[], text[]) IS 'Grants a set of functions and views of dts to a role.';

CREATE FUNCTION dts._views() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS $$ SELECT ARRAY['tasks', 'runs', 'running', 'queues', 'workers', 'dead_letters', 'handlers', 'audit', 'dependencies', 'workflows', 'workflow_runs', 'workflow_nodes',
                       'limits', 'schedules', 'fires', 'calendars', 'backfills', 'notifications', 'agents', 'agent_queues', 'logs', 'batches', 'egress', 'secrets', 'hosts',
                       'subscriptions'] $$;
COMMENT ON FUNCTION dts._views() IS 'The public views.';
CREATE FUNCTION dts._view_helpers() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS $$ SELECT ARRAY['_state_name', '_kind_name', '_role_name', '_slots', '_held', '_queue_stats', '_limit_state', '_progress', '_caller_may', '_caller_sees', '_state',
                       'state', 'version', '_reading', 'check_timing', 'next_runs', '_schedule_runs', '_due_times', '_waiting_agents', '_hosts'] $$;
COMMENT ON FUNCTION dts._view_helpers() IS 'Functions that the public views call with the rights of the reader.';
CREATE FUNCTION dts._user_functions() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS $$ SELECT ARRAY['submit', 'submit_handler', 'submit_many', 'submit_handler_many', 'after', 'current_task', 'parent_results', '_parents', 'node', 'param', 'workflow_options',
                       'create_workflow', 'drop_workflow', 'validate_workflow', 'start', 'start_many', 'signal', 'approve', 'reject', 'pause_run', 'resume_run',
                       'cancel_run', 'retry_run', 'set_node', 'graph', 'timeline', 'cancel', 'reschedule', 'set_priority', 'retry', 'redrive', 'redrive_queue', 'progress',
                       'wait', 'result', 'explain', 'create_handler', 'alter_handler', 'drop_handler', 'schedule', 'alter_schedule', 'unschedule', 'pause_schedule',
                       'resume_schedule', 'run_now', 'backfill', 'cancel_backfill', 'agenda', '_agenda_text', 'explain_schedule', 'scheduled_for', 'scheduled', '_schedule_tag',
                       'create_calendar', 'alter_calendar', 'drop_calendar', 'create_notification', 'alter_notification', 'drop_notification', 'submit_command', 'task_log',
                       'submit_http', 'submit_mail', 'create_secret', 'alter_secret', 'drop_secret', 'create_request_handler', 'alter_request_handler', 'after_batch',
                       'batch_progress', '_given', '_definition',
                       'preview', 'emit', 'on_event', 'on_change', 'drop_subscription'] $$;
COMMENT ON FUNCTION dts._user_functions() IS 'What dts.grant_usage grants.';
CREATE FUNCTION dts._admin_functions() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS $$ SELECT ARRAY['_admin_marker', 'create_queue', 'alter_queue', 'drop_queue', 'pause', 'resume', 'set_limit', 'in_progress', 'drain', 'stuck', 'stats', 'metrics',
                       'health', 'doctor', 'rescan', 'adopt', '_database_stats', '_fence', 'import_pg_cron', '_import_pg_cron_json', 'allow_host', 'deny_host',
                       'remove_rule', 'reencrypt_secrets', 'reset_host'] $$;
COMMENT ON FUNCTION dts._admin_functions() IS 'What dts.grant_admin grants beside what dts.grant_usage does.';

CREATE FUNCTION dts.grant_usage(role text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM dts._grant(role, dts._user_functions() || dts._view_helpers(), dts._views());
END $$;
COMMENT ON FUNCTION dts.grant_usage(text) IS 'Lets a role submit tasks and see and steer its own. For superusers and the owner of the extension.';
CREATE FUNCTION dts.grant_monitor(role text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM dts._grant(role, dts._view_helpers() || ARRAY['_monitor_marker', 'stuck', 'stats', 'metrics', 'health', 'doctor', '_database_stats', '_fence'], dts._views());
END $$;
COMMENT ON FUNCTION dts.grant_monitor(text) IS 'Lets a role see all tasks, but no text, payload, result or error of others. For superusers and the owner of the extension.';
CREATE FUNCTION dts.grant_admin(role text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM dts._grant(role, dts._user_functions() || dts._view_helpers() || dts._admin_functions(), dts._views());
END $$;
COMMENT ON FUNCTION dts.grant_admin(text) IS 'Lets a role manage queues and see and steer the tasks of all roles. For superusers and the owner of the extension.';
CREATE FUNCTION dts.revoke_all(role text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE x text;
BEGIN
    IF role IS NULL THEN
        RAISE EXCEPTION 'argument "role" must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'Give the name of a role.';
    ELSIF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
        RAISE EXCEPTION 'role "%" does not exist', role USING ERRCODE = 'undefined_object', HINT = 'Role names are case-sensitive here.';
    END IF;
    EXECUTE format('REVOKE ALL ON ALL ROUTINES IN SCHEMA dts FROM %I', role);
    DELETE FROM dts.agent_grant g USING pg_roles r WHERE r.rolname = revoke_all.role AND g.role = r.oid;
    -- Only what was granted: the entries of history's tables in the catalog are changed by the scheduler too, and two changes at once fail.
    FOR x IN SELECT DISTINCT c.oid::regclass::text FROM pg_class c, aclexplode(c.relacl) a
             WHERE c.relnamespace = 'dts'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND a.grantee = (SELECT r.oid FROM pg_roles r WHERE r.rolname = role) LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %I', x, role);
    END LOOP;
    EXECUTE format('REVOKE ALL ON SCHEMA dts FROM %I', role);
END $$;
COMMENT ON FUNCTION dts.revoke_all(text) IS 'Takes all rights on dts from a role; its waiting tasks still run. For superusers and the owner of the extension.';

REVOKE ALL ON ALL TABLES IN SCHEMA dts FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA dts FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA dts FROM PUBLIC;
