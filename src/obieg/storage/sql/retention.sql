-- For how long documents are kept: what it is judged by, what people say of it, and which backups hold what was erased.

-- name: retention_objects
-- The documents that each of the named objects is about: entries themselves; of sets and folders the members; of an
-- association its ends, of these likewise. An object about no document comes with itself and its time of registration.
WITH named AS MATERIALIZED (
  SELECT entry_uuid, patient_key FROM object_locator WHERE entry_uuid = ANY(:uuids::uuid[])
), ends AS MATERIALIZED (
  SELECT n.entry_uuid AS asked, n.patient_key, n.entry_uuid FROM named n
  UNION
  SELECT n.entry_uuid, l.patient_key, l.entry_uuid FROM named n
  JOIN association a ON a.patient_key = n.patient_key AND a.entry_uuid = n.entry_uuid
  JOIN object_locator l ON l.entry_uuid IN (a.source, a.target)
  WHERE NOT EXISTS (SELECT FROM submission_set s WHERE s.patient_key = l.patient_key AND s.entry_uuid = l.entry_uuid)
), members AS (
  SELECT asked, patient_key, entry_uuid FROM ends
  UNION
  SELECT e.asked, l.patient_key, l.entry_uuid FROM ends e
  JOIN association a ON a.patient_key = ANY(obieg_kin(e.patient_key)) AND a.source = e.entry_uuid AND a.type = 'HasMember'
  JOIN object_locator l ON l.entry_uuid = a.target
  UNION
  SELECT e.asked, l.patient_key, l.entry_uuid FROM ends e
  JOIN association a ON a.patient_key = e.patient_key AND a.entry_uuid = e.entry_uuid
  JOIN object_locator l ON l.entry_uuid IN (a.source, a.target)
), about AS (
  SELECT m.asked, m.patient_key, m.entry_uuid FROM members m
  JOIN document_entry d ON d.patient_key = m.patient_key AND d.entry_uuid = m.entry_uuid
)
SELECT 'urn:uuid:' || n.entry_uuid, n.patient_key, 'urn:uuid:' || about.entry_uuid,
       coalesce(s.registered_at, f.registered_at, source.registered_at)
FROM named n
LEFT JOIN about ON about.asked = n.entry_uuid
LEFT JOIN submission_set s ON s.patient_key = n.patient_key AND s.entry_uuid = n.entry_uuid
LEFT JOIN folder f ON f.patient_key = n.patient_key AND f.entry_uuid = n.entry_uuid
LEFT JOIN association a ON a.patient_key = n.patient_key AND a.entry_uuid = n.entry_uuid
LEFT JOIN submission_set source ON source.patient_key = n.patient_key AND source.entry_uuid = a.source

-- name: retention_bytes
-- The entries that describe documents; without one, whether one was removed.
SELECT g.unique_id, d.patient_key, 'urn:uuid:' || d.entry_uuid,
       EXISTS (SELECT FROM registry_change c WHERE c.unique_id = g.unique_id AND c.kind = 'D' AND c.act = 'removed')
FROM unnest(:unique_ids::text[]) AS g (unique_id)
LEFT JOIN unique_id_locator d ON d.unique_id = g.unique_id AND d.kind = 'D'

