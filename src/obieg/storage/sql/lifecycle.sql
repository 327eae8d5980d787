-- What changes and removes registered objects. A batch is one transaction: what must hold raises through obieg_expect.

-- name: lifecycle_objects
-- The named objects, all versions of these and of the given logicalIDs, the ends of named associations; all associations at these, and
-- the other ends of those.
WITH given AS MATERIALIZED (
  SELECT patient_key, entry_uuid FROM object_locator WHERE entry_uuid = ANY(:uuids::uuid[])
), logical AS MATERIALIZED (
  SELECT unnest(:logical_ids::uuid[]) AS logical_id
  UNION
  SELECT d.logical_id FROM given g JOIN document_entry d ON d.patient_key = g.patient_key AND d.entry_uuid = g.entry_uuid
  UNION
  SELECT f.logical_id FROM given g JOIN folder f ON f.patient_key = g.patient_key AND f.entry_uuid = g.entry_uuid
), named AS MATERIALIZED (
  SELECT patient_key, entry_uuid FROM given
  UNION
  SELECT l.patient_key, l.entry_uuid FROM logical g JOIN object_locator l ON l.entry_uuid = g.logical_id
  UNION
  SELECT d.patient_key, d.entry_uuid FROM logical g JOIN document_entry d ON d.logical_id = g.logical_id AND d.version > 1
  UNION
  SELECT f.patient_key, f.entry_uuid FROM logical g JOIN folder f ON f.logical_id = g.logical_id AND f.version > 1
), core AS MATERIALIZED (
  SELECT patient_key, entry_uuid FROM named
  UNION
  SELECT l.patient_key, l.entry_uuid FROM named n
  JOIN association a ON a.patient_key = n.patient_key AND a.entry_uuid = n.entry_uuid
  JOIN object_locator l ON l.entry_uuid IN (a.source, a.target)
), near AS MATERIALIZED (
  SELECT a.patient_key, a.entry_uuid, a.source, a.target FROM core c
  JOIN association a ON a.patient_key = ANY(obieg_kin(c.patient_key)) AND a.source = c.entry_uuid
  UNION
  SELECT a.patient_key, a.entry_uuid, a.source, a.target FROM core c
  JOIN association a ON a.patient_key = ANY(obieg_kin(c.patient_key)) AND a.target = c.entry_uuid
), wanted AS (
  SELECT patient_key, entry_uuid FROM core
  UNION
  SELECT patient_key, entry_uuid FROM near
  UNION
  SELECT l.patient_key, l.entry_uuid FROM near n JOIN object_locator l ON l.entry_uuid IN (n.source, n.target)
)
SELECT o.kind::text, o.patient_key, o.patient_id, o.ebrim, o.status::text, o.version, o.last_update_time,
       coalesce(d.superseded, f.superseded, false)
FROM wanted w
JOIN registry_object o ON o.patient_key = w.patient_key AND o.entry_uuid = w.entry_uuid
LEFT JOIN document_entry d ON d.patient_key = w.patient_key AND d.entry_uuid = w.entry_uuid
LEFT JOIN folder f ON f.patient_key = w.patient_key AND f.entry_uuid = w.entry_uuid
ORDER BY o.entry_uuid

-- name: stored_hashes
SELECT unique_id, repository_unique_id, sha1, size FROM stored_document
WHERE unique_id = ANY(:unique_ids::text[]) AND state = 'R'

-- name: supersede
-- Versions that get a newer one; superseded are those whose newer one is of the same patient.
WITH old AS MATERIALIZED (
  SELECT * FROM unnest(:patient_keys::bigint[], :uuids::uuid[], :was::text[], :superseded::boolean[])
    AS o (patient_key, entry_uuid, was, superseded)
), entries AS (
  UPDATE document_entry d SET status = 'D', superseded = o.superseded FROM old o
  WHERE d.patient_key = o.patient_key AND d.entry_uuid = o.entry_uuid AND d.status = o.was::"char" AND NOT d.superseded
  RETURNING 1
), folders AS (
  UPDATE folder f SET status = 'D', superseded = o.superseded FROM old o
  WHERE f.patient_key = o.patient_key AND f.entry_uuid = o.entry_uuid AND f.status = o.was::"char" AND NOT f.superseded
  RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM entries) + (SELECT count(*) FROM folders), cardinality(:uuids::uuid[]),
                    'another update was faster')

