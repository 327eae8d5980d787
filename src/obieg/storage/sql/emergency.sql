-- Break-glass sessions, their review, and what patients are told.

-- name: standing_session
-- Whom the patient's identifier names, and the session of a professional and facility that runs.
SELECT k.keys[1], s.source, s.version, s.began, s.until
FROM (SELECT obieg_patient_keys(:authority::text, :value::text) AS keys) k
LEFT JOIN LATERAL (
  SELECT f.source, f.version, (f.facts -> 0 -> 'period' ->> 'begin')::timestamptz AS began,
         (f.facts -> 0 -> 'period' ->> 'end')::timestamptz AS until
  FROM access_fact f
  WHERE f.patient_key = ANY(k.keys) AND f.superseded_at IS NULL AND f.kind = 'emergency' AND f.source LIKE 'Emergency/%'
    AND f.facts -> 0 ->> 'professional' = :professional::text AND f.facts -> 0 ->> 'organisation' = :organisation::text
    AND (f.facts -> 0 -> 'period' ->> 'end')::timestamptz > :at::timestamptz
  ORDER BY until DESC LIMIT 1
) s ON true

-- name: put_review
INSERT INTO access_review AS r (patient_key, source, professional, professional_name, organisation, reason, explanation,
                                opened_at, until)
SELECT s.patient_key, s.source, :professional::text, :professional_name::text, :organisation::text, :reason::text,
       :explanation::text, :opened_at::timestamptz, :until::timestamptz
FROM access_source s WHERE s.source = :source::text
ON CONFLICT (source) DO UPDATE SET until = EXCLUDED.until, renewals = r.renewals + 1,
  explanation = r.explanation || E'\n' || EXCLUDED.reason || ': ' || EXCLUDED.explanation

-- name: end_review
UPDATE access_review SET ended_at = now() WHERE source = :source::text AND ended_at IS NULL

-- name: report
-- The officer is told that there is something to review.
INSERT INTO outbox (patient_key, destination, transaction, key, body)
SELECT 0, 'officer', 'NOTICE', '', convert_to(r.review_id::text, 'UTF8') FROM access_review r
WHERE r.source = :source::text

-- name: list_reviews
SELECT r.review_id, p.affinity_domain_id, r.professional, r.professional_name, r.organisation, r.reason, r.explanation,
       r.opened_at, r.until, r.renewals, r.ended_at, r.reads, r.last_read_at, r.decided_at, r.decided_by, r.justified, r.note,
       r.kind, r.reported_by
FROM access_review r JOIN patient p ON p.patient_key = r.patient_key
WHERE (:everything::boolean OR r.decided_at IS NULL) AND (:ids::bigint[] = '{}' OR r.review_id = ANY(:ids::bigint[]))
ORDER BY r.opened_at, r.review_id LIMIT :count::bigint

-- name: count_reviews
SELECT count(*) FILTER (WHERE decided_at IS NULL), count(*) FROM access_review

-- name: decide_review
WITH decided AS (
  UPDATE access_review SET decided_at = now(), decided_by = :by::text, justified = :justified::boolean, note = :note::text
  WHERE review_id = :review_id::bigint AND decided_at IS NULL
  RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM decided), 1, 'the review is not open')

-- name: notice_to_send
-- What is told, of whose act, and what the records of the person say of how to reach them.
SELECT n.kind, n.first_at, coalesce(n.said ->> 'person', ''), ARRAY(
  SELECT r.demographics FROM patient_record r
  WHERE r.patient_key = ANY(obieg_kin(n.patient_key)) AND r.removed_at IS NULL
  ORDER BY r.updated_at DESC, r.record_key)
FROM access_notice n WHERE n.patient_key = :patient_key::bigint AND n.notice_id = :notice_id::bigint

