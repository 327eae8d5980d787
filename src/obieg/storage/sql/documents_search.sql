-- Searches over FHIR (MHD ITI-66, ITI-67). The parameters that are lists of groups are explained in the migration that
-- made their functions. A page is what follows (:after_key, :after_uuid) in the order of the search; nothing that it is
-- sorted by ever changes, so pages neither lose nor repeat an object while others come. The version in FHIR is the
-- revision; where the patient was merged into another one, whom the resource names then, it says so too.

-- name: search_documents (planned once)
WITH
  unseen AS MATERIALIZED (SELECT obieg_hidden(:filter::obieg_filter) AS entry_uuid),  -- sight
hits AS MATERIALIZED (
  SELECT d.patient_key, d.entry_uuid, d.status, d.version, d.revision, d.registered_at,
         coalesce(d.updated_at, d.registered_at) AS updated_at,
         CASE WHEN :by::text = 'creation' THEN coalesce(d.creation_time, '') ELSE obieg_digits(d.registered_at) END AS position
  FROM document_entry d
  WHERE d.patient_key = ANY(obieg_search_keys(:patients::text[], :named_uuids::uuid[], :named_unique_ids::text[]))
    AND (:status::"char"[] IS NULL OR d.status = ANY(:status::"char"[]))
    AND (NOT d.superseded OR d.entry_uuid = ANY(:ids::uuid[]))
    AND d.patient_key = ANY(:permitted::bigint[])  -- sight
    AND d.entry_uuid NOT IN (SELECT u.entry_uuid FROM unseen u)  -- sight
    AND (:ids::uuid[] IS NULL OR d.entry_uuid = ANY(:ids::uuid[]))
    AND (:identifier::text[] IS NULL OR obieg_identifiers_fit(d.entry_uuid, d.unique_id, :identifier))
    AND (:type_code::text[] IS NULL OR obieg_patterns_fit(ARRAY[d.type_code], :type_code))
    AND (:class_code::text[] IS NULL OR obieg_patterns_fit(ARRAY[d.class_code], :class_code))
    AND (:practice_setting_code::text[] IS NULL
         OR obieg_patterns_fit(ARRAY[d.practice_setting_code], :practice_setting_code))
    AND (:healthcare_facility_type_code::text[] IS NULL
         OR obieg_patterns_fit(ARRAY[d.healthcare_facility_type_code], :healthcare_facility_type_code))
    AND (:format_code::text[] IS NULL OR obieg_patterns_fit(ARRAY[d.format_code], :format_code))
    AND (:event_code_list::text[] IS NULL OR obieg_patterns_fit(d.event_code_list, :event_code_list))
    AND (:confidentiality_code::text[] IS NULL OR obieg_patterns_fit(d.confidentiality_code, :confidentiality_code))
    AND (:reference_id_list::text[] IS NULL OR obieg_patterns_fit(d.reference_id_list, :reference_id_list))
    AND (:author::text[] IS NULL OR obieg_people_fit(d.author_person, :author))
    AND (:creation::text[] IS NULL OR obieg_times_fit(d.creation_time, d.creation_time, :creation))
    AND (:period::text[] IS NULL OR obieg_times_fit(d.service_start_time, d.service_stop_time, :period))
    AND (:date::text[] IS NULL
         OR obieg_times_fit(obieg_digits(d.registered_at), obieg_digits(d.registered_at), :date))
    AND (:last_updated::text[] IS NULL OR obieg_times_fit(
         obieg_digits(coalesce(d.updated_at, d.registered_at)), obieg_digits(coalesce(d.updated_at, d.registered_at)),
         :last_updated))
), page AS MATERIALIZED (
  SELECT h.* FROM hits h
  WHERE :after_key::text IS NULL
     OR CASE WHEN :descending::boolean THEN h.position < :after_key::text ELSE h.position > :after_key::text END
     OR (h.position = :after_key::text AND h.entry_uuid > :after_uuid::uuid)
  ORDER BY CASE WHEN :descending::boolean THEN h.position END DESC, CASE WHEN NOT :descending::boolean THEN h.position END,
           h.entry_uuid
  LIMIT :count::bigint
), people AS MATERIALIZED (
  SELECT k.patient_key, obieg_person_id(k.patient_key) AS patient_id, obieg_kin(k.patient_key) AS keys
  FROM (SELECT DISTINCT patient_key FROM page) k
)
SELECT t.total, 'D', p.entry_uuid::text, r.content, p.status::text,
       p.revision || CASE WHEN w.keys[1] <> p.patient_key THEN '-' || left(md5(w.patient_id), 8) ELSE '' END,
       obieg_digits(p.updated_at), w.patient_id,
       ARRAY(SELECT a.type || ' ' || a.target FROM association a
             WHERE a.patient_key = ANY(w.keys) AND a.source = p.entry_uuid AND a.type <> 'HasMember' AND a.status = 'A'
               AND a.target NOT IN (SELECT u.entry_uuid FROM unseen u)  -- sight
             ORDER BY a.type, a.target),
       '', p.position, p.patient_key, obieg_digits(p.registered_at), p.version,
       CASE WHEN r.content IS NULL THEN (
         SELECT d.ebrim FROM document_entry d WHERE d.patient_key = p.patient_key AND d.entry_uuid = p.entry_uuid) END
