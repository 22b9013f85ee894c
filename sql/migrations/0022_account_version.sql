-- The version of an account, as every other resource has one: who reads it twice sees whether it changed.
ALTER TABLE account ADD COLUMN version integer NOT NULL DEFAULT 1;
