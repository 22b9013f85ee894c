"""A large record in seconds: devices with their bootstraps, certificates and audit, made inside PostgreSQL.

The rows are what bootstraps leave behind: names, times and causes vary as in a fleet, every certificate can be read
(the signature alone is noise, so that no two are the same).
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from server.store.database import Database

# Two CAs of the operator's own beside the embedded one; ids alone matter here.
ISSUERS = (UUID(int=0xCA1), UUID(int=0xCA2))
SESSIONS_PER_DEVICE = 2
# A device in so many was given a second certificate.
RENEWED_ONE_IN = 5
# And one in so many is registered now.
REGISTERED_ONE_IN = 4
PEOPLE = 300
SEEN = 2000

STEPS = (
    '[{"op": "discover", "path": "/", "code": "2.05", "at": 1, "ms": 4},'
    ' {"op": "delete", "path": "/0", "code": "2.02", "at": 6, "ms": 3},'
    ' {"op": "write", "path": "/0/1", "code": "2.04", "bytes": 1211, "format": "tlv", "at": 10, "ms": 9},'
    ' {"op": "write", "path": "/1/0", "code": "2.04", "bytes": 18, "format": "tlv", "at": 20, "ms": 3},'
    ' {"op": "finish", "path": "/bs", "code": "2.04", "at": 24, "ms": 5}]'
)

_DEVICES = """
INSERT INTO device (id, account_id, endpoint, profile, state, cause, first_seen, last_seen, last_session_id, learned,
                    verified_by, factory_until, failed_ca, name, description)
SELECT md5('d' || n)::uuid, $1, 'urn:imei:' || (350000000000000 + n * 7919 % $2),
       (ARRAY['default', 'default', 'default', 'default', 'default', 'default', 'meters', 'meters', 'meters', 'lamps'])
           [n % 10 + 1],
       CASE WHEN n % 31 = 0 THEN 'failed' ELSE 'bootstrapped' END,
       CASE WHEN n % 31 = 0 THEN (ARRAY['no_answer', 'issuer_unavailable', 'write_refused', 'deadline'])[n / 31 % 4 + 1]
       END,
       $3::timestamptz - interval '60 days' * ($2 - n) / $2,
       $3::timestamptz - interval '30 days' * (n * 7919 % $2) / $2,
       md5('s1' || n)::uuid, '{"leaf_only": true}',
       CASE WHEN n % 3 > 0 THEN sha256('a factory CA') END,
       CASE WHEN n % 3 > 0 THEN $3::timestamptz + interval '19 years' END,
       CASE WHEN n % 31 = 0 THEN CASE WHEN n % 10 >= 6 THEN repeat('0', 29) || 'ca' || (n % 2 + 1) ELSE 'own' END END,
       CASE WHEN n % 7 = 0 THEN 'meter ' || n END, CASE WHEN n % 50 = 0 THEN 'in the cellar of house ' || n ELSE '' END
FROM generate_series(1, $2::bigint) AS n
"""
_ISSUANCES = """
INSERT INTO issuance (id, account_id, device_id, session_id, issuer_id, not_before, opened_at, updated_at,
                      delivered_at, lease_until, answers_until, attempt, server_key, current, settled, state, endpoint,
                      service, owner, serial, csr_sha256, spki_sha256, csr, subject)
SELECT md5('i' || k || '-' || n)::uuid, $1, d.id, md5('s' || k || n)::uuid,
       CASE WHEN n % 10 >= 6 THEN ($4::uuid[])[n % 2 + 1] END,
       at, at, at, CASE WHEN n % 997 <> 0 THEN at END, NULL, at, 1, true, false, true,
       CASE WHEN n % 997 <> 0 THEN 'delivered' ELSE 'abandoned' END, d.endpoint, 'LWM2M', 'seed',
       decode(md5('serial' || k || '-' || n), 'hex'), sha256(('csr' || k || '-' || n)::bytea),
       sha256(('spki' || k || '-' || n)::bytea), decode(repeat(md5('csr' || k || '-' || n), 24), 'hex'),
       'CN=' || d.endpoint
FROM generate_series(1, $2::bigint) AS n
JOIN device d ON d.id = md5('d' || n)::uuid
CROSS JOIN LATERAL (SELECT 1 AS k, d.last_seen AS at
                    UNION ALL SELECT 2, d.first_seen WHERE n % $5 = 0) AS each
WHERE $3::timestamptz IS NOT NULL
"""
_CHAIN = "INSERT INTO issuing_chain (sha256, certificates) VALUES (sha256($1::bytea), $1) ON CONFLICT DO NOTHING"
_CERTIFICATES = """
INSERT INTO certificate (issuance_id, account_id, device_id, issuer_id, issued_at, not_before, not_after, revoked_at,
                         endpoint, service, subject, revocation_reason, serial, issuer_fingerprint, spki_sha256,
                         chain_sha256, certificate)
SELECT i.id, i.account_id, i.device_id, i.issuer_id, i.opened_at, i.not_before, i.not_before + interval '730 days',
       CASE WHEN i.state = 'abandoned' THEN i.opened_at + interval '1 hour' END, i.endpoint, i.service, i.subject,
       CASE WHEN i.state = 'abandoned' THEN 'cessationOfOperation' END, i.serial,
       sha256(coalesce(i.issuer_id::text, 'own')::bytea), i.spki_sha256, sha256($3::bytea),
       overlay($2::bytea PLACING i.serial FROM length($2::bytea) - 15)
FROM issuance i WHERE i.account_id = $1 AND i.owner = 'seed'
"""
_HELD = """
UPDATE device d
SET certificate_id = c.issuance_id, issuer_id = c.issuer_id, device_key = sha256(c.certificate),
    certified_at = c.issued_at, certified_until = c.not_after
