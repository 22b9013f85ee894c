-- name: writer_session
-- The writer looks rows up by key only. Its plans are kept, a plan for each call takes longer than the statement, and must
-- not turn into scans when the tables have grown (the writer discards them now and then). A row that another writer holds
-- longer than a commit takes is not waited for: its batch is tried again. A transaction that lost its client must not hold
-- rows for long.
SELECT set_config('enable_seqscan', 'off', false),
       set_config('enable_hashjoin', 'off', false),
       set_config('enable_mergejoin', 'off', false),
       set_config('plan_cache_mode', 'force_generic_plan', false),
       set_config('lock_timeout', '300ms', false),
       set_config('idle_in_transaction_session_timeout', '5s', false),
       set_config('statement_timeout', '9s', false);

-- name: write_opened_locks
-- Until the transaction ends nobody else writes an intent of these devices that is limited or may be held back: each sees
-- those before it.
SELECT pg_advisory_xact_lock(device) FROM unnest($1::bigint[]) AS device;

-- name: write_opened_held
-- Which of these wishes are held back, and by what: requests of the endpoint to the same CA for a server-made key whose
-- outcome nobody knows, and that no person has released; and those of other sessions that the CA has not answered, and
-- whose outcome nobody may ever know. Each wish is looked at on its own: another of its statement is another device's.
SELECT asked.id, array_agg(DISTINCT i.state) AS states
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::uuid[])
    AS asked (id, account_id, endpoint, service, issuer_id, session_id)
JOIN issuance i ON i.account_id = asked.account_id AND i.endpoint = asked.endpoint AND i.service = asked.service
               AND i.issuer_id IS NOT DISTINCT FROM asked.issuer_id
WHERE i.server_key AND i.current
  AND (i.state = 'unknown' OR (i.state = 'submitted' AND i.session_id IS DISTINCT FROM asked.session_id))
GROUP BY asked.id;

-- name: write_opened
-- Intents whose public key is free or the endpoint's own, whose CSR no current row answers for, and that are not one too
-- many. Rows that are missing from the answer lost a race or were there before: `write_opened_look` tells which.
WITH asked AS (
    SELECT w.id, w.account_id, w.device_id, w.session_id, w.issuer_id, w.not_before, w.lease_until,
           w.attempt, w.server_key, w.state, w.endpoint, w.service, w.owner, w.serial,
           w.csr_sha256, w.spki_sha256, w.csr, w.subject, w.most, w.most_made_here
    FROM unnest($1::write_opened_counted_row[]) AS w
), wish AS (
    -- What counts says `issuance_counted`.
    SELECT asked.id, asked.account_id, asked.device_id, asked.session_id, asked.issuer_id, asked.not_before,
           asked.lease_until, asked.attempt, asked.server_key, asked.state, asked.endpoint, asked.service, asked.owner,
           asked.serial, asked.csr_sha256, asked.spki_sha256, asked.csr, asked.subject
    FROM asked
    WHERE (asked.most IS NULL OR NOT EXISTS (
            SELECT FROM issuance_counted(asked.account_id, asked.endpoint) i
            ORDER BY i.endpoint, i.opened_at OFFSET asked.most - 1))
      AND (asked.most_made_here IS NULL OR NOT EXISTS (
            SELECT FROM issuance_counted(asked.account_id, asked.endpoint) i
            WHERE i.service = asked.service AND i.server_key AND NOT i.refused
            ORDER BY i.endpoint, i.opened_at OFFSET asked.most_made_here - 1))
), claimed AS (
    -- In the order of the keys, so that two writers wait for each other in one direction only.
    INSERT INTO known_key (spki_sha256, account_id, endpoint)
    SELECT wish.spki_sha256, wish.account_id, wish.endpoint FROM wish ORDER BY wish.spki_sha256
    ON CONFLICT (spki_sha256) DO NOTHING
    RETURNING spki_sha256
), opened AS (
    INSERT INTO issuance (id, account_id, device_id, session_id, issuer_id, not_before, lease_until, attempt,
                          server_key, state, endpoint, service, owner, serial, csr_sha256, spki_sha256, csr, subject)
    SELECT wish.id, wish.account_id, wish.device_id, wish.session_id, wish.issuer_id, wish.not_before,
           wish.lease_until, wish.attempt, wish.server_key, wish.state, wish.endpoint, wish.service, wish.owner,
           wish.serial, wish.csr_sha256, wish.spki_sha256, wish.csr, wish.subject
    FROM wish
    WHERE wish.spki_sha256 IN (SELECT claimed.spki_sha256 FROM claimed)
       OR EXISTS (SELECT FROM known_key k
                  WHERE k.spki_sha256 = wish.spki_sha256
                    AND k.account_id = wish.account_id AND k.endpoint = wish.endpoint)
    ON CONFLICT DO NOTHING
    RETURNING id
)
SELECT id FROM opened;

