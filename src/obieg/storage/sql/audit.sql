-- name: insert_audit
INSERT INTO audit_event (transaction, outcome, patient_id, request_id, message)
VALUES (:transaction, :outcome, :patient_id, :request_id, :message)

-- name: insert_audit_of_several
-- One record, also found by the other patients whom the act was about.
WITH written AS (
  INSERT INTO audit_event (transaction, outcome, patient_id, request_id, message)
  VALUES (:transaction, :outcome, :patient_id, :request_id, :message)
  RETURNING audit_id
)
INSERT INTO audit_patient (patient_id, audit_id)
SELECT other, audit_id FROM written, unnest(:other_patients::text[]) AS other

-- name: audit_tail
-- The newest records, newest first.
SELECT audit_id, recorded_at, transaction, outcome, patient_id, request_id, message
FROM audit_event WHERE audit_id > :after::bigint ORDER BY audit_id DESC LIMIT :count::bigint
