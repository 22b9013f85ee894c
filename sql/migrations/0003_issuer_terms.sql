-- How fast a CA may be asked, agreed on by all workers: what it said itself (429), and the rate of its setting.

-- The CA asked us to go slower, until then.
ALTER TABLE issuer_readiness ADD COLUMN throttled_until timestamptz;

-- When the next token of the bucket falls due; no row = never asked with a rate.
CREATE TABLE issuer_pace (
    issuer_id uuid        PRIMARY KEY REFERENCES certificate_issuer ON DELETE CASCADE,
    next_at   timestamptz NOT NULL
);