-- name: write_opened_look
-- For each wish: whose its public key is, and the row that stands in its place: its own (an earlier try that was
-- committed after all), the one that answers for its CSR, or the one under way for its public key.
SELECT wish.id AS wish_id, key.account_id AS key_account_id, key.endpoint AS key_endpoint,
       found.answers_until <= now() AS is_over,
       found.id, found.account_id, found.device_id, found.session_id, found.issuer_id, found.not_before,
       found.opened_at, found.updated_at, found.lease_until, found.retry_at, found.delivered_at, found.answers_until,
       found.attempt, found.server_key, found.state, found.endpoint, found.service, found.owner, found.serial,
       found.csr_sha256, found.spki_sha256, found.csr, found.subject, found.settled, found.lost_at,
       found.reference, found.error_class, found.error_text
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[], $5::bytea[])
    AS wish (id, account_id, service, csr_sha256, spki_sha256)
LEFT JOIN known_key key ON key.spki_sha256 = wish.spki_sha256
LEFT JOIN LATERAL (
    SELECT 1 AS place, own.id FROM issuance own WHERE own.id = wish.id
    UNION ALL
    SELECT 2, same.id FROM issuance same
    WHERE same.account_id = wish.account_id AND same.service = wish.service
      AND same.csr_sha256 = wish.csr_sha256 AND same.current
    UNION ALL
    SELECT 3, busy.id FROM issuance busy
    WHERE busy.account_id = wish.account_id AND busy.service = wish.service
      AND busy.spki_sha256 = wish.spki_sha256 AND NOT busy.settled
    ORDER BY place LIMIT 1
) nearest ON true
LEFT JOIN issuance found ON found.id = nearest.id;

-- name: write_opened_lately
-- Which of these wishes are one too many, as `write_opened` counts.
SELECT asked.id
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::integer[], $6::integer[])
    AS asked (id, account_id, endpoint, service, most, most_made_here)
WHERE (asked.most IS NOT NULL AND EXISTS (
        SELECT FROM issuance_counted(asked.account_id, asked.endpoint) i
        ORDER BY i.endpoint, i.opened_at OFFSET asked.most - 1))
   OR (asked.most_made_here IS NOT NULL AND EXISTS (
        SELECT FROM issuance_counted(asked.account_id, asked.endpoint) i
        WHERE i.service = asked.service AND i.server_key AND NOT i.refused
        ORDER BY i.endpoint, i.opened_at OFFSET asked.most_made_here - 1));

-- name: write_retired
-- Rows that stop answering for their CSR: their time is over, or a new attempt replaces them.
UPDATE issuance SET current = false, settled = true, updated_at = now()
WHERE id = ANY ($1::uuid[]) AND (answers_until <= now() OR state IN ('unknown', 'refused', 'bad'));

-- name: write_pending
UPDATE issuance i SET state = 'pending', reference = w.reference, retry_at = w.retry_at, updated_at = now()
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[]) AS w (id, owner, reference, retry_at)
WHERE i.id = w.id AND i.owner = w.owner AND i.state IN ('requested', 'submitted', 'pending', 'unknown')
RETURNING i.id;

