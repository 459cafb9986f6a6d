-- What leaves the server: where it may go, what it may show, and how the hosts do.

CREATE TABLE dts.egress_rule (
    id int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    allow boolean NOT NULL,
    host text NOT NULL,
    schemes text[] NOT NULL DEFAULT '{}',
    ports int4range[] NOT NULL DEFAULT '{}',
    networks cidr[] NOT NULL DEFAULT '{}',
    role regrole,
    description text,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE dts.egress_rule IS 'Where requests and mails may go. What no rule allows is refused; what one denies is refused whatever others say. Read the view dts.egress.';

CREATE TABLE dts.secret (
    name text PRIMARY KEY,
    owner regrole NOT NULL,
    value bytea NOT NULL,
    key_id bytea NOT NULL,
    hosts text[] NOT NULL DEFAULT '{}',
    roles regrole[] NOT NULL DEFAULT '{}',
    description text,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE dts.secret IS 'Secrets, encrypted: nonce, tag and ciphertext of AES-256-GCM; key_id tells the key. Read the view dts.secrets, which shows no value.';

ALTER TABLE dts.egress_rule ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.secret ENABLE ROW LEVEL SECURITY;

-- ---- rules

CREATE FUNCTION dts._rule_texts(rule_role oid, OUT allow boolean, OUT host text, OUT schemes text, OUT ports text, OUT networks text) RETURNS SETOF record
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.allow, r.host, array_to_string(r.schemes, ','), (SELECT string_agg(lower(p) || '-' || upper(p) - 1, ',') FROM unnest(r.ports) p), array_to_string(r.networks, ',')
    FROM dts.egress_rule r WHERE r.role IS NULL OR pg_has_role($1, r.role::oid, 'MEMBER') $$;
COMMENT ON FUNCTION dts._rule_texts(oid) IS 'The egress rules that count for a role, as the courier reads them.';

CREATE FUNCTION dts._check_host_pattern(host text) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'dts_check_host_pattern';
COMMENT ON FUNCTION dts._check_host_pattern(text) IS 'Whether a text can be the host of an egress rule.';

CREATE FUNCTION dts._egress_rule(caller oid, allow boolean, host text, schemes text[], ports int[], ranges int4range[], networks cidr[], role text, description text) RETURNS int
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE r dts.egress_rule; x text; p int; new_role oid;
BEGIN
    IF host IS NULL OR NOT dts._check_host_pattern(host) THEN
        RAISE EXCEPTION 'invalid value for argument "host": %', COALESCE(quote_ident(host), 'NULL') USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Give a host name or address, "*.example.com" for all names below one, or "*".';
    END IF;
    FOREACH x IN ARRAY COALESCE(schemes, '{}') LOOP
        IF x IS NULL OR x NOT IN ('http', 'https', 'mailto') THEN
            RAISE EXCEPTION 'invalid value for argument "schemes": %', COALESCE(quote_ident(x), 'NULL') USING ERRCODE = 'invalid_parameter_value', HINT = 'Use http, https and mailto.';
        END IF;
    END LOOP;
    FOREACH p IN ARRAY COALESCE(ports, '{}') LOOP
        IF p IS NULL OR p NOT BETWEEN 1 AND 65535 THEN
            RAISE EXCEPTION 'invalid value for argument "ports": %', COALESCE(p::text, 'NULL') USING ERRCODE = 'invalid_parameter_value', HINT = 'Ports are 1 to 65535.';
        END IF;
    END LOOP;
    IF array_position(networks, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'argument "networks" must not contain null' USING ERRCODE = 'null_value_not_allowed', HINT = 'Leave it out.';
    END IF;
    IF role IS NOT NULL THEN
        new_role := (SELECT oid FROM pg_roles WHERE rolname = role);
        IF new_role IS NULL THEN
            RAISE EXCEPTION 'role "%" does not exist', role USING ERRCODE = 'undefined_object', HINT = 'Role names are case-sensitive here.';
        END IF;
    END IF;
    INSERT INTO dts.egress_rule (allow, host, schemes, ports, networks, role, description)
    VALUES (_egress_rule.allow, _egress_rule.host, COALESCE(_egress_rule.schemes, '{}'),
            ARRAY(SELECT int4range(u, u + 1) FROM unnest(_egress_rule.ports) u) || COALESCE(_egress_rule.ranges, '{}'),
            COALESCE(_egress_rule.networks, '{}'), new_role, _egress_rule.description)
    RETURNING * INTO r;
    PERFORM dts._audit(caller, CASE WHEN allow THEN 'allow_host' ELSE 'deny_host' END, host, NULL, to_jsonb(r)), dts._changed('egress', r.id);
    RETURN r.id;
END $$;
COMMENT ON FUNCTION dts._egress_rule(oid, boolean, text, text[], int[], int4range[], cidr[], text, text) IS 'Adds an egress rule, as the owner of the extension.';

CREATE FUNCTION dts._allow_host(caller oid, host text, schemes text[], ports int[], networks cidr[], role text, description text) RETURNS int
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$ SELECT dts._egress_rule($1, true, $2, $3, $4, NULL, $5, $6, $7) $$;
COMMENT ON FUNCTION dts._allow_host(oid, text, text[], int[], cidr[], text, text) IS 'dts.allow_host, as the owner of the extension.';
CREATE FUNCTION dts._deny_host(caller oid, host text, schemes text[], ports int[], role text, description text) RETURNS int
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$ SELECT dts._egress_rule($1, false, $2, $3, $4, NULL, NULL, $5, $6) $$;
COMMENT ON FUNCTION dts._deny_host(oid, text, text[], int[], text, text) IS 'dts.deny_host, as the owner of the extension.';
CREATE FUNCTION dts._remove_rule(caller oid, rule int) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE r dts.egress_rule;
BEGIN
    DELETE FROM dts.egress_rule e WHERE e.id = rule RETURNING * INTO r;
    IF r.id IS NULL THEN
        RAISE EXCEPTION 'egress rule % does not exist', COALESCE(rule::text, 'NULL') USING ERRCODE = 'undefined_object', HINT = 'The view dts.egress shows those there are.';
    END IF;
    PERFORM dts._audit(caller, 'remove_rule', r.host, to_jsonb(r), NULL), dts._changed('egress', r.id);
END $$;
COMMENT ON FUNCTION dts._remove_rule(oid, int) IS 'dts.remove_rule, as the owner of the extension.';

CREATE FUNCTION dts.allow_host(host text, schemes text[] DEFAULT NULL, ports int[] DEFAULT NULL, networks cidr[] DEFAULT NULL, role text DEFAULT NULL, description text DEFAULT NULL) RETURNS int
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.allow_host(text, text[], int[], cidr[], text, text) IS
'Allows requests to a host ("api.example.com", "*.example.com", "*", an address) for all roles, or one; returns the rule''s number. schemes: https if not given; http, mailto (mails to addresses of this host). ports: the scheme''s own if not given. networks: ranges of private and other special addresses that this host may lead to; without it only public addresses are connected to, except the one that host itself is.';
CREATE FUNCTION dts.deny_host(host text, schemes text[] DEFAULT NULL, ports int[] DEFAULT NULL, role text DEFAULT NULL, description text DEFAULT NULL) RETURNS int
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.deny_host(text, text[], int[], text, text) IS 'Denies requests to a host, whatever other rules allow; returns the rule''s number. Without schemes and ports it denies all.';
CREATE FUNCTION dts.remove_rule(rule int) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.remove_rule(int) IS 'Removes an egress rule, by the number that dts.allow_host or dts.deny_host gave.';

CREATE VIEW dts.egress WITH (security_barrier) AS
SELECT r.id AS rule, CASE WHEN r.allow THEN 'allow' ELSE 'deny' END AS action, r.host, r.schemes, r.ports, r.networks,
       CASE WHEN r.role IS NOT NULL THEN dts._role_name(r.role) END AS role, r.description, r.created_at
FROM dts.egress_rule r
WHERE r.role IS NULL OR dts._caller_sees(r.role);
COMMENT ON VIEW dts.egress IS 'Where requests and mails may go: the rules of dts.allow_host and dts.deny_host.';
