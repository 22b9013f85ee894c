-- What the management API shows and changes: versions for its `etag`, enrolment lists, verifications of CAs.

ALTER TABLE account
    -- Whether the account may use CAs of its own.
    ADD COLUMN third_party_ca boolean NOT NULL DEFAULT true;

ALTER TABLE api_key
    ADD COLUMN active     boolean     NOT NULL DEFAULT true,
    ADD COLUMN version    integer     NOT NULL DEFAULT 1,
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();

ALTER TABLE certificate_issuer ADD COLUMN version integer NOT NULL DEFAULT 1;
ALTER TABLE certificate_issuer_configuration ADD COLUMN version integer NOT NULL DEFAULT 1;

ALTER TABLE trusted_certificate
    ADD COLUMN version               integer  NOT NULL DEFAULT 1,
    -- 1 = a developer certificate.
    ADD COLUMN device_execution_mode smallint NOT NULL DEFAULT 0 CHECK (device_execution_mode IN (0, 1, 5)),
    -- The API key that brought it; null = a person at a terminal, or the first start.
    ADD COLUMN owner_id              uuid;

-- First to claim: an account names a device by the fingerprint of its bootstrap certificate before it comes.
CREATE TABLE device_enrollment (
    id          uuid        PRIMARY KEY,
    account_id  uuid        NOT NULL REFERENCES account ON DELETE CASCADE,
    -- SHA-256 of the device's bootstrap certificate; over all accounts, because that is what claiming means.
    fingerprint bytea       NOT NULL UNIQUE CHECK (length(fingerprint) = 32),
    created_at  timestamptz NOT NULL DEFAULT now(),
    claimed_at  timestamptz,
    device_id   uuid
);
CREATE INDEX device_enrollment_account ON device_enrollment (account_id, created_at);

-- Devices that a shared factory CA vouched for and nobody had claimed; at most so many for each CA (`enrollment_deny`).
CREATE TABLE device_enrollment_denial (
    trusted_certificate_id uuid        NOT NULL REFERENCES trusted_certificate ON DELETE CASCADE,
    fingerprint            bytea       NOT NULL CHECK (length(fingerprint) = 32),
    id                     uuid        NOT NULL,
    account_id             uuid        NOT NULL,
    endpoint               text        NOT NULL,
    created_at             timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (trusted_certificate_id, fingerprint)
);

-- Each time an operator had a CA verified: written before the CA is asked, so that no test certificate is without a row.
CREATE TABLE verification (
    id          uuid        PRIMARY KEY,
    account_id  uuid        NOT NULL,
    issuer_id   uuid        NOT NULL REFERENCES certificate_issuer ON DELETE CASCADE,
    started_at  timestamptz NOT NULL DEFAULT now(),
    -- Null while it runs, or for ever when the server stopped meanwhile.
    finished_at timestamptz,
    actor_name  text        NOT NULL,
    issue_test  boolean     NOT NULL,
    -- SHA-256 of the test certificate's CSR; null = none was asked for.
    csr_sha256  bytea,
    -- Of the test certificate, when one came.
    serial      bytea,
    successful  boolean     NOT NULL DEFAULT false,
    message     text        NOT NULL DEFAULT '',
    steps       json        NOT NULL DEFAULT '[]'
);
CREATE INDEX verification_issuer ON verification (issuer_id, started_at);

-- What all workers know of a CA's readiness: the breaker of design 8. No row = nothing was ever wrong.
CREATE TABLE issuer_readiness (
    issuer_id   uuid        PRIMARY KEY REFERENCES certificate_issuer ON DELETE CASCADE,
    -- Issuer-level failures in a row.
    failures    integer     NOT NULL,
    -- Nobody asks the CA before this; null = closed.
    open_until  timestamptz,
    error_class text        NOT NULL,
    error_text  text        NOT NULL,
    -- When the first failure of this row of failures came; null = ready again.
    since       timestamptz,
    updated_at  timestamptz NOT NULL DEFAULT now()
);

-- Whether a row, as the API shows it, fits every condition of a list: [{"field", "op", "values"}].
CREATE FUNCTION fits(shown jsonb, conditions jsonb) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT NOT EXISTS (
        SELECT FROM jsonb_array_elements(conditions) AS c WHERE NOT coalesce(
            CASE c ->> 'op'
                WHEN 'eq' THEN shown ->> (c ->> 'field') = c -> 'values' ->> 0
                WHEN 'neq' THEN shown ->> (c ->> 'field') IS DISTINCT FROM c -> 'values' ->> 0
                WHEN 'in' THEN c -> 'values' ? (shown ->> (c ->> 'field'))
                WHEN 'nin' THEN NOT coalesce(c -> 'values' ? (shown ->> (c ->> 'field')), false)
                WHEN 'like' THEN position(lower(c -> 'values' ->> 0) IN lower(shown ->> (c ->> 'field'))) > 0
                WHEN 'gte' THEN (shown ->> (c ->> 'field'))::timestamptz >= (c -> 'values' ->> 0)::timestamptz
                WHEN 'lte' THEN (shown ->> (c ->> 'field'))::timestamptz <= (c -> 'values' ->> 0)::timestamptz
            END, false))
