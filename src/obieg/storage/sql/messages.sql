-- Messages between patients and facilities.

-- name: put_thread
-- Raises where too many are open, or the facility has handed over nothing of the patient that is shown.
WITH begun AS (
  INSERT INTO message_thread (thread_id, patient_key, facility, subject)
  SELECT :thread_id::uuid, k.keys[1], :facility::text, :subject::text
  FROM (SELECT obieg_patient_keys(:authority::text, :value::text) AS keys) k
  WHERE k.keys <> '{}'
    AND (SELECT count(*) FROM message_thread t WHERE t.patient_key = ANY(k.keys) AND t.closed_at IS NULL) < :most::bigint
    AND EXISTS (
      SELECT FROM document_entry d WHERE d.patient_key = ANY(k.keys) AND :facility::text = ANY(d.authors)
        AND d.patient_key = ANY(:permitted::bigint[])  -- sight
        AND d.entry_uuid NOT IN (SELECT obieg_hidden_documents(:filter::obieg_filter))  -- sight
    )
  RETURNING thread_id
)
SELECT obieg_expect((SELECT count(*) FROM begun), 1, 'no thread can begin')

-- name: put_message
-- Raises where the thread is closed, too long, or not of this patient or facility.
WITH thread AS (
  SELECT t.thread_id FROM message_thread t
  WHERE t.thread_id = :thread_id::uuid AND t.closed_at IS NULL
    AND (t.facility = :facility::text OR t.patient_key = ANY(obieg_patient_keys(:authority::text, :value::text)))
    AND (SELECT count(*) FROM message m WHERE m.thread_id = t.thread_id) < :most::bigint
  FOR UPDATE
), moved AS (
  UPDATE message_thread t SET last_at = now() FROM thread WHERE t.thread_id = thread.thread_id
), written AS (
  INSERT INTO message (thread_id, of_patient, author, author_name, role, text)
  SELECT thread.thread_id, :of_patient::boolean, :author::text, :author_name::text, :role::text, :text::text FROM thread
  RETURNING message_id
)
SELECT obieg_expect((SELECT count(*) FROM written), 1, 'the thread takes no message')

-- name: threads
-- Of a patient, or of a facility; the ones where something happened last first, each with what was written.
SELECT t.thread_id::text, t.patient_key, p.affinity_domain_id, t.facility, t.subject, t.closed_at,
       (SELECT r.demographics FROM patient_record r
        WHERE r.patient_key = ANY(obieg_kin(t.patient_key)) AND r.removed_at IS NULL
        ORDER BY r.updated_at DESC, r.record_key LIMIT 1),
       ARRAY(SELECT jsonb_build_array(m.message_id, m.of_patient, m.author_name, m.role, m.text, m.sent_at, m.read_at)::text
             FROM message m WHERE m.thread_id = t.thread_id ORDER BY m.message_id)
FROM message_thread t JOIN patient p ON p.patient_key = (obieg_kin(t.patient_key))[1]
WHERE (t.facility = :facility::text OR t.patient_key = ANY(obieg_patient_keys(:authority::text, :value::text)))
  AND (:thread_id::text = '' OR t.thread_id::text = :thread_id::text)
ORDER BY t.last_at DESC, t.thread_id LIMIT :count::bigint

-- name: read_messages
-- What the other side wrote is read now.
UPDATE message SET read_at = now()
WHERE thread_id = :thread_id::uuid AND read_at IS NULL AND of_patient <> :of_patient::boolean

-- name: close_thread
-- Raises where it is closed, or not of this patient or facility.
WITH closed AS (
  UPDATE message_thread SET closed_at = now()
  WHERE thread_id = :thread_id::uuid AND closed_at IS NULL
    AND (facility = :facility::text OR patient_key = ANY(obieg_patient_keys(:authority::text, :value::text)))
  RETURNING thread_id
)
SELECT obieg_expect((SELECT count(*) FROM closed), 1, 'the thread is closed')
