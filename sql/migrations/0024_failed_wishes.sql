-- Wishes that failed stay on record, and where a CA was away for long they outnumber the certificates: neither a look at
-- certificates that were not delivered nor one at requests that wait for a person reads them. No column here changes while
-- a device waits for its certificate, so that these steps of an issuance stay on their page.
DROP INDEX issuance_undelivered;
CREATE INDEX issuance_undelivered ON issuance (account_id, id)
    WHERE delivered_at IS NULL AND (error_class IS NULL OR error_class = 'Abandoned');
CREATE INDEX issuance_for_people ON issuance (account_id, id) WHERE delivered_at IS NULL AND settled AND current;

CREATE OR REPLACE VIEW certificate_listed AS
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
       c.revocation_reason,
       -- As the index says it.
       i.delivered_at IS NULL AND (i.error_class IS NULL OR i.error_class = 'Abandoned') AS undelivered
FROM certificate c LEFT JOIN issuance i ON i.account_id = c.account_id AND i.id = c.issuance_id;
