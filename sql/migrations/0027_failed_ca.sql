-- Which CA a bootstrap or enrolment failed at, also where nobody asked it because it was away: an outage is one group of
-- failures. As `device.failed_ca` tells it; null = it did not fail, or an older version wrote it.
ALTER TABLE session ADD COLUMN failed_ca text;
-- `write_ended_row` (0021) and that.
CREATE TYPE write_session_end_row AS (
    id uuid, account_id uuid, endpoint text, started_at timestamptz, ended_at timestamptz, profile text,
    credential text, address text, outcome text, cause text, sentence text, issuance_id uuid, steps text, failed_ca text,
    device_id uuid, device_profile text, at timestamptz, state text, learned text, verified_by bytea,
    factory_until timestamptz, factory_key bytea, delivered uuid[]
);
