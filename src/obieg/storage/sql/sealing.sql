-- Sealing the audit. Records are read by COPY in binary format, which takes no parameters: what part is asked for
-- stands in settings of the transaction.

-- name: take_sealing_lock
-- One sealer at a time; held by the connection.
SELECT pg_try_advisory_lock(x'6f62696567000006'::bit(64)::bigint)

-- name: release_sealing_lock
SELECT pg_advisory_unlock(x'6f62696567000006'::bit(64)::bigint)

-- name: audit_numbers_given
-- The highest number that any record may have by now.
SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM audit_event_audit_id_seq

-- name: audit_writers
-- Transactions that may have written records: whoever inserts holds this lock before a number is drawn, until its end.
SELECT DISTINCT virtualtransaction FROM pg_locks
WHERE locktype = 'relation' AND relation = 'audit_event'::regclass AND mode = 'RowExclusiveLock' AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())

-- name: begin_sealing
BEGIN ISOLATION LEVEL REPEATABLE READ

-- name: begin_verifying
BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY

-- name: export_snapshot
SELECT pg_export_snapshot()

-- name: take_snapshot
-- Takes no parameters of the protocol: bound by the client.
SET TRANSACTION SNAPSHOT :snapshot

-- name: newest_seal
SELECT sequence, tree_size, records::text, leaves, peaks, note FROM audit_seal ORDER BY sequence DESC LIMIT 1

-- name: unsealed_ranges
-- Numbers above :complete that no seal has, in ascending order; NULL: without end.
SELECT lower(r), upper(r)
FROM unnest(int8multirange(int8range(:complete::bigint + 1, NULL)) - coalesce(
  (SELECT range_agg(records) FROM audit_seal WHERE upper(records) > :complete::bigint), '{}'
)) AS r
ORDER BY lower(r)

-- name: choose_records
-- What the next two statements read.
SELECT set_config('obieg.first_record', :first::bigint::text, true), set_config('obieg.end_record', :end::bigint::text, true)

-- name: copy_audit_records
-- All columns of a record, in this order: its bytes are what is sealed (docs/audit.md).
COPY (
  SELECT audit_id, recorded_at, transaction, outcome, patient_id, request_id, message, format, happened_at, sender
  FROM audit_event
  WHERE audit_id >= current_setting('obieg.first_record')::bigint
    AND audit_id < current_setting('obieg.end_record')::bigint
  ORDER BY audit_id
) TO STDOUT (FORMAT binary)

-- name: copy_audit_patients
COPY (
  SELECT audit_id, patient_id FROM audit_patient
  WHERE audit_id >= current_setting('obieg.first_record')::bigint
    AND audit_id < current_setting('obieg.end_record')::bigint
  ORDER BY audit_id, patient_id COLLATE "C"
) TO STDOUT (FORMAT binary)

-- name: insert_seal
INSERT INTO audit_seal (sequence, tree_size, records, leaves, peaks, note)
VALUES (:sequence, :tree_size, :records::int8multirange, :leaves, :peaks, :note)

-- name: audit_looked_at
UPDATE audit_sealing SET checked_at = clock_timestamp()

-- name: sealing_age
-- Seconds since nothing was left to be sealed; how many records may wait.
SELECT extract(epoch FROM clock_timestamp() - checked_at)::float8,
  greatest(0, (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM audit_event_audit_id_seq)
    - coalesce((SELECT upper(records) - 1 FROM audit_seal ORDER BY upper(records) DESC LIMIT 1), 0))
FROM audit_sealing

-- name: notes_after
SELECT sequence, note FROM audit_seal WHERE sequence > :after::bigint ORDER BY sequence LIMIT :count::bigint

-- name: seals_without_leaves
-- Those whose sequence is in the range, in order.
SELECT sequence, tree_size, records::text, length(leaves), peaks, note FROM audit_seal
WHERE sequence > :after::bigint ORDER BY sequence LIMIT :count::bigint

-- name: leaves_of_seal
SELECT leaves FROM audit_seal WHERE sequence = :sequence::bigint

-- name: seal_of_record
SELECT sequence, tree_size, records::text, leaves, peaks, note FROM audit_seal
WHERE upper(records) > :audit_id::bigint AND records @> :audit_id::bigint ORDER BY upper(records) LIMIT 1

-- name: seal_before
SELECT sequence, tree_size, records::text, leaves, peaks, note FROM audit_seal WHERE sequence = :sequence::bigint - 1

-- name: records_outside_seals
-- Records that no seal has although all with their numbers were sealed.
SELECT a.audit_id
FROM unnest(int8multirange(int8range(NULL, :complete::bigint + 1)) - coalesce(
  (SELECT range_agg(records) FROM audit_seal), '{}'
)) AS r
JOIN audit_event a ON a.audit_id >= coalesce(lower(r), -9223372036854775808)
  AND a.audit_id < upper(r)
ORDER BY a.audit_id

-- name: records_waiting
SELECT count(*) FROM audit_event WHERE audit_id > :complete::bigint
  AND NOT audit_id <@ ANY (SELECT records FROM audit_seal WHERE upper(records) > :complete::bigint)

-- name: patients_without_record
-- Rows of audit_patient that belong to no record: each is written in the commit of its record.
SELECT DISTINCT o.audit_id FROM audit_patient o
WHERE NOT EXISTS (SELECT FROM audit_event a WHERE a.audit_id = o.audit_id) ORDER BY 1

-- name: sealed_to
-- The newest seal, and the newest one that is time-stamped.
SELECT (SELECT max(sequence) FROM audit_seal), (SELECT max(sequence) FROM audit_timestamp)

-- name: note_of_seal
SELECT note FROM audit_seal WHERE sequence = :sequence::bigint

-- name: insert_timestamp
INSERT INTO audit_timestamp (sequence, token) VALUES (:sequence, :token)

-- name: timestamps
SELECT sequence, token FROM audit_timestamp ORDER BY sequence, obtained_at

-- name: timestamp_after
-- The first time-stamp that covers a seal.
SELECT t.sequence, t.token, s.note FROM audit_timestamp t JOIN audit_seal s USING (sequence)
WHERE t.sequence >= :sequence::bigint ORDER BY t.sequence LIMIT 1

-- name: keep_note
INSERT INTO audit_witnessed (origin, sequence, note_digest, note) VALUES (:origin, :sequence, :note_digest, :note)
ON CONFLICT DO NOTHING

-- name: newest_witnessed
SELECT note FROM audit_witnessed WHERE origin = :origin::text ORDER BY sequence DESC, received_at DESC LIMIT 1

-- name: witnessed_after
SELECT sequence, note FROM audit_witnessed WHERE origin = :origin::text AND sequence > :after::bigint
ORDER BY sequence, received_at LIMIT :count::bigint

-- name: leaves_of_seals
SELECT sequence, leaves FROM audit_seal WHERE sequence = ANY(:sequences::bigint[])

-- name: seals_total
SELECT coalesce(max(tree_size), 0), count(*) FROM audit_seal
