-- The registry's statements. A batch is one transaction: what must hold raises through obieg_expect and undoes all.

-- name: registration_patient
-- The patient that an affinity-domain id names, unless it was merged away, with the keys merged into it.
SELECT s.patient_key, ARRAY(SELECT k.patient_key FROM patient_link k WHERE k.survivor_key = s.patient_key)
FROM (
  SELECT coalesce(k.survivor_key, l.patient_key) AS patient_key
  FROM patient_locator l LEFT JOIN patient_link k ON k.patient_key = l.patient_key
  WHERE l.authority = :authority AND l.value = :value AND l.retired_at IS NULL
) s

-- name: registration_objects
-- Registered objects that a submission refers to.
SELECT l.entry_uuid::text, l.kind::text, l.patient_key, coalesce(d.status, f.status, 'A')::text, d.entry_type::text
FROM object_locator l
LEFT JOIN document_entry d ON d.patient_key = l.patient_key AND d.entry_uuid = l.entry_uuid
LEFT JOIN folder f ON f.patient_key = l.patient_key AND f.entry_uuid = l.entry_uuid
WHERE l.entry_uuid = ANY(:uuids::uuid[])

-- name: registration_unique_ids
-- What stands under the uniqueIds of a submission; the fingerprint is that of a set's whole submission.
SELECT u.unique_id, u.kind::text, u.entry_uuid::text, u.hash, s.fingerprint
FROM unique_id_locator u
LEFT JOIN submission_set s ON u.kind = 'S' AND s.patient_key = u.patient_key AND s.entry_uuid = u.entry_uuid
WHERE u.unique_id = ANY(:unique_ids::text[])

-- name: registration_folders
-- Folders that hold documents which are about to be replaced: (document, folder).
SELECT a.target::text, a.source::text
FROM object_locator l
JOIN association a ON a.patient_key = ANY(obieg_kin(l.patient_key)) AND a.target = l.entry_uuid AND a.type = 'HasMember'
JOIN object_locator h ON h.entry_uuid = a.source AND h.kind = 'F'
JOIN folder f ON f.patient_key = h.patient_key AND f.entry_uuid = h.entry_uuid AND f.status = 'A'
WHERE l.entry_uuid = ANY(:uuids::uuid[]) AND a.status = 'A'

-- name: folder_with_members
SELECT f.ebrim, f.status::text, f.version, ARRAY(
  SELECT a.target::text FROM association a
  WHERE a.patient_key = ANY(obieg_kin(f.patient_key)) AND a.source = f.entry_uuid AND a.type = 'HasMember'
    AND a.status = 'A')
FROM object_locator l JOIN folder f ON f.patient_key = l.patient_key AND f.entry_uuid = l.entry_uuid
WHERE l.entry_uuid = :uuid::uuid AND l.kind = 'F'

-- name: lock_unique_ids
-- Two submissions with one uniqueId wait for one another; the next statement then sees what the first has stored.
SELECT count(pg_advisory_xact_lock(hashtextextended(u, 0)))
FROM (SELECT u FROM unnest(:unique_ids::text[]) u ORDER BY 1) o

-- name: expect_absent
-- What is registered only where it is new (If-None-Exist): lock_unique_ids has made others wait.
SELECT obieg_expect((SELECT count(*) FROM unique_id_locator WHERE unique_id = ANY(:unique_ids::text[]) AND kind = 'D'),
                    0, 'a document that was to be new is registered already')

-- name: insert_unique_ids
WITH given AS (
  SELECT * FROM unnest(:unique_ids::text[], :uuids::uuid[], :kinds::text[], :versions::integer[], :hashes::text[])
    AS g (unique_id, entry_uuid, kind, version, hash)
), stored AS (
  INSERT INTO unique_id_locator (unique_id, entry_uuid, kind, version, patient_key, hash)
  SELECT unique_id, entry_uuid, kind::"char", version, :patient_key::bigint, hash FROM given
)
SELECT obieg_expect(
  (SELECT count(*) FROM given g JOIN unique_id_locator u USING (unique_id)
   WHERE g.kind = 'D' AND u.kind = 'D' AND u.hash IS DISTINCT FROM g.hash),
  0, 'a document with this uniqueId has another hash')

-- name: insert_object_locators
INSERT INTO object_locator (entry_uuid, kind, patient_key)
SELECT entry_uuid, kind::"char", :patient_key::bigint FROM unnest(:uuids::uuid[], :kinds::text[]) AS g (entry_uuid, kind)

-- name: insert_document_entry
INSERT INTO document_entry (patient_key, entry_uuid, unique_id, logical_id, version, entry_type, class_code, type_code,
  format_code, healthcare_facility_type_code, practice_setting_code, confidentiality_code, event_code_list,
  author_person, author_institution, reference_id_list, creation_time, service_start_time, service_stop_time,
  repository_unique_id, mime_type, hash, size, title, source_patient_id, labels, authors, encounters, ebrim,
  rendering_version)
VALUES (:patient_key, :entry_uuid, :unique_id, :logical_id, :version, :entry_type, :class_code, :type_code, :format_code,
  :healthcare_facility_type_code, :practice_setting_code, :confidentiality_code, :event_code_list, :author_person,
  :author_institution, :reference_id_list, :creation_time, :service_start_time, :service_stop_time,
  :repository_unique_id, :mime_type, :hash, :size, :title, :source_patient_id, :labels, :authors, :encounters, :ebrim,
  :rendering_version)

