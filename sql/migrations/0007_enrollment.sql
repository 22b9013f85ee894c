-- What devices with keys of their own ask for outside any bootstrap (RFC 9148) is on record beside the bootstraps.

ALTER TABLE session ADD COLUMN kind text NOT NULL DEFAULT 'bootstrap' CHECK (kind IN ('bootstrap', 'enrollment'));

DROP INDEX session_account;
CREATE INDEX session_account ON session (account_id, started_at, id)
    INCLUDE (endpoint, ended_at, profile, credential, address, outcome, cause, issuance_id, kind);

CREATE OR REPLACE VIEW session_listed AS
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
       s.issuance_id AS certificate_id,
       s.kind
FROM session s;
