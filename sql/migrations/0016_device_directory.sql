-- The directory of devices may know a device before its first bootstrap (state null = it was never here), and by a name
-- and words of its operator's.
ALTER TABLE device
    ADD COLUMN name        text CHECK (length(name) <= 128),
    ADD COLUMN description text NOT NULL DEFAULT '' CHECK (length(description) <= 2000),
    ALTER COLUMN state DROP NOT NULL;

DROP INDEX device_last_seen;
CREATE INDEX device_last_seen ON device (account_id, last_seen, id)
    INCLUDE (endpoint, first_seen, profile, state, cause, issuer_id, certificate_id, certified_at, certified_until,
             enrolled_at, verified_by, factory_until, failed_ca, name);

-- A device is a developer's when a developer certificate vouched for it (izuma.md B2).
CREATE OR REPLACE VIEW device_listed AS
SELECT d.id,
       d.account_id,
       d.last_seen AS etag,
       d.first_seen AS created_at,
       d.last_seen AS updated_at,
       d.endpoint AS endpoint_name,
       coalesce(d.name, d.endpoint) AS name,
       d.profile,
       CASE WHEN EXISTS (SELECT FROM registration r WHERE r.device_id = d.id AND r.expires_at > now()) THEN 'registered'
            WHEN d.certificate_id IS NULL THEN 'unenrolled'
            ELSE 'bootstrapped' END AS state,
       d.state AS last_outcome,
       d.cause AS last_cause,
       'enabled'::text AS lifecycle_status,
       'connector'::text AS mechanism,
       ''::text AS mechanism_url,
       CASE WHEN (d.account_id, d.verified_by) IN (SELECT t.account_id, t.fingerprint FROM trusted_certificate t
                                                   WHERE t.device_execution_mode = 1)
            THEN 1 ELSE 0 END AS device_execution_mode,
       d.issuer_id AS ca_id,
       d.device_key,
       d.certified_at AS bootstrapped_timestamp,
       d.certified_until AS connector_expiration_date,
       d.factory_until AS bootstrap_expiration_date,
       d.enrolled_at AS enrolment_list_timestamp,
       d.verified_by AS issuer_fingerprint,
       d.failed_ca AS last_failed_ca,
       CASE WHEN (d.account_id, d.verified_by) IN (SELECT t.account_id, t.fingerprint FROM trusted_certificate t
                                                   WHERE t.device_execution_mode = 1)
            THEN 'development' ELSE 'production' END AS deployed_state,
       d.description
FROM device d;

-- The key that made a key; null = it was made at the command line, in the console or by the first start.
ALTER TABLE api_key ADD COLUMN owner_id uuid;