-- name: insert_submission_set
INSERT INTO submission_set (patient_key, entry_uuid, unique_id, source_id, submission_time, content_type_code,
  author_person, ebrim, rendering_version, fingerprint)
VALUES (:patient_key, :entry_uuid, :unique_id, :source_id, :submission_time, :content_type_code, :author_person,
  :ebrim, :rendering_version, :fingerprint)

-- name: insert_folder
INSERT INTO folder (patient_key, entry_uuid, unique_id, logical_id, version, code_list, last_update_time, written_time,
  ebrim, rendering_version)
VALUES (:patient_key, :entry_uuid, :unique_id, :logical_id, :version, :code_list, :last_update_time, :last_update_time,
  :ebrim, :rendering_version)

-- name: insert_association
INSERT INTO association (patient_key, entry_uuid, type, source, target, member_since, ebrim, rendering_version)
VALUES (:patient_key, :entry_uuid, :type, :source, :target, :member_since, :ebrim, :rendering_version)

-- name: lock_person
-- A link of this patient is taken back before this registration, or after it.
SELECT FROM patient WHERE patient_key = :patient_key FOR KEY SHARE

-- name: expect_person
SELECT obieg_expect(
  (SELECT count(*) FROM unnest(obieg_kin(:patient_key)) k WHERE k = ANY(:patient_keys::bigint[])),
  cardinality(:patient_keys::bigint[]), 'a link of this patient was taken back meanwhile')

-- name: lock_relations
-- Submissions that relate documents of one person wait for one another; the next statement then sees all relations.
SELECT count(pg_advisory_xact_lock(k)) FROM (SELECT k FROM unnest(:patient_keys::bigint[]) k ORDER BY 1) o

-- name: deprecate_entries
-- A replaced document takes its addenda and transformations with it (ITI TF-3:4.2.2.2.3).
WITH RECURSIVE doomed (entry_uuid) AS (
  SELECT unnest(:uuids::uuid[])
  UNION
  SELECT a.source FROM doomed d
  JOIN association a ON a.patient_key = ANY(:patient_keys::bigint[]) AND a.target = d.entry_uuid
   AND a.type IN ('APND', 'XFRM') AND a.status = 'A'
), changed AS (
  UPDATE document_entry e SET status = 'D'
  FROM doomed WHERE e.patient_key = ANY(:patient_keys::bigint[]) AND e.entry_uuid = doomed.entry_uuid
   AND e.status = 'A'
  RETURNING e.entry_uuid
)
SELECT obieg_expect((SELECT count(*) FROM changed WHERE entry_uuid = ANY(:uuids::uuid[])),
                    cardinality(:uuids::uuid[]), 'a replaced document is no longer approved')

-- name: expect_approved
-- What an addendum or transformation refers to stays approved until this transaction ends.
SELECT obieg_expect((
  SELECT count(*) FROM (
    SELECT FROM document_entry WHERE patient_key = ANY(:patient_keys::bigint[]) AND entry_uuid = ANY(:uuids::uuid[])
      AND status = 'A' FOR SHARE) locked
), cardinality(:uuids::uuid[]), 'a related document is no longer approved')

-- name: expect_latest_snapshot
-- Nobody has made a snapshot of this on-demand entry meanwhile; lock_relations keeps others waiting.
SELECT obieg_expect(((
  SELECT e.entry_uuid FROM association a
  JOIN document_entry e ON e.patient_key = ANY(:patient_keys::bigint[]) AND e.entry_uuid = a.source AND e.status = 'A'
  JOIN stored_document t ON t.unique_id = e.unique_id AND t.repository_unique_id = :repository_unique_id::text
   AND t.state = 'R' AND t.content_key IS NOT NULL
  WHERE a.patient_key = ANY(:patient_keys::bigint[]) AND a.target = :on_demand::uuid AND a.type = 'IsSnapshotOf'
  ORDER BY e.registered_at DESC, e.entry_uuid LIMIT 1
) IS DISTINCT FROM :latest::uuid)::integer, 0, 'another snapshot of this on-demand entry was registered meanwhile')

-- name: on_demand_entries (planned once)
-- On-demand entries of this repository under the given uniqueIds, the best of each first, with the submission set that
-- registered it and the newest approved snapshot that this repository made of it.
SELECT d.unique_id, d.patient_key, o.patient_id, d.ebrim, d.status::text, d.version, s.ebrim, n.entry_uuid::text,
  n.unique_id, n.content_key
FROM unique_id_locator u
JOIN document_entry d ON d.patient_key = u.patient_key AND d.entry_uuid = u.entry_uuid AND d.entry_type = 'O'
JOIN registry_object o ON o.patient_key = d.patient_key AND o.entry_uuid = d.entry_uuid AND o.kind = 'D'
LEFT JOIN LATERAL (
  SELECT t.ebrim FROM association a
  JOIN submission_set t ON t.patient_key = ANY(obieg_kin(d.patient_key)) AND t.entry_uuid = a.source
  WHERE a.patient_key = ANY(obieg_kin(d.patient_key)) AND a.target = d.entry_uuid AND a.type = 'HasMember'
  LIMIT 1
) s ON true
LEFT JOIN LATERAL (
  SELECT e.entry_uuid, e.unique_id, t.content_key FROM association a
  JOIN document_entry e ON e.patient_key = ANY(obieg_kin(d.patient_key)) AND e.entry_uuid = a.source AND e.status = 'A'
  JOIN stored_document t ON t.unique_id = e.unique_id AND t.repository_unique_id = d.repository_unique_id
   AND t.state = 'R' AND t.content_key IS NOT NULL
  WHERE a.patient_key = ANY(obieg_kin(d.patient_key)) AND a.target = d.entry_uuid AND a.type = 'IsSnapshotOf'
  ORDER BY e.registered_at DESC, e.entry_uuid LIMIT 1
) n ON true
WHERE u.unique_id = ANY(:unique_ids::text[]) AND u.kind = 'D' AND d.repository_unique_id = :repository_unique_id::text
  AND d.patient_key = ANY(:permitted::bigint[])  -- sight
  AND d.entry_uuid NOT IN (SELECT obieg_hidden_documents(:filter::obieg_filter))  -- sight
