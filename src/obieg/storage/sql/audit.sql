-- name: insert_audit
INSERT INTO audit_event (transaction, outcome, patient_id, request_id, message)
VALUES (:transaction, :outcome, :patient_id, :request_id, :message)

-- name: audit_tail
-- The newest records, newest first.
SELECT audit_id, recorded_at, transaction, outcome, patient_id, request_id, message
FROM audit_event WHERE audit_id > :after::bigint ORDER BY audit_id DESC LIMIT :count::bigint
