-- Exports of everything, and the pages of resources that they are made of.

-- name: patient_keys
SELECT unnest(obieg_patient_keys(:authority, :value))

-- name: insert_export
INSERT INTO export (export_id, requester, request, base, types, since)
VALUES (:export_id, :requester, :request, :base, :types, :since)

-- name: read_export
SELECT export_id::text, requester, request, base, types, since, state::text, error, begun_at, position, at_type, after,
  file, in_file, finished_at
FROM export WHERE export_id = :export_id AND requester = :requester

-- name: running_export
SELECT export_id::text, requester, request, base, types, since, state::text, error, begun_at, position, at_type, after,
  file, in_file, finished_at
FROM export WHERE state = 'R' ORDER BY begun_at, export_id LIMIT 1

-- name: list_export_files
SELECT file, min(type), sum(resources)::bigint, sum(size)::bigint, sum(length(content))::bigint
FROM export_piece WHERE export_id = :export_id GROUP BY file ORDER BY file

-- name: next_export_piece
SELECT position, content FROM export_piece
WHERE export_id = :export_id AND file = :file AND position > :position ORDER BY position LIMIT 1

-- name: delete_export
WITH gone AS (DELETE FROM export WHERE export_id = :export_id AND requester = :requester RETURNING 1)
SELECT count(*) FROM gone

-- name: advance_export
-- Only who has seen where the export stands moves it on.
WITH moved AS (
  UPDATE export SET position = position + 1, at_type = :at_type, after = :after, file = :file, in_file = :in_file,
    state = CASE WHEN :finished::boolean THEN 'D'::"char" ELSE 'R' END,
    finished_at = CASE WHEN :finished::boolean THEN now() END
  WHERE export_id = :export_id AND state = 'R' AND position = :position::integer
  RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM moved), 1, 'the export was ended or moved on by another worker')

-- name: insert_export_piece
INSERT INTO export_piece (export_id, position, type, file, resources, size, content)
VALUES (:export_id, :position, :type, :file, :resources, :size, :content)

-- name: fail_export
UPDATE export SET state = 'F', error = :error, finished_at = now()
WHERE export_id = :export_id AND state = 'R' AND position = :position::integer

-- name: expire_exports
DELETE FROM export WHERE state <> 'R' AND finished_at < now() - make_interval(secs => :seconds)

-- name: page_patients
-- People: those who were merged are told with their survivor.
SELECT p.patient_key FROM patient p
WHERE p.patient_key > :after::bigint AND (:keys::bigint[] IS NULL OR p.patient_key = ANY(:keys))
  AND (:since::timestamptz IS NULL OR p.updated_at >= :since)
  AND NOT EXISTS (SELECT FROM patient_link k WHERE k.patient_key = p.patient_key)
ORDER BY p.patient_key LIMIT :count

-- name: page_documents
-- Newest versions, as a search finds them.
WITH
  unseen AS MATERIALIZED (SELECT obieg_hidden(:filter::obieg_filter) AS entry_uuid),  -- sight
page AS MATERIALIZED (
  SELECT d.patient_key, d.entry_uuid, d.status, d.version, d.revision, d.registered_at,
         coalesce(d.updated_at, d.registered_at) AS updated_at, d.ebrim
  FROM document_entry d
  WHERE (d.patient_key, d.entry_uuid) > (:after_key::bigint, :after_uuid::uuid)
    AND (:keys::bigint[] IS NULL OR d.patient_key = ANY(:keys))
    AND (:since::timestamptz IS NULL OR coalesce(d.updated_at, d.registered_at) >= :since)
    AND NOT d.superseded
    AND d.patient_key = ANY(:permitted::bigint[])  -- sight
    AND d.entry_uuid NOT IN (SELECT u.entry_uuid FROM unseen u)  -- sight
  ORDER BY d.patient_key, d.entry_uuid LIMIT :count
), people AS MATERIALIZED (
  SELECT k.patient_key, obieg_person_id(k.patient_key) AS patient_id, obieg_kin(k.patient_key) AS keys
  FROM (SELECT DISTINCT patient_key FROM page) k
)
SELECT 'D', p.patient_key, p.entry_uuid::text, r.content, p.status::text,
       p.revision || CASE WHEN w.keys[1] <> p.patient_key THEN '-' || left(md5(w.patient_id), 8) ELSE '' END,
       p.updated_at, w.patient_id,
       ARRAY(SELECT a.type || ' ' || a.target FROM association a
             WHERE a.patient_key = ANY(w.keys) AND a.source = p.entry_uuid AND a.type <> 'HasMember' AND a.status = 'A'
               AND a.target NOT IN (SELECT u.entry_uuid FROM unseen u)  -- sight
             ORDER BY a.type, a.target),
       '', p.registered_at, p.version, CASE WHEN r.content IS NULL THEN p.ebrim END
