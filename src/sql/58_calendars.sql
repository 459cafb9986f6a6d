-- Calendars: named sets of days and hours that schedules run in, or do not.

CREATE FUNCTION dts._check_calendar(entries text[]) RETURNS void
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'dts_check_calendar';
COMMENT ON FUNCTION dts._check_calendar(text[]) IS 'Refuses malformed entries of a calendar, with the place of the mistake.';

CREATE FUNCTION dts._calendar_row(caller oid, name text) RETURNS dts.calendar
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE c dts.calendar;
BEGIN
    SELECT * INTO c FROM dts.calendar x WHERE x.name = _calendar_row.name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'calendar "%" does not exist', name USING ERRCODE = 'undefined_object', HINT = 'Create it with dts.create_calendar, or see dts.calendars.';
    ELSIF NOT dts._role_may(caller, c.owner) THEN
        RAISE EXCEPTION 'permission denied for calendar "%"', name USING ERRCODE = 'insufficient_privilege',
            DETAIL = 'Only members of its owner''s role and administrators may change it.', HINT = 'Create a calendar of your own under another name.';
    END IF;
    RETURN c;
END $$;
COMMENT ON FUNCTION dts._calendar_row(oid, text) IS 'The calendar of this name if the caller may change it; 42704 or 42501 else.';

-- Whoever uses a calendar is due at other times when it changes; the mark stays, so nothing past is fired again.
CREATE FUNCTION dts._calendar_changed(name text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE dts.schedule_clock c SET next_fire = dts._next_fire(s, c.fired_until) FROM dts.schedule s
    WHERE s.id = c.schedule AND NOT s.paused AND c.next_fire IS NOT NULL AND _calendar_changed.name IN (s.only_in, s.not_in);
    PERFORM dts._changed('schedule', 0);
END $$;
COMMENT ON FUNCTION dts._calendar_changed(text) IS 'Works out anew when the schedules that use a calendar are due.';

CREATE FUNCTION dts._create_calendar(caller oid, name text, entries text[], description text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM dts._check_name('calendar', name), dts._check_calendar(entries);
    PERFORM dts._check_number(caller, 'calendar');
    BEGIN
        INSERT INTO dts.calendar (name, owner, entries, description) VALUES (_create_calendar.name, caller, _create_calendar.entries, _create_calendar.description);
    EXCEPTION WHEN unique_violation THEN
        RAISE EXCEPTION 'calendar "%" already exists', name USING ERRCODE = 'duplicate_object', HINT = 'Change it with dts.alter_calendar.';
    END;
    PERFORM dts._audit(caller, 'create_calendar', name, NULL, to_jsonb(entries));
END $$;
COMMENT ON FUNCTION dts._create_calendar(oid, text, text[], text) IS 'dts.create_calendar, as the owner of the extension.';

CREATE FUNCTION dts._alter_calendar(caller oid, name text, entries text[], description text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE old dts.calendar := dts._calendar_row(caller, name);
BEGIN
    IF entries IS NOT NULL THEN PERFORM dts._check_calendar(entries); END IF;
    UPDATE dts.calendar c SET entries = COALESCE(_alter_calendar.entries, c.entries), description = COALESCE(_alter_calendar.description, c.description) WHERE c.name = old.name;
    PERFORM dts._calendar_changed(name), dts._audit(caller, 'alter_calendar', name, to_jsonb(old.entries), to_jsonb(COALESCE(entries, old.entries)));
END $$;
COMMENT ON FUNCTION dts._alter_calendar(oid, text, text[], text) IS 'dts.alter_calendar, as the owner of the extension.';

CREATE FUNCTION dts._drop_calendar(caller oid, name text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE old dts.calendar := dts._calendar_row(caller, name); used text;
BEGIN
    SELECT s.name INTO used FROM dts.schedule s WHERE _drop_calendar.name IN (s.only_in, s.not_in) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'cannot drop calendar "%" because schedule "%" uses it', name, used
            USING ERRCODE = 'dependent_objects_still_exist', HINT = 'Take it out of the schedule with dts.alter_schedule(..., reset => ARRAY[''only_in'']).';
    END IF;
    DELETE FROM dts.calendar c WHERE c.name = old.name;
    PERFORM dts._audit(caller, 'drop_calendar', name, to_jsonb(old.entries), NULL);
END $$;
COMMENT ON FUNCTION dts._drop_calendar(oid, text) IS 'dts.drop_calendar, as the owner of the extension.';

CREATE FUNCTION dts.create_calendar(name text, entries text[], description text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.create_calendar(text, text[], text) IS
'Creates a calendar: a named set of days and hours, in the zone of the schedule that uses it. Entries: 2030-12-25, 2030-12-24..2030-12-31, *-12-25 (each year), mon-fri, monthly L (days of the month as in cron) or *, each with hours if you like: mon-fri 09:00-17:00.';
CREATE FUNCTION dts.alter_calendar(name text, entries text[] DEFAULT NULL, description text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.alter_calendar(text, text[], text) IS 'Replaces the entries of a calendar; its schedules follow at once.';
CREATE FUNCTION dts.drop_calendar(name text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.drop_calendar(text) IS 'Drops a calendar that no schedule uses.';
