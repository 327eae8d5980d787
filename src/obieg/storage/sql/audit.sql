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

-- name: insert_audit_spending
-- The same, of a request that uses up what may be shown once only.
INSERT INTO audit_event (transaction, outcome, patient_id, request_id, message)
SELECT :transaction::text, :outcome::smallint, :patient_id::text, :request_id::text, :message::text
WHERE obieg_spend(:digests::bytea[], :ends::timestamptz[], :request_id::text)

-- name: insert_audit_of_several_spending
WITH written AS (
  INSERT INTO audit_event (transaction, outcome, patient_id, request_id, message)
  SELECT :transaction::text, :outcome::smallint, :patient_id::text, :request_id::text, :message::text
  WHERE obieg_spend(:digests::bytea[], :ends::timestamptz[], :request_id::text)
  RETURNING audit_id
)
INSERT INTO audit_patient (patient_id, audit_id)
SELECT other, audit_id FROM written, unnest(:other_patients::text[]) AS other

-- name: insert_audit_telling
-- The same, of an act of which patients or the officer are told (domain/obligations.py).
WITH written AS (
  INSERT INTO audit_event (transaction, outcome, patient_id, request_id, message)
  SELECT :transaction::text, :outcome::smallint, :patient_id::text, :request_id::text, :message::text
  WHERE obieg_spend(:digests::bytea[], :ends::timestamptz[], :request_id::text) AND obieg_tell(:told::jsonb)
  RETURNING audit_id
)
INSERT INTO audit_patient (patient_id, audit_id)
SELECT other, audit_id FROM written, unnest(:other_patients::text[]) AS other

-- name: spend
SELECT obieg_spend(:digests::bytea[], :ends::timestamptz[], :request_id::text)

-- name: forget_spent
-- What ended an hour ago, by whichever clock; the rest waits for the next time.
WITH gone AS (
  DELETE FROM spent_token WHERE digest IN (
    SELECT digest FROM spent_token WHERE expires_at < now() - interval '1 hour' ORDER BY expires_at LIMIT :count::bigint
  ) RETURNING 1
)
SELECT count(*) FROM gone

-- name: audit_tail
-- The newest records, newest first.
SELECT audit_id, recorded_at, happened_at, format, transaction, outcome, patient_id, request_id, sender, message
FROM audit_event WHERE audit_id > :after::bigint ORDER BY audit_id DESC LIMIT :count::bigint
