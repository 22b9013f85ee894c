-- The record. Everything belongs to an account; ids are made by the program, times are timestamptz.
--
-- Tables that every bootstrap writes (issuance, certificate, session, device, audit) have no foreign keys to account
-- or device: each insert would lock that one account row, and many workers locking one row is a known bottleneck.
-- Device ids follow from account and endpoint, so they need no look-up either.

-- Who we serve ------------------------------------------------------------------------------------------------------

CREATE TABLE account (
    id         uuid        PRIMARY KEY,
    name       text        NOT NULL UNIQUE CHECK (name <> ''),
    is_default boolean     NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX account_default ON account (is_default) WHERE is_default;

CREATE TABLE api_key (
    id         uuid        PRIMARY KEY,
    account_id uuid        NOT NULL REFERENCES account ON DELETE CASCADE,
    name       text        NOT NULL CHECK (name <> ''),
    role       text        NOT NULL CHECK (role IN ('admin', 'operator', 'reader')),
    key_sha256 bytea       NOT NULL UNIQUE CHECK (length(key_sha256) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (account_id, name)
);

-- Who may come ------------------------------------------------------------------------------------------------------

CREATE TABLE trusted_certificate (
    id              uuid        PRIMARY KEY,
    account_id      uuid        NOT NULL REFERENCES account ON DELETE CASCADE,
    service         text        NOT NULL CHECK (service IN ('bootstrap', 'lwm2m')),
    name            text        NOT NULL,
    description     text        NOT NULL DEFAULT '',
    certificate     bytea       NOT NULL,
    fingerprint     bytea       NOT NULL CHECK (length(fingerprint) = 32),
    spki_sha256     bytea       NOT NULL CHECK (length(spki_sha256) = 32),
    subject         text        NOT NULL,
    issuer          text        NOT NULL,
    not_after       timestamptz NOT NULL,
    -- An inactive one is denied, not unknown.
    active          boolean     NOT NULL DEFAULT true,
    enrollment_mode boolean     NOT NULL DEFAULT false,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (account_id, service, fingerprint)
);
-- Without enrolment list a factory CA decides the account alone, so it is active in one account only. An LwM2M anchor
-- may be shared: a commercial CA is not an identity.
CREATE UNIQUE INDEX trusted_certificate_one_account ON trusted_certificate (fingerprint)
    WHERE active AND service = 'bootstrap' AND NOT enrollment_mode;

CREATE TABLE pre_shared_key (
    id         uuid        PRIMARY KEY,
    account_id uuid        NOT NULL REFERENCES account ON DELETE CASCADE,
    service    text        NOT NULL CHECK (service IN ('bootstrap', 'lwm2m')),
    -- RFC 4279 5.3 asks for 128 bytes at least; the handshake field holds 65535.
    identity   bytea       NOT NULL CHECK (length(identity) BETWEEN 1 AND 1024),
    -- Sealed.
    key        bytea       NOT NULL,
    endpoint   text        NOT NULL CHECK (endpoint <> ''),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Over all accounts: a handshake has nothing but the identity.
    UNIQUE (service, identity)
);
CREATE INDEX pre_shared_key_endpoint ON pre_shared_key (account_id, endpoint, service);

-- Who signs ---------------------------------------------------------------------------------------------------------

CREATE TABLE certificate_issuer (
    id          uuid        PRIMARY KEY,
    account_id  uuid        NOT NULL REFERENCES account ON DELETE CASCADE,
    type        text        NOT NULL CHECK (type <> ''),
    name        text        NOT NULL CHECK (name <> ''),
    description text        NOT NULL DEFAULT '',
    attributes  jsonb       NOT NULL,
    -- Sealed.
    credentials bytea,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (account_id, name),
    UNIQUE (account_id, id)
);

-- Service → issuer; no issuer = the embedded CA. The row LWM2M comes with the account and stays.
CREATE TABLE certificate_issuer_configuration (
    id         uuid        PRIMARY KEY,
    account_id uuid        NOT NULL REFERENCES account ON DELETE CASCADE,
    reference  text        NOT NULL CHECK (reference <> ''),
    issuer_id  uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (account_id, reference),
    FOREIGN KEY (account_id, issuer_id) REFERENCES certificate_issuer (account_id, id)
);

CREATE TABLE embedded_ca (
    id                  uuid        PRIMARY KEY,
    account_id          uuid        NOT NULL UNIQUE REFERENCES account ON DELETE CASCADE,
    root_certificate    bytea       NOT NULL,
    -- Sealed; null once the operator took it off-line.
    root_key            bytea,
    issuing_certificate bytea       NOT NULL,
    -- Sealed.
    issuing_key         bytea       NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT now()
);

-- The bootstrap server's own certificate and the separate root it hangs under; one for the installation.
CREATE TABLE server_credential (
    id               uuid        PRIMARY KEY,
    singleton        boolean     NOT NULL DEFAULT true UNIQUE CHECK (singleton),
    root_certificate bytea       NOT NULL,
    -- Sealed.
    root_key         bytea       NOT NULL,
    certificate      bytea       NOT NULL,
    -- Sealed.
    key              bytea       NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now()
);

-- What a device gets ------------------------------------------------------------------------------------------------

CREATE TABLE profile (
    id         uuid        PRIMARY KEY,
    account_id uuid        NOT NULL REFERENCES account ON DELETE CASCADE,
    name       text        NOT NULL CHECK (name <> ''),
    toml       text        NOT NULL,
    -- File name → content in base64, for settings like server_certificate_file.
    files      jsonb       NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (account_id, name)
);

-- What happened -----------------------------------------------------------------------------------------------------

CREATE TABLE device (
    id              uuid        PRIMARY KEY,
    account_id      uuid        NOT NULL,
    endpoint        text        NOT NULL CHECK (endpoint <> ''),
    profile         text,
    -- What earlier sessions learned of it; null = nothing yet.
    learned         json,
    state           text        NOT NULL CHECK (state IN ('bootstrapped', 'failed')),
    first_seen      timestamptz NOT NULL,
    last_seen       timestamptz NOT NULL,
    last_session_id uuid,
    UNIQUE (account_id, endpoint)
) WITH (fillfactor = 70);

CREATE TABLE session (
    id          uuid        NOT NULL,
    account_id  uuid        NOT NULL,
    endpoint    text        NOT NULL,
    started_at  timestamptz NOT NULL,
    ended_at    timestamptz,
    profile     text        NOT NULL,
    credential  text        NOT NULL,
    address     text        NOT NULL,
    outcome     text        NOT NULL CHECK (outcome IN ('running', 'succeeded', 'failed')),
    cause       text,
    sentence    text        NOT NULL,
    issuance_id uuid,
    -- One array a step, in the order of time; json keeps it as it came and costs less to take in than jsonb.
    steps       json        NOT NULL,
    PRIMARY KEY (id, started_at)
) PARTITION BY RANGE (started_at);
CREATE INDEX session_endpoint ON session (account_id, endpoint, started_at);
-- Takes what no month's partition was made for, so that no clock and no forgotten task can stop a device.
CREATE TABLE session_default PARTITION OF session DEFAULT;

-- One wish for a certificate, from its intent to its end. Columns are ordered by alignment, not by meaning.
CREATE TABLE issuance (
    id           uuid        NOT NULL PRIMARY KEY,
    account_id   uuid        NOT NULL,
    device_id    uuid,
    session_id   uuid,
    -- Resolved once, when the row is written; null = the embedded CA.
    issuer_id    uuid,
    -- The time a deterministic CA puts into the certificate.
    not_before   timestamptz NOT NULL,
    opened_at    timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    lease_until  timestamptz,
    retry_at     timestamptz,
    delivered_at timestamptz,
    -- From then on the same CSR is a new wish; null = no end in sight.
    answers_until timestamptz,
    attempt      integer     NOT NULL CHECK (attempt > 0),
    -- How often somebody tried to find out what became of it.
    recoveries   integer     NOT NULL DEFAULT 0,
    server_key   boolean     NOT NULL,
    -- This row answers for its idempotency key.
    current      boolean     NOT NULL DEFAULT true,
    -- Nobody has to do anything about it any more. An index that named `state` instead would be written again at
    -- every change of state; submitted → issued so changes no indexed column and stays on its page.
    settled      boolean     NOT NULL DEFAULT false,
    state        text        NOT NULL CHECK (state IN ('requested', 'submitted', 'pending', 'issued', 'delivered',
                                                       'failed', 'refused', 'bad', 'unknown', 'abandoned')),
    endpoint     text        NOT NULL,
    service      text        NOT NULL,
    owner        text        NOT NULL,
    -- Big-endian, as short as possible.
    serial       bytea       NOT NULL CHECK (length(serial) BETWEEN 1 AND 20),
    csr_sha256   bytea       NOT NULL CHECK (length(csr_sha256) = 32),
    spki_sha256  bytea       NOT NULL CHECK (length(spki_sha256) = 32),
    csr          bytea       NOT NULL,
    subject      text        NOT NULL DEFAULT '',
    reference    text,
    error_class  text,
    error_text   text,
    warnings     json,
    CHECK (settled OR lease_until IS NOT NULL)
) WITH (fillfactor = 60);
-- Two workers that race one CSR meet here.
CREATE UNIQUE INDEX issuance_idempotency ON issuance (account_id, service, csr_sha256) WHERE current;
-- At most one wish under way for a public key; also what adoption scans.
CREATE UNIQUE INDEX issuance_under_way ON issuance (account_id, service, spki_sha256) WHERE NOT settled;
CREATE INDEX issuance_endpoint ON issuance (account_id, endpoint, opened_at);

-- Every public key a wish named, and whose it is: it is accepted for that endpoint only.
CREATE TABLE known_key (
    spki_sha256 bytea NOT NULL PRIMARY KEY,
    account_id  uuid  NOT NULL,
    endpoint    text  NOT NULL
);
CREATE INDEX known_key_endpoint ON known_key (account_id, endpoint);

-- The certificates above a leaf, DER after DER; thousands of leaves share one.
CREATE TABLE issuing_chain (
    sha256       bytea NOT NULL PRIMARY KEY,
    certificates bytea NOT NULL
);

-- Kept for ever.
CREATE TABLE certificate (
    issuance_id        uuid        NOT NULL PRIMARY KEY,
    account_id         uuid        NOT NULL,
    device_id          uuid,
    issuer_id          uuid,
    issued_at          timestamptz NOT NULL DEFAULT now(),
    not_before         timestamptz NOT NULL,
    not_after          timestamptz NOT NULL,
    revoked_at         timestamptz,
    -- When revoking it is tried (again); null = it need not be, or is done.
    revocation_due     timestamptz,
    endpoint           text        NOT NULL,
    service            text        NOT NULL,
    revocation_reason  text,
    serial             bytea       NOT NULL,
    issuer_fingerprint bytea       NOT NULL,
    spki_sha256        bytea       NOT NULL,
    chain_sha256       bytea       NOT NULL,
    certificate        bytea       NOT NULL
);
CREATE UNIQUE INDEX certificate_serial ON certificate (serial, issuer_fingerprint);
CREATE INDEX certificate_endpoint ON certificate (account_id, endpoint, issued_at);
CREATE INDEX certificate_issued ON certificate (account_id, issued_at);
CREATE INDEX certificate_revoked ON certificate (issuer_fingerprint) WHERE revoked_at IS NOT NULL;
CREATE INDEX certificate_due ON certificate (revocation_due) WHERE revocation_due IS NOT NULL;

-- Seen, not admitted; `refusals_trim` bounds it.
CREATE TABLE refusal (
    source     text        NOT NULL,
    reason     text        NOT NULL,
    identity   text        NOT NULL,
    credential text        NOT NULL,
    count      bigint      NOT NULL,
    first_seen timestamptz NOT NULL,
    last_seen  timestamptz NOT NULL,
    PRIMARY KEY (source, reason, identity)
);

-- Changes by people and final outcomes.
CREATE TABLE audit (
    id           uuid        NOT NULL,
    at           timestamptz NOT NULL DEFAULT now(),
    account_id   uuid,
    actor_kind   text        NOT NULL,
    actor_name   text        NOT NULL,
    request_id   text        NOT NULL,
    action       text        NOT NULL,
    subject_kind text        NOT NULL,
    subject      text        NOT NULL,
    detail       json        NOT NULL,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE INDEX audit_account ON audit (account_id, at);
CREATE TABLE audit_default PARTITION OF audit DEFAULT;

-- Changes reach every worker ----------------------------------------------------------------------------------------

CREATE TABLE revision (
    singleton  boolean     PRIMARY KEY DEFAULT true CHECK (singleton),
    number     bigint      NOT NULL,
    changed_at timestamptz NOT NULL
);
INSERT INTO revision (number, changed_at) VALUES (1, now());

-- A trigger, so that a change by hand in psql reaches the workers too.
CREATE FUNCTION bump_revision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE revision SET number = number + 1, changed_at = now();
    PERFORM pg_notify('revision', '');
    RETURN NULL;
END $$;

CREATE TRIGGER account_changed AFTER INSERT OR UPDATE OR DELETE ON account
    FOR EACH STATEMENT EXECUTE FUNCTION bump_revision();
CREATE TRIGGER api_key_changed AFTER INSERT OR UPDATE OR DELETE ON api_key
    FOR EACH STATEMENT EXECUTE FUNCTION bump_revision();
CREATE TRIGGER trusted_certificate_changed AFTER INSERT OR UPDATE OR DELETE ON trusted_certificate
    FOR EACH STATEMENT EXECUTE FUNCTION bump_revision();
CREATE TRIGGER pre_shared_key_changed AFTER INSERT OR UPDATE OR DELETE ON pre_shared_key
    FOR EACH STATEMENT EXECUTE FUNCTION bump_revision();
CREATE TRIGGER certificate_issuer_changed AFTER INSERT OR UPDATE OR DELETE ON certificate_issuer
    FOR EACH STATEMENT EXECUTE FUNCTION bump_revision();
CREATE TRIGGER certificate_issuer_configuration_changed
    AFTER INSERT OR UPDATE OR DELETE ON certificate_issuer_configuration
    FOR EACH STATEMENT EXECUTE FUNCTION bump_revision();
CREATE TRIGGER embedded_ca_changed AFTER INSERT OR UPDATE OR DELETE ON embedded_ca
    FOR EACH STATEMENT EXECUTE FUNCTION bump_revision();
CREATE TRIGGER server_credential_changed AFTER INSERT OR UPDATE OR DELETE ON server_credential
    FOR EACH STATEMENT EXECUTE FUNCTION bump_revision();
CREATE TRIGGER profile_changed AFTER INSERT OR UPDATE OR DELETE ON profile
    FOR EACH STATEMENT EXECUTE FUNCTION bump_revision();

-- Months ------------------------------------------------------------------------------------------------------------

-- Partitions of `parent` for `months` months (UTC) from the one of `at`; those that are there stay. Returns how many
-- were made. A busy table is left for the next night rather than made to wait.
CREATE FUNCTION make_partitions(parent text, partition_column text, at timestamptz, months integer) RETURNS integer
LANGUAGE plpgsql SET lock_timeout = '500ms' AS $$
DECLARE
    first  timestamp := date_trunc('month', at AT TIME ZONE 'UTC');
    start  timestamptz;
    stop   timestamptz;
    part   text;
    made   integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('make_partitions'));
    FOR month IN 0 .. months - 1 LOOP
        start := (first + make_interval(months => month)) AT TIME ZONE 'UTC';
        stop := (first + make_interval(months => month + 1)) AT TIME ZONE 'UTC';
        part := format('%s_%s', parent, to_char(start AT TIME ZONE 'UTC', 'YYYY_MM'));
        CONTINUE WHEN to_regclass(part) IS NOT NULL;
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part, parent);
        -- Rows that came before their month was made wait in the default partition.
        EXECUTE format(
            'WITH early AS (DELETE FROM %I WHERE %I >= $1 AND %I < $2 RETURNING *) INSERT INTO %I SELECT * FROM early',
            parent || '_default', partition_column, partition_column, part) USING start, stop;
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, part, start, stop);
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;

-- Drop the monthly partitions of `parent` that end at or before `before`; how many.
CREATE FUNCTION drop_partitions(parent text, before timestamptz) RETURNS integer
LANGUAGE plpgsql SET lock_timeout = '500ms' AS $$
DECLARE
    part    text;
    dropped integer := 0;
BEGIN
    FOR part IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = parent::regclass AND c.relname ~ '_[0-9]{4}_[0-9]{2}$' ORDER BY c.relname
    LOOP
        CONTINUE WHEN (to_date(right(part, 7), 'YYYY_MM')::timestamp + interval '1 month') AT TIME ZONE 'UTC' > before;
        EXECUTE format('DROP TABLE %I', part);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;

SELECT make_partitions('session', 'started_at', now(), 3), make_partitions('audit', 'at', now(), 3);
