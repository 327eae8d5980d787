-- What people who look after the node see of it.

-- name: newest_notice
SELECT said, until, said_by, made_at FROM site_notice ORDER BY notice_id DESC LIMIT 1

-- name: insert_notice
INSERT INTO site_notice (said, until, said_by) VALUES (:said::text, :until::timestamptz, :said_by::text)

-- name: insert_verification
INSERT INTO audit_verification (records, deviations) VALUES (:records::bigint, :deviations::bigint)
ON CONFLICT (verified_at) DO NOTHING

-- name: database_state
-- The lock of ops/leader.py: two halves of its number.
SELECT split_part(current_setting('server_version'), ' ', 1), pg_database_size(current_database()),
  (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()),
  EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted
    AND l.classid = x'6f626965'::int::oid AND l.objid = x'67000002'::int::oid
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())),
  (SELECT max(name) FROM schema_migration),
  (SELECT count(*) FROM outbox WHERE state = 'D'), (SELECT count(*) FROM outbox WHERE state = 'W'),
  (SELECT count(*) FROM inbox_submission WHERE taken_at IS NULL),
  (SELECT count(*) FROM access_review WHERE decided_at IS NULL),
  (SELECT count(*) FROM (SELECT FROM stored_document WHERE state = 'P' LIMIT 10000) p)

-- name: sealing_state
SELECT s.sequence, s.tree_size, (SELECT max(obtained_at) FROM audit_timestamp), v.verified_at, v.records, v.deviations
FROM (SELECT 1) one
LEFT JOIN LATERAL (SELECT sequence, tree_size FROM audit_seal ORDER BY sequence DESC LIMIT 1) s ON true
LEFT JOIN LATERAL (SELECT * FROM audit_verification ORDER BY verified_at DESC LIMIT 1) v ON true

-- name: news_by_repository
SELECT coalesce(repository_unique_id, ''), count(*), min(registered_at), max(registered_at)
FROM document_entry WHERE version = 1 GROUP BY 1 ORDER BY 1 LIMIT 1000

-- name: heard_of_senders
SELECT sender, max(happened_at) FROM audit_event
WHERE happened_at IS NOT NULL AND happened_at > now() - interval '31 days' AND sender <> ''
GROUP BY sender LIMIT 1000

-- name: submissions_by_repository
-- Of the last month; documents without a submission set count each for itself.
SELECT coalesce(d.repository_unique_id, ''), count(DISTINCT coalesce(s.entry_uuid, d.entry_uuid))
FROM document_entry d
LEFT JOIN association a ON a.patient_key = d.patient_key AND a.target = d.entry_uuid AND a.type = 'HasMember'
LEFT JOIN submission_set s ON s.patient_key = a.patient_key AND s.entry_uuid = a.source
WHERE d.version = 1 AND d.registered_at > now() - interval '31 days'
GROUP BY 1 LIMIT 1000

-- name: records_of_making
SELECT sender, count(*) FROM audit_event
WHERE happened_at IS NOT NULL AND happened_at > now() - interval '31 days' AND sender <> '' AND outcome = 0
  AND transaction = ANY(:transactions::text[])
GROUP BY sender LIMIT 1000

-- name: count_patients
-- All who are one person count once; those of whom there is a document.
SELECT (SELECT count(*) FROM patient p WHERE NOT EXISTS (SELECT FROM patient_link k WHERE k.patient_key = p.patient_key)),
  count(DISTINCT coalesce((SELECT k.survivor_key FROM patient_link k WHERE k.patient_key = d.patient_key), d.patient_key)),
  count(*)
FROM document_entry d WHERE d.version = 1

-- name: institutions
SELECT i.institution, count(*), min(d.registered_at),
       coalesce(array_agg(DISTINCT d.class_code) FILTER (WHERE d.class_code IS NOT NULL), '{}')
FROM document_entry d CROSS JOIN LATERAL (SELECT DISTINCT unnest(d.author_institution)) AS i (institution)
WHERE d.version = 1 AND d.status = 'A'
GROUP BY i.institution ORDER BY 2 DESC, 1 LIMIT 5000

