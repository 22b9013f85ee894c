-- name: bench_rows
-- The rows that bootstraps leave once they are over: session, issuance, certificate and audit.
SELECT (SELECT count(*) FROM session WHERE outcome = 'succeeded') AS sessions,
       (SELECT count(*) FROM issuance WHERE state = 'delivered') AS issuances,
       (SELECT count(*) FROM certificate c JOIN issuance i ON i.id = c.issuance_id
        WHERE i.state = 'delivered') AS certificates,
       (SELECT count(*) FROM audit WHERE action = 'bootstrap.succeeded') AS audited;
