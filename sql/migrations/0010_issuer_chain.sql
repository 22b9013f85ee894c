-- The certificates of a CA as it last showed them itself, when it was registered or verified.
CREATE TABLE issuer_chain (
    issuer_id    uuid        PRIMARY KEY REFERENCES certificate_issuer ON DELETE CASCADE,
    seen_at      timestamptz NOT NULL,
    -- DER after DER, issuing CA first, root last when it is known.
    certificates bytea       NOT NULL
);
