-- What patients see and do by themselves at the portal.

-- name: represented
-- Who asks, where they are a patient, and those of whom a fact says that they may act for them: keys, the id, whether it is
-- who asks, what the records say, and how many notices nobody has read.
WITH mine AS MATERIALIZED (
  SELECT unnest(obieg_patient_keys(:authority::text, :value::text)) AS patient_key
), meant AS MATERIALIZED (
  SELECT m.patient_key FROM mine m
  UNION
  SELECT f.patient_key FROM access_fact f
  WHERE f.kind = 'representative' AND f.superseded_at IS NULL
    AND f.facts::jsonb @> jsonb_build_array(jsonb_build_object('person', :person::text))
), persons AS (
  SELECT DISTINCT ON (k.keys[1]) k.keys, k.keys && ARRAY(SELECT m.patient_key FROM mine m) AS own
  FROM meant CROSS JOIN LATERAL (SELECT obieg_kin(meant.patient_key) AS keys) k
)
SELECT s.keys, p.affinity_domain_id, s.own,
       ARRAY(SELECT r.demographics FROM patient_record r
             WHERE r.patient_key = ANY(s.keys) AND r.removed_at IS NULL ORDER BY r.updated_at DESC, r.record_key),
       (SELECT count(*) FROM access_notice n WHERE n.patient_key = ANY(s.keys) AND n.read_at IS NULL)
FROM persons s JOIN patient p ON p.patient_key = s.keys[1]
ORDER BY p.affinity_domain_id

-- name: read_notices
-- Notices up to one of them are read now.
UPDATE access_notice n SET read_at = now()
WHERE n.patient_key = ANY(obieg_patient_keys(:authority::text, :value::text)) AND n.read_at IS NULL
  AND n.notice_id <= :last::bigint

-- name: put_report
-- One line for each entry of the log; a second report of the same changes nothing.
INSERT INTO access_review (patient_key, professional, professional_name, organisation, reason, explanation, opened_at, until,
                           kind, audit_id, reported_by)
SELECT k.keys[1], :professional::text, :professional_name::text, :organisation::text, '', :explanation::text,
       :at::timestamptz, :at::timestamptz, 'reported', :audit_id::bigint, :by::text
FROM (SELECT obieg_patient_keys(:authority::text, :value::text) AS keys) k WHERE k.keys <> '{}'
ON CONFLICT (patient_key, audit_id) WHERE audit_id IS NOT NULL DO NOTHING

-- name: tell_officer
-- The officer is told once that there is something to review.
INSERT INTO outbox (patient_key, destination, transaction, key, body)
SELECT 0, 'officer', 'NOTICE', '', convert_to(r.review_id::text, 'UTF8')
FROM access_review r
WHERE r.audit_id = :audit_id::bigint AND r.patient_key = ANY(obieg_patient_keys(:authority::text, :value::text))
  AND r.xmin::text = pg_current_xact_id()::text

-- name: reviews_of
-- What the officer looks at, or has looked at, of one person.
SELECT r.kind, coalesce(r.audit_id, 0), r.professional, r.organisation, r.reason, r.opened_at, r.until, r.decided_at, r.justified
FROM access_review r WHERE r.patient_key = ANY(obieg_patient_keys(:authority::text, :value::text))
ORDER BY r.opened_at DESC, r.review_id DESC LIMIT :count::bigint

-- name: count_own_documents
-- Documents that a patient has added, withdrawn ones too.
SELECT count(DISTINCT d.logical_id) FROM document_entry d
WHERE d.patient_key = ANY(obieg_patient_keys(:authority::text, :value::text)) AND d.class_code = :class_code::text

-- name: is_own_document
SELECT EXISTS (
  SELECT FROM document_entry d
  WHERE d.patient_key = ANY(obieg_patient_keys(:authority::text, :value::text)) AND d.entry_uuid = :entry_uuid::uuid
    AND d.class_code = :class_code::text AND d.status = 'A')