FROM certificate c JOIN issuance i ON i.id = c.issuance_id
WHERE i.state = 'delivered' AND d.account_id = $1 AND d.last_session_id = i.session_id
"""
_SESSIONS = """
INSERT INTO session (id, account_id, endpoint, started_at, ended_at, profile, credential, address, outcome, cause,
                     sentence, issuance_id, steps)
SELECT md5('s' || k || n)::uuid, $1, d.endpoint, at, at + interval '61 milliseconds', d.profile,
       CASE WHEN n % 3 = 0 THEN 'psk' ELSE 'x509' END, '192.0.2.' || n % 250 || ':' || 1024 + n % 60000,
       CASE WHEN k = 1 AND d.state = 'failed' THEN 'failed' ELSE 'succeeded' END,
       CASE WHEN k = 1 THEN d.cause END,
       CASE WHEN k = 1 AND d.state = 'failed' THEN d.endpoint || ' did not answer: wait for it' ELSE '' END,
       i.id, $3::text::json
FROM generate_series(1, $2::bigint) AS n
JOIN device d ON d.id = md5('d' || n)::uuid
CROSS JOIN LATERAL (SELECT k, CASE k WHEN 1 THEN d.last_seen ELSE d.first_seen + interval '1 hour' * (k - 2) END AS at
                    FROM generate_series(1, $4::integer) AS k) AS each
LEFT JOIN issuance i ON i.id = md5('i' || k || '-' || n)::uuid
"""
_AUDIT = """
INSERT INTO audit (id, at, account_id, actor_kind, actor_name, request_id, action, subject_kind, subject, detail)
SELECT s.id, s.ended_at, s.account_id, 'device', s.endpoint, '', 'bootstrap.' || s.outcome, 'device', s.endpoint,
       json_build_object('session', s.id, 'cause', s.cause, 'issuance', s.issuance_id)
FROM session s WHERE s.account_id = $1
"""
_REGISTRATIONS = """
INSERT INTO registration (device_id, account_id, id, endpoint, worker, expires_at, lifetime, version, binding, address,
                          objects)
SELECT d.id, d.account_id, md5('r' || n), d.endpoint, 'seed', now() + interval '1 day', 86400, '1.1', 'U',
       '192.0.2.' || n % 250 || ':' || 1024 + n % 60000, '["/1/0", "/3/0", "/5/0"]'
FROM generate_series(1, $1::bigint) AS n JOIN device d ON d.id = md5('d' || n)::uuid
WHERE n % $2 = 0
"""
_PEOPLE = """
INSERT INTO audit (id, at, account_id, actor_kind, actor_name, request_id, action, subject_kind, subject, detail)
SELECT md5('a' || n)::uuid, $2::timestamptz - interval '55 days' * n / $3, $1,
       (ARRAY['console', 'api', 'cli'])[n % 3 + 1], (ARRAY['night shift', 'day shift'])[n % 2 + 1], md5('r' || n),
       (ARRAY['profile.set', 'trusted_certificate.added', 'service.configured', 'psk.added'])[n % 4 + 1],
       (ARRAY['profile', 'trusted_certificate', 'service', 'psk'])[n % 4 + 1], 'subject ' || n % 100,
       json_build_object('before', json_build_object('version', n), 'after', json_build_object('version', n + 1))
FROM generate_series(1, $3::bigint) AS n
"""
_REFUSALS = """
INSERT INTO refusal (source, reason, identity, credential, count, first_seen, last_seen)
SELECT '198.51.100.' || n % 250, (ARRAY['unknown_ca', 'unknown_identity', 'expired'])[n % 3 + 1], 'CN=stranger-' || n,
       'x509', n, $1::timestamptz - interval '1 day', $1::timestamptz - interval '1 minute' * n
FROM generate_series(1, $2::bigint) AS n
ON CONFLICT DO NOTHING
"""
_MONTHS = "SELECT make_partitions($1, $2, $3, 4)"
_TABLES = ("device", "issuance", "certificate", "session", "audit", "refusal", "registration")


async def seed(database: Database, account_id: UUID, *, devices: int, now: datetime) -> None:
    """Add `devices` devices of the account, seen within 60 days before `now`, and let PostgreSQL count them."""
    leaf = _certificate("a seeded device", now)
    above = _certificate("Seeded Issuing CA", now)
    async with database.acquire() as connection:
        # Seeding may take longer than any statement of the server's own.
        await connection.execute("SET statement_timeout = 0")
        for parent, column in (("session", "started_at"), ("audit", "at")):
            await connection.fetch(_MONTHS, parent, column, now - timedelta(days=70), timeout=600)
        for text, arguments in (
            (_DEVICES, (account_id, devices, now)),
            (_ISSUANCES, (account_id, devices, now, list(ISSUERS), RENEWED_ONE_IN)),
            (_CHAIN, (above,)),
            (_CERTIFICATES, (account_id, leaf, above)),
            (_HELD, (account_id,)),
            (_SESSIONS, (account_id, devices, STEPS, SESSIONS_PER_DEVICE)),
            (_REGISTRATIONS, (devices, REGISTERED_ONE_IN)),
            (_AUDIT, (account_id,)),
            (_PEOPLE, (account_id, now, PEOPLE)),
            (_REFUSALS, (now, SEEN)),
        ):
            await connection.fetch(text, *arguments, timeout=600)
        for table in _TABLES:
            await connection.execute(f"VACUUM ANALYZE {table}", timeout=600)
        await connection.execute("RESET statement_timeout")


def _certificate(name: str, now: datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, now.astimezone(UTC), now + timedelta(730))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
