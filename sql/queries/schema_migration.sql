-- name: schema_migration_lock
-- One migrating starter at a time; the number is "firstlig" in ASCII, any other would do.
SELECT pg_advisory_xact_lock(7379555304623335783);

-- name: schema_migration_try_lock
-- The same, unless somebody has it: whether it is had now.
SELECT pg_try_advisory_xact_lock(7379555304623335783);

-- name: schema_migration_megabytes
SELECT pg_database_size(current_database()) / 1048576;

-- name: schema_migration_patience
-- Whoever asks after a migration that waits for a table waits behind it: servers at work would stand still with it.
SELECT set_config('lock_timeout', $1, true);

-- name: schema_migration_exists
SELECT to_regclass('schema_migration') IS NOT NULL;

-- name: schema_migration_create
CREATE TABLE IF NOT EXISTS schema_migration (
    version    integer     PRIMARY KEY,
    name       text        NOT NULL,
    checksum   bytea       NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: schema_migration_all
SELECT version, checksum FROM schema_migration ORDER BY version;

-- name: schema_migration_add
INSERT INTO schema_migration (version, name, checksum) VALUES ($1, $2, $3);

-- name: session_settings
-- For every connection. Not start-up parameters: a pooler in session mode refuses those it does not know. A managed
-- server may come with synchronous_commit off; the record needs it on. Compiling costs more than any of our statements.
SELECT set_config('synchronous_commit', 'on', false), set_config('jit', 'off', false);

-- name: look_up_session
-- For the connection that looks up for crowds, by key only: its plans are kept, as those of the writer. A row that another
-- holds longer than a commit takes is not waited for here, where all others would wait too.
SELECT set_config('enable_seqscan', 'off', false),
       set_config('enable_hashjoin', 'off', false),
       set_config('enable_mergejoin', 'off', false),
       set_config('plan_cache_mode', 'force_generic_plan', false),
       set_config('lock_timeout', '300ms', false);
