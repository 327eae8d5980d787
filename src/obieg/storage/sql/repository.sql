-- The repository's statements.

-- name: insert_stored_document
-- The same bytes may come again under the same uniqueId: what stands there first stays. Other bytes are refused.
WITH stored AS (
  INSERT INTO stored_document (unique_id, repository_unique_id, state, patient_id, mime_type, size, sha1, sha256,
    location, wrapped_key, content_key)
  VALUES (:unique_id, :repository_unique_id, :state, :patient_id, :mime_type, :size, :sha1, :sha256, :location,
    :wrapped_key, :content_key)
  ON CONFLICT (unique_id, repository_unique_id) DO UPDATE SET state = greatest(stored_document.state, excluded.state)
  RETURNING sha256
)
SELECT obieg_expect((SELECT count(*) FROM stored WHERE sha256 = :sha256), 1,
                    'a document with this uniqueId has other bytes')

-- name: stored_documents
SELECT t.unique_id, t.state::text, t.patient_id, t.mime_type, t.size, t.sha1, t.location, t.wrapped_key
FROM stored_document t
WHERE t.unique_id = ANY(:unique_ids::text[]) AND t.repository_unique_id = :repository_unique_id
  AND t.unique_id IN (SELECT obieg_readable(:unique_ids, :permitted::bigint[], :filter::obieg_filter))  -- sight

-- name: was_removed
-- Whether it lay here once.
SELECT EXISTS (SELECT FROM removed_document
               WHERE unique_id = :unique_id::text AND repository_unique_id = :repository_unique_id::text)

-- name: lock_documents
-- In one order for all; the next statement then sees what whoever held them before has committed.
SELECT count(*) FROM (
  SELECT FROM stored_document
  WHERE unique_id = ANY(:unique_ids::text[]) AND repository_unique_id = :repository_unique_id
  ORDER BY unique_id FOR UPDATE
) locked

-- name: insert_export_audit
-- The record of a retrieval, when all that was asked for is given out; otherwise the actor records what was not. Whose
-- the documents are is known only here, unless the caller knew; it is written into the message of each of them.
WITH given AS (
  SELECT count(*) AS documents,
    CASE WHEN :patient_id::text <> '' THEN ARRAY[:patient_id::text] ELSE array_agg(DISTINCT patient_id) END AS patients
  FROM stored_document
  WHERE unique_id = ANY(:unique_ids::text[]) AND repository_unique_id = :repository_unique_id AND state = 'R'
    AND unique_id IN (SELECT obieg_readable(:unique_ids, :permitted::bigint[], :filter::obieg_filter))  -- sight
), written AS (
  INSERT INTO audit_event (transaction, outcome, patient_id, request_id, message)
  SELECT :transaction::text, :outcome::smallint, patients[1], :request_id::text,
    CASE WHEN :patient_id::text <> '' THEN :message::text
         ELSE replace(:message::text, '</AuditMessage>', obieg_audit_patients(patients) || '</AuditMessage>') END
  FROM given
  WHERE documents = :expected::bigint AND obieg_spend(:digests::bytea[], :ends::timestamptz[], :request_id::text)
    AND CASE WHEN :told::jsonb IS NULL THEN true ELSE obieg_tell(:told::jsonb) END
  RETURNING audit_id
)
INSERT INTO audit_patient (patient_id, audit_id)
SELECT other, audit_id FROM written, given, unnest(patients[2:]) AS other

-- name: release_documents
UPDATE stored_document SET state = 'R'
WHERE unique_id = ANY(:unique_ids::text[]) AND repository_unique_id = :repository_unique_id AND state = 'P'

-- name: drop_pending_documents
-- A submission that the registry refused: its documents were never visible, unless another one waits with them.
DELETE FROM stored_document d
WHERE d.unique_id = ANY(:unique_ids::text[]) AND d.repository_unique_id = :repository_unique_id AND d.state = 'P'
  AND NOT EXISTS (SELECT FROM pending_submission p WHERE d.unique_id = ANY(p.unique_ids))

-- What is done to a submission locks in one order: provided_submission, pending_submission, stored_document.

-- name: insert_provided_submission
INSERT INTO provided_submission (fingerprint, submission_id) VALUES (:fingerprint, :submission_id)

-- name: delete_provided_submission
DELETE FROM provided_submission WHERE fingerprint = :fingerprint

-- name: insert_pending_submission
INSERT INTO pending_submission (submission_id, fingerprint, unique_ids, message, subject, next_attempt_at)
VALUES (:submission_id, :fingerprint, :unique_ids, :message, :subject, now() + :delay_s::float8 * interval '1 second')

-- name: delete_pending_submission
DELETE FROM pending_submission WHERE submission_id = :submission_id

-- name: give_up_pending_submission
-- Only whoever took it last may give it up: another attempt, still under way, may yet be accepted.
WITH given_up AS (
  DELETE FROM pending_submission WHERE submission_id = :submission_id AND attempts = :attempts RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM given_up), 1, 'another attempt at this submission is under way')

-- name: repeat_submission
-- The lock on the first row waits for a refusal that is being stored, so that what is found stands.
WITH earlier AS (
  SELECT submission_id FROM provided_submission WHERE fingerprint = :fingerprint FOR SHARE
), taken AS (
  UPDATE pending_submission p
  SET attempts = p.attempts + 1, next_attempt_at = now() + :lease_s::float8 * interval '1 second'
  FROM earlier WHERE p.submission_id = earlier.submission_id
  RETURNING p.*
)
SELECT t.submission_id::text, t.fingerprint, t.unique_ids, t.message, t.subject::text, t.attempts
FROM earlier LEFT JOIN taken t USING (submission_id)

-- name: due_submission
-- Taken by one worker at a time; the attempt is counted before it is made.
WITH due AS (
  SELECT submission_id FROM pending_submission WHERE next_attempt_at <= now()
  ORDER BY next_attempt_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE pending_submission p
SET attempts = p.attempts + 1, next_attempt_at = now() + :lease_s::float8 * interval '1 second'
FROM due WHERE p.submission_id = due.submission_id
RETURNING p.submission_id::text, p.fingerprint, p.unique_ids, p.message, p.subject::text, p.attempts

-- name: postpone_pending_submission
-- The pause is as long as it has waited so far, so the pauses double; repetitions by the source do not count.
UPDATE pending_submission
SET last_error = :error,
    next_attempt_at = now() + greatest(interval '1 second', least(now() - created_at,
                                                                  :pause_s_max::float8 * interval '1 second'))
WHERE submission_id = :submission_id AND attempts = :attempts
