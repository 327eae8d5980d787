-- Whom a request is about, for decisions about access.

-- name: located_persons
SELECT p.facts
FROM obieg_persons(:authorities::text[], :ids::text[], :uuids::uuid[], :unique_ids::text[], :keys::bigint[],
                   :own_authority::text) p

-- name: document_facts
-- Documents that are meant by entryUUID or uniqueId (of a uniqueId the newest version), with all of their lineages.
WITH meant AS MATERIALIZED (
  SELECT d.entry_uuid FROM document_entry d
  WHERE d.patient_key = ANY(:keys::bigint[])
    AND (d.entry_uuid = ANY(:uuids::uuid[]) OR d.unique_id = ANY(:unique_ids::text[]) AND NOT d.superseded)
), lineage AS MATERIALIZED (
  SELECT DISTINCT ARRAY(SELECT u FROM unnest(obieg_lineage(:keys::bigint[], ARRAY[m.entry_uuid])) AS u ORDER BY 1) AS members
  FROM meant m
)
SELECT d.entry_uuid::text, l.members[1]::text, d.class_code, d.type_code, d.practice_setting_code, d.labels, d.authors,
       d.encounters, d.creation_time, d.unique_id, d.entry_uuid IN (SELECT m.entry_uuid FROM meant m)
FROM lineage l JOIN document_entry d ON d.patient_key = ANY(:keys::bigint[]) AND d.entry_uuid = ANY(l.members)
ORDER BY d.creation_time, d.entry_uuid

-- name: count_documents
-- Documents of a type and time, those without a time among them.
SELECT count(*) FROM document_entry d
WHERE d.patient_key = ANY(:keys::bigint[]) AND NOT d.superseded
  AND (:type_codes::text[] IS NULL OR d.type_code = ANY(:type_codes::text[]))
  AND (d.creation_time IS NULL OR d.creation_time >= :since::text
       AND (:until::text = '' OR d.creation_time < :until::text))
  AND d.patient_key = ANY(:permitted::bigint[])  -- sight
  AND d.entry_uuid NOT IN (SELECT obieg_hidden_documents(:filter::obieg_filter))  -- sight

-- name: open_objects
-- Of these objects, of any kind, those that are shown; folders and sets with a document of one of these writers; and
-- folders that have never held anything.
SELECT l.entry_uuid::text FROM object_locator l
WHERE l.entry_uuid = ANY(:uuids::uuid[])
  AND l.patient_key = ANY(:permitted::bigint[])  -- sight
  AND l.entry_uuid NOT IN (SELECT obieg_hidden(:filter::obieg_filter))  -- sight
UNION
SELECT l.entry_uuid::text FROM object_locator l
JOIN association a ON a.patient_key = ANY(obieg_kin(l.patient_key)) AND a.source = l.entry_uuid AND a.type = 'HasMember'
JOIN document_entry d ON d.patient_key = ANY(obieg_kin(l.patient_key)) AND d.entry_uuid = a.target
WHERE l.entry_uuid = ANY(:uuids::uuid[]) AND d.authors && :writers::text[]
UNION
SELECT l.entry_uuid::text FROM object_locator l
WHERE l.entry_uuid = ANY(:uuids::uuid[]) AND l.kind = 'F' AND NOT EXISTS (
  SELECT FROM association a
  WHERE a.patient_key = ANY(obieg_kin(l.patient_key)) AND a.source = l.entry_uuid AND a.type = 'HasMember')
