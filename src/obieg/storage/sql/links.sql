-- Taking links back, moving what belongs to somebody else, the worklist, and who saw what.

-- name: read_link
-- The link of a patient, with the ids of those it concerns.
SELECT k.patient_key, k.survivor_key, k.merged_into, m.affinity_domain_id, s.affinity_domain_id, k.reason, k.linked_by,
       k.linked_at
FROM patient_link k
JOIN patient m ON m.patient_key = k.patient_key
JOIN patient s ON s.patient_key = k.merged_into
WHERE k.patient_key = :patient_key::bigint

-- name: read_links
-- All links of those who are one person with this patient.
SELECT k.patient_key, k.survivor_key, k.merged_into, m.affinity_domain_id, s.affinity_domain_id, k.reason, k.linked_by,
       k.linked_at
FROM patient_link k
JOIN patient m ON m.patient_key = k.patient_key
JOIN patient s ON s.patient_key = k.merged_into
WHERE k.survivor_key = (SELECT coalesce((SELECT survivor_key FROM patient_link WHERE patient_key = :patient_key::bigint),
                                        :patient_key::bigint))
ORDER BY k.linked_at

-- name: find_raw
-- Under which patient an identifier itself stands, before links, and whether it is retired and by whose link.
SELECT l.patient_key, l.retired_at IS NOT NULL, coalesce(l.retired_by, 0)
FROM patient_locator l WHERE l.authority = :authority::text AND l.value = :value::text

-- name: lock_kin
SELECT patient_key FROM patient WHERE patient_key = ANY(obieg_kin(:patient_key::bigint)) ORDER BY patient_key FOR UPDATE

-- name: end_link
-- Exactly the link that was looked at; it goes into the history.
WITH gone AS (
  DELETE FROM patient_link WHERE patient_key = :patient_key::bigint AND survivor_key = :survivor_key::bigint
    AND linked_at = :linked_at::timestamptz
  RETURNING *
), kept AS (
  INSERT INTO patient_link_history (patient_key, merged_into, survivor_key, reason, linked_by, linked_at, unlinked_by)
  SELECT patient_key, merged_into, survivor_key, reason, linked_by, linked_at, :by::text FROM gone
)
SELECT obieg_expect((SELECT count(*) FROM gone), 1, 'the link was changed meanwhile')

-- name: repoint_links
-- Who was linked to the patient that is its own again, be it through others, belongs to it.
WITH RECURSIVE below AS (
  SELECT patient_key FROM patient_link WHERE merged_into = :patient_key::bigint
  UNION
  SELECT k.patient_key FROM patient_link k JOIN below b ON k.merged_into = b.patient_key
)
UPDATE patient_link k SET survivor_key = :patient_key::bigint FROM below b WHERE k.patient_key = b.patient_key

-- name: revive_locators
UPDATE patient_locator SET retired_at = NULL, retired_by = NULL, replaced_authority = NULL, replaced_value = NULL
WHERE retired_by = :patient_key::bigint

-- name: revive_identifier
-- An identifier that was retired within one patient.
UPDATE patient_locator SET retired_at = NULL, replaced_authority = NULL, replaced_value = NULL
WHERE authority = :authority::text AND value = :value::text AND retired_by IS NULL

-- name: return_records
-- Records that came while the link stood and are of the one who is its own again.
WITH came AS MATERIALIZED (
  SELECT r.patient_key, r.record_key, r.blocks
  FROM unnest(:from_keys::bigint[], :record_keys::bigint[]) AS w (patient_key, record_key)
  JOIN patient_record r ON r.patient_key = w.patient_key AND r.record_key = w.record_key
), blocks AS (
  UPDATE patient_block b SET patient_key = :patient_key::bigint
  FROM came c, unnest(c.blocks) AS x (block) WHERE b.block = x.block AND b.record_key = c.record_key
)
UPDATE patient_record r SET patient_key = :patient_key::bigint
FROM came c WHERE r.patient_key = c.patient_key AND r.record_key = c.record_key