FROM (SELECT count(*) AS total FROM hits) t
LEFT JOIN page p ON true
LEFT JOIN people w ON w.patient_key = p.patient_key
LEFT JOIN fhir_rendering r ON r.patient_key = p.patient_key AND r.entry_uuid = p.entry_uuid
  AND r.rendering_version = :rendering_version::bigint
ORDER BY CASE WHEN :descending::boolean THEN p.position END DESC, CASE WHEN NOT :descending::boolean THEN p.position END,
         p.entry_uuid

-- name: search_lists (planned once)
-- A folder with a hidden member is dated, and has the version, as if that had never been put there.
WITH
  unseen AS MATERIALIZED (SELECT obieg_hidden(:filter::obieg_filter) AS entry_uuid),  -- sight
  times AS MATERIALIZED (SELECT * FROM obieg_folder_times(:filter::obieg_filter)),  -- sight
keys AS MATERIALIZED (
  SELECT obieg_search_keys(:patients::text[], :named_uuids::uuid[], :named_unique_ids::text[]) AS keys
), hits AS MATERIALIZED (
  SELECT o.*, CASE WHEN :by::text = 'date' THEN o.time ELSE obieg_digits(o.registered_at) END AS position
  FROM (
    SELECT 'S'::text AS kind, s.patient_key, s.entry_uuid, s.status, 1 AS version, s.revision::text, s.registered_at,
           coalesce(s.updated_at, s.registered_at) AS updated_at, s.submission_time AS time, s.unique_id,
           ARRAY[s.content_type_code] AS codes, s.source_id, s.author_person
    FROM submission_set s WHERE s.patient_key = ANY((SELECT keys FROM keys)::bigint[]) AND 'S' = ANY(:kinds::text[])
    UNION ALL
    SELECT 'F', f.patient_key, f.entry_uuid, f.status, f.version, coalesce(
             t.revision,  -- sight
             f.revision::text), f.registered_at, coalesce(
             to_timestamp(t.time || '+00', 'YYYYMMDDHH24MISSTZH'),  -- sight
             f.updated_at, f.registered_at), coalesce(
             t.time,  -- sight
             f.last_update_time), f.unique_id, f.code_list, NULL, '{}'
    FROM folder f
    LEFT JOIN times t ON t.entry_uuid = f.entry_uuid  -- sight
    WHERE f.patient_key = ANY((SELECT keys FROM keys)::bigint[]) AND 'F' = ANY(:kinds::text[])
      AND (NOT f.superseded OR f.entry_uuid = ANY(:ids::uuid[]))
  ) o
  WHERE (:status::"char"[] IS NULL OR o.status = ANY(:status::"char"[]))
    AND o.patient_key = ANY(:permitted::bigint[])  -- sight
    AND o.entry_uuid NOT IN (SELECT u.entry_uuid FROM unseen u)  -- sight
    AND (:ids::uuid[] IS NULL OR o.entry_uuid = ANY(:ids::uuid[]))
    AND (:identifier::text[] IS NULL OR obieg_identifiers_fit(o.entry_uuid, o.unique_id, :identifier))
    AND (:designation_type::text[] IS NULL OR obieg_patterns_fit(o.codes, :designation_type))
    AND (:source_id::text[] IS NULL OR obieg_patterns_fit(ARRAY[o.source_id], :source_id))
    AND (:source::text[] IS NULL OR obieg_people_fit(o.author_person, :source))
    AND (:date::text[] IS NULL OR obieg_times_fit(o.time, o.time, :date))
    AND (:last_updated::text[] IS NULL
         OR obieg_times_fit(obieg_digits(o.updated_at), obieg_digits(o.updated_at), :last_updated))
), page AS MATERIALIZED (
  SELECT h.* FROM hits h
  WHERE :after_key::text IS NULL
     OR CASE WHEN :descending::boolean THEN h.position < :after_key::text ELSE h.position > :after_key::text END
     OR (h.position = :after_key::text AND h.entry_uuid > :after_uuid::uuid)
  ORDER BY CASE WHEN :descending::boolean THEN h.position END DESC, CASE WHEN NOT :descending::boolean THEN h.position END,
           h.entry_uuid
  LIMIT :count::bigint
), people AS MATERIALIZED (
  SELECT k.patient_key, obieg_person_id(k.patient_key) AS patient_id, obieg_kin(k.patient_key) AS keys
  FROM (SELECT DISTINCT patient_key FROM page) k
)
SELECT t.total, p.kind, p.entry_uuid::text, r.content, p.status::text,
       p.revision || CASE WHEN w.keys[1] <> p.patient_key THEN '-' || left(md5(w.patient_id), 8) ELSE '' END,
       obieg_digits(p.updated_at), w.patient_id,
       ARRAY(SELECT l.kind::text || ' ' || a.target FROM association a
             JOIN object_locator l ON l.entry_uuid = a.target AND l.kind IN ('D', 'F')
             WHERE a.patient_key = ANY(w.keys) AND a.source = p.entry_uuid AND a.type = 'HasMember' AND a.status = 'A'
               AND a.target NOT IN (SELECT u.entry_uuid FROM unseen u)  -- sight
             ORDER BY l.kind, a.target),
       CASE WHEN p.kind = 'F' THEN p.time ELSE '' END, p.position, p.patient_key, obieg_digits(p.registered_at), p.version,
       CASE WHEN r.content IS NULL THEN (
         SELECT o.ebrim FROM registry_object o
         WHERE o.patient_key = p.patient_key AND o.entry_uuid = p.entry_uuid AND o.kind = p.kind::"char") END