-- name: write_issued
-- The certificate and its issuance in one step. With a key of the server's it stays unsettled: it must be delivered or
-- abandoned.
WITH chain AS (
    INSERT INTO issuing_chain (sha256, certificates)
    SELECT c.sha256, c.certificates FROM unnest($2::bytea[], $3::bytea[]) AS c (sha256, certificates)
    ORDER BY c.sha256
    ON CONFLICT (sha256) DO NOTHING
), signed AS (
    UPDATE issuance i
    SET state = 'issued', settled = NOT i.server_key, answers_until = w.not_after, warnings = w.warnings::json,
        error_class = NULL, error_text = NULL, updated_at = now()
    FROM unnest($1::write_issued_row[]) AS w
    WHERE i.id = w.id AND i.owner = w.owner AND i.state IN ('requested', 'submitted', 'pending', 'unknown')
    RETURNING i.id, i.account_id, i.device_id, i.issuer_id, i.endpoint, i.service, i.subject, i.spki_sha256,
              w.not_before, w.not_after, w.serial, w.issuer_fingerprint, w.chain_sha256, w.leaf
), issued AS (
    INSERT INTO certificate (issuance_id, account_id, device_id, issuer_id, not_before, not_after, endpoint, service,
                             subject, serial, issuer_fingerprint, spki_sha256, chain_sha256, certificate)
    SELECT s.id, s.account_id, s.device_id, s.issuer_id, s.not_before, s.not_after, s.endpoint, s.service,
           left(s.subject, 200), s.serial, s.issuer_fingerprint, s.spki_sha256, s.chain_sha256, s.leaf
    FROM signed s
    RETURNING issuance_id
)
SELECT issuance_id FROM issued;

-- name: write_issued_look
-- Which of these certificates are recorded for these issuances. One whose key was made here may have been found out by
-- another worker, which gives it up: it is not the owner's to deliver any more.
SELECT c.issuance_id FROM unnest($1::uuid[], $2::text[], $3::bytea[]) AS w (id, owner, leaf)
JOIN certificate c ON c.issuance_id = w.id AND c.certificate = w.leaf
JOIN issuance i ON i.id = w.id
WHERE NOT i.server_key OR (i.owner = w.owner AND i.state = 'issued');

-- name: write_failed
-- `failed` frees the CSR for a new attempt; `refused` and `bad` answer it for a day; `unknown` is looked into again
-- after 30 s, 1, 2, 4, 8 and 16 minutes, then it is for people.
UPDATE issuance i
SET state = w.state, error_class = w.error_class, error_text = w.error_text, updated_at = now(),
    current = w.state <> 'failed',
    settled = w.state <> 'unknown' OR i.recoveries >= 6,
    recoveries = i.recoveries + (w.state = 'unknown')::integer,
    lease_until = now() + interval '30 seconds' * (1 << least(i.recoveries, 6)),
    answers_until = CASE WHEN w.state IN ('refused', 'bad') THEN now() + interval '24 hours' END,
    lost_at = coalesce(i.lost_at, w.lost_at)
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
    AS w (id, owner, state, error_class, error_text, lost_at)
WHERE i.id = w.id AND i.owner = w.owner
  AND (i.state IN ('requested', 'submitted', 'pending', 'unknown')
       OR (i.state, i.error_class, i.error_text) = (w.state, w.error_class, w.error_text))
RETURNING i.id;

-- name: write_delivered
-- From now on the device holds this certificate, unless it was given a newer one meanwhile, or it is for a service of
-- the operator's own.
WITH moved AS (
    UPDATE issuance i
    SET state = 'delivered', settled = true, delivered_at = coalesce(i.delivered_at, now()),
        answers_until = coalesce(i.delivered_at, now()) + interval '24 hours', updated_at = now()
    FROM unnest($1::uuid[]) AS w (id)
    WHERE i.id = w.id AND i.state IN ('issued', 'delivered')
    RETURNING i.id, i.account_id, i.endpoint
), held AS (
    UPDATE device d
    SET certificate_id = c.issuance_id, issuer_id = c.issuer_id, device_key = sha256(c.certificate),
        certified_at = c.issued_at, certified_until = c.not_after
    FROM moved JOIN certificate c ON c.issuance_id = moved.id AND c.service = 'LWM2M'
    WHERE d.account_id = moved.account_id AND d.endpoint = moved.endpoint
      AND (d.certified_at IS NULL OR d.certified_at < c.issued_at)
)
SELECT moved.id FROM moved;

-- name: write_abandoned_locks
-- Another writer's word about these rows is either over and seen by `write_abandoned`, or waits for ours.
SELECT id FROM issuance WHERE id = ANY ($1::uuid[]) ORDER BY id FOR UPDATE;

