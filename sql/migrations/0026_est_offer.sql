-- What devices made of mode 4 where a key made here would do as well: of one that takes it and never asks for a certificate
-- nothing but its silence tells. Only devices that such a profile is for have a row.
CREATE TABLE est_offer (
    account_id   uuid        NOT NULL,
    endpoint     text        NOT NULL,
    -- Bootstraps in which it took mode 4 and asked for no certificate, each after the one before had been waited for.
    rounds       integer     NOT NULL DEFAULT 0,
    -- The last of them, and until when it was waited for.
    offered_at   timestamptz,
    waited_until timestamptz,
    -- When it asked for the first time: it is none of those that never do.
    asked_at     timestamptz,
    PRIMARY KEY (account_id, endpoint)
) WITH (fillfactor = 80);