-- name: return_locators
-- Identifiers that stand under one of two people, and that only records of the other one state, lead to the other one.
WITH mine AS MATERIALIZED (
  SELECT DISTINCT ON (u.authority, u.value) u.authority, u.value, r.patient_key
  FROM patient_record r, unnest(r.authorities, r.values) AS u (authority, value)
  WHERE r.patient_key = ANY(obieg_kin(:to_key::bigint)) AND r.removed_at IS NULL
  ORDER BY u.authority, u.value, r.created_at
), theirs AS MATERIALIZED (
  SELECT DISTINCT u.authority, u.value
  FROM patient_record r, unnest(r.authorities, r.values) AS u (authority, value)
  WHERE r.patient_key = ANY(obieg_kin(:from_key::bigint)) AND r.removed_at IS NULL
)
UPDATE patient_locator l SET patient_key = m.patient_key FROM mine m
WHERE l.authority = m.authority AND l.value = m.value AND l.patient_key = ANY(obieg_kin(:from_key::bigint))
  AND NOT EXISTS (SELECT FROM theirs t WHERE t.authority = m.authority AND t.value = m.value)

-- name: documents_since
-- Documents that came under these patients since then, with whose the source says they are.
SELECT d.entry_uuid::text, d.source_patient_id
FROM unnest(:patient_keys::bigint[], :since::timestamptz[]) AS w (patient_key, since)
JOIN document_entry d ON d.patient_key = w.patient_key AND d.registered_at > w.since
ORDER BY d.registered_at, d.entry_uuid

-- name: read_filed
-- The approved documents that a source submitted for a person under one of these ids (CX), the folders and sets that hold
-- them, all associations of these documents and folders, and what is at the other ends.
WITH entries AS MATERIALIZED (
  SELECT d.entry_uuid FROM document_entry d
  WHERE d.patient_key = ANY(obieg_kin(:patient_key::bigint)) AND d.status = 'A'
    AND d.source_patient_id = ANY(:source_patient_ids::text[])
), near AS MATERIALIZED (
  SELECT a.entry_uuid, a.source, a.target FROM entries e
  JOIN association a ON a.patient_key = ANY(obieg_kin(:patient_key::bigint)) AND a.target = e.entry_uuid
  UNION
  SELECT a.entry_uuid, a.source, a.target FROM entries e
  JOIN association a ON a.patient_key = ANY(obieg_kin(:patient_key::bigint)) AND a.source = e.entry_uuid
), folders AS MATERIALIZED (
  SELECT DISTINCT n.source AS entry_uuid FROM near n
  JOIN object_locator l ON l.entry_uuid = n.source AND l.kind = 'F'
), far AS MATERIALIZED (
  SELECT * FROM near
  UNION
  SELECT a.entry_uuid, a.source, a.target FROM folders f
  JOIN association a ON a.patient_key = ANY(obieg_kin(:patient_key::bigint)) AND a.source = f.entry_uuid
  UNION
  SELECT a.entry_uuid, a.source, a.target FROM folders f
  JOIN association a ON a.patient_key = ANY(obieg_kin(:patient_key::bigint)) AND a.target = f.entry_uuid
), associations AS MATERIALIZED (
  SELECT * FROM far
  UNION
  SELECT a.entry_uuid, a.source, a.target FROM far m
  JOIN association a ON a.patient_key = ANY(obieg_kin(:patient_key::bigint)) AND a.target = m.entry_uuid
)
SELECT o.kind::text, o.patient_key, o.ebrim, o.status::text, o.version
FROM (
  SELECT entry_uuid FROM entries
  UNION SELECT entry_uuid FROM associations
  UNION SELECT source FROM associations
  UNION SELECT target FROM associations
) w
JOIN object_locator l ON l.entry_uuid = w.entry_uuid
JOIN registry_object o ON o.patient_key = l.patient_key AND o.entry_uuid = l.entry_uuid AND o.kind = l.kind
ORDER BY o.entry_uuid

-- name: stated_identifiers
-- What the records of a person state, removed ones and retired identifiers too.
SELECT p.version, r.patient_key, r.record_key, r.created_at, r.authorities, r.values
FROM patient p LEFT JOIN patient_record r ON r.patient_key = ANY(obieg_kin(:patient_key::bigint))
WHERE p.patient_key = :patient_key::bigint