-- name: change_status
WITH old AS MATERIALIZED (
  SELECT * FROM unnest(:patient_keys::bigint[], :uuids::uuid[], :was::text[], :becomes::text[])
    AS o (patient_key, entry_uuid, was, becomes)
), entries AS (
  UPDATE document_entry d SET status = o.becomes::"char" FROM old o
  WHERE d.patient_key = o.patient_key AND d.entry_uuid = o.entry_uuid AND d.status = o.was::"char" AND NOT d.superseded
  RETURNING 1
), folders AS (
  UPDATE folder f SET status = o.becomes::"char" FROM old o
  WHERE f.patient_key = o.patient_key AND f.entry_uuid = o.entry_uuid AND f.status = o.was::"char" AND NOT f.superseded
  RETURNING 1
), associations AS (
  UPDATE association a SET status = o.becomes::"char" FROM old o
  WHERE a.patient_key = o.patient_key AND a.entry_uuid = o.entry_uuid AND a.status = o.was::"char"
  RETURNING 1
)
SELECT obieg_expect(
  (SELECT count(*) FROM entries) + (SELECT count(*) FROM folders) + (SELECT count(*) FROM associations),
  cardinality(:uuids::uuid[]), 'an object was changed meanwhile')

-- name: expect_association_count
-- Nothing was associated with these objects, or taken from them, since they were read.
SELECT obieg_expect(
  (SELECT count(*) FROM (
    SELECT a.entry_uuid FROM object_locator l
    JOIN association a ON a.patient_key = ANY(obieg_kin(l.patient_key)) AND a.source = l.entry_uuid
    WHERE l.entry_uuid = ANY(:uuids::uuid[])
    UNION
    SELECT a.entry_uuid FROM object_locator l
    JOIN association a ON a.patient_key = ANY(obieg_kin(l.patient_key)) AND a.target = l.entry_uuid
    WHERE l.entry_uuid = ANY(:uuids::uuid[])
  ) a),
  :count::bigint, 'an association was made or removed meanwhile')

-- name: expect_ends
-- What a new association relates stays approved until this transaction ends.
WITH entries AS (
  SELECT FROM document_entry WHERE patient_key = ANY(:patient_keys::bigint[]) AND entry_uuid = ANY(:uuids::uuid[])
    AND status = 'A' AND NOT superseded FOR SHARE
), folders AS (
  SELECT FROM folder WHERE patient_key = ANY(:patient_keys::bigint[]) AND entry_uuid = ANY(:uuids::uuid[])
    AND status = 'A' AND NOT superseded FOR SHARE
)
SELECT obieg_expect((SELECT count(*) FROM entries) + (SELECT count(*) FROM folders), cardinality(:uuids::uuid[]),
                    'an object to be associated is no longer approved')

-- name: expect_no_association
SELECT obieg_expect(
  (SELECT count(*) FROM unnest(:types::text[], :sources::uuid[], :targets::uuid[]) AS g (type, source, target)
   JOIN association a ON a.patient_key = ANY(:patient_keys::bigint[]) AND a.source = g.source AND a.target = g.target
    AND a.type = g.type AND a.status = 'A'),
  0, 'this association stands already')

-- name: revise_entries
-- Documents that now relate to others have another version in FHIR.
UPDATE document_entry d SET status = d.status FROM object_locator l
WHERE l.entry_uuid = ANY(:uuids::uuid[]) AND d.patient_key = l.patient_key AND d.entry_uuid = l.entry_uuid

-- name: rehash_unique_ids
-- Versions of one document have one hash.
UPDATE unique_id_locator u SET hash = g.hash
FROM unnest(:unique_ids::text[], :hashes::text[]) AS g (unique_id, hash)
WHERE u.unique_id = g.unique_id AND u.kind = 'D' AND u.hash IS DISTINCT FROM g.hash

-- name: insert_registry_change
INSERT INTO registry_change (patient_key, kind, act, entry_uuid, logical_id, unique_id, before, after, changed_by,
  transaction, request_id)
VALUES (:patient_key, :kind, :act, :entry_uuid, :logical_id, :unique_id, :before, :after, :changed_by, :transaction,
  :request_id)

-- name: delete_object_locators
-- First of a removal: whoever refers to one of these in a submission under way is waited for, and then seen.
WITH gone AS (
  DELETE FROM object_locator WHERE entry_uuid = ANY(:uuids::uuid[]) RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM gone), cardinality(:uuids::uuid[]), 'an object was removed meanwhile')

-- name: lock_locators
SELECT count(*) FROM (
  SELECT FROM object_locator WHERE entry_uuid = ANY(:uuids::uuid[]) ORDER BY entry_uuid FOR UPDATE) locked

-- name: delete_unique_ids
DELETE FROM unique_id_locator WHERE unique_id = ANY(:unique_ids::text[]) AND entry_uuid = ANY(:uuids::uuid[])

-- name: keep_last_entries
-- Of documents to be removed, the years of their last entries, by entity; 0: that in which it was registered.
INSERT INTO last_entry (patient_key, entity, year)
SELECT g.patient_key, g.entity,
       max(coalesce(nullif(g.year, 0), extract(year FROM d.registered_at AT TIME ZONE 'Europe/Warsaw')))
