-- Since when keys and operators may come in, or not, and accounts may have CAs of their own, or not. Of earlier rows the
-- last change is what is known, or that they were made.
ALTER TABLE api_key ADD COLUMN active_since timestamptz;
UPDATE api_key SET active_since = CASE WHEN version = 1 THEN created_at ELSE updated_at END;
ALTER TABLE api_key ALTER COLUMN active_since SET NOT NULL, ALTER COLUMN active_since SET DEFAULT now();
ALTER TABLE operator ADD COLUMN active_since timestamptz;
UPDATE operator SET active_since = CASE WHEN version = 1 THEN created_at ELSE updated_at END;
ALTER TABLE operator ALTER COLUMN active_since SET NOT NULL, ALTER COLUMN active_since SET DEFAULT now();
ALTER TABLE account ADD COLUMN third_party_ca_since timestamptz;
UPDATE account SET third_party_ca_since = created_at;
ALTER TABLE account
    ALTER COLUMN third_party_ca_since SET NOT NULL, ALTER COLUMN third_party_ca_since SET DEFAULT now();
