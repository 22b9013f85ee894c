-- name: audit_add
INSERT INTO audit (id, account_id, actor_kind, actor_name, request_id, action, subject_kind, subject, detail)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::text::json);

-- name: audit_list
SELECT id, at, account_id, actor_kind, actor_name, request_id, action, subject_kind, subject, detail::text AS detail
FROM audit
WHERE account_id = $1 AND ($2::timestamptz IS NULL OR at < $2)
ORDER BY at DESC
LIMIT $3;
