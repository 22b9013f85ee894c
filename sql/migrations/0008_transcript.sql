-- The flight recorder: what was said in the last attempts of a device, without secrets.

CREATE TABLE transcript (
    session_id uuid        PRIMARY KEY,
    account_id uuid        NOT NULL,
    started_at timestamptz NOT NULL,
    endpoint   text        NOT NULL,
    -- Null = it succeeded.
    cause      text,
    content    json        NOT NULL
);
CREATE INDEX transcript_endpoint ON transcript (account_id, endpoint, started_at);
CREATE INDEX transcript_started ON transcript (started_at);