ORDER BY d.status, d.registered_at DESC, d.entry_uuid

-- name: expect_references
-- What associations of a submission name, and the submission does not hold, is not removed before this transaction ends.
SELECT obieg_expect((
  SELECT count(*) FROM (SELECT FROM object_locator WHERE entry_uuid = ANY(:uuids::uuid[]) FOR KEY SHARE) locked
), cardinality(:uuids::uuid[]), 'an object that is referred to was removed')

-- name: touch_folders
WITH touched AS (
  UPDATE folder SET last_update_time = :last_update_time
  WHERE patient_key = ANY(:patient_keys::bigint[]) AND entry_uuid = ANY(:uuids::uuid[]) AND status = 'A'
  RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM touched), cardinality(:uuids::uuid[]), 'a folder is no longer approved')

-- name: find_documents (planned once)
-- This and the other questions by patient raise at the row after :refused_above, which undoes the record in their batch:
-- whether they may be answered is known only here, and who is refused has a record that says so.
SELECT
  CASE WHEN row_number() OVER () > :refused_above::bigint THEN obieg_expect(0, 1, 'more results than may be')::text
  ELSE d.entry_uuid::text END, d.ebrim, d.status::text, d.version
FROM document_entry d
WHERE d.patient_key = ANY(obieg_patient_keys(:authority, :value))
  AND d.status = ANY(:status::"char"[])
  AND d.entry_type = ANY(:entry_type::"char"[])
  AND (:class_code::text[] IS NULL OR d.class_code = ANY(:class_code))
  AND (:type_code::text[] IS NULL OR d.type_code = ANY(:type_code))
  AND (:format_code::text[] IS NULL OR d.format_code = ANY(:format_code))
  AND (:practice_setting_code::text[] IS NULL OR d.practice_setting_code = ANY(:practice_setting_code))
  AND (:healthcare_facility_type_code::text[] IS NULL
       OR d.healthcare_facility_type_code = ANY(:healthcare_facility_type_code))
  AND (:creation_from::text IS NULL OR d.creation_time >= :creation_from)
  AND (:creation_to::text IS NULL OR d.creation_time < :creation_to)
  AND (:service_start_from::text IS NULL OR d.service_start_time >= :service_start_from)
  AND (:service_start_to::text IS NULL OR d.service_start_time < :service_start_to)
  AND (:service_stop_from::text IS NULL OR d.service_stop_time >= :service_stop_from)
  AND (:service_stop_to::text IS NULL OR d.service_stop_time < :service_stop_to)
  AND (:author_person::text[] IS NULL
       OR EXISTS (SELECT FROM unnest(d.author_person) a WHERE a LIKE ANY(:author_person)))
  AND (:confidentiality_code::text[] IS NULL OR NOT EXISTS (
       SELECT FROM unnest(:confidentiality_code) g WHERE NOT d.confidentiality_code && string_to_array(g, E'\x1f')))
  AND (:event_code_list::text[] IS NULL OR NOT EXISTS (
       SELECT FROM unnest(:event_code_list) g WHERE NOT d.event_code_list && string_to_array(g, E'\x1f')))
  AND (:reference_id_list::text[] IS NULL OR NOT EXISTS (
       SELECT FROM unnest(:reference_id_list) g WHERE NOT d.reference_id_list && string_to_array(g, E'\x1f')))
  AND (:title::text[] IS NULL OR d.title LIKE ANY(:title))
  AND (:author_institution::text[] IS NULL
       OR EXISTS (SELECT FROM unnest(d.author_institution) a WHERE a LIKE ANY(:author_institution)))
  AND (:class_code_exclude::text[] IS NULL OR d.class_code = ANY(:class_code_exclude) IS NOT TRUE)
  AND (:type_code_exclude::text[] IS NULL OR d.type_code = ANY(:type_code_exclude) IS NOT TRUE)
  AND (:format_code_exclude::text[] IS NULL OR d.format_code = ANY(:format_code_exclude) IS NOT TRUE)
  AND (:practice_setting_code_exclude::text[] IS NULL
       OR d.practice_setting_code = ANY(:practice_setting_code_exclude) IS NOT TRUE)
  AND (:healthcare_facility_type_code_exclude::text[] IS NULL
       OR d.healthcare_facility_type_code = ANY(:healthcare_facility_type_code_exclude) IS NOT TRUE)
  AND (:author_person_exclude::text[] IS NULL
       OR NOT EXISTS (SELECT FROM unnest(d.author_person) a WHERE a LIKE ANY(:author_person_exclude)))
  -- What is excluded is what the same values without "Exclude" would find.
  AND (:confidentiality_code_exclude::text[] IS NULL OR EXISTS (
       SELECT FROM unnest(:confidentiality_code_exclude) g
       WHERE NOT d.confidentiality_code && string_to_array(g, E'\x1f')))
  AND (:event_code_list_exclude::text[] IS NULL OR EXISTS (
       SELECT FROM unnest(:event_code_list_exclude) g WHERE NOT d.event_code_list && string_to_array(g, E'\x1f')))
  AND (:reference_id_list_exclude::text[] IS NULL OR EXISTS (
       SELECT FROM unnest(:reference_id_list_exclude) g WHERE NOT d.reference_id_list && string_to_array(g, E'\x1f')))
  AND (:old_versions::boolean OR NOT d.superseded)
  AND d.patient_key = ANY(:permitted::bigint[])  -- sight
  AND CASE WHEN (:filter::obieg_filter).rules IS NULL  -- sight
             AND NOT EXISTS (SELECT FROM related_document r WHERE r.patient_key = ANY((:filter).keys))  -- sight
        THEN obieg_shows(:filter, d) ELSE d.entry_uuid NOT IN (SELECT obieg_hidden_documents(:filter)) END  -- sight
