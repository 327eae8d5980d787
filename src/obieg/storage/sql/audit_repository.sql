-- The log as a repository of audit records.

-- name: insert_received_audit
-- The other patients are found by a table of their own, as in our records.
WITH written AS (
  INSERT INTO audit_event (transaction, outcome, patient_id, request_id, message, format, happened_at, sender)
  VALUES (:transaction, :outcome, :patient_id, :request_id, :message, :format, :happened_at, :sender)
  RETURNING audit_id
), others AS (
  INSERT INTO audit_patient (patient_id, audit_id)
  SELECT other, audit_id FROM written, unnest(:other_patients::text[]) AS other
)
SELECT audit_id FROM written

-- name: find_audit_by_time
-- Newest first. Ours stand nearly in the order of their times; of others each says when it happened.
SELECT audit_id, recorded_at, happened_at, format, transaction, outcome, patient_id, request_id, sender, message
FROM (
  (SELECT * FROM audit_event
   WHERE happened_at IS NULL AND audit_id < :before::bigint
     AND audit_id >= obieg_audit_id_at(:since::timestamptz - interval '1 hour')
     AND audit_id < obieg_audit_id_at(:until::timestamptz + interval '1 hour')
     AND recorded_at >= :since::timestamptz AND recorded_at < :until::timestamptz
     AND (:transactions::text[] IS NULL OR transaction = ANY(:transactions::text[]))
     AND (:outcomes::smallint[] IS NULL OR outcome = ANY(:outcomes::smallint[]))
     AND (:request_id::text = '' OR request_id = :request_id::text)
   ORDER BY audit_id DESC LIMIT :count::bigint)
  UNION ALL
  (SELECT * FROM audit_event
   WHERE happened_at IS NOT NULL AND audit_id < :before::bigint
     AND happened_at >= :since::timestamptz AND happened_at < :until::timestamptz
     AND (:transactions::text[] IS NULL OR transaction = ANY(:transactions::text[]))
     AND (:outcomes::smallint[] IS NULL OR outcome = ANY(:outcomes::smallint[]))
     AND (:request_id::text = '' OR request_id = :request_id::text)
   ORDER BY audit_id DESC LIMIT :count::bigint)
) found
ORDER BY audit_id DESC LIMIT :count::bigint

-- name: find_audit_by_patient
-- Newest first, by an index for each id: what a log of many years costs is the page that is read of it.
WITH named AS (
  SELECT e.audit_id FROM unnest(:patients::text[]) AS p(id) CROSS JOIN LATERAL (
    SELECT e.audit_id FROM audit_event e
    WHERE e.patient_id = p.id AND e.patient_id <> '' AND e.audit_id < :before::bigint
      AND coalesce(e.happened_at, e.recorded_at) >= :since::timestamptz
      AND coalesce(e.happened_at, e.recorded_at) < :until::timestamptz
      AND (:transactions::text[] IS NULL OR e.transaction = ANY(:transactions::text[]))
      AND (:outcomes::smallint[] IS NULL OR e.outcome = ANY(:outcomes::smallint[]))
      AND (:request_id::text = '' OR e.request_id = :request_id::text)
    ORDER BY e.audit_id DESC LIMIT :count::bigint) e
  UNION
  SELECT e.audit_id FROM unnest(:patients::text[]) AS p(id) CROSS JOIN LATERAL (
    SELECT o.audit_id FROM audit_patient o JOIN audit_event e USING (audit_id)
    WHERE o.patient_id = p.id AND o.audit_id < :before::bigint
      AND coalesce(e.happened_at, e.recorded_at) >= :since::timestamptz
      AND coalesce(e.happened_at, e.recorded_at) < :until::timestamptz
      AND (:transactions::text[] IS NULL OR e.transaction = ANY(:transactions::text[]))
      AND (:outcomes::smallint[] IS NULL OR e.outcome = ANY(:outcomes::smallint[]))
      AND (:request_id::text = '' OR e.request_id = :request_id::text)
    ORDER BY o.audit_id DESC LIMIT :count::bigint) e
)
SELECT audit_id, recorded_at, happened_at, format, transaction, outcome, patient_id, request_id, sender, message
FROM (SELECT audit_id FROM named ORDER BY audit_id DESC LIMIT :count::bigint) newest JOIN audit_event USING (audit_id)
ORDER BY audit_id DESC