-- name: replaced_identifiers
-- What these identifiers took the place of, through all merges.
WITH RECURSIVE before AS (
  SELECT w.authority, w.value FROM unnest(:authorities::text[], :values::text[]) AS w (authority, value)
  UNION
  SELECT l.authority, l.value FROM before b
  JOIN patient_locator l ON l.replaced_authority = b.authority AND l.replaced_value = b.value
)
SELECT authority, value FROM before

-- name: move_documents
-- Those that stay because their submission set is of both: they go onto the worklist.
WITH moved AS MATERIALIZED (
  SELECT d FROM unnest(obieg_move_documents(obieg_kin(:from_key::bigint), :to_key::bigint, :uuids::uuid[])) AS d
), tasks AS (
  INSERT INTO patient_task (kind, left_key, right_key, detail)
  SELECT 'doubtful_document', :from_key::bigint, :to_key::bigint, d::text FROM moved
  ON CONFLICT DO NOTHING
)
SELECT d::text FROM moved

-- name: deprecate_versions
-- What has a new version now (ITI TF-2:3.57.4.1.3); it is superseded when that is of the same patient.
WITH old AS MATERIALIZED (
  SELECT * FROM unnest(:patient_keys::bigint[], :uuids::uuid[]) AS o (patient_key, entry_uuid)
), entries AS (
  UPDATE document_entry d SET status = 'D', superseded = :superseded::boolean FROM old o
  WHERE d.patient_key = o.patient_key AND d.entry_uuid = o.entry_uuid AND d.status = 'A' RETURNING 1
), folders AS (
  UPDATE folder f SET status = 'D', superseded = :superseded::boolean FROM old o
  WHERE f.patient_key = o.patient_key AND f.entry_uuid = o.entry_uuid AND f.status = 'A' RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM entries) + (SELECT count(*) FROM folders),
                    cardinality(:uuids::uuid[]), 'a document was changed meanwhile')

-- name: follow_versions
-- What is asked about a document is asked about its new version.
UPDATE patient_task t SET detail = v.now::text
FROM unnest(:uuids::uuid[], :new_uuids::uuid[]) AS v (before, now)
WHERE t.kind = 'doubtful_document' AND t.decision = '' AND t.detail = v.before::text

-- name: expect_associations
-- Nothing was added to these objects since they were read.
SELECT obieg_expect(
  (SELECT count(*) FROM (
    SELECT a.entry_uuid FROM unnest(:uuids::uuid[]) u
    JOIN association a ON a.patient_key = ANY(obieg_kin(:patient_key::bigint)) AND a.source = u
    UNION
    SELECT a.entry_uuid FROM unnest(:uuids::uuid[]) u
    JOIN association a ON a.patient_key = ANY(obieg_kin(:patient_key::bigint)) AND a.target = u
  ) a),
  :count::bigint, 'a document was related to another one meanwhile')

-- name: move_all_documents
SELECT obieg_expect(
  cardinality(obieg_move_documents(obieg_kin(:from_key::bigint), :to_key::bigint, :uuids::uuid[])), 0,
  'the submission set has got other documents meanwhile')

-- name: submitted_with
-- The documents of the submission set of a document, and their open lines on the worklist.
SELECT DISTINCT other.target::text,
       (SELECT t.task_id FROM patient_task t
        WHERE t.kind = 'doubtful_document' AND t.decision = '' AND t.detail = other.target::text
          AND t.left_key = ANY(obieg_kin(l.patient_key)))
FROM object_locator l
JOIN association mine ON mine.patient_key = ANY(obieg_kin(l.patient_key)) AND mine.target = l.entry_uuid
  AND mine.type = 'HasMember'
JOIN object_locator s ON s.entry_uuid = mine.source AND s.kind = 'S'
JOIN association other ON other.patient_key = mine.patient_key AND other.source = mine.source
  AND other.type = 'HasMember'
JOIN object_locator d ON d.entry_uuid = other.target AND d.kind = 'D'
WHERE l.entry_uuid = :uuid::uuid

-- name: expect_no_newer_documents
SELECT obieg_expect(
  (SELECT count(*) FROM unnest(:patient_keys::bigint[], :since::timestamptz[]) AS w (patient_key, since)
   JOIN document_entry d ON d.patient_key = w.patient_key AND d.registered_at > w.since),
  :count::bigint, 'a document was registered meanwhile')

