-- Certificates that begin late end late: sorted by their end, those that a filter on the beginning leaves stand behind
-- all others, which are walked through in the index alone.
DROP INDEX certificate_not_after;
CREATE INDEX certificate_not_after ON certificate (account_id, not_after, issuance_id) INCLUDE (not_before);
