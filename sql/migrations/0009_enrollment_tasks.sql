-- Lists of devices that were claimed or given up at once (izuma.md B4); what became of each line that failed.
CREATE TABLE device_enrollment_task (
    id           uuid        PRIMARY KEY,
    account_id   uuid        NOT NULL REFERENCES account ON DELETE CASCADE,
    kind         text        NOT NULL CHECK (kind IN ('upload', 'delete')),
    created_at   timestamptz NOT NULL,
    completed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    total        integer     NOT NULL,
    -- [[line, identity, what is wrong]]
    faults       json        NOT NULL
);
CREATE INDEX device_enrollment_task_account ON device_enrollment_task (account_id, created_at);
