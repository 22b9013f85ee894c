-- Since when nobody has been asking the CA for a request whose answer was lost: one that is slow may still perform it, so
-- that it was never issued is said only after a while.
ALTER TABLE issuance ADD COLUMN lost_at timestamptz;
