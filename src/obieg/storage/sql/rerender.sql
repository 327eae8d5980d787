-- Renderings of an older mapping: found in the order of the keys, renewed where nobody uses or has changed the row.
-- {table} is one of the tables of registry objects.

-- name: read_rerendering
SELECT rendering_version, after_patient, after_entry::text, looked, renewed, started_at, updated_at,
  finished_at
FROM rerendering WHERE kind = :kind

-- name: begin_pass
INSERT INTO rerendering (kind, rendering_version, after_patient, after_entry, looked, renewed)
VALUES (:kind, :rendering_version, 0, '00000000-0000-0000-0000-000000000000', 0, 0)
ON CONFLICT (kind) DO UPDATE SET rendering_version = excluded.rendering_version, after_patient = 0,
  after_entry = excluded.after_entry, looked = 0, renewed = 0, started_at = now(), updated_at = now(),
  finished_at = NULL

-- name: advance_pass
UPDATE rerendering SET after_patient = :after_patient, after_entry = :after_entry, looked = looked + :looked,
  renewed = renewed + :renewed, updated_at = now()
WHERE kind = :kind

-- name: end_pass
UPDATE rerendering SET finished_at = now(), updated_at = now() WHERE kind = :kind

-- name: count_ebrim
SELECT count(*), count(*) FILTER (WHERE rendering_version < :rendering_version) FROM {table}

-- name: next_ebrim
-- The next rows by key; what is rendered only of those that are old.
SELECT patient_key, entry_uuid::text, CASE WHEN rendering_version < :rendering_version THEN ebrim END
FROM {table} WHERE (patient_key, entry_uuid) > (:after_patient::bigint, :after_entry::uuid)
ORDER BY patient_key, entry_uuid LIMIT :count

-- name: renew_ebrim
-- A row that another transaction holds is left for the next pass: nobody waits, neither we nor the node.
WITH mine AS (
  SELECT o.patient_key, o.entry_uuid, g.renewed
  FROM unnest(:keys::bigint[], :uuids::uuid[], :old::bytea[], :renewed::bytea[]) AS g (key, uuid, old, renewed)
  JOIN {table} o ON o.patient_key = g.key AND o.entry_uuid = g.uuid
  WHERE o.ebrim = g.old AND o.rendering_version < :rendering_version FOR NO KEY UPDATE OF o SKIP LOCKED
), done AS (
  UPDATE {table} o SET ebrim = mine.renewed, rendering_version = :rendering_version FROM mine
  WHERE o.patient_key = mine.patient_key AND o.entry_uuid = mine.entry_uuid RETURNING 1
)
SELECT count(*) FROM done

-- name: count_fhir
SELECT count(*), count(*) FILTER (WHERE r.rendering_version IS DISTINCT FROM :rendering_version::bigint)
FROM {table} o LEFT JOIN fhir_rendering r ON r.patient_key = o.patient_key AND r.entry_uuid = o.entry_uuid

-- name: next_fhir
SELECT o.patient_key, o.entry_uuid::text,
       CASE WHEN r.rendering_version IS DISTINCT FROM :rendering_version::bigint THEN o.ebrim END, o.registered_at
FROM {table} o LEFT JOIN fhir_rendering r ON r.patient_key = o.patient_key AND r.entry_uuid = o.entry_uuid
WHERE (o.patient_key, o.entry_uuid) > (:after_patient::bigint, :after_entry::uuid)
ORDER BY o.patient_key, o.entry_uuid LIMIT :count

-- name: renew_fhir
WITH done AS (
  INSERT INTO fhir_rendering (patient_key, entry_uuid, rendering_version, content)
  SELECT o.patient_key, o.entry_uuid, :rendering_version::bigint, g.renewed
  FROM unnest(:keys::bigint[], :uuids::uuid[], :old::bytea[], :renewed::bytea[]) AS g (key, uuid, old, renewed)
  JOIN {table} o ON o.patient_key = g.key AND o.entry_uuid = g.uuid
  WHERE o.ebrim = g.old FOR KEY SHARE OF o SKIP LOCKED
  ON CONFLICT (patient_key, entry_uuid) DO UPDATE
    SET rendering_version = excluded.rendering_version, content = excluded.content
  RETURNING 1
)
SELECT count(*) FROM done
