-- Lists that stay fast with many devices: what a device holds stands in its row, every sort that is offered has an
-- index, and one index of each list holds what is filtered, so that a filter that finds little reads no wide row.

DROP VIEW device_shown, certificate_shown, session_shown, audit_shown, certificate_enrollment_shown;
DROP FUNCTION fits(jsonb, jsonb);

-- The certificate a device holds, the newest that was delivered to it: written at delivery, so that no list looks for
-- it. Infinity = it holds none, so that the index sorts those last.
ALTER TABLE device
    ADD COLUMN certificate_id  uuid,
    ADD COLUMN issuer_id       uuid,
    ADD COLUMN device_key      bytea,
    ADD COLUMN certified_at    timestamptz,
    ADD COLUMN certified_until timestamptz NOT NULL DEFAULT 'infinity',
    -- Since when an account has claimed it; null = no list holds it.
    ADD COLUMN enrolled_at     timestamptz,
    -- Why the last bootstrap failed; null = it succeeded.
    ADD COLUMN cause           text;

UPDATE device d
SET certificate_id = held.issuance_id, issuer_id = held.issuer_id, device_key = sha256(held.certificate),
    certified_at = held.issued_at, certified_until = held.not_after
FROM (SELECT DISTINCT ON (c.account_id, c.endpoint)
             c.account_id, c.endpoint, c.issuance_id, c.issuer_id, c.certificate, c.issued_at, c.not_after
      FROM certificate c JOIN issuance i ON i.id = c.issuance_id
      WHERE i.state = 'delivered'
      ORDER BY c.account_id, c.endpoint, c.issued_at DESC) held
WHERE held.account_id = d.account_id AND held.endpoint = d.endpoint;

UPDATE device d
SET enrolled_at = (SELECT min(e.created_at) FROM device_enrollment e WHERE e.device_id = d.id);

UPDATE device d SET cause = s.cause FROM session s WHERE s.id = d.last_session_id AND s.outcome = 'failed';

CREATE INDEX device_last_seen ON device (account_id, last_seen, id)
    INCLUDE (endpoint, first_seen, profile, state, cause, issuer_id, certificate_id, certified_at, certified_until,
             enrolled_at);
CREATE INDEX device_certified_until ON device (account_id, certified_until, id);
CREATE INDEX device_failed ON device (account_id, cause, last_seen) WHERE state = 'failed';

-- The beginning of the subject, for lists: an index has no room for one that a device made as long as it likes.
ALTER TABLE certificate ADD COLUMN subject text NOT NULL DEFAULT '' CHECK (length(subject) <= 200);
UPDATE certificate c SET subject = left(i.subject, 200) FROM issuance i WHERE i.id = c.issuance_id;

DROP INDEX certificate_issued;
CREATE INDEX certificate_issued ON certificate (account_id, issued_at, issuance_id)
    INCLUDE (endpoint, device_id, service, subject, serial, issuer_id, issuer_fingerprint, not_before, not_after,
             revoked_at, revocation_reason);
CREATE INDEX certificate_not_after ON certificate (account_id, not_after, issuance_id);
CREATE INDEX certificate_fingerprint ON certificate (sha256(certificate));

-- What was opened and delivered in a span of time, and what was never delivered. No column here changes before the
-- delivery, so that the steps of an issuance before it stay on their page.
CREATE INDEX issuance_opened ON issuance (account_id, opened_at);
CREATE INDEX issuance_delivered ON issuance (account_id, delivered_at, id) WHERE delivered_at IS NOT NULL;
CREATE INDEX issuance_undelivered ON issuance (account_id, id) WHERE delivered_at IS NULL;

DROP INDEX session_account;
CREATE INDEX session_account ON session (account_id, started_at, id)
    INCLUDE (endpoint, ended_at, profile, credential, address, outcome, cause, issuance_id);
CREATE INDEX session_ended ON session (account_id, ended_at) WHERE ended_at IS NOT NULL;

DROP INDEX audit_account;
CREATE INDEX audit_account ON audit (account_id, at, id)
    INCLUDE (actor_kind, actor_name, request_id, action, subject_kind, subject);
-- Changes by people, which every bootstrap's own line would bury.
CREATE INDEX audit_people ON audit (account_id, at, id) WHERE actor_kind <> 'device';

-- The lists, by the names of the API; a filter names a column here.

CREATE VIEW device_listed AS
SELECT d.id,
       d.account_id,
       d.last_seen AS etag,
       d.first_seen AS created_at,
       d.last_seen AS updated_at,
       d.endpoint AS endpoint_name,
       d.endpoint AS name,
       d.profile,
       CASE WHEN d.certificate_id IS NULL THEN 'unenrolled' ELSE 'bootstrapped' END AS state,
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
       NULL::timestamptz AS bootstrap_expiration_date,
       d.enrolled_at AS enrolment_list_timestamp
FROM device d;

CREATE VIEW certificate_listed AS
SELECT c.issuance_id AS id,
       c.account_id,
       c.endpoint AS endpoint_name,
       c.device_id,
       c.service,
       i.state,
       i.delivered_at,
       c.subject,
       c.serial,
       c.issuer_id AS certificate_issuer_id,
       c.issuer_fingerprint,
       sha256(c.certificate) AS fingerprint,
       c.issued_at AS created_at,
       c.not_before,
       c.not_after,
       c.revoked_at,
       c.revocation_reason
FROM certificate c LEFT JOIN issuance i ON i.account_id = c.account_id AND i.id = c.issuance_id;

CREATE VIEW session_listed AS
SELECT s.id,
       s.account_id,
       s.endpoint AS endpoint_name,
       s.started_at AS created_at,
       s.ended_at,
       s.profile,
       s.credential,
       s.address,
       s.outcome,
       s.cause,
       s.sentence,
       s.issuance_id AS certificate_id
FROM session s;

CREATE VIEW audit_listed AS
SELECT a.id,
       a.account_id,
       a.at AS created_at,
       a.actor_kind,
       a.actor_name,
       a.request_id,
       a.action,
       a.subject_kind,
       a.subject,
       a.detail
FROM audit a;

CREATE VIEW certificate_enrollment_listed AS
SELECT e.id,
       e.account_id,
       e.version::text AS etag,
       e.created_at,
       e.updated_at,
       e.device_id,
       e.certificate_name,
       e.status AS enroll_status,
       e.result AS enroll_result,
       nullif(e.detail, '') AS enroll_result_detail
FROM certificate_enrollment e;