ORDER BY d.creation_time DESC, d.entry_uuid
LIMIT :results_max::bigint + 1

-- name: patients_of_documents
-- Whom a question for several patients may be about when it names nobody: affinity-domain ids, survivors for those who
-- were merged. One of the codes is given, or a reference id, so that not everybody is a candidate.
SELECT DISTINCT p.affinity_domain_id
FROM document_entry d
LEFT JOIN patient_link k ON k.patient_key = d.patient_key
JOIN patient p ON p.patient_key = coalesce(k.survivor_key, d.patient_key)
WHERE d.status = ANY(:status::"char"[]) AND d.entry_type = ANY(:entry_type::"char"[])
  AND (:class_code::text[] IS NULL OR d.class_code = ANY(:class_code))
  AND (:healthcare_facility_type_code::text[] IS NULL
       OR d.healthcare_facility_type_code = ANY(:healthcare_facility_type_code))
  AND (:event_code_list::text[] IS NULL OR NOT EXISTS (
       SELECT FROM unnest(:event_code_list) g WHERE NOT d.event_code_list && string_to_array(g, E'\x1f')))
  AND (:reference_id_list::text[] IS NULL OR NOT EXISTS (
       SELECT FROM unnest(:reference_id_list) g WHERE NOT d.reference_id_list && string_to_array(g, E'\x1f')))
LIMIT :patients_max::bigint + 1

-- name: patients_of_folders
SELECT DISTINCT p.affinity_domain_id
FROM folder f
LEFT JOIN patient_link k ON k.patient_key = f.patient_key
JOIN patient p ON p.patient_key = coalesce(k.survivor_key, f.patient_key)
WHERE f.status = ANY(:status::"char"[])
  AND (:code_list::text[] IS NULL OR NOT EXISTS (
       SELECT FROM unnest(:code_list) g WHERE NOT f.code_list && string_to_array(g, E'\x1f')))
LIMIT :patients_max::bigint + 1

-- name: find_document_ids (planned once)
-- The same question when only ObjectRefs are wanted and nothing but status and type narrows it: the plain index.
SELECT
  CASE WHEN row_number() OVER () > :refused_above::bigint THEN obieg_expect(0, 1, 'more results than may be')::text
  ELSE d.entry_uuid::text END
FROM document_entry d
WHERE d.patient_key = ANY(obieg_patient_keys(:authority, :value))
  AND d.status = ANY(:status::"char"[]) AND d.entry_type = ANY(:entry_type::"char"[])
  AND (:old_versions::boolean OR NOT d.superseded)
  AND d.patient_key = ANY(:permitted::bigint[])  -- sight
  AND CASE WHEN (:filter::obieg_filter).rules IS NULL  -- sight
             AND NOT EXISTS (SELECT FROM related_document r WHERE r.patient_key = ANY((:filter).keys))  -- sight
        THEN obieg_shows(:filter, d) ELSE d.entry_uuid NOT IN (SELECT obieg_hidden_documents(:filter)) END  -- sight
ORDER BY d.creation_time DESC, d.entry_uuid
LIMIT :results_max::bigint + 1

-- name: find_submission_sets (planned once)
SELECT
  CASE WHEN row_number() OVER () > :refused_above::bigint THEN obieg_expect(0, 1, 'more results than may be')::text
  ELSE s.entry_uuid::text END, s.ebrim, s.status::text
FROM submission_set s
WHERE s.patient_key = ANY(obieg_patient_keys(:authority, :value))
  AND s.status = ANY(:status::"char"[])
  AND (:source_id::text[] IS NULL OR s.source_id = ANY(:source_id))
  AND (:submission_from::text IS NULL OR s.submission_time >= :submission_from)
  AND (:submission_to::text IS NULL OR s.submission_time < :submission_to)
  AND (:content_type_code::text[] IS NULL OR s.content_type_code = ANY(:content_type_code))
  AND (:author_person::text[] IS NULL
       OR EXISTS (SELECT FROM unnest(s.author_person) a WHERE a LIKE ANY(:author_person)))
  AND s.patient_key = ANY(:permitted::bigint[])  -- sight
  AND s.entry_uuid NOT IN (SELECT obieg_hidden(:filter::obieg_filter))  -- sight