-- name: notices_of
-- What a person was told, with all who are linked, newest first.
SELECT n.notice_id, n.kind, n.said, n.times, n.first_at, n.last_at, n.read_at
FROM access_notice n
WHERE n.patient_key = ANY(obieg_patient_keys(:authority::text, :value::text))
ORDER BY n.last_at DESC, n.notice_id DESC LIMIT :count::bigint

-- name: withhold
INSERT INTO access_withheld (person, patient_key, reason, decided_by, until)
SELECT :person::text, k.key, :reason::text, :by::text, :until::timestamptz
FROM (SELECT CASE WHEN :value::text = '' THEN NULL ELSE (obieg_patient_keys(:authority::text, :value::text))[1] END AS key) k
WHERE :value::text = '' OR k.key IS NOT NULL
RETURNING withheld_id

-- name: withheld_names
-- Whose names the log of this person does not show now.
SELECT DISTINCT w.person FROM access_withheld w
WHERE w.until > now()
  AND (w.patient_key IS NULL OR w.patient_key = ANY(
    SELECT unnest(obieg_kin(key)) FROM unnest(obieg_patient_keys(:authority::text, :value::text)) AS key))

-- name: log_sources
-- By repository: how many submissions of the person's documents came from it, and how many records of their making others
-- sent about the person, by sender.
SELECT 'expected', coalesce(d.repository_unique_id, ''), count(DISTINCT coalesce(a.source, d.entry_uuid))
FROM document_entry d
LEFT JOIN association a ON a.patient_key = d.patient_key AND a.target = d.entry_uuid AND a.type = 'HasMember'
  AND EXISTS (SELECT FROM submission_set s WHERE s.patient_key = a.patient_key AND s.entry_uuid = a.source)
WHERE d.patient_key = ANY(obieg_patient_keys(:authority::text, :value::text)) AND d.version = 1
GROUP BY d.repository_unique_id
UNION ALL
SELECT 'received', e.sender, count(*)
FROM audit_event e
WHERE e.audit_id IN (
    SELECT audit_id FROM audit_event WHERE patient_id = ANY(:patients::text[])
    UNION SELECT audit_id FROM audit_patient WHERE patient_id = ANY(:patients::text[]))
  AND e.sender <> '' AND e.transaction = ANY(:transactions::text[]) AND e.outcome = 0
GROUP BY e.sender

-- name: patient_contact
-- The person whom an identifier names, and what the records say of how to reach them.
SELECT k.keys[1], ARRAY(
  SELECT r.demographics FROM patient_record r
  WHERE r.patient_key = ANY(k.keys) AND r.removed_at IS NULL
  ORDER BY r.updated_at DESC, r.record_key)
FROM (SELECT obieg_patient_keys(:authority::text, :value::text) AS keys) k WHERE k.keys <> '{}'

-- name: forget_codes
DELETE FROM consent_code WHERE expires_at < now() - interval '1 day'

-- name: put_code
-- Nothing where the patient has been sent too many within the hour.
INSERT INTO consent_code (code_id, patient_key, digest, person, organisation, scope, hours, expires_at)
SELECT :code_id::uuid, :patient_key::bigint, :digest::bytea, :person::text, :organisation::text, :scope::text,
       :hours::integer, :expires_at::timestamptz
WHERE (SELECT count(*) FROM consent_code c
       WHERE c.patient_key = :patient_key::bigint AND c.made_at > now() - interval '1 hour') < :most::bigint
RETURNING code_id

-- name: try_code
-- One try, which counts whatever comes of it; the right one uses the code up.
UPDATE consent_code SET tries = tries + 1, used_at = CASE WHEN digest = :digest::bytea THEN now() END
WHERE code_id = :code_id::uuid AND person = :person::text AND organisation = :organisation::text
  AND patient_key = ANY(obieg_patient_keys(:authority::text, :value::text))
  AND tries < :most::integer AND used_at IS NULL AND expires_at > now()
RETURNING used_at IS NOT NULL, tries, scope, hours
