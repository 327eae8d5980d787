-- The repository's statements.

-- name: insert_stored_document
-- The same bytes may come again under the same uniqueId: what stands there first stays. Other bytes are refused.
WITH stored AS (
  INSERT INTO stored_document (unique_id, repository_unique_id, state, patient_id, mime_type, size, sha1, sha256,
    location, wrapped_key)
  VALUES (:unique_id, :repository_unique_id, :state, :patient_id, :mime_type, :size, :sha1, :sha256, :location,
    :wrapped_key)
  ON CONFLICT (unique_id, repository_unique_id) DO UPDATE SET state = greatest(stored_document.state, excluded.state)
  RETURNING sha256
)
SELECT obieg_expect((SELECT count(*) FROM stored WHERE sha256 = :sha256), 1,
                    'a document with this uniqueId has other bytes')

-- name: stored_documents
SELECT unique_id, state::text, patient_id, mime_type, size, sha1, location, wrapped_key
FROM stored_document WHERE unique_id = ANY(:unique_ids::text[]) AND repository_unique_id = :repository_unique_id

-- name: release_documents
UPDATE stored_document SET state = 'R'
WHERE unique_id = ANY(:unique_ids::text[]) AND repository_unique_id = :repository_unique_id

-- name: drop_pending_documents
-- A submission that the registry refused: its documents were never visible.
DELETE FROM stored_document
WHERE unique_id = ANY(:unique_ids::text[]) AND repository_unique_id = :repository_unique_id AND state = 'P'

-- name: insert_pending_submission
INSERT INTO pending_submission (submission_id, unique_ids, message, registry, next_attempt_at)
VALUES (:submission_id, :unique_ids, :message, :registry, now() + :delay_s::float8 * interval '1 second')

-- name: delete_pending_submission
DELETE FROM pending_submission WHERE submission_id = :submission_id

-- name: due_submissions
-- Taken by one worker at a time; the attempt is counted before it is made.
WITH due AS (
  SELECT submission_id FROM pending_submission WHERE next_attempt_at <= now()
  ORDER BY next_attempt_at LIMIT :count::bigint FOR UPDATE SKIP LOCKED
)
UPDATE pending_submission p
SET attempts = attempts + 1,
    next_attempt_at = now() + least(3600, 5 * power(2, least(attempts, 10))) * interval '1 second'
FROM due WHERE p.submission_id = due.submission_id
RETURNING p.submission_id::text, p.unique_ids, p.message, p.registry, p.attempts

-- name: fail_pending_submission
UPDATE pending_submission SET last_error = :error WHERE submission_id = :submission_id