-- name: write_abandoned
-- The certificate is due to be revoked at once, whoever abandons it tries first; or, while the device may hold it, when
-- the device comes back. Whoever is sure puts an end to another's doubt, in whichever order the two are written; and so
-- does a later wish of the device for the same: a further attempt of the session, or one of a session that began later
-- (as in `issuance_undelivered`), for then it came back before anybody doubted.
WITH w AS (
    SELECT DISTINCT ON (w.id) w.id, w.reason, w.doubtful
    FROM unnest($1::uuid[], $2::text[], $3::boolean[]) AS w (id, reason, doubtful)
    ORDER BY w.id, w.doubtful
), moved AS (
    UPDATE issuance i
    SET state = 'abandoned', settled = true, current = false, error_class = 'Abandoned', error_text = w.reason,
        updated_at = now()
    FROM w
    WHERE i.id = w.id AND (i.state = 'issued' OR (i.state = 'abandoned' AND i.error_text = w.reason))
    RETURNING i.id, w.doubtful AND NOT EXISTS (
        SELECT FROM issuance later
        WHERE later.account_id = i.account_id AND later.endpoint = i.endpoint AND later.service = i.service
          AND later.subject = i.subject AND later.server_key
          AND CASE WHEN later.session_id = i.session_id THEN later.attempt > i.attempt
              ELSE (SELECT coalesce(min(first.opened_at), later.opened_at) FROM issuance first
                    WHERE first.account_id = later.account_id AND first.endpoint = later.endpoint
                      AND first.session_id = later.session_id)
                 > (SELECT coalesce(min(first.opened_at), i.opened_at) FROM issuance first
                    WHERE first.account_id = i.account_id AND first.endpoint = i.endpoint
                      AND first.session_id = i.session_id) END
    ) AS doubtful
), sure AS (
    UPDATE certificate c
    SET revocation_due = now() + interval '1 minute'
    FROM w LEFT JOIN moved ON moved.id = w.id
    WHERE c.issuance_id = w.id AND c.revoked_at IS NULL
      AND (NOT moved.doubtful OR NOT w.doubtful AND c.revocation_due = 'infinity')
), doubtful AS (
    UPDATE certificate c SET revocation_due = 'infinity'
    FROM moved
    WHERE c.issuance_id = moved.id AND moved.doubtful AND c.revoked_at IS NULL AND c.revocation_due IS NULL
)
SELECT moved.id FROM moved;

-- name: write_sessions
-- A session at its certificate and again at its end; the end also goes to the audit, once. A failure is that of the CA that
-- the session names, else of the one that was asked last in it.
WITH w AS (
    SELECT w.id, w.account_id, w.endpoint, w.started_at, w.ended_at, w.profile, w.credential,
           w.address, w.outcome, w.cause, w.sentence, w.issuance_id, w.steps,
           CASE WHEN w.outcome = 'failed' THEN coalesce(
               w.failed_ca,
               (SELECT coalesce(replace(i.issuer_id::text, '-', ''), 'own') FROM issuance i
                WHERE i.account_id = w.account_id AND i.endpoint = w.endpoint AND i.session_id = w.id
                ORDER BY i.opened_at DESC LIMIT 1),
               'none') END AS failed_ca
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::text[],
                $8::text[], $9::text[], $10::text[], $11::text[], $12::uuid[], $13::text[], $14::text[])
        AS w (id, account_id, endpoint, started_at, ended_at, profile, credential,
              address, outcome, cause, sentence, issuance_id, steps, failed_ca)
), final AS (
    INSERT INTO audit (id, at, account_id, actor_kind, actor_name, request_id, action, subject_kind, subject, detail)
    SELECT w.id, w.ended_at, w.account_id, 'device', w.endpoint, '', 'bootstrap.' || w.outcome, 'device', w.endpoint,
           json_build_object('session', w.id, 'cause', w.cause, 'issuance', w.issuance_id)
    FROM w WHERE w.ended_at IS NOT NULL
    ON CONFLICT (id, at) DO NOTHING
)
INSERT INTO session (id, account_id, endpoint, started_at, ended_at, profile, credential, address, outcome, cause,
                     sentence, issuance_id, steps, failed_ca)
