-- What maintenance asks of the stored documents. Pages run along the primary key, so that no snapshot is held for long.

-- name: take_maintenance_lock
-- Held until the connection ends: a backup and a compaction must not run at once. The number is "obieg", 16.
SELECT pg_try_advisory_lock(8026093370168311824)

-- name: documents_total
SELECT count(*), coalesce(sum(size), 0)::bigint FROM stored_document

-- name: documents_page
SELECT unique_id, repository_unique_id, size, sha256, location, wrapped_key
FROM stored_document
WHERE (unique_id, repository_unique_id) > (:unique_id::text, :repository_unique_id::text)
ORDER BY unique_id, repository_unique_id
LIMIT :count::bigint

-- name: document_place
SELECT location, wrapped_key
FROM stored_document WHERE unique_id = :unique_id::text AND repository_unique_id = :repository_unique_id::text

-- name: move_document
-- Nothing happens when the row changed meanwhile: then the copy is what nobody refers to.
UPDATE stored_document SET location = :location::text, wrapped_key = :wrapped_key::bytea
WHERE unique_id = :unique_id::text AND repository_unique_id = :repository_unique_id::text
  AND location = :old_location::text AND wrapped_key = :old_wrapped_key::bytea
RETURNING 1

-- name: segments_in_use
-- The bytes of each segment that documents refer to; a location is segment:offset:length.
SELECT split_part(location, ':', 1), sum(split_part(location, ':', 3)::bigint)::bigint
FROM stored_document GROUP BY 1

-- name: objects_in_use
-- A location is name:length. In the order of bytes, because it is compared with listings of the object store.
SELECT split_part(location, ':', 1) FROM stored_document ORDER BY location COLLATE "C"
