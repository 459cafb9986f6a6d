-- Secrets: made and changed here, opened only by the courier.

CREATE FUNCTION dts._seal(name text, owner oid, value text, OUT sealed bytea, OUT key_id bytea)
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_seal';
COMMENT ON FUNCTION dts._seal(text, oid, text) IS 'A secret encrypted under the key of now.';
CREATE FUNCTION dts._reseal(name text, owner oid, value bytea, key_id bytea) RETURNS bytea
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_reseal';
COMMENT ON FUNCTION dts._reseal(text, oid, bytea, bytea) IS 'The same secret under the key of now; NULL if it is already.';
CREATE FUNCTION dts._key_id() RETURNS bytea
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_key_id';
COMMENT ON FUNCTION dts._key_id() IS 'What tells the key of now from others.';

CREATE FUNCTION dts._secret_row(caller oid, name text) RETURNS dts.secret
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE s dts.secret;
BEGIN
    SELECT * INTO s FROM dts.secret x WHERE x.name = _secret_row.name;
    IF s.name IS NULL OR NOT dts._role_may(caller, s.owner) THEN
        RAISE EXCEPTION 'secret "%" does not exist', COALESCE(name, 'NULL') USING ERRCODE = 'undefined_object', HINT = 'The view dts.secrets shows those there are.';
    END IF;
    RETURN s;
END $$;
COMMENT ON FUNCTION dts._secret_row(oid, text) IS 'A secret that the caller may change.';

CREATE FUNCTION dts._check_secret(name text, value text, hosts text[], roles text[]) RETURNS regrole[]
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE x text; result regrole[] := '{}';
BEGIN
    IF name IS NULL OR name !~ '^[A-Za-z0-9_.-]{1,63}$' THEN
        RAISE EXCEPTION 'invalid value for argument "name": %', COALESCE(quote_ident(name), 'NULL') USING ERRCODE = 'invalid_name', HINT = 'Use up to 63 letters, digits, "_", "-" and ".".';
    ELSIF octet_length(value) NOT BETWEEN 1 AND 65536 THEN
        RAISE EXCEPTION 'argument "value" must be 1 to 65536 bytes long' USING ERRCODE = 'invalid_parameter_value', HINT = 'Drop a secret that is not needed with dts.drop_secret.';
    END IF;
    FOREACH x IN ARRAY COALESCE(hosts, '{}') LOOP
        IF x IS NULL OR NOT dts._check_host_pattern(x) THEN
            RAISE EXCEPTION 'invalid value for argument "hosts": %', COALESCE(quote_ident(x), 'NULL') USING ERRCODE = 'invalid_parameter_value', HINT = 'Host names, "*.example.com", or addresses.';
        END IF;
    END LOOP;
    FOREACH x IN ARRAY COALESCE(roles, '{}') LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = x) THEN
            RAISE EXCEPTION 'role "%" does not exist', COALESCE(x, 'NULL') USING ERRCODE = 'undefined_object', HINT = 'Role names are case-sensitive here.';
        END IF;
        result := result || (SELECT oid::regrole FROM pg_roles WHERE rolname = x);
    END LOOP;
    RETURN result;
END $$;
COMMENT ON FUNCTION dts._check_secret(text, text, text[], text[]) IS 'Refuses bad arguments of a secret.';

