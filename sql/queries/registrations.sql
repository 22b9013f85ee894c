-- name: registration_put
-- A device registered, or came back with an update; whichever worker it came to has it now.
INSERT INTO registration (device_id, account_id, id, endpoint, worker, expires_at, lifetime, version, binding, address,
                          objects)
VALUES ($1, $2, $3, $4, $5, now() + make_interval(secs => $6), $6, $7, $8, $9, $10::json)
ON CONFLICT (device_id) DO UPDATE
SET id = EXCLUDED.id, worker = EXCLUDED.worker, expires_at = EXCLUDED.expires_at, lifetime = EXCLUDED.lifetime,
    version = EXCLUDED.version, binding = EXCLUDED.binding, address = EXCLUDED.address, objects = EXCLUDED.objects,
    registered_at = CASE WHEN registration.id = EXCLUDED.id THEN registration.registered_at ELSE now() END,
    updated_at = now();

-- name: registration_find
SELECT device_id, account_id, id, endpoint, worker, registered_at, updated_at, expires_at, lifetime, version, binding,
       address, objects::text AS objects
FROM registration WHERE account_id = $1 AND device_id = $2 AND expires_at > now();

-- name: registration_disconnect
-- The association is gone; a worker that has the device since keeps it.
UPDATE registration SET worker = NULL WHERE device_id = $1 AND id = $2 AND worker = $3;

-- name: registration_remove
DELETE FROM registration WHERE device_id = $1 AND id = $2;

-- name: registration_expire
DELETE FROM registration WHERE expires_at < now();