ORDER BY s.submission_time DESC, s.entry_uuid
LIMIT :results_max::bigint + 1

-- name: find_folders (planned once)
-- A folder with a hidden member is dated as if that had never been put there.
WITH
  times AS MATERIALIZED (SELECT * FROM obieg_folder_times(:filter::obieg_filter)),  -- sight
dated AS (
  SELECT f.*, coalesce(
    (SELECT t.time FROM times t WHERE t.entry_uuid = f.entry_uuid),  -- sight
    f.last_update_time) AS shown_time
  FROM folder f WHERE f.patient_key = ANY(obieg_patient_keys(:authority, :value))
)
SELECT
  CASE WHEN row_number() OVER () > :refused_above::bigint THEN obieg_expect(0, 1, 'more results than may be')::text
  ELSE f.entry_uuid::text END, f.ebrim, f.status::text, f.version, f.shown_time
FROM dated f
WHERE f.status = ANY(:status::"char"[])
  AND (:updated_from::text IS NULL OR f.shown_time >= :updated_from)
  AND (:updated_to::text IS NULL OR f.shown_time < :updated_to)
  AND (:code_list::text[] IS NULL OR NOT EXISTS (
       SELECT FROM unnest(:code_list) g WHERE NOT f.code_list && string_to_array(g, E'\x1f')))
  AND (:old_versions::boolean OR NOT f.superseded)
  AND f.patient_key = ANY(:permitted::bigint[])  -- sight
  AND f.entry_uuid NOT IN (SELECT obieg_hidden(:filter::obieg_filter))  -- sight
ORDER BY f.shown_time DESC, f.entry_uuid
LIMIT :results_max::bigint + 1

-- name: get_all (planned once)
-- Everything of one patient by status, and the associations with an end in it (ITI TF-2:3.18.4.1.2.3.7.4).
WITH
  unseen AS MATERIALIZED (SELECT obieg_hidden(:filter::obieg_filter) AS entry_uuid),  -- sight
  times AS MATERIALIZED (SELECT * FROM obieg_folder_times(:filter::obieg_filter)),  -- sight
found AS (
  SELECT o.* FROM registry_object o
  WHERE o.patient_key = ANY(obieg_patient_keys(:authority, :value))
    AND (:old_versions::boolean OR o.current)
    AND o.patient_key = ANY(:permitted::bigint[])  -- sight
    AND o.entry_uuid NOT IN (SELECT u.entry_uuid FROM unseen u)  -- sight
    AND ((o.kind = 'D' AND o.status::text = ANY(:document_status::text[])
         AND o.entry_type::text = ANY(:entry_type::text[])
         AND (:format_code::text[] IS NULL OR o.format_code = ANY(:format_code))
         AND (:confidentiality_code::text[] IS NULL OR NOT EXISTS (
              SELECT FROM unnest(:confidentiality_code) g
              WHERE NOT o.confidentiality_code && string_to_array(g, E'\x1f'))))
     OR (o.kind = 'S' AND o.status::text = ANY(:set_status::text[]))
     OR (o.kind = 'F' AND o.status::text = ANY(:folder_status::text[])))
), limited AS MATERIALIZED (
  SELECT x.entry_uuid FROM document_entry x
  WHERE x.patient_key = ANY(obieg_patient_keys(:authority, :value)) AND x.entry_type IN ('L', 'M')
), hidden AS MATERIALIZED (
  -- What leads to an entry with limited metadata, or to what leads there, is not shown either: its end would be missing.
  SELECT entry_uuid FROM limited
  UNION ALL
  SELECT a.entry_uuid FROM limited l JOIN association a
    ON a.patient_key = ANY(obieg_patient_keys(:authority, :value)) AND l.entry_uuid IN (a.source, a.target)
)
SELECT kind,
  CASE WHEN row_number() OVER () > :refused_above::bigint THEN obieg_expect(0, 1, 'more results than may be')::text
  ELSE entry_uuid END, ebrim, status, version, patient_id, last_update_time
FROM (
  SELECT f.kind::text, f.entry_uuid::text, f.ebrim, f.status::text, f.version, f.patient_id,
    coalesce(
      (SELECT t.time FROM times t WHERE t.entry_uuid = f.entry_uuid),  -- sight
      f.last_update_time)
    AS last_update_time
  FROM found f
  UNION ALL
  SELECT 'A', a.entry_uuid::text, a.ebrim, a.status::text, 1, '', '' FROM association a
  WHERE a.patient_key = ANY(obieg_patient_keys(:authority, :value))
    AND a.patient_key = ANY(:permitted::bigint[])  -- sight
    AND a.entry_uuid NOT IN (SELECT u.entry_uuid FROM unseen u)  -- sight
    AND EXISTS (SELECT FROM found f WHERE f.entry_uuid IN (a.source, a.target))
    AND (:old_versions::boolean OR a.status = 'A')
    AND NOT EXISTS (SELECT FROM hidden h WHERE h.entry_uuid IN (a.source, a.target))
) asked
LIMIT :results_max::bigint + 1

-- name: get_objects (planned once)
-- Objects of one kind by entryUUID, uniqueId or logicalID (then all versions), whichever is given.
WITH
  unseen AS MATERIALIZED (SELECT obieg_hidden(:filter::obieg_filter) AS entry_uuid),  -- sight
  times AS MATERIALIZED (SELECT * FROM obieg_folder_times(:filter::obieg_filter)),  -- sight