-- name: retention_persons
-- What retention knows of persons, as domain.retention.KeptPatient in JSON: a row for each, under the key of the survivor
-- and with its id. Where sources differ, what makes a period longer counts.
WITH persons AS MATERIALIZED (
  SELECT coalesce(k.survivor_key, w.patient_key) AS survivor_key, array_agg(w.patient_key) AS asked
  FROM unnest(:patient_keys::bigint[]) AS w (patient_key) LEFT JOIN patient_link k ON k.patient_key = w.patient_key
  GROUP BY 1
)
SELECT p.survivor_key, p.asked, o.affinity_domain_id, convert_to(json_build_object(
  'birth_date', (
    SELECT max(obieg_last_day(r.birth_date)) FROM patient_record r
    WHERE r.patient_key = ANY(kin.keys) AND r.removed_at IS NULL),
  'died_on', greatest(died.on_day, told.on_day),
  'deceased', died.on_day IS NOT NULL OR told.on_day IS NOT NULL,
  'documents', (
    SELECT coalesce(json_agg(json_build_object(
      'entry_uuid', 'urn:uuid:' || d.entry_uuid, 'unique_id', d.unique_id, 'registered_at', d.registered_at,
      'creation_time', coalesce(d.creation_time, ''), 'service_start_time', coalesce(d.service_start_time, ''),
      'service_stop_time', coalesce(d.service_stop_time, ''),
      'codes', array_remove(ARRAY[d.class_code, d.type_code, d.practice_setting_code], NULL),
      'mime_type', d.mime_type, 'authors', d.authors, 'repository_unique_id', coalesce(d.repository_unique_id, ''),
      'title', d.title
    ) ORDER BY d.registered_at, d.entry_uuid), '[]') FROM document_entry d WHERE d.patient_key = ANY(kin.keys)),
  'removed', (
    SELECT coalesce(json_agg(json_build_object('entity', l.entity, 'year', l.year)), '[]') FROM last_entry l
    WHERE l.patient_key = ANY(kin.keys)),
  'said', (
    SELECT coalesce(json_agg(json_build_object(
      'mark', m.mark, 'document', m.unique_id, 'day', m.day, 'reason', m.reason, 'by', m.said_by
    ) ORDER BY m.mark_id), '[]')
    FROM retention_mark m
    WHERE m.ended_at IS NULL AND (
      (m.unique_id = '' AND m.patient_key = ANY(kin.keys))
      OR (m.unique_id <> '' AND m.unique_id IN (
        SELECT d.unique_id FROM document_entry d WHERE d.patient_key = ANY(kin.keys)))))
)::text, 'UTF8')
FROM persons p
JOIN patient o ON o.patient_key = p.survivor_key
CROSS JOIN LATERAL (SELECT obieg_kin(p.survivor_key) AS keys) kin
CROSS JOIN LATERAL (
  SELECT max(coalesce(obieg_last_day(d.said ->> 'deceased_at'), d.updated_at::date)) AS on_day
  FROM (
    SELECT convert_from(r.demographics, 'UTF8')::json AS said, r.updated_at FROM patient_record r
    WHERE r.patient_key = ANY(kin.keys) AND r.removed_at IS NULL
  ) d
  WHERE (d.said ->> 'deceased')::boolean OR d.said ->> 'deceased_at' <> ''
) died
CROSS JOIN LATERAL (
  SELECT max((v #>> '{}')::date) AS on_day
  FROM access_fact f CROSS JOIN LATERAL json_array_elements(f.facts) AS v
  WHERE f.patient_key = ANY(kin.keys) AND f.superseded_at IS NULL AND f.kind = 'death'
) told

-- name: retention_page
-- Persons with documents: each once, at the lowest key of those who are linked and have any, in the order of these.
SELECT p.patient_key FROM patient p
WHERE p.patient_key > :after::bigint
  AND EXISTS (SELECT FROM document_entry d WHERE d.patient_key = p.patient_key)
  AND NOT EXISTS (
    SELECT FROM unnest(obieg_kin(p.patient_key)) AS o (key)
    WHERE o.key < p.patient_key AND EXISTS (SELECT FROM document_entry d WHERE d.patient_key = o.key))
ORDER BY p.patient_key
LIMIT :count::bigint

-- name: patient_of_document
SELECT patient_key FROM unique_id_locator WHERE unique_id = :unique_id::text AND kind = 'D' LIMIT 1

-- name: forget_contents
-- Of a person's objects that are not registered any more the history keeps who did what and when, and no content.
UPDATE registry_change c SET before = NULL, after = NULL
WHERE c.patient_key = ANY(obieg_patient_keys(:authority::text, :value::text))
  AND (c.before IS NOT NULL OR c.after IS NOT NULL)
  AND NOT EXISTS (SELECT FROM object_locator l WHERE l.entry_uuid = c.entry_uuid)

-- name: insert_mark
INSERT INTO retention_mark (patient_key, unique_id, mark, day, reason, said_by, organisation)
VALUES (:patient_key::bigint, :unique_id::text, :mark::text, :day::date, :reason::text, :said_by::text, :organisation::text)
RETURNING mark_id, said_at

-- name: legal_holds
SELECT mark_id, reason, said_at, said_by, organisation
FROM retention_mark WHERE unique_id = :unique_id::text AND mark = 'hold' AND ended_at IS NULL ORDER BY mark_id

-- name: end_legal_hold
WITH ended AS (
  UPDATE retention_mark SET ended_at = clock_timestamp(), ended_by = :ended_by::text
  WHERE mark_id = :mark_id::bigint AND ended_at IS NULL
  RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM ended), 1, 'the hold does not stand')

-- name: end_mark
UPDATE retention_mark SET ended_at = clock_timestamp(), ended_by = :ended_by::text
WHERE mark_id = :mark_id::bigint AND ended_at IS NULL
RETURNING patient_key, unique_id, mark

-- name: marks
SELECT m.mark_id, p.affinity_domain_id, m.unique_id, m.mark, m.day, m.reason, m.said_at, m.said_by, m.ended_at, m.ended_by
FROM retention_mark m JOIN patient p ON p.patient_key = m.patient_key
WHERE :patient_keys::bigint[] = '{}' OR m.patient_key = ANY(:patient_keys::bigint[])
ORDER BY m.mark_id

-- backups ------------------------------------------------------------------------------------------------------------

-- name: begin_backup
INSERT INTO backup_made (stamp, folder, begun_at) VALUES (:stamp::text, :folder::text, clock_timestamp())

-- name: end_backups
UPDATE backup_made SET ended_at = clock_timestamp(), ended_by = :ended_by::text
WHERE stamp = ANY(:stamps::text[]) AND ended_at IS NULL
RETURNING stamp

-- name: backups
SELECT stamp, folder, begun_at, ended_at, coalesce(ended_by, '') FROM backup_made ORDER BY begun_at

-- name: erased_documents
-- What was erased, newest first, with the backups that hold its key: those that stand and began before it was
-- erased; no removal takes as long as is added here, so none is committed after a later backup has begun.
SELECT r.unique_id, r.repository_unique_id, r.removed_at, r.removed_by, r.size, r.patient_id,
       coalesce(array_agg(b.stamp ORDER BY b.begun_at) FILTER (WHERE b.stamp IS NOT NULL), '{}')
FROM removed_document r
LEFT JOIN backup_made b ON b.ended_at IS NULL AND b.begun_at <= r.removed_at + interval '10 minutes'
GROUP BY r.unique_id, r.repository_unique_id, r.removed_at, r.removed_by, r.size, r.patient_id
ORDER BY r.removed_at DESC, r.unique_id
LIMIT :count::bigint OFFSET :skipped::bigint