FROM (SELECT count(*) AS total FROM hits) t
LEFT JOIN page p ON true
LEFT JOIN people w ON w.patient_key = p.patient_key
LEFT JOIN fhir_rendering r ON r.patient_key = p.patient_key AND r.entry_uuid = p.entry_uuid
  AND r.rendering_version = :rendering_version::bigint
ORDER BY CASE WHEN :descending::boolean THEN p.position END DESC, CASE WHEN NOT :descending::boolean THEN p.position END,
         p.entry_uuid

-- name: referring_objects (planned once)
-- Lists that hold the named objects, and documents that relate to them.
WITH unseen AS MATERIALIZED (SELECT obieg_hidden(:filter::obieg_filter) AS entry_uuid)  -- sight
SELECT DISTINCT l.kind::text, l.entry_uuid::text
FROM object_locator n
JOIN association a ON a.patient_key = ANY(obieg_kin(n.patient_key)) AND a.target = n.entry_uuid AND a.status = 'A'
JOIN object_locator l ON l.entry_uuid = a.source
WHERE n.entry_uuid = ANY(:uuids::uuid[])
  AND a.patient_key = ANY(:permitted::bigint[])  -- sight
  AND a.entry_uuid NOT IN (SELECT u.entry_uuid FROM unseen u)  -- sight
  AND CASE WHEN a.type = 'HasMember' THEN :lists::boolean AND l.kind IN ('S', 'F') ELSE :documents::boolean END

-- name: insert_rendering
-- If what it was made of still stands there.
INSERT INTO fhir_rendering (patient_key, entry_uuid, rendering_version, content)
SELECT o.patient_key, o.entry_uuid, :rendering_version::bigint, :content::bytea FROM registry_object o
WHERE o.patient_key = :patient_key::bigint AND o.entry_uuid = :entry_uuid::uuid AND o.kind <> 'A'
  AND md5(o.ebrim) = md5(:ebrim::bytea)
ON CONFLICT (patient_key, entry_uuid) DO UPDATE
SET rendering_version = excluded.rendering_version, content = excluded.content

-- name: locate_document (planned once)
-- The document of an entry, and whose it is.
SELECT d.unique_id, coalesce(d.repository_unique_id, ''), obieg_person_id(d.patient_key), coalesce(d.hash, ''),
  d.mime_type, d.size
FROM object_locator l JOIN document_entry d ON d.patient_key = l.patient_key AND d.entry_uuid = l.entry_uuid
WHERE l.entry_uuid = :entry_uuid::uuid AND l.kind = 'D'
  AND d.patient_key = ANY(:permitted::bigint[])  -- sight
  AND d.entry_uuid NOT IN (SELECT obieg_hidden_documents(:filter::obieg_filter))  -- sight

-- name: locate_named_document (planned once)
-- The same by uniqueId.
SELECT d.unique_id, coalesce(d.repository_unique_id, ''), obieg_person_id(d.patient_key), coalesce(d.hash, ''),
  d.mime_type, d.size
FROM unique_id_locator l JOIN document_entry d ON d.patient_key = l.patient_key AND d.entry_uuid = l.entry_uuid
WHERE l.unique_id = :unique_id::text AND l.kind = 'D' AND NOT d.superseded
  AND d.patient_key = ANY(:permitted::bigint[])  -- sight
  AND d.entry_uuid NOT IN (SELECT obieg_hidden_documents(:filter::obieg_filter))  -- sight
