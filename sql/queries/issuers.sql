-- name: issuer_all
SELECT id, account_id, type, name, description, attributes::text AS attributes, credentials, created_at, updated_at
FROM certificate_issuer ORDER BY id;

-- name: issuer_list
SELECT id, account_id, type, name, description, attributes::text AS attributes, credentials, created_at, updated_at
FROM certificate_issuer WHERE account_id = $1 ORDER BY name;

-- name: issuer_find
SELECT id, account_id, type, name, description, attributes::text AS attributes, credentials, created_at, updated_at
FROM certificate_issuer WHERE account_id = $1 AND id = $2;

-- name: issuer_add
INSERT INTO certificate_issuer (id, account_id, type, name, description, attributes, credentials)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7)
RETURNING id, account_id, type, name, description, attributes::text AS attributes, credentials, created_at, updated_at;

-- name: issuer_update
UPDATE certificate_issuer
SET name = $3, description = $4, attributes = $5::text::jsonb, credentials = coalesce($6, credentials),
    updated_at = now()
WHERE account_id = $1 AND id = $2
RETURNING id, account_id, type, name, description, attributes::text AS attributes, credentials, created_at, updated_at;

-- name: issuer_remove
DELETE FROM certificate_issuer WHERE account_id = $1 AND id = $2 RETURNING name;

-- name: configuration_ensure
INSERT INTO certificate_issuer_configuration (id, account_id, reference) VALUES ($1, $2, $3)
ON CONFLICT (account_id, reference) DO NOTHING;

-- name: configuration_all
SELECT account_id, reference, issuer_id FROM certificate_issuer_configuration;

-- name: configuration_list
SELECT id, account_id, reference, issuer_id, created_at, updated_at
FROM certificate_issuer_configuration WHERE account_id = $1 ORDER BY reference;

-- name: configuration_resolve
SELECT i.id, i.account_id, i.type, i.name, i.description, i.attributes::text AS attributes, i.credentials,
       i.created_at, i.updated_at
FROM certificate_issuer_configuration c
LEFT JOIN certificate_issuer i ON i.id = c.issuer_id
WHERE c.account_id = $1 AND c.reference = $2;

-- name: configuration_put
INSERT INTO certificate_issuer_configuration (id, account_id, reference, issuer_id) VALUES ($1, $2, $3, $4)
ON CONFLICT (account_id, reference) DO UPDATE SET issuer_id = EXCLUDED.issuer_id, updated_at = now()
RETURNING id, account_id, reference, issuer_id, created_at, updated_at;

-- name: configuration_remove
DELETE FROM certificate_issuer_configuration WHERE account_id = $1 AND reference = $2 RETURNING id;