FROM page p JOIN people w ON w.patient_key = p.patient_key
LEFT JOIN fhir_rendering r ON r.patient_key = p.patient_key AND r.entry_uuid = p.entry_uuid
  AND r.rendering_version = :rendering_version::bigint
ORDER BY p.patient_key, p.entry_uuid

-- name: page_lists
-- Submission sets and the newest versions of folders; what is hidden of these as in search_lists.
WITH
  unseen AS MATERIALIZED (SELECT obieg_hidden(:filter::obieg_filter) AS entry_uuid),  -- sight
  times AS MATERIALIZED (SELECT * FROM obieg_folder_times(:filter::obieg_filter)),  -- sight
page AS MATERIALIZED (
  SELECT * FROM (
    SELECT 'S' AS kind, s.patient_key, s.entry_uuid, s.status, 1 AS version, s.revision::text, s.registered_at,
           coalesce(s.updated_at, s.registered_at) AS updated_at, '' AS last_update_time, s.ebrim
    FROM submission_set s
    WHERE (s.patient_key, s.entry_uuid) > (:after_key::bigint, :after_uuid::uuid)
      AND (:keys::bigint[] IS NULL OR s.patient_key = ANY(:keys))
      AND (:since::timestamptz IS NULL OR coalesce(s.updated_at, s.registered_at) >= :since)
      AND s.patient_key = ANY(:permitted::bigint[])  -- sight
      AND s.entry_uuid NOT IN (SELECT u.entry_uuid FROM unseen u)  -- sight
    ORDER BY s.patient_key, s.entry_uuid LIMIT :count) s
  UNION ALL
  SELECT * FROM (
    SELECT 'F', f.patient_key, f.entry_uuid, f.status, f.version, coalesce(
             t.revision,  -- sight
             f.revision::text), f.registered_at, coalesce(
             to_timestamp(t.time || '+00', 'YYYYMMDDHH24MISSTZH'),  -- sight
             f.updated_at, f.registered_at), coalesce(
             t.time,  -- sight
             f.last_update_time), f.ebrim
    FROM folder f
    LEFT JOIN times t ON t.entry_uuid = f.entry_uuid  -- sight
    WHERE (f.patient_key, f.entry_uuid) > (:after_key::bigint, :after_uuid::uuid)
      AND (:keys::bigint[] IS NULL OR f.patient_key = ANY(:keys))
      AND (:since::timestamptz IS NULL
           OR coalesce(
             to_timestamp(t.time || '+00', 'YYYYMMDDHH24MISSTZH'),  -- sight
             f.updated_at, f.registered_at) >= :since)
      AND f.patient_key = ANY(:permitted::bigint[])  -- sight
      AND f.entry_uuid NOT IN (SELECT u.entry_uuid FROM unseen u)  -- sight
      AND NOT f.superseded
    ORDER BY f.patient_key, f.entry_uuid LIMIT :count) f
  ORDER BY 2, 3 LIMIT :count
), people AS MATERIALIZED (
  SELECT k.patient_key, obieg_person_id(k.patient_key) AS patient_id, obieg_kin(k.patient_key) AS keys
  FROM (SELECT DISTINCT patient_key FROM page) k
)
SELECT p.kind, p.patient_key, p.entry_uuid::text, r.content, p.status::text,
       p.revision || CASE WHEN w.keys[1] <> p.patient_key THEN '-' || left(md5(w.patient_id), 8) ELSE '' END,
       p.updated_at, w.patient_id,
       ARRAY(SELECT l.kind::text || ' ' || a.target FROM association a
             JOIN object_locator l ON l.entry_uuid = a.target AND l.kind IN ('D', 'F')
             WHERE a.patient_key = ANY(w.keys) AND a.source = p.entry_uuid AND a.type = 'HasMember' AND a.status = 'A'
               AND a.target NOT IN (SELECT u.entry_uuid FROM unseen u)  -- sight
             ORDER BY l.kind, a.target),
       p.last_update_time, p.registered_at, p.version, CASE WHEN r.content IS NULL THEN p.ebrim END
FROM page p JOIN people w ON w.patient_key = p.patient_key
LEFT JOIN fhir_rendering r ON r.patient_key = p.patient_key AND r.entry_uuid = p.entry_uuid
  AND r.rendering_version = :rendering_version::bigint
ORDER BY p.patient_key, p.entry_uuid