FROM unnest(:patient_keys::bigint[], :uuids::uuid[], :entities::text[], :years::integer[])
  AS g (patient_key, entry_uuid, entity, year)
JOIN document_entry d ON d.patient_key = g.patient_key AND d.entry_uuid = g.entry_uuid
GROUP BY g.patient_key, g.entity ORDER BY g.patient_key, g.entity
ON CONFLICT (patient_key, entity) DO UPDATE SET year = greatest(last_entry.year, excluded.year)

-- name: delete_objects
WITH entries AS (
  DELETE FROM document_entry WHERE patient_key = ANY(:patient_keys::bigint[]) AND entry_uuid = ANY(:uuids::uuid[])
  RETURNING 1
), sets AS (
  DELETE FROM submission_set WHERE patient_key = ANY(:patient_keys::bigint[]) AND entry_uuid = ANY(:uuids::uuid[])
  RETURNING 1
), folders AS (
  DELETE FROM folder WHERE patient_key = ANY(:patient_keys::bigint[]) AND entry_uuid = ANY(:uuids::uuid[]) RETURNING 1
), associations AS (
  DELETE FROM association WHERE patient_key = ANY(:patient_keys::bigint[]) AND entry_uuid = ANY(:uuids::uuid[])
  RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM entries) + (SELECT count(*) FROM sets) + (SELECT count(*) FROM folders)
                    + (SELECT count(*) FROM associations), cardinality(:uuids::uuid[]), 'an object was moved meanwhile')

-- name: close_document_tasks
UPDATE patient_task SET decision = 'moot' WHERE kind = 'doubtful_document' AND decision = '' AND detail = ANY(:details::text[])

-- name: renew_newest_entries
-- Where the newest version was removed, the one before it is the newest again; its status stays.
WITH left_over AS (
  SELECT d.patient_key, d.entry_uuid, d.logical_id, d.version FROM document_entry d
  WHERE d.logical_id = ANY(:logical_ids::uuid[]) AND d.version > 1
  UNION
  SELECT d.patient_key, d.entry_uuid, d.logical_id, d.version FROM object_locator l
  JOIN document_entry d ON d.patient_key = l.patient_key AND d.entry_uuid = l.entry_uuid
  WHERE l.entry_uuid = ANY(:logical_ids::uuid[])
), newest AS (
  SELECT DISTINCT ON (logical_id) patient_key, entry_uuid FROM left_over ORDER BY logical_id, version DESC
)
UPDATE document_entry d SET superseded = false FROM newest n
WHERE d.patient_key = n.patient_key AND d.entry_uuid = n.entry_uuid AND d.superseded

-- name: renew_newest_folders
WITH left_over AS (
  SELECT f.patient_key, f.entry_uuid, f.logical_id, f.version FROM folder f
  WHERE f.logical_id = ANY(:logical_ids::uuid[]) AND f.version > 1
  UNION
  SELECT f.patient_key, f.entry_uuid, f.logical_id, f.version FROM object_locator l
  JOIN folder f ON f.patient_key = l.patient_key AND f.entry_uuid = l.entry_uuid
  WHERE l.entry_uuid = ANY(:logical_ids::uuid[])
), newest AS (
  SELECT DISTINCT ON (logical_id) patient_key, entry_uuid FROM left_over ORDER BY logical_id, version DESC
)
UPDATE folder f SET superseded = false FROM newest n
WHERE f.patient_key = n.patient_key AND f.entry_uuid = n.entry_uuid AND f.superseded

-- documents ----------------------------------------------------------------------------------------------------------

-- name: removable_documents
-- (uniqueId, patientId, whether it is there, whether it was there and is removed)
SELECT g.unique_id, coalesce(s.patient_id, r.patient_id, ''), s.unique_id IS NOT NULL, r.unique_id IS NOT NULL
FROM unnest(:unique_ids::text[]) AS g (unique_id)
LEFT JOIN stored_document s
  ON s.unique_id = g.unique_id AND s.repository_unique_id = :repository_unique_id::text AND s.state = 'R'
LEFT JOIN LATERAL (
  SELECT x.unique_id, x.patient_id FROM removed_document x
  WHERE x.unique_id = g.unique_id AND x.repository_unique_id = :repository_unique_id::text LIMIT 1
) r ON true

-- name: authors_of_documents
-- By whom the entries with these uniqueIds are.
SELECT u.unique_id, d.authors FROM unique_id_locator u
JOIN document_entry d ON d.patient_key = u.patient_key AND d.entry_uuid = u.entry_uuid
WHERE u.unique_id = ANY(:unique_ids::text[]) AND u.kind = 'D'