named AS (
  SELECT patient_key, entry_uuid FROM object_locator
  WHERE entry_uuid = ANY(:uuids::uuid[]) AND kind = :kind::text::"char"
  UNION
  SELECT patient_key, entry_uuid FROM unique_id_locator
  WHERE unique_id = ANY(:unique_ids::text[]) AND kind = :kind::text::"char"
  UNION
  SELECT patient_key, entry_uuid FROM object_locator
  WHERE entry_uuid = ANY(:logical_ids::uuid[]) AND kind = :kind::text::"char"
  UNION
  -- After a move the versions are of several patients.
  SELECT patient_key, entry_uuid FROM document_entry
  WHERE :kind::text = 'D' AND logical_id = ANY(:logical_ids::uuid[]) AND version > 1
  UNION
  SELECT patient_key, entry_uuid FROM folder
  WHERE :kind::text = 'F' AND logical_id = ANY(:logical_ids::uuid[]) AND version > 1
)
SELECT o.kind::text, o.entry_uuid::text, o.ebrim, o.status::text, o.version, o.patient_id,
  coalesce(
    (SELECT t.time FROM times t WHERE t.entry_uuid = o.entry_uuid),  -- sight
    o.last_update_time)
FROM named n JOIN registry_object o ON o.patient_key = n.patient_key AND o.entry_uuid = n.entry_uuid
WHERE o.kind = :kind::text::"char" AND (:old_versions::boolean OR o.current)
  AND o.patient_key = ANY(:permitted::bigint[])  -- sight
  AND o.entry_uuid NOT IN (SELECT u.entry_uuid FROM unseen u)  -- sight
  AND (o.logical_id = ANY(:logical_ids::uuid[]) OR cardinality(:logical_ids::uuid[]) = 0)
  AND (o.kind <> 'D' OR o.entry_type IN ('S', 'O'))
LIMIT :results_max::bigint + 1

-- name: get_associations (planned once)
-- Not those that lead to an entry with limited metadata, as in get_all; OFFSET 0 has that looked up for each of them.
WITH
  unseen AS MATERIALIZED (SELECT obieg_hidden(:filter::obieg_filter) AS entry_uuid),  -- sight
ends AS (SELECT patient_key, entry_uuid FROM object_locator WHERE entry_uuid = ANY(:uuids::uuid[])),
found AS (
  SELECT a.* FROM ends e JOIN association a ON a.patient_key = ANY(obieg_kin(e.patient_key)) AND a.source = e.entry_uuid
  UNION
  SELECT a.* FROM ends e JOIN association a ON a.patient_key = ANY(obieg_kin(e.patient_key)) AND a.target = e.entry_uuid
)
SELECT o.kind::text, o.entry_uuid::text, o.ebrim, o.status::text, o.version, o.patient_id, o.last_update_time
FROM found f JOIN registry_object o ON o.patient_key = f.patient_key AND o.entry_uuid = f.entry_uuid AND o.kind = 'A'
WHERE (:old_versions::boolean OR o.current)
  AND o.patient_key = ANY(:permitted::bigint[])  -- sight
  AND o.entry_uuid NOT IN (SELECT u.entry_uuid FROM unseen u)  -- sight
  AND NOT EXISTS (
    SELECT FROM association h JOIN object_locator l ON l.entry_uuid = ANY(ARRAY[h.source, h.target])
    LEFT JOIN association i ON l.kind = 'A' AND i.patient_key = l.patient_key AND i.entry_uuid = l.entry_uuid
    JOIN object_locator e ON e.entry_uuid = ANY(ARRAY[l.entry_uuid, i.source, i.target])
    JOIN document_entry x ON x.patient_key = e.patient_key AND x.entry_uuid = e.entry_uuid AND x.entry_type IN ('L', 'M')
    WHERE h.patient_key = o.patient_key AND h.entry_uuid = o.entry_uuid OFFSET 0)
LIMIT :results_max::bigint + 1

-- name: get_documents_and_associations (planned once)
-- Not the associations that lead to an entry with limited metadata, as in get_associations.
WITH
  unseen AS MATERIALIZED (SELECT obieg_hidden(:filter::obieg_filter) AS entry_uuid),  -- sight
named AS (
  SELECT patient_key, entry_uuid FROM object_locator WHERE entry_uuid = ANY(:uuids::uuid[]) AND kind = 'D'
  UNION
  SELECT patient_key, entry_uuid FROM unique_id_locator WHERE unique_id = ANY(:unique_ids::text[]) AND kind = 'D'
), members AS (
  SELECT patient_key, entry_uuid FROM named
  UNION SELECT a.patient_key, a.entry_uuid FROM named n
    JOIN association a ON a.patient_key = ANY(obieg_kin(n.patient_key)) AND a.source = n.entry_uuid
  UNION SELECT a.patient_key, a.entry_uuid FROM named n
    JOIN association a ON a.patient_key = ANY(obieg_kin(n.patient_key)) AND a.target = n.entry_uuid
)
SELECT o.kind::text, o.entry_uuid::text, o.ebrim, o.status::text, o.version, o.patient_id, o.last_update_time
FROM members m JOIN registry_object o ON o.patient_key = m.patient_key AND o.entry_uuid = m.entry_uuid
WHERE (o.kind <> 'D' OR o.entry_type IN ('S', 'O'))
  AND (:old_versions::boolean OR o.current)
  AND o.patient_key = ANY(:permitted::bigint[])  -- sight
  AND o.entry_uuid NOT IN (SELECT u.entry_uuid FROM unseen u)  -- sight
  AND NOT EXISTS (
    SELECT FROM association h JOIN object_locator l ON l.entry_uuid = ANY(ARRAY[h.source, h.target])
    LEFT JOIN association i ON l.kind = 'A' AND i.patient_key = l.patient_key AND i.entry_uuid = l.entry_uuid
    JOIN object_locator e ON e.entry_uuid = ANY(ARRAY[l.entry_uuid, i.source, i.target])
    JOIN document_entry x ON x.patient_key = e.patient_key AND x.entry_uuid = e.entry_uuid AND x.entry_type IN ('L', 'M')
    WHERE h.patient_key = o.patient_key AND h.entry_uuid = o.entry_uuid OFFSET 0)