-- The audit log holds who, when and which; never the value.
CREATE FUNCTION dts._create_secret(caller oid, name text, value text, hosts text[], roles text[], description text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE r regrole[] := dts._check_secret(name, value, hosts, roles); s record;
BEGIN
    IF value IS NULL THEN
        RAISE EXCEPTION 'argument "value" must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'Give the secret text.';
    END IF;
    s := dts._seal(name, caller, value);
    PERFORM dts._check_number(caller, 'secret');
    BEGIN
        INSERT INTO dts.secret (name, owner, value, key_id, hosts, roles, description) VALUES (_create_secret.name, caller, s.sealed, s.key_id, COALESCE(_create_secret.hosts, '{}'), r, _create_secret.description);
    EXCEPTION WHEN unique_violation THEN
        RAISE EXCEPTION 'secret "%" already exists', name USING ERRCODE = 'duplicate_object', HINT = 'Change it with dts.alter_secret.';
    END;
    PERFORM dts._audit(caller, 'create_secret', name, NULL, jsonb_build_object('hosts', hosts, 'roles', roles));
END $$;
COMMENT ON FUNCTION dts._create_secret(oid, text, text, text[], text[], text) IS 'dts.create_secret, as the owner of the extension.';

CREATE FUNCTION dts._alter_secret(caller oid, name text, value text, hosts text[], roles text[], description text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE old dts.secret := dts._secret_row(caller, name); r regrole[] := dts._check_secret(name, value, hosts, roles); s record;
BEGIN
    IF value IS NOT NULL THEN
        s := dts._seal(name, old.owner, value);
        UPDATE dts.secret x SET value = s.sealed, key_id = s.key_id WHERE x.name = old.name;
    END IF;
    UPDATE dts.secret x SET hosts = COALESCE(_alter_secret.hosts, x.hosts), roles = CASE WHEN _alter_secret.roles IS NULL THEN x.roles ELSE r END,
        description = COALESCE(_alter_secret.description, x.description), changed_at = clock_timestamp() WHERE x.name = old.name;
    PERFORM dts._audit(caller, 'alter_secret', name, jsonb_build_object('hosts', old.hosts, 'roles', old.roles), jsonb_build_object('hosts', hosts, 'roles', roles, 'value_changed', value IS NOT NULL));
END $$;
COMMENT ON FUNCTION dts._alter_secret(oid, text, text, text[], text[], text) IS 'dts.alter_secret, as the owner of the extension.';

CREATE FUNCTION dts._drop_secret(caller oid, name text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE old dts.secret := dts._secret_row(caller, name);
BEGIN
    DELETE FROM dts.secret x WHERE x.name = old.name;
    PERFORM dts._audit(caller, 'drop_secret', name, jsonb_build_object('hosts', old.hosts, 'roles', old.roles), NULL);
END $$;
COMMENT ON FUNCTION dts._drop_secret(oid, text) IS 'dts.drop_secret, as the owner of the extension.';

CREATE FUNCTION dts._reencrypt_secrets(caller oid) RETURNS int
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE n int;
BEGIN
    WITH done AS (
        UPDATE dts.secret s SET value = r.sealed, key_id = dts._key_id()
        FROM (SELECT x.name, dts._reseal(x.name, x.owner, x.value, x.key_id) AS sealed FROM dts.secret x OFFSET 0) r
        WHERE r.name = s.name AND r.sealed IS NOT NULL RETURNING 1)
    SELECT count(*) INTO n FROM done;
    PERFORM dts._audit(caller, 'reencrypt_secrets', 'secrets', NULL, jsonb_build_object('count', n));
    RETURN n;
END $$;
COMMENT ON FUNCTION dts._reencrypt_secrets(oid) IS 'dts.reencrypt_secrets, as the owner of the extension.';

CREATE FUNCTION dts.create_secret(name text, value text, hosts text[] DEFAULT NULL, roles text[] DEFAULT NULL, description text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.create_secret(text, text, text[], text[], text) IS
'Keeps a secret, encrypted, for use as ${secret:name} in requests. It belongs to the caller; tasks of members of that role, and of roles, may use it. hosts: where it may be sent; without, anywhere that egress rules allow. No function gives its value back.';
CREATE FUNCTION dts.alter_secret(name text, value text DEFAULT NULL, hosts text[] DEFAULT NULL, roles text[] DEFAULT NULL, description text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.alter_secret(text, text, text[], text[], text) IS 'Changes a secret; what is left out or NULL stays. Requests that start from now on use the new value.';
CREATE FUNCTION dts.drop_secret(name text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.drop_secret(text) IS 'Drops a secret; requests that refer to it fail from now on.';
CREATE FUNCTION dts.reencrypt_secrets() RETURNS int
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.reencrypt_secrets() IS 'Encrypts all secrets of this database that are under another key, that of dts.secret_old_key_file, under the key of now; returns how many. For administrators.';

CREATE VIEW dts.secrets WITH (security_barrier) AS
SELECT s.name, dts._role_name(s.owner) AS owner, s.hosts, ARRAY(SELECT dts._role_name(r) FROM pg_catalog.unnest(s.roles) r) AS roles, pg_catalog.encode(s.key_id, 'hex') AS key_id,
       s.description, s.created_at, s.changed_at
FROM dts.secret s
WHERE dts._caller_sees(s.owner);
COMMENT ON VIEW dts.secrets IS 'Secrets by name: whose, for which hosts and roles. Never their values.';
