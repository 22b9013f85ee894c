-- name: operator_add
INSERT INTO operator (id, account_id, name, role, password) VALUES ($1, $2, $3, $4, $5)
RETURNING id, account_id, name, role, password, active, active_since, version, created_at, updated_at;

-- name: operator_by_name
SELECT id, account_id, name, role, password, active, active_since, version, created_at, updated_at
FROM operator WHERE name = $1 AND active;

-- name: operator_list
SELECT id, account_id, name, role, password, active, active_since, version, created_at, updated_at
FROM operator WHERE account_id = $1 ORDER BY created_at, id;

-- name: operator_lock
SELECT id, account_id, name, role, password, active, active_since, version, created_at, updated_at
FROM operator WHERE account_id = $1 AND id = $2 FOR UPDATE;

-- name: operator_update
UPDATE operator
SET role = $3, active = $4, active_since = CASE WHEN active = $4 THEN active_since ELSE now() END, password = coalesce($5, password), version = version + 1, updated_at = now()
WHERE account_id = $1 AND id = $2
RETURNING id, account_id, name, role, password, active, active_since, version, created_at, updated_at;

-- name: operator_remove
DELETE FROM operator WHERE account_id = $1 AND id = $2 RETURNING name;

-- name: console_session_begin
INSERT INTO console_session (token_sha256, operator_id, api_key_id, created_at, used_at, expires_at)
VALUES ($1, $2, $3, $4, $4, $5);

-- name: console_session_find
-- Name and role are those of now, so that a change of either is at work with the next page.
SELECT s.operator_id, s.api_key_id, s.used_at, s.expires_at,
       coalesce(o.account_id, k.account_id) AS account_id, coalesce(o.name, k.name) AS name,
       coalesce(o.role, k.role) AS role
FROM console_session s
LEFT JOIN operator o ON o.id = s.operator_id AND o.active
LEFT JOIN api_key k ON k.id = s.api_key_id AND k.active
WHERE s.token_sha256 = $1 AND s.expires_at > $2 AND s.used_at > $3 AND coalesce(o.id, k.id) IS NOT NULL;

-- name: console_session_used
UPDATE console_session SET used_at = $2 WHERE token_sha256 = $1;

-- name: console_session_end
DELETE FROM console_session WHERE token_sha256 = $1;

-- name: console_sessions_end
-- Of one operator: its password or its role changed.
DELETE FROM console_session WHERE operator_id = $1;

-- name: console_sessions_trim
DELETE FROM console_session WHERE expires_at <= $1 OR used_at <= $2;

-- name: operator_named
SELECT id, account_id, name, active FROM operator WHERE name = $1;

-- name: api_key_hashed
SELECT id, account_id, name, active FROM api_key WHERE key_sha256 = $1;

-- name: sign_in_refused_lock
-- Two tries at once are counted one after the other.
SELECT pg_advisory_xact_lock(hashtextextended($1, 0));

-- name: sign_in_refused_detail
SELECT detail::text FROM audit WHERE id = $1 AND at >= $2;

-- name: sign_in_refused_again
UPDATE audit SET detail = $3::text::json WHERE id = $1 AND at >= $2;