LIMIT :results_max::bigint + 1

-- name: get_containers (planned once)
-- GetSubmissionSets (kind S) and GetFoldersForDocument (kind F): what holds the named objects by HasMember. The
-- associations themselves belong to the answer of the first (ITI TF-2:3.18.4.1.2.3.7.9, .12), unless they lead
-- to an entry with limited metadata, as in get_associations.
WITH
  unseen AS MATERIALIZED (SELECT obieg_hidden(:filter::obieg_filter) AS entry_uuid),  -- sight
  times AS MATERIALIZED (SELECT * FROM obieg_folder_times(:filter::obieg_filter)),  -- sight
named AS (
  SELECT patient_key, entry_uuid FROM object_locator WHERE entry_uuid = ANY(:uuids::uuid[])
  UNION
  SELECT patient_key, entry_uuid FROM unique_id_locator WHERE unique_id = ANY(:unique_ids::text[]) AND kind = 'D'
), held AS (
  SELECT a.patient_key, a.entry_uuid, a.source FROM named n
  JOIN association a ON a.patient_key = ANY(obieg_kin(n.patient_key)) AND a.target = n.entry_uuid AND a.type = 'HasMember'
  JOIN object_locator l ON l.entry_uuid = a.source AND l.kind = :kind::text::"char"
  WHERE (:old_versions::boolean OR a.status = 'A')
    AND a.patient_key = ANY(:permitted::bigint[])  -- sight
    AND a.entry_uuid NOT IN (SELECT u.entry_uuid FROM unseen u)  -- sight
), wanted AS (
  SELECT l.patient_key, l.entry_uuid FROM held h JOIN object_locator l ON l.entry_uuid = h.source
  UNION SELECT patient_key, entry_uuid FROM held WHERE :kind::text = 'S'
)
SELECT o.kind::text, o.entry_uuid::text, o.ebrim, o.status::text, o.version, o.patient_id,
  coalesce(
    (SELECT t.time FROM times t WHERE t.entry_uuid = o.entry_uuid),  -- sight
    o.last_update_time)
FROM wanted w JOIN registry_object o ON o.patient_key = w.patient_key AND o.entry_uuid = w.entry_uuid
WHERE (:old_versions::boolean OR o.current)
  AND o.patient_key = ANY(:permitted::bigint[])  -- sight
  AND o.entry_uuid NOT IN (SELECT u.entry_uuid FROM unseen u)  -- sight
  AND NOT EXISTS (
    SELECT FROM association h JOIN object_locator l ON l.entry_uuid = ANY(ARRAY[h.source, h.target])
    LEFT JOIN association i ON l.kind = 'A' AND i.patient_key = l.patient_key AND i.entry_uuid = l.entry_uuid
    JOIN object_locator e ON e.entry_uuid = ANY(ARRAY[l.entry_uuid, i.source, i.target])
    JOIN document_entry x ON x.patient_key = e.patient_key AND x.entry_uuid = e.entry_uuid AND x.entry_type IN ('L', 'M')
    WHERE h.patient_key = o.patient_key AND h.entry_uuid = o.entry_uuid OFFSET 0)
LIMIT :results_max::bigint + 1

-- name: get_contents (planned once)
-- A submission set (S) or folder (F) with its members, and the associations that have both ends among them
-- (ITI TF-2:3.18.4.1.2.3.7.10, .11).
WITH
  unseen AS MATERIALIZED (SELECT obieg_hidden(:filter::obieg_filter) AS entry_uuid),  -- sight
  times AS MATERIALIZED (SELECT * FROM obieg_folder_times(:filter::obieg_filter)),  -- sight
