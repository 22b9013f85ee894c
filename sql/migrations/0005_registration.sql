-- Devices that are registered (LwM2M Core 1.2 6.2), and certificates that people had renewed on them.

-- No row is not registered; one whose time is over counts as none until `registration_expire` takes it away.
CREATE TABLE registration (
    device_id     uuid        PRIMARY KEY,
    account_id    uuid        NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL,
    lifetime      bigint      NOT NULL,
    -- The last segment of its Location-Path.
    id            text        NOT NULL,
    -- The worker that holds the device's association; null = it is gone until the device's next update.
    worker        text,
    endpoint      text        NOT NULL,
    version       text        NOT NULL,
    binding       text        NOT NULL,
    address       text        NOT NULL,
    -- Objects and instances, as paths.
    objects       json        NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX registration_expiry ON registration (expires_at);

CREATE TABLE certificate_enrollment (
    id               uuid        PRIMARY KEY,
    account_id       uuid        NOT NULL,
    device_id        uuid        NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    -- Nobody waits for the device beyond this.
    overdue_at       timestamptz NOT NULL,
    version          integer     NOT NULL DEFAULT 1,
    endpoint         text        NOT NULL,
    certificate_name text        NOT NULL CHECK (length(certificate_name) BETWEEN 1 AND 50),
    -- How the device is asked: its own object 35011, or a bootstrap that it is told to do.
    method           text        NOT NULL CHECK (method IN ('certificate-enrollment', 'bootstrap')),
    -- The worker that drives it; null = nobody took it yet.
    worker           text,
    status           text        NOT NULL DEFAULT 'new' CHECK (status IN ('new', 'completed')),
    result           text        CHECK (result IN ('success', 'failure')),
    detail           text        NOT NULL DEFAULT '',
    CHECK ((status = 'completed') = (result IS NOT NULL))
);
-- One at a time for a certificate: two people who ask at once meet here.
CREATE UNIQUE INDEX certificate_enrollment_under_way ON certificate_enrollment (device_id, certificate_name)
    WHERE status = 'new';
CREATE INDEX certificate_enrollment_account ON certificate_enrollment (account_id, created_at, id);

CREATE FUNCTION announce_certificate_enrollment() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('certificate_enrollment', '');
    RETURN NULL;
END $$;
CREATE TRIGGER certificate_enrollment_added AFTER INSERT ON certificate_enrollment
    FOR EACH STATEMENT EXECUTE FUNCTION announce_certificate_enrollment();

-- A renewal as the API lists it.
CREATE VIEW certificate_enrollment_shown AS
SELECT e.id, e.account_id, e.created_at, jsonb_build_object(
    'object', 'certificate-enrollment',
    'id', replace(e.id::text, '-', ''),
    'etag', e.version::text,
    'created_at', to_char(e.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    'updated_at', to_char(e.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    'device_id', replace(e.device_id::text, '-', ''),
    'certificate_name', e.certificate_name,
    'enroll_status', e.status,
    'enroll_result', e.result,
    'enroll_result_detail', nullif(e.detail, '')
) AS shown
FROM certificate_enrollment e;
