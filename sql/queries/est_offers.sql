-- name: est_offer_find
SELECT rounds, offered_at, waited_until, asked_at FROM est_offer WHERE account_id = $1 AND endpoint = $2;
