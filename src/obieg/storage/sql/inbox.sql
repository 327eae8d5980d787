-- What was sent to this node as a Document Recipient.

-- name: inbox_fingerprint
SELECT fingerprint FROM inbox_submission WHERE unique_id = :unique_id

-- name: insert_inbox_submission
INSERT INTO inbox_submission (unique_id, fingerprint, sender, source_id, patient_id, title, intended_recipient,
  submission, document_ids)
VALUES (:unique_id, :fingerprint, :sender, :source_id, :patient_id, :title, :intended_recipient, :submission,
  :document_ids)

-- name: list_inbox
-- The oldest first: what nobody has taken yet, or everything.
SELECT inbox_id, received_at, sender, patient_id, title, cardinality(document_ids), taken_at
FROM inbox_submission WHERE taken_at IS NULL OR :everything::boolean
ORDER BY inbox_id LIMIT :count::bigint

-- name: count_inbox
SELECT count(*) FILTER (WHERE taken_at IS NULL), count(*) FROM inbox_submission

-- name: inbox_submissions
SELECT inbox_id, received_at, sender, submission, taken_at
FROM inbox_submission
WHERE inbox_id = ANY(:ids::bigint[]) OR (:waiting::boolean AND taken_at IS NULL)
ORDER BY inbox_id

-- name: inbox_documents
SELECT unique_id, mime_type, size, sha256, location, wrapped_key
FROM stored_document WHERE unique_id = ANY(:unique_ids::text[]) AND repository_unique_id = :repository_unique_id::text

-- name: take_inbox_submission
UPDATE inbox_submission SET taken_at = now() WHERE inbox_id = :inbox_id

-- name: drop_inbox_submissions
-- The documents go with the last submission that holds them; obieg documents compact takes their bytes back.
WITH dropped AS (
  DELETE FROM inbox_submission WHERE inbox_id = ANY(:ids::bigint[]) RETURNING inbox_id, document_ids
), gone AS (
  DELETE FROM stored_document d
  WHERE d.repository_unique_id = :repository_unique_id::text
    AND d.unique_id = ANY(ARRAY(SELECT unnest(document_ids) FROM dropped))
    AND NOT EXISTS (SELECT FROM inbox_submission s
                    WHERE d.unique_id = ANY(s.document_ids) AND s.inbox_id <> ALL(:ids::bigint[]))
)
SELECT inbox_id FROM dropped