named AS (
  SELECT patient_key, entry_uuid FROM object_locator
  WHERE entry_uuid = ANY(:uuids::uuid[]) AND kind = :kind::text::"char"
  UNION
  SELECT patient_key, entry_uuid FROM unique_id_locator
  WHERE unique_id = ANY(:unique_ids::text[]) AND kind = :kind::text::"char"
), root AS (
  SELECT n.patient_key, n.entry_uuid FROM named n
  JOIN registry_object o ON o.patient_key = n.patient_key AND o.entry_uuid = n.entry_uuid
  WHERE (:old_versions::boolean OR o.current)
    AND o.patient_key = ANY(:permitted::bigint[])  -- sight
    AND o.entry_uuid NOT IN (SELECT u.entry_uuid FROM unseen u)  -- sight
), members AS (
  SELECT l.patient_key, l.entry_uuid FROM root r
  JOIN association a ON a.patient_key = ANY(obieg_kin(r.patient_key)) AND a.source = r.entry_uuid AND a.type = 'HasMember'
  JOIN object_locator l ON l.entry_uuid = a.target
  WHERE :old_versions::boolean OR a.status = 'A'
), members_seen AS (
  SELECT o.* FROM (SELECT * FROM root UNION SELECT * FROM members) m
  JOIN registry_object o ON o.patient_key = m.patient_key AND o.entry_uuid = m.entry_uuid
  WHERE (:old_versions::boolean OR o.current)
    AND o.patient_key = ANY(:permitted::bigint[])  -- sight
    AND o.entry_uuid NOT IN (SELECT u.entry_uuid FROM unseen u)  -- sight
    AND (o.kind <> 'D' OR (
    o.entry_type::text = ANY(:entry_type::text[])
    AND (:format_code::text[] IS NULL OR o.format_code = ANY(:format_code))
    AND (:confidentiality_code::text[] IS NULL OR NOT EXISTS (
         SELECT FROM unnest(:confidentiality_code) g
         WHERE NOT o.confidentiality_code && string_to_array(g, E'\x1f')))))
), objects AS (
  -- A member that is itself an association (of a folder and a document) goes when one of its ends was left out.
  SELECT * FROM members_seen o WHERE o.kind <> 'A' OR EXISTS (
    SELECT FROM association a WHERE a.patient_key = o.patient_key AND a.entry_uuid = o.entry_uuid
      AND EXISTS (SELECT FROM members_seen s WHERE s.entry_uuid = a.source)
      AND EXISTS (SELECT FROM members_seen t WHERE t.entry_uuid = a.target))
), inner_associations AS (
  SELECT a.patient_key, a.entry_uuid FROM objects s
  JOIN association a ON a.patient_key = ANY(obieg_kin(s.patient_key)) AND a.source = s.entry_uuid
  WHERE EXISTS (SELECT FROM objects t WHERE t.entry_uuid = a.target)
)
SELECT o.kind::text, o.entry_uuid::text, o.ebrim, o.status::text, o.version, o.patient_id,
  coalesce(
    (SELECT t.time FROM times t WHERE t.entry_uuid = o.entry_uuid),  -- sight
    o.last_update_time)
FROM objects o
UNION
SELECT o.kind::text, o.entry_uuid::text, o.ebrim, o.status::text, o.version, o.patient_id, o.last_update_time
FROM inner_associations i JOIN registry_object o
  ON o.patient_key = i.patient_key AND o.entry_uuid = i.entry_uuid AND o.kind = 'A'
WHERE (:old_versions::boolean OR o.current)
  AND o.patient_key = ANY(:permitted::bigint[])  -- sight
  AND o.entry_uuid NOT IN (SELECT u.entry_uuid FROM unseen u)  -- sight
LIMIT :results_max::bigint + 1

-- name: get_related (planned once)
-- Documents related to the named ones by the given associations, those named included when there are any
-- (ITI TF-2:3.18.4.1.2.3.7.13).
WITH
  unseen AS MATERIALIZED (SELECT obieg_hidden(:filter::obieg_filter) AS entry_uuid),  -- sight
named AS (
  SELECT patient_key, entry_uuid FROM object_locator WHERE entry_uuid = ANY(:uuids::uuid[]) AND kind = 'D'
  UNION
  SELECT patient_key, entry_uuid FROM unique_id_locator WHERE unique_id = ANY(:unique_ids::text[]) AND kind = 'D'
), touching AS (
  SELECT a.* FROM named n JOIN association a ON a.patient_key = ANY(obieg_kin(n.patient_key)) AND a.source = n.entry_uuid
  UNION
  SELECT a.* FROM named n JOIN association a ON a.patient_key = ANY(obieg_kin(n.patient_key)) AND a.target = n.entry_uuid
), links AS (
  SELECT a.patient_key, a.entry_uuid, a.source, a.target FROM touching a
  JOIN object_locator s ON s.entry_uuid = a.source AND s.kind = 'D'
  JOIN object_locator t ON t.entry_uuid = a.target AND t.kind = 'D'
  WHERE a.type = ANY(:types::text[]) AND (:old_versions::boolean OR a.status = 'A')
    AND a.patient_key = ANY(:permitted::bigint[])  -- sight
    AND a.entry_uuid NOT IN (SELECT u.entry_uuid FROM unseen u)  -- sight
), ends AS (
  SELECT l.patient_key, l.entry_uuid
  FROM (SELECT source AS u FROM links UNION SELECT target FROM links) e JOIN object_locator l ON l.entry_uuid = e.u
), documents AS (
  SELECT o.* FROM ends e JOIN registry_object o ON o.patient_key = e.patient_key AND o.entry_uuid = e.entry_uuid
  WHERE o.kind = 'D' AND o.entry_type::text = ANY(:entry_type::text[]) AND (:old_versions::boolean OR o.current)
)
SELECT kind::text, entry_uuid::text, ebrim, status::text, version, patient_id, last_update_time FROM documents
UNION ALL
SELECT 'A', o.entry_uuid::text, o.ebrim, o.status::text, o.version, o.patient_id, o.last_update_time
FROM links l JOIN registry_object o ON o.patient_key = l.patient_key AND o.entry_uuid = l.entry_uuid AND o.kind = 'A'
WHERE EXISTS (SELECT FROM documents d WHERE d.entry_uuid = l.source)
  AND EXISTS (SELECT FROM documents d WHERE d.entry_uuid = l.target)
LIMIT :results_max::bigint + 1
