-- An intent with one column more than `write_opened_row`, which servers of the version before write with: how many
-- certificates with a key made here its device may have of its service in a day.
CREATE TYPE write_opened_counted_row AS (
    id uuid, account_id uuid, device_id uuid, session_id uuid, issuer_id uuid, not_before timestamptz,
    lease_until timestamptz, attempt integer, server_key boolean, state text, endpoint text, service text,
    owner text, serial bytea, csr_sha256 bytea, spki_sha256 bytea, csr bytea, subject text, most integer,
    most_made_here integer
);