-- name: find_audit_by_id
SELECT e.audit_id, e.recorded_at, e.happened_at, e.format, e.transaction, e.outcome, e.patient_id, e.request_id, e.sender,
  e.message
FROM audit_event e
WHERE e.audit_id = ANY(:ids::bigint[]) AND e.audit_id < :before::bigint
  AND coalesce(e.happened_at, e.recorded_at) >= :since::timestamptz
  AND coalesce(e.happened_at, e.recorded_at) < :until::timestamptz
  AND (:transactions::text[] IS NULL OR e.transaction = ANY(:transactions::text[]))
  AND (:outcomes::smallint[] IS NULL OR e.outcome = ANY(:outcomes::smallint[]))
  AND (:request_id::text = '' OR e.request_id = :request_id::text)
  AND (:patients::text[] IS NULL OR e.patient_id = ANY(array_remove(:patients::text[], ''))
       OR EXISTS (SELECT FROM audit_patient o WHERE o.audit_id = e.audit_id AND o.patient_id = ANY(:patients::text[])))
ORDER BY e.audit_id DESC LIMIT :count::bigint

-- name: audit_names
-- All identifiers of those who are one person with whom these CX name: in the affinity domain, and what records of theirs
-- state or stated, also where it was merged away.
WITH kin AS MATERIALIZED (
  SELECT DISTINCT key
  FROM unnest(:values::text[], :authorities::text[]) AS named (value, authority)
  CROSS JOIN LATERAL unnest(obieg_patient_keys(named.authority, named.value)) AS key
), stated AS (
  SELECT i.value, i.authority
  FROM kin JOIN patient_record r ON r.patient_key = kin.key
  CROSS JOIN LATERAL unnest(r.values, r.authorities) AS i (value, authority)
)
SELECT p.affinity_domain_id, :own_authority::text FROM kin JOIN patient p ON p.patient_key = kin.key
UNION
SELECT l.value, l.authority FROM stated s
JOIN patient_locator l ON l.authority = s.authority AND l.value = s.value
WHERE l.patient_key IN (SELECT key FROM kin)
UNION
SELECT l.value, l.authority FROM kin JOIN patient_locator l ON l.retired_by = kin.key
UNION
SELECT l.value, l.authority FROM stated s
JOIN patient_locator l ON l.replaced_authority = s.authority AND l.replaced_value = s.value
WHERE l.patient_key IN (SELECT key FROM kin)

-- name: audit_position
-- How far a repository has been told; a new one is told of everything from now on.
INSERT INTO audit_position (repository, audit_id)
VALUES (:repository, (SELECT coalesce(max(audit_id), 0) FROM audit_event))
ON CONFLICT (repository) DO UPDATE SET audit_id = audit_position.audit_id
RETURNING audit_id

-- name: advance_audit_position
UPDATE audit_position SET audit_id = :audit_id, sent_at = now() WHERE repository = :repository

-- name: oldest_writer
-- When the oldest transaction began that may yet store a record under a number that was given out already.
SELECT (
  SELECT min(xact_start) FROM pg_stat_activity
  WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
    AND (backend_xid IS NOT NULL OR state = 'active')
)

-- name: audit_after
SELECT audit_id, recorded_at, format, message FROM audit_event
WHERE audit_id > :after::bigint ORDER BY audit_id LIMIT :count::bigint

-- name: audit_clock
SELECT clock_timestamp()

-- name: audit_lag
-- How many records wait for a repository, about, and since when.
SELECT repository, (SELECT coalesce(max(audit_id), 0) FROM audit_event) - p.audit_id,
  coalesce(extract(epoch FROM now() - (
    SELECT e.recorded_at FROM audit_event e WHERE e.audit_id > p.audit_id ORDER BY e.audit_id LIMIT 1)), 0)::float8
FROM audit_position p