$$;

-- A device as the API shows it, with the certificate it holds: the newest that was delivered to it.
CREATE VIEW device_shown AS
SELECT d.id, d.account_id, d.first_seen, jsonb_build_object(
    'object', 'device',
    'id', replace(d.id::text, '-', ''),
    'etag', to_char(d.last_seen AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    'account_id', replace(d.account_id::text, '-', ''),
    'created_at', to_char(d.first_seen AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    'updated_at', to_char(d.last_seen AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    'endpoint_name', d.endpoint,
    'name', d.endpoint,
    'profile', d.profile,
    'state', CASE WHEN c.issuance_id IS NULL THEN 'unenrolled' ELSE 'bootstrapped' END,
    'lifecycle_status', 'enabled',
    'mechanism', 'connector',
    'mechanism_url', '',
    'device_execution_mode', 0,
    'ca_id', replace(c.issuer_id::text, '-', ''),
    'device_key', encode(sha256(c.certificate), 'hex'),
    'bootstrapped_timestamp', to_char(c.issued_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    'connector_expiration_date', to_char(c.not_after AT TIME ZONE 'UTC', 'YYYY-MM-DD'),
    'bootstrap_expiration_date', NULL,
    'enrolment_list_timestamp', to_char(e.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
) AS shown
FROM device d
LEFT JOIN LATERAL (
    SELECT held.* FROM certificate held JOIN issuance i ON i.id = held.issuance_id
    WHERE held.account_id = d.account_id AND held.endpoint = d.endpoint AND i.state = 'delivered'
    ORDER BY held.issued_at DESC LIMIT 1) c ON true
LEFT JOIN device_enrollment e ON e.device_id = d.id;

CREATE INDEX device_first_seen ON device (account_id, first_seen, id);
CREATE INDEX device_enrollment_device ON device_enrollment (device_id);

-- A certificate as the API lists it. Filters on endpoint and serial use the table's own indexes.
CREATE VIEW certificate_shown AS
SELECT c.issuance_id, c.account_id, c.issued_at, c.endpoint, c.serial, jsonb_build_object(
    'object', 'certificate',
    'id', replace(c.issuance_id::text, '-', ''),
    'endpoint_name', c.endpoint,
    'device_id', replace(c.device_id::text, '-', ''),
    'service', c.service,
    'state', i.state,
    'subject', i.subject,
    'serial', encode(c.serial, 'hex'),
    'certificate_issuer_id', replace(c.issuer_id::text, '-', ''),
    'issuer_fingerprint', encode(c.issuer_fingerprint, 'hex'),
    'fingerprint', encode(sha256(c.certificate), 'hex'),
    'created_at', to_char(c.issued_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    'not_before', to_char(c.not_before AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    'not_after', to_char(c.not_after AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    'revoked_at', to_char(c.revoked_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    'revocation_reason', c.revocation_reason
) AS shown
FROM certificate c JOIN issuance i ON i.id = c.issuance_id;

-- A bootstrap as the API lists it; its steps stand in the answer for one session.
CREATE VIEW session_shown AS
SELECT s.id, s.account_id, s.started_at, s.endpoint, jsonb_build_object(
    'object', 'session',
    'id', replace(s.id::text, '-', ''),
    'endpoint_name', s.endpoint,
    'created_at', to_char(s.started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    'ended_at', to_char(s.ended_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    'profile', s.profile,
    'credential', s.credential,
    'address', s.address,
    'outcome', s.outcome,
    'cause', s.cause,
    'sentence', s.sentence,
    'certificate_id', replace(s.issuance_id::text, '-', '')
) AS shown
FROM session s;

CREATE INDEX session_account ON session (account_id, started_at, id);

-- A change as the API lists it.
CREATE VIEW audit_shown AS
SELECT a.id, a.account_id, a.at, jsonb_build_object(
    'object', 'audit-entry',
    'id', replace(a.id::text, '-', ''),
    'created_at', to_char(a.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    'actor_kind', a.actor_kind,
    'actor_name', a.actor_name,
    'request_id', a.request_id,
    'action', a.action,
    'subject_kind', a.subject_kind,
    'subject', a.subject,
    'detail', a.detail::jsonb
) AS shown
FROM audit a;