-- name: remove_documents
-- The key goes, and with it the bytes, which compaction takes back; what they were remains.
WITH gone AS (
  DELETE FROM stored_document
  WHERE unique_id = ANY(:unique_ids::text[]) AND repository_unique_id = :repository_unique_id::text AND state = 'R'
  RETURNING *
), kept AS (
  INSERT INTO removed_document (unique_id, repository_unique_id, removed_by, request_id, patient_id, mime_type, size,
    sha1, sha256, stored_at)
  SELECT unique_id, repository_unique_id, :removed_by::text, :request_id::text, patient_id, mime_type, size, sha1, sha256,
    stored_at
  FROM gone RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM kept), cardinality(:unique_ids::text[]), 'a document was removed meanwhile')

-- history ------------------------------------------------------------------------------------------------------------

-- name: history_objects
-- All documents and folders under the uniqueIds that an id names, as uniqueId or as entryUUID, with the set that brought
-- each of them.
WITH asked AS (
  SELECT :id::text AS unique_id WHERE :uuid::uuid IS NULL
  UNION
  SELECT coalesce(d.unique_id, f.unique_id) FROM object_locator l
  LEFT JOIN document_entry d ON d.patient_key = l.patient_key AND d.entry_uuid = l.entry_uuid
  LEFT JOIN folder f ON f.patient_key = l.patient_key AND f.entry_uuid = l.entry_uuid
  WHERE l.entry_uuid = :uuid::uuid
  UNION
  SELECT unique_id FROM registry_change WHERE entry_uuid = :uuid::uuid
), named AS (
  SELECT DISTINCT u.patient_key, u.entry_uuid, u.unique_id FROM asked a
  JOIN unique_id_locator u ON u.unique_id = a.unique_id AND u.kind IN ('D', 'F')
)
SELECT o.kind::text, o.ebrim, o.status::text, o.version, o.patient_id, n.unique_id,
       coalesce(d.registered_at, f.registered_at), s.unique_id, s.source_id, s.author_person
FROM named n
JOIN registry_object o ON o.patient_key = n.patient_key AND o.entry_uuid = n.entry_uuid
LEFT JOIN document_entry d ON d.patient_key = n.patient_key AND d.entry_uuid = n.entry_uuid
LEFT JOIN folder f ON f.patient_key = n.patient_key AND f.entry_uuid = n.entry_uuid
LEFT JOIN LATERAL (
  SELECT s.* FROM association a JOIN submission_set s ON s.patient_key = a.patient_key AND s.entry_uuid = a.source
  WHERE a.patient_key = ANY(obieg_kin(n.patient_key)) AND a.target = n.entry_uuid AND a.type = 'HasMember'
  ORDER BY s.registered_at LIMIT 1
) s ON true
ORDER BY coalesce(d.registered_at, f.registered_at), o.version

-- name: history_relations
-- What relates documents to these: type, source, target, status, the uniqueId of the other end and since when.
SELECT a.type, a.source::text, a.target::text, a.status::text, d.unique_id, d.registered_at, s.unique_id, s.source_id,
       s.author_person
FROM object_locator l
JOIN association a ON a.patient_key = ANY(obieg_kin(l.patient_key)) AND a.target = l.entry_uuid
JOIN object_locator o ON o.entry_uuid = a.source
JOIN document_entry d ON d.patient_key = o.patient_key AND d.entry_uuid = o.entry_uuid
LEFT JOIN LATERAL (
  SELECT s.* FROM association m JOIN submission_set s ON s.patient_key = m.patient_key AND s.entry_uuid = m.source
  WHERE m.patient_key = ANY(obieg_kin(o.patient_key)) AND m.target = d.entry_uuid AND m.type = 'HasMember'
  ORDER BY s.registered_at LIMIT 1
) s ON true
WHERE l.entry_uuid = ANY(:uuids::uuid[])
ORDER BY d.registered_at

-- name: history_changes
SELECT kind::text, act, entry_uuid::text, before, after, changed_at, changed_by, transaction, request_id
FROM registry_change
WHERE entry_uuid = ANY(:uuids::uuid[]) OR unique_id = ANY(:unique_ids::text[])
ORDER BY changed_at, change_id

-- name: history_removed
SELECT unique_id, repository_unique_id, removed_at, removed_by, request_id, size, sha1, sha256
FROM removed_document WHERE unique_id = ANY(:unique_ids::text[]) ORDER BY removed_at

-- name: history_audit
-- The record of the submission that brought a set: only who reads it knows the sender.
SELECT transaction, request_id, message FROM audit_event
WHERE patient_id = ANY(:patient_ids::text[]) AND outcome = 0
  AND EXISTS (SELECT FROM unnest(:set_unique_ids::text[]) u WHERE position('"' || u || '"' IN message) > 0)
ORDER BY audit_id
