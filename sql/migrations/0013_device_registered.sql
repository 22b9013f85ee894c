-- A device that is registered at /rd now says so in the directory; when that ends it is what it was before.
CREATE OR REPLACE VIEW device_listed AS
SELECT d.id,
       d.account_id,
       d.last_seen AS etag,
       d.first_seen AS created_at,
       d.last_seen AS updated_at,
       d.endpoint AS endpoint_name,
       d.endpoint AS name,
       d.profile,
       CASE WHEN EXISTS (SELECT FROM registration r WHERE r.device_id = d.id AND r.expires_at > now()) THEN 'registered'
            WHEN d.certificate_id IS NULL THEN 'unenrolled'
            ELSE 'bootstrapped' END AS state,
       d.state AS last_outcome,
       d.cause AS last_cause,
       'enabled'::text AS lifecycle_status,
       'connector'::text AS mechanism,
       ''::text AS mechanism_url,
       0 AS device_execution_mode,
       d.issuer_id AS ca_id,
       d.device_key,
       d.certified_at AS bootstrapped_timestamp,
       d.certified_until AS connector_expiration_date,
       d.factory_until AS bootstrap_expiration_date,
       d.enrolled_at AS enrolment_list_timestamp,
       d.verified_by AS issuer_fingerprint
FROM device d;