SELECT w.id, w.account_id, w.endpoint, w.started_at, w.ended_at, w.profile, w.credential, w.address, w.outcome,
       w.cause, w.sentence, w.issuance_id, w.steps::json, w.failed_ca
FROM w
ON CONFLICT (id, started_at) DO UPDATE
SET ended_at = EXCLUDED.ended_at, outcome = EXCLUDED.outcome, cause = EXCLUDED.cause, sentence = EXCLUDED.sentence,
    issuance_id = coalesce(EXCLUDED.issuance_id, session.issuance_id), steps = EXCLUDED.steps,
    failed_ca = EXCLUDED.failed_ca
WHERE session.ended_at IS NULL;

-- name: write_ended
-- The end of a session as `write_delivered`, `write_sessions` and `write_devices` write it, in one statement: the device
-- gets its certificate and what was learned of it at once. An old session that ends late changes what the device holds,
-- if it was given nothing newer, and nothing else.
WITH ended AS (
    SELECT w.id, w.account_id, w.endpoint, w.started_at, w.ended_at, w.profile, w.credential, w.address, w.outcome,
           w.cause, w.sentence, w.issuance_id, w.steps, w.device_id, w.device_profile, w.at, w.state, w.learned,
           w.verified_by, w.factory_until, w.factory_key, w.delivered,
           CASE WHEN w.outcome = 'failed' THEN coalesce(
               w.failed_ca,
               (SELECT coalesce(replace(i.issuer_id::text, '-', ''), 'own') FROM issuance i
                WHERE i.account_id = w.account_id AND i.endpoint = w.endpoint AND i.session_id = w.id
                ORDER BY i.opened_at DESC LIMIT 1),
               'none') END AS failed_ca
    FROM unnest($1::write_session_end_row[]) AS w
), delivered AS (
    UPDATE issuance i
    SET state = 'delivered', settled = true, delivered_at = coalesce(i.delivered_at, now()),
        answers_until = coalesce(i.delivered_at, now()) + interval '24 hours', updated_at = now()
    FROM ended w, unnest(w.delivered) AS given (id)
    WHERE i.id = given.id AND i.state IN ('issued', 'delivered')
    RETURNING i.id
), final AS (
    INSERT INTO audit (id, at, account_id, actor_kind, actor_name, request_id, action, subject_kind, subject, detail)
    SELECT w.id, w.ended_at, w.account_id, 'device', w.endpoint, '', 'bootstrap.' || w.outcome, 'device', w.endpoint,
           json_build_object('session', w.id, 'cause', w.cause, 'issuance', w.issuance_id)
    FROM ended w
    ON CONFLICT (id, at) DO NOTHING
), told AS (
    INSERT INTO session (id, account_id, endpoint, started_at, ended_at, profile, credential, address, outcome, cause,
                         sentence, issuance_id, steps, failed_ca)
    SELECT w.id, w.account_id, w.endpoint, w.started_at, w.ended_at, w.profile, w.credential, w.address, w.outcome,
           w.cause, w.sentence, w.issuance_id, w.steps::json, w.failed_ca
    FROM ended w
    ON CONFLICT (id, started_at) DO UPDATE
    SET ended_at = EXCLUDED.ended_at, outcome = EXCLUDED.outcome, cause = EXCLUDED.cause,
        sentence = EXCLUDED.sentence, issuance_id = coalesce(EXCLUDED.issuance_id, session.issuance_id),
        steps = EXCLUDED.steps, failed_ca = EXCLUDED.failed_ca
    WHERE session.ended_at IS NULL
), seen AS (
    INSERT INTO device (id, account_id, endpoint, profile, last_session_id, first_seen, last_seen, state, learned,
                        cause, certificate_id, issuer_id, device_key, certified_at, certified_until, enrolled_at,
                        verified_by, factory_until, factory_key, failed_ca)
    SELECT w.device_id, w.account_id, w.endpoint, w.device_profile, w.id, w.at, w.at, w.state, w.learned::json,
           w.cause, held.issuance_id, held.issuer_id, sha256(held.certificate), held.issued_at,
           coalesce(held.not_after, 'infinity'),
           (SELECT min(e.created_at) FROM device_enrollment e WHERE e.device_id = w.device_id), w.verified_by,
           w.factory_until, w.factory_key, w.failed_ca
    FROM ended w
    LEFT JOIN LATERAL (
        SELECT c.issuance_id, c.issuer_id, c.certificate, c.issued_at, c.not_after
        FROM certificate c
        WHERE c.issuance_id = ANY (w.delivered) AND c.service = 'LWM2M' AND c.account_id = w.account_id
          AND c.endpoint = w.endpoint AND c.issuance_id IN (SELECT d.id FROM delivered d)
        UNION ALL
        SELECT c.issuance_id, c.issuer_id, c.certificate, c.issued_at, c.not_after
        FROM certificate c JOIN issuance i ON i.id = c.issuance_id
        WHERE c.account_id = w.account_id AND c.endpoint = w.endpoint AND c.service = 'LWM2M'
          AND i.state = 'delivered' AND NOT EXISTS (SELECT FROM device known WHERE known.id = w.device_id)
        ORDER BY issued_at DESC LIMIT 1) held ON true
    ORDER BY w.device_id
    ON CONFLICT (account_id, endpoint) DO UPDATE
    SET profile = CASE WHEN EXCLUDED.last_seen >= device.last_seen THEN coalesce(EXCLUDED.profile, device.profile)
                       ELSE device.profile END,
        last_session_id = CASE WHEN EXCLUDED.last_seen >= device.last_seen THEN EXCLUDED.last_session_id
                               ELSE device.last_session_id END,
        last_seen = greatest(EXCLUDED.last_seen, device.last_seen),
        state = CASE WHEN EXCLUDED.last_seen >= device.last_seen THEN EXCLUDED.state ELSE device.state END,
        cause = CASE WHEN EXCLUDED.last_seen >= device.last_seen THEN EXCLUDED.cause ELSE device.cause END,
        failed_ca = CASE WHEN EXCLUDED.last_seen >= device.last_seen THEN EXCLUDED.failed_ca
                         ELSE device.failed_ca END,
        learned = CASE WHEN EXCLUDED.last_seen >= device.last_seen THEN coalesce(EXCLUDED.learned, device.learned)
                       ELSE device.learned END,
        enrolled_at = CASE WHEN EXCLUDED.last_seen >= device.last_seen THEN EXCLUDED.enrolled_at
                           ELSE device.enrolled_at END,
        verified_by = CASE WHEN EXCLUDED.last_seen >= device.last_seen
                           THEN coalesce(EXCLUDED.verified_by, device.verified_by) ELSE device.verified_by END,
        factory_key = CASE WHEN EXCLUDED.last_seen >= device.last_seen
                           THEN coalesce(EXCLUDED.factory_key, device.factory_key) ELSE device.factory_key END,
        factory_until = CASE WHEN EXCLUDED.last_seen >= device.last_seen AND EXCLUDED.verified_by IS NOT NULL
                             THEN EXCLUDED.factory_until ELSE device.factory_until END,
        certificate_id = CASE WHEN EXCLUDED.certified_at > coalesce(device.certified_at, '-infinity')
                              THEN EXCLUDED.certificate_id ELSE device.certificate_id END,
        issuer_id = CASE WHEN EXCLUDED.certified_at > coalesce(device.certified_at, '-infinity')
                         THEN EXCLUDED.issuer_id ELSE device.issuer_id END,
        device_key = CASE WHEN EXCLUDED.certified_at > coalesce(device.certified_at, '-infinity')
                          THEN EXCLUDED.device_key ELSE device.device_key END,
        certified_until = CASE WHEN EXCLUDED.certified_at > coalesce(device.certified_at, '-infinity')
                               THEN EXCLUDED.certified_until ELSE device.certified_until END,
        certified_at = greatest(device.certified_at, EXCLUDED.certified_at)
    WHERE EXCLUDED.last_seen >= device.last_seen
       OR EXCLUDED.certified_at > coalesce(device.certified_at, '-infinity')
)
SELECT NULL::uuid WHERE false;

