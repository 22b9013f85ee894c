-- name: statistics_slice
-- What came to pass in a span of time, counted in bins: one statement for everything the start page draws. `bucket` is
-- a duration's place among the bounds $5, in milliseconds.
WITH ended AS (
    SELECT s.id, s.endpoint, s.profile, s.outcome, s.cause, s.ended_at, s.failed_ca,
           date_bin($4::interval, s.ended_at, 'epoch'::timestamptz) AS at,
           width_bucket((extract(epoch FROM s.ended_at - s.started_at) * 1000)::float8, $5::float8[]) AS bucket
    FROM session s
    WHERE s.account_id = $1 AND s.ended_at >= $2 AND s.ended_at < $3
)
SELECT CASE WHEN e.outcome = 'succeeded' THEN 'succeeded' WHEN e.profile = '' THEN 'refused' ELSE 'failed' END AS what,
       e.at, e.bucket, NULL::text AS cause, NULL::text AS family, NULL::uuid AS issuer_id, false AS asked,
       count(*) AS number, max(e.ended_at) AS last
FROM ended e GROUP BY 1, 2, 3
UNION ALL
-- Of rows that an older version wrote, the CA is the one that was asked.
SELECT 'cause', e.at, 0, e.cause, e.profile, CASE WHEN ca.word NOT IN ('own', 'none') THEN ca.word::uuid END,
       ca.word <> 'none', count(*), max(e.ended_at)
FROM ended e
LEFT JOIN LATERAL (
    SELECT coalesce(replace(i.issuer_id::text, '-', ''), 'own') AS word FROM issuance i
    WHERE e.failed_ca IS NULL AND i.account_id = $1 AND i.endpoint = e.endpoint AND i.session_id = e.id
    ORDER BY i.opened_at DESC LIMIT 1) AS wish ON true
CROSS JOIN LATERAL (SELECT coalesce(e.failed_ca, wish.word, 'none') AS word) AS ca
WHERE e.outcome = 'failed' GROUP BY 2, 4, 5, 6, 7
UNION ALL
SELECT 'requested', date_bin($4::interval, i.opened_at, 'epoch'::timestamptz), 0, NULL, NULL, NULL, true, count(*), NULL
FROM issuance i WHERE i.account_id = $1 AND i.opened_at >= $2 AND i.opened_at < $3 GROUP BY 2
UNION ALL
SELECT 'issued', date_bin($4::interval, c.issued_at, 'epoch'::timestamptz),
       width_bucket((extract(epoch FROM c.issued_at - i.opened_at) * 1000)::float8, $5::float8[]),
       NULL, NULL, c.issuer_id, true, count(*), max(c.issued_at)
FROM certificate c JOIN issuance i ON i.id = c.issuance_id
WHERE c.account_id = $1 AND c.issued_at >= $2 AND c.issued_at < $3 GROUP BY 2, 3, 6
UNION ALL
SELECT 'delivered', date_bin($4::interval, i.delivered_at, 'epoch'::timestamptz), 0, NULL, NULL, NULL, true, count(*), NULL
FROM issuance i WHERE i.account_id = $1 AND i.delivered_at >= $2 AND i.delivered_at < $3 GROUP BY 2;

-- name: attention_facts
-- What waits for a person, each count bounded by $3.
SELECT
    (SELECT count(*) FROM (SELECT FROM device WHERE account_id = $1 AND certified_until <= $2 LIMIT $3) d) AS expired,
    (SELECT min(certified_until) FROM device WHERE account_id = $1 AND certified_until <= $2) AS expired_since,
    (SELECT count(*) FROM (SELECT FROM device
                           WHERE account_id = $1 AND certified_until > $2 AND certified_until <= $4 LIMIT $3) d) AS expiring,
    (SELECT min(certified_until) FROM device WHERE account_id = $1 AND certified_until > $2) AS expiring_first,
    (SELECT count(*) FROM (SELECT FROM issuance WHERE account_id = $1 AND delivered_at IS NULL AND state = 'unknown'
                                                  AND settled AND current LIMIT $3) i) AS unknown,
    (SELECT min(updated_at) FROM issuance WHERE account_id = $1 AND delivered_at IS NULL AND state = 'unknown'
                                            AND settled AND current) AS unknown_since,
    (SELECT count(*) FROM (SELECT FROM certificate WHERE account_id = $1 AND revocation_due < $5 LIMIT $3) c) AS unrevoked,
    (SELECT min(revocation_due) FROM certificate WHERE account_id = $1 AND revocation_due < $5) AS unrevoked_since;