-- name: move_record
-- A source's record goes to another patient.
WITH moved AS (
  UPDATE patient_record SET patient_key = :to_key::bigint, version = version + 1
  WHERE patient_key = :from_key::bigint AND record_key = :record_key::bigint AND version = :version::integer
  RETURNING record_key, blocks
), blocks AS (
  UPDATE patient_block b SET patient_key = :to_key::bigint
  FROM moved m, unnest(m.blocks) AS x (block) WHERE b.block = x.block AND b.record_key = m.record_key
)
SELECT obieg_expect((SELECT count(*) FROM moved), 1, 'the record was changed meanwhile')

-- name: move_locators
UPDATE patient_locator l SET patient_key = :to_key::bigint
FROM unnest(:authorities::text[], :values::text[]) AS i (authority, value)
WHERE l.authority = i.authority AND l.value = i.value AND l.patient_key = ANY(:from_keys::bigint[])

-- name: insert_document_tasks
INSERT INTO patient_task (kind, left_key, right_key, detail)
SELECT 'doubtful_document', :left_key::bigint, :right_key::bigint, d FROM unnest(:documents::text[]) AS d
ON CONFLICT DO NOTHING

-- name: find_tasks
SELECT t.task_id, t.kind, t.left_key, t.right_key, t.judgement, t.detail, t.opened_at, t.decision, t.decided_by,
       t.decided_at, t.note
FROM patient_task t
WHERE (:task_id::bigint = 0 OR t.task_id = :task_id::bigint)
  AND (:decided::boolean OR t.decision = '')
ORDER BY t.decision <> '', t.opened_at, t.task_id
LIMIT :tasks_max::bigint OFFSET :skipped::bigint

-- name: count_tasks
SELECT count(*) FROM patient_task WHERE decision = ''

-- name: decide_task
WITH decided AS (
  UPDATE patient_task SET decision = :decision::text, decided_by = :by::text, decided_at = now(), note = :note::text
  WHERE task_id = :task_id::bigint AND decision = '' RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM decided), 1, 'the line was decided meanwhile')

-- name: reopen_tasks
-- After a link was taken back: lines that it made moot are open again, a decision that it rested on is asked again, and
-- what was asked about the merge itself is answered.
WITH lines AS MATERIALIZED (
  SELECT t.* FROM patient_task t
  WHERE (t.left_key = ANY(obieg_kin(:patient_key::bigint)) OR t.right_key = ANY(obieg_kin(:patient_key::bigint)))
    AND NOT t.right_key = ANY(obieg_kin(t.left_key))
), rested AS MATERIALIZED (
  SELECT * FROM lines WHERE decision = 'same' AND decided_at = :linked_at::timestamptz AND kind <> 'doubtful_document'
), again AS (
  INSERT INTO patient_task (kind, left_key, right_key, judgement, detail)
  SELECT kind, left_key, right_key, judgement, detail FROM (
    SELECT * FROM rested
    UNION ALL
    SELECT m.* FROM lines m
    WHERE m.decision = 'moot' AND NOT EXISTS (
      SELECT FROM lines n WHERE n.task_id > m.task_id AND n.detail = m.detail
        AND least(n.left_key, n.right_key) = least(m.left_key, m.right_key)
        AND greatest(n.left_key, n.right_key) = greatest(m.left_key, m.right_key))
  ) o ORDER BY task_id
  ON CONFLICT DO NOTHING
)
UPDATE patient_task t SET decision = 'undone'
FROM lines n WHERE t.task_id = n.task_id
  AND (n.task_id IN (SELECT task_id FROM rested)
    OR n.decision = '' AND n.detail = :merged::text AND n.opened_at = :linked_at::timestamptz)

-- name: withdraw_decisions
-- Two people whom a person links are no longer decided to be different; before the link is made.
WITH persons AS MATERIALIZED (
  SELECT s AS survivor_key, unnest(obieg_kin(s)) AS patient_key FROM unnest(:patient_keys::bigint[]) s
)
UPDATE patient_task t SET decision = 'withdrawn'
FROM persons l, persons r
WHERE t.decision = 'different' AND t.left_key = l.patient_key AND t.right_key = r.patient_key
  AND l.survivor_key <> r.survivor_key