-- name: write_enrollments
-- An enrolment outside any bootstrap: a row of its own beside the bootstraps, and one of the audit, once.
WITH w AS (
    SELECT w.id, w.account_id, w.endpoint, w.started_at, w.ended_at, w.profile, w.credential,
           w.address, w.outcome, w.cause, w.sentence, w.issuance_id, w.steps, w.failed_ca
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::text[],
                $8::text[], $9::text[], $10::text[], $11::text[], $12::uuid[], $13::text[], $14::text[])
        AS w (id, account_id, endpoint, started_at, ended_at, profile, credential,
              address, outcome, cause, sentence, issuance_id, steps, failed_ca)
), final AS (
    INSERT INTO audit (id, at, account_id, actor_kind, actor_name, request_id, action, subject_kind, subject, detail)
    SELECT w.id, w.ended_at, w.account_id, 'device', w.endpoint, '', 'enrollment.' || w.outcome, 'device', w.endpoint,
           json_build_object('session', w.id, 'cause', w.cause, 'issuance', w.issuance_id)
    FROM w
    ON CONFLICT (id, at) DO NOTHING
)
INSERT INTO session (id, account_id, kind, endpoint, started_at, ended_at, profile, credential, address, outcome, cause,
                     sentence, issuance_id, steps, failed_ca)
