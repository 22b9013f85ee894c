-- Pages of the lists. `/* which */` is where `server/store/listings.py` puts the conditions of a request, its place in
-- the list and its order; every value goes as a parameter. What fits is found in an index, whole rows are fetched for
-- the page alone. `/* candidates */` stands before the list that a page is looked for in: the whole one, unless
-- `_candidates` or `_gathered` take its place.

-- name: listing_session
-- A plan must know the values: how many rows a filter leaves decides which index is walked. Lists are read through an
-- index however small a table was when it was last counted, and one reader takes one process.
SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('enable_seqscan', 'off', true),
       set_config('random_page_cost', '1.1', true), set_config('max_parallel_workers_per_gather', '0', true),
       set_config('work_mem', '16MB', true);

-- name: listing_difference
-- How many fit when nearly all do: all, without those that do not, as one look at the record sees them.
SELECT 0 /* all */ - 0 /* without */;

-- name: device_page
SELECT l.id, l.etag, l.account_id, l.created_at, l.updated_at, l.endpoint_name, l.name, l.profile, l.state,
       l.last_outcome, l.last_cause, l.last_failed_ca, l.lifecycle_status, l.mechanism, l.mechanism_url,
       l.device_execution_mode, l.ca_id, l.device_key, l.issuer_fingerprint, l.bootstrapped_timestamp,
       l.connector_expiration_date, l.bootstrap_expiration_date, l.enrolment_list_timestamp, l.deployed_state,
       l.description
FROM (SELECT found.id, found.created_at, row_number() OVER () AS place
      FROM (SELECT id, created_at FROM /* candidates */ device_listed WHERE account_id = $1 /* which */ LIMIT $2) AS found) AS page
JOIN device_listed l ON l.id = page.id
ORDER BY page.place;

-- name: device_candidates
-- The beginning of a list in its order, of which a page takes what fits; with every column that is filtered.
SELECT id, etag, account_id, created_at, updated_at, endpoint_name, name, profile, last_outcome, last_cause,
       last_failed_ca, lifecycle_status, mechanism, mechanism_url, ca_id, device_key, issuer_fingerprint,
       bootstrapped_timestamp, connector_expiration_date, bootstrap_expiration_date, enrolment_list_timestamp,
       description
FROM device_listed WHERE account_id = $1 /* which */;

-- name: device_gathered
-- All that fit, for a page to be sorted out of; with the columns of every sort alone, as there may be 100,000.
SELECT id, account_id, created_at, updated_at, endpoint_name, connector_expiration_date
FROM device_listed WHERE account_id = $1 /* which */;

-- name: device_fitting
SELECT count(*) FROM (SELECT FROM device_listed WHERE account_id = $1 /* which */ LIMIT $2) AS fitting;

-- name: certificate_page
SELECT l.id, l.endpoint_name, l.device_id, l.service, l.state, l.subject, l.serial, l.certificate_issuer_id,
       l.issuer_fingerprint, l.fingerprint, l.created_at, l.not_before, l.not_after, l.revoked_at,
       l.revocation_reason
FROM (SELECT found.id, found.created_at, row_number() OVER () AS place
      FROM (SELECT id, created_at FROM /* candidates */ certificate_listed WHERE account_id = $1 /* which */ LIMIT $2) AS found) AS page
JOIN certificate_listed l ON l.id = page.id
ORDER BY page.place;

-- name: certificate_candidates
SELECT id, account_id, endpoint_name, device_id, service, state, delivered_at, undelivered, subject, serial,
       certificate_issuer_id, issuer_fingerprint, fingerprint, created_at, not_before, not_after, revoked_at,
       revocation_reason
FROM certificate_listed WHERE account_id = $1 /* which */;

-- name: certificate_gathered
SELECT id, account_id, created_at, endpoint_name, not_after
FROM certificate_listed WHERE account_id = $1 /* which */;

-- name: certificate_fitting
SELECT count(*) FROM (SELECT FROM certificate_listed WHERE account_id = $1 /* which */ LIMIT $2) AS fitting;

-- name: session_page
SELECT l.id, l.endpoint_name, l.created_at, l.ended_at, l.profile, l.credential, l.address, l.outcome, l.cause,
       l.sentence, l.certificate_id, l.kind
FROM (SELECT found.id, found.created_at, row_number() OVER () AS place
      FROM (SELECT id, created_at FROM session_listed WHERE account_id = $1 /* which */ LIMIT $2) AS found) AS page
JOIN session_listed l ON l.id = page.id AND l.created_at = page.created_at
ORDER BY page.place;

-- name: session_fitting
SELECT count(*) FROM (SELECT FROM session_listed WHERE account_id = $1 /* which */ LIMIT $2) AS fitting;

-- name: audit_page
SELECT l.id, l.created_at, l.actor_kind, l.actor_name, l.request_id, l.action, l.subject_kind, l.subject, l.detail::text AS detail
FROM (SELECT found.id, found.created_at, row_number() OVER () AS place
      FROM (SELECT id, created_at FROM audit_listed WHERE account_id = $1 /* which */ LIMIT $2) AS found) AS page
JOIN audit_listed l ON l.id = page.id AND l.created_at = page.created_at
ORDER BY page.place;

-- name: audit_fitting
SELECT count(*) FROM (SELECT FROM audit_listed WHERE account_id = $1 /* which */ LIMIT $2) AS fitting;

-- name: certificate_enrollment_page
SELECT l.id, l.etag, l.created_at, l.updated_at, l.device_id, l.certificate_name, l.enroll_status, l.enroll_result,
       l.enroll_result_detail
FROM (SELECT found.id, found.created_at, row_number() OVER () AS place
      FROM (SELECT id, created_at FROM certificate_enrollment_listed WHERE account_id = $1 /* which */ LIMIT $2)
          AS found) AS page
JOIN certificate_enrollment_listed l ON l.id = page.id
ORDER BY page.place;

-- name: certificate_enrollment_fitting
SELECT count(*) FROM (SELECT FROM certificate_enrollment_listed WHERE account_id = $1 /* which */ LIMIT $2) AS fitting;
