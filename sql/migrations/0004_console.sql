-- Who may sign in to the console, and who is signed in.

CREATE TABLE operator (
    id         uuid        PRIMARY KEY,
    account_id uuid        NOT NULL REFERENCES account ON DELETE CASCADE,
    -- Over all accounts: a sign-in has nothing but the name.
    name       text        NOT NULL UNIQUE CHECK (name <> ''),
    role       text        NOT NULL CHECK (role IN ('admin', 'operator', 'reader')),
    -- scrypt with its parameters and salt, as `server/admin/passwords.py` writes it.
    password   text        NOT NULL,
    active     boolean     NOT NULL DEFAULT true,
    version    integer     NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX operator_account ON operator (account_id, created_at);

-- A browser that signed in, as an operator or with an API key; both end it when they go.
CREATE TABLE console_session (
    token_sha256 bytea       PRIMARY KEY CHECK (length(token_sha256) = 32),
    operator_id  uuid        REFERENCES operator ON DELETE CASCADE,
    api_key_id   uuid        REFERENCES api_key ON DELETE CASCADE,
    created_at   timestamptz NOT NULL,
    used_at      timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    CHECK (num_nonnulls(operator_id, api_key_id) = 1)
);
CREATE INDEX console_session_operator ON console_session (operator_id);
CREATE INDEX console_session_api_key ON console_session (api_key_id);
CREATE INDEX console_session_expiry ON console_session (expires_at);