SELECT w.id, w.account_id, 'enrollment', w.endpoint, w.started_at, w.ended_at, w.profile, w.credential, w.address,
       w.outcome, w.cause, w.sentence, w.issuance_id, w.steps::json,
       CASE WHEN w.outcome = 'failed' THEN coalesce(w.failed_ca, 'none') END
FROM w
ON CONFLICT (id, started_at) DO NOTHING;

-- name: write_steps
-- A step that came after its session had ended goes behind the others, once; the session keeps its outcome.
UPDATE session s
SET steps = (CASE WHEN s.steps::text = '[]' THEN '[' ELSE left(s.steps::text, -1) || ', ' END || w.step || ']')::json,
    issuance_id = coalesce(s.issuance_id, w.issuance_id)
FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::uuid[]) AS w (id, started_at, step, issuance_id)
WHERE s.id = w.id AND s.started_at = w.started_at AND position(w.step IN s.steps::text) = 0;

-- name: write_devices
-- In the order of the ids, so that two writers wait for each other in one direction only. A device that is new here is
-- told what was delivered to it; for the others the delivery did that. A failure is that of the CA it names,
-- else of the one it asked last.
INSERT INTO device (id, account_id, endpoint, profile, last_session_id, first_seen, last_seen, state, learned, cause,
                    certificate_id, issuer_id, device_key, certified_at, certified_until, enrolled_at, verified_by,
                    factory_until, factory_key, failed_ca)
SELECT w.id, w.account_id, w.endpoint, w.profile, w.session_id, w.at, w.at, w.state, w.learned::json, w.cause,
       held.issuance_id, held.issuer_id, sha256(held.certificate), held.issued_at,
       coalesce(held.not_after, 'infinity'),
       (SELECT min(e.created_at) FROM device_enrollment e WHERE e.device_id = w.id), w.verified_by, w.factory_until,
       w.factory_key,
       CASE WHEN w.state = 'failed' THEN
            coalesce(w.failed_ca, (SELECT coalesce(replace(i.issuer_id::text, '-', ''), 'own') FROM issuance i
                      WHERE i.account_id = w.account_id AND i.endpoint = w.endpoint AND i.session_id = w.session_id
                      ORDER BY i.opened_at DESC LIMIT 1), 'none') END
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::timestamptz[], $7::text[], $8::text[],
            $9::text[], $10::bytea[], $11::timestamptz[], $12::bytea[], $13::text[])
    AS w (id, account_id, endpoint, profile, session_id, at, state, learned, cause, verified_by, factory_until,
          factory_key, failed_ca)
LEFT JOIN LATERAL (
    SELECT c.issuance_id, c.issuer_id, c.certificate, c.issued_at, c.not_after
    FROM certificate c JOIN issuance i ON i.id = c.issuance_id
    WHERE c.account_id = w.account_id AND c.endpoint = w.endpoint AND c.service = 'LWM2M' AND i.state = 'delivered'
      AND NOT EXISTS (SELECT FROM device known WHERE known.id = w.id)
    ORDER BY c.issued_at DESC LIMIT 1) held ON true