-- name: close_pair
-- Open questions whether two people are one are answered: they are not.
WITH persons AS MATERIALIZED (
  SELECT s AS survivor_key, unnest(obieg_kin(s)) AS patient_key FROM unnest(:patient_keys::bigint[]) s
)
UPDATE patient_task t SET decision = 'different', decided_by = :by::text, decided_at = now(), note = :note::text
FROM persons l, persons r
WHERE t.decision = '' AND t.kind <> 'doubtful_document'
  AND t.left_key = l.patient_key AND t.right_key = r.patient_key AND l.survivor_key <> r.survivor_key

-- name: insert_decision
-- A pair that nobody asked about, decided to be different: the matcher does not join it again.
INSERT INTO patient_task (kind, left_key, right_key, detail, decision, decided_by, decided_at, note)
SELECT 'possible_duplicate', :left_key::bigint, :right_key::bigint, '', 'different', :by::text, now(), :note::text
WHERE NOT EXISTS (
  SELECT FROM patient_task
  WHERE decision = 'different'
    AND (left_key = ANY(obieg_kin(:left_key::bigint)) AND right_key = ANY(obieg_kin(:right_key::bigint))
      OR left_key = ANY(obieg_kin(:right_key::bigint)) AND right_key = ANY(obieg_kin(:left_key::bigint))))

-- name: find_mixed
-- Links that were taken back, newest first.
SELECT h.patient_key, h.survivor_key, m.affinity_domain_id, s.affinity_domain_id, h.reason, h.linked_by, h.linked_at,
       h.unlinked_at, h.unlinked_by
FROM patient_link_history h
JOIN patient m ON m.patient_key = h.patient_key
JOIN patient s ON s.patient_key = h.survivor_key
WHERE :patient_key::bigint = 0 OR h.patient_key = :patient_key::bigint OR h.survivor_key = :patient_key::bigint
ORDER BY h.unlinked_at DESC LIMIT 1000

-- name: find_accesses
-- Audit records about a patient: under the own id, and under the ids of all those who were one person with the patient at
-- that time, through chains of links too. With :reading only what was read, not what was refused or written.
WITH RECURSIVE mixed AS (
  SELECT :patient_key::bigint AS patient_key, '-infinity'::timestamptz AS since, 'infinity'::timestamptz AS until
  UNION
  SELECT n.patient_key, greatest(m.since, n.since), least(m.until, n.until)
  FROM mixed m CROSS JOIN LATERAL (
    SELECT k.merged_into, k.linked_at, 'infinity'::timestamptz FROM patient_link k WHERE k.patient_key = m.patient_key
    UNION ALL
    SELECT k.patient_key, k.linked_at, 'infinity' FROM patient_link k WHERE k.merged_into = m.patient_key
    UNION ALL
    SELECT h.merged_into, h.linked_at, h.unlinked_at FROM patient_link_history h WHERE h.patient_key = m.patient_key
    UNION ALL
    SELECT h.patient_key, h.linked_at, h.unlinked_at FROM patient_link_history h WHERE h.merged_into = m.patient_key
  ) n (patient_key, since, until)
  WHERE greatest(m.since, n.since) < least(m.until, n.until)
), named AS (
  SELECT p.affinity_domain_id || :suffix::text AS patient_id, m.since, m.until
  FROM mixed m JOIN patient p ON p.patient_key = m.patient_key
), found AS (
  SELECT a.audit_id FROM named n JOIN audit_event a ON a.patient_id = n.patient_id
    AND a.recorded_at >= n.since AND a.recorded_at <= n.until
  UNION
  SELECT a.audit_id FROM named n JOIN audit_patient o ON o.patient_id = n.patient_id
  JOIN audit_event a ON a.audit_id = o.audit_id AND a.recorded_at >= n.since AND a.recorded_at <= n.until
)
SELECT a.audit_id, a.recorded_at, a.transaction, a.outcome, a.patient_id, a.request_id, a.message, a.happened_at, a.format,
       a.sender
FROM found f JOIN audit_event a ON a.audit_id = f.audit_id
WHERE a.recorded_at >= :since::timestamptz AND a.recorded_at <= :until::timestamptz
  AND (NOT :reading::boolean OR a.outcome = 0 AND a.message ~ 'EventActionCode="[RE]"')
ORDER BY a.audit_id LIMIT :rows_max::bigint
