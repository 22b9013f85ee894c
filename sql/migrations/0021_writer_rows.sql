-- What every bootstrap writes comes as rows of these types: the database client encodes a row in one go, but asks each
-- element of an array whether it is an array itself. A type is never altered, as another version may be writing with it; a
-- column more is a type more.
CREATE TYPE write_opened_row AS (
    id uuid, account_id uuid, device_id uuid, session_id uuid, issuer_id uuid, not_before timestamptz,
    lease_until timestamptz, attempt integer, server_key boolean, state text, endpoint text, service text,
    owner text, serial bytea, csr_sha256 bytea, spki_sha256 bytea, csr bytea, subject text, most integer
);
CREATE TYPE write_issued_row AS (
    id uuid, owner text, not_before timestamptz, not_after timestamptz, serial bytea, issuer_fingerprint bytea,
    chain_sha256 bytea, leaf bytea, warnings text
);
CREATE TYPE write_ended_row AS (
    id uuid, account_id uuid, endpoint text, started_at timestamptz, ended_at timestamptz, profile text,
    credential text, address text, outcome text, cause text, sentence text, issuance_id uuid, steps text,
    device_id uuid, device_profile text, at timestamptz, state text, learned text, verified_by bytea,
    factory_until timestamptz, factory_key bytea, delivered uuid[]
);