ORDER BY w.id
ON CONFLICT (account_id, endpoint) DO UPDATE
SET profile = coalesce(EXCLUDED.profile, device.profile), last_session_id = EXCLUDED.last_session_id,
    last_seen = EXCLUDED.last_seen, state = EXCLUDED.state, cause = EXCLUDED.cause, failed_ca = EXCLUDED.failed_ca,
    learned = coalesce(EXCLUDED.learned, device.learned), enrolled_at = EXCLUDED.enrolled_at,
    verified_by = coalesce(EXCLUDED.verified_by, device.verified_by),
    factory_key = coalesce(EXCLUDED.factory_key, device.factory_key),
    factory_until = CASE WHEN EXCLUDED.verified_by IS NULL THEN device.factory_until ELSE EXCLUDED.factory_until END
WHERE device.last_seen <= EXCLUDED.last_seen;

-- name: write_est_offers
-- What a device made of mode 4. That it took it (`offered_at`) is one round more, once the last one has been waited for, of a
-- device that never asked. Else it asked for a certificate (`asked_at`), or there is another reason to count anew. Its
-- first row knows what it asked for before such rows were kept, with an hour for clocks that differ. A round that lies farther
-- ahead is of a clock that was set back, and is not waited for.
INSERT INTO est_offer AS known (account_id, endpoint, rounds, offered_at, waited_until, asked_at)
SELECT w.account_id, w.endpoint, CASE WHEN w.offered_at IS NULL THEN 0 ELSE 1 END, w.offered_at, w.waited_until,
       coalesce(w.asked_at, before.asked_at)
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], $6::text[])
    AS w (account_id, endpoint, offered_at, waited_until, asked_at, services)
LEFT JOIN LATERAL (
    SELECT max(i.opened_at) AS asked_at
    FROM issuance i JOIN device d ON d.account_id = i.account_id AND d.endpoint = i.endpoint
    WHERE w.offered_at IS NOT NULL AND i.account_id = w.account_id AND i.endpoint = w.endpoint AND NOT i.server_key
      AND i.opened_at >= d.first_seen - interval '1 hour' AND i.service IN (SELECT json_array_elements_text(w.services::json))
      AND NOT EXISTS (SELECT FROM est_offer told
                      WHERE told.account_id = w.account_id AND told.endpoint = w.endpoint)) before ON true
ORDER BY w.account_id, w.endpoint
ON CONFLICT (account_id, endpoint) DO UPDATE
SET rounds = CASE WHEN EXCLUDED.offered_at IS NULL THEN 0 ELSE known.rounds + 1 END,
    offered_at = EXCLUDED.offered_at, waited_until = EXCLUDED.waited_until,
    asked_at = coalesce(known.asked_at, EXCLUDED.asked_at)
WHERE CASE WHEN EXCLUDED.offered_at IS NOT NULL
           THEN known.asked_at IS NULL AND (EXCLUDED.offered_at >= coalesce(known.waited_until, '-infinity')
                                            OR EXCLUDED.offered_at < known.offered_at - interval '1 hour')
           ELSE known.rounds > 0 OR (EXCLUDED.asked_at IS NOT NULL AND known.asked_at IS NULL) END;

-- name: write_transcripts
-- One attempt of a device a statement; what is older than its last so many goes.
WITH w AS (
    SELECT w.session_id, w.account_id, w.endpoint, w.started_at, w.cause, w.content, w.attempts
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[], $5::text[], $6::text[], $7::integer[])
        AS w (session_id, account_id, endpoint, started_at, cause, content, attempts)
), trimmed AS (
    DELETE FROM transcript t USING w
    WHERE t.account_id = w.account_id AND t.endpoint = w.endpoint AND t.session_id <> w.session_id
      AND (SELECT count(*) FROM transcript newer
           WHERE newer.account_id = t.account_id AND newer.endpoint = t.endpoint
             AND newer.session_id <> w.session_id AND newer.started_at > t.started_at) >= w.attempts - 1
)
INSERT INTO transcript (session_id, account_id, endpoint, started_at, cause, content)
SELECT w.session_id, w.account_id, w.endpoint, w.started_at, w.cause, w.content::json FROM w
ON CONFLICT (session_id) DO NOTHING;