-- name: documents_by_month
SELECT to_char(date_trunc('month', registered_at AT TIME ZONE 'Europe/Warsaw'), 'YYYY-MM'), count(*)
FROM document_entry WHERE version = 1 AND registered_at > now() - interval '12 months'
GROUP BY 1 ORDER BY 1 LIMIT 13

-- name: quality_by_repository
-- A DTM of less than a second or a day is completed; what is made later than it is registered is not late.
SELECT coalesce(repository_unique_id, ''), count(*),
  count(*) FILTER (WHERE coalesce(type_code, '') = ''), count(*) FILTER (WHERE coalesce(class_code, '') = ''),
  count(*) FILTER (WHERE coalesce(format_code, '') = ''),
  count(*) FILTER (WHERE coalesce(practice_setting_code, '') = ''),
  count(*) FILTER (WHERE author_institution = '{}'),
  count(*) FILTER (WHERE length(creation_time) >= 8
    AND registered_at > to_timestamp(rpad(creation_time, 14, '0'), 'YYYYMMDDHH24MISS') + interval '1 day')
FROM document_entry WHERE version = 1 AND registered_at > now() - interval '12 months'
GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 500

-- name: unknown_patients
-- Submissions of the last month that named nobody whom the index knows, by who sent them.
SELECT coalesce(substring(message FROM '<ActiveParticipant UserID="([^"]*)" UserIsRequestor="true"'), ''), count(*)
FROM audit_event
WHERE audit_id >= obieg_audit_id_at(now() - interval '31 days') AND recorded_at > now() - interval '31 days'
  AND format = 'dicom' AND transaction = ANY(:transactions::text[]) AND outcome <> 0 AND message ~ 'XDSUnknownPatientId'
GROUP BY 1 ORDER BY 2 DESC LIMIT 100

-- name: reads
-- Readings of the last month that were permitted, by what for and by the first basis.
SELECT coalesce(convert_from(decode(substring(message FROM
         '<ParticipantObjectDetail type="purpose of use" value="([A-Za-z0-9+/=]*)"'), 'base64'), 'UTF8'), ''),
       coalesce(substring(message FROM '<EventOutcomeDescription>(?:[^<]*; )?access: ([a-z-]+)'), ''), count(*)
FROM audit_event
WHERE audit_id >= obieg_audit_id_at(now() - interval '31 days') AND recorded_at > now() - interval '31 days'
  AND format = 'dicom' AND transaction = ANY(:transactions::text[]) AND outcome = 0
GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 200

-- name: traced_document
-- All versions of the document of a uniqueId, an entryUUID or a logical id, with the names that records call them by.
SELECT p.affinity_domain_id,
       array_agg(DISTINCT d.unique_id) || array_agg(DISTINCT d.entry_uuid::text)
         || coalesce(array_agg(DISTINCT s.unique_id) FILTER (WHERE s.unique_id IS NOT NULL), '{}'),
       min(d.repository_unique_id), min(d.registered_at)
FROM (
  SELECT o.patient_key, o.entry_uuid FROM object_locator o WHERE o.entry_uuid = :uuid::uuid
  UNION SELECT l.patient_key, l.entry_uuid FROM unique_id_locator l WHERE l.unique_id = :name::text AND l.kind = 'D'
) asked
JOIN document_entry e ON e.patient_key = asked.patient_key AND e.entry_uuid = asked.entry_uuid
JOIN document_entry d ON d.patient_key = e.patient_key AND d.logical_id = e.logical_id
LEFT JOIN association a ON a.patient_key = d.patient_key AND a.target = d.entry_uuid AND a.type = 'HasMember'
LEFT JOIN submission_set s ON s.patient_key = a.patient_key AND s.entry_uuid = a.source
JOIN patient p ON p.patient_key = coalesce(
  (SELECT k.survivor_key FROM patient_link k WHERE k.patient_key = e.patient_key), e.patient_key)
GROUP BY p.affinity_domain_id LIMIT 1
