-- name: revision_current
SELECT number FROM revision;
