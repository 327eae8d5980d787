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

-- name: documents_by_repository
SELECT coalesce(repository_unique_id, ''), count(*) FROM document_entry WHERE NOT superseded GROUP BY 1 LIMIT 1000

-- name: identifiers_by_authority
SELECT authority, count(*) FROM patient_locator WHERE retired_at IS NULL GROUP BY 1 LIMIT 10000

-- name: grants_by_client
SELECT client_id, count(*) FROM oauth_grant WHERE ended_at IS NULL AND until > now() GROUP BY 1 LIMIT 10000

-- name: count_kept
SELECT (SELECT count(*) FROM patient), (SELECT count(*) FROM stored_document)

-- name: codes_in_use
-- Of the newest versions of what is registered: D documents, F folders, S submissions.
SELECT kind, attribute, code, count(*) FROM (
  SELECT 'D' AS kind, a.attribute, a.code FROM document_entry d CROSS JOIN LATERAL (VALUES
    ('class_code', d.class_code), ('type_code', d.type_code), ('format_code', d.format_code),
    ('healthcare_facility_type_code', d.healthcare_facility_type_code),
    ('practice_setting_code', d.practice_setting_code), ('mime_type', d.mime_type)) AS a (attribute, code)
  WHERE NOT d.superseded
  UNION ALL SELECT 'D', 'confidentiality_code', unnest(confidentiality_code) FROM document_entry WHERE NOT superseded
  UNION ALL SELECT 'D', 'event_code_list', unnest(event_code_list) FROM document_entry WHERE NOT superseded
  UNION ALL SELECT 'F', 'code_list', unnest(code_list) FROM folder WHERE NOT superseded
  UNION ALL SELECT 'S', 'content_type_code', content_type_code FROM submission_set
) used WHERE code <> '' GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 50000

-- name: documents_of_codes
SELECT coalesce(repository_unique_id, ''), count(*) FROM document_entry
WHERE NOT superseded AND (
  class_code = ANY(:class_code::text[]) OR type_code = ANY(:type_code::text[]) OR format_code = ANY(:format_code::text[])
  OR healthcare_facility_type_code = ANY(:healthcare_facility_type_code::text[])
  OR practice_setting_code = ANY(:practice_setting_code::text[]) OR mime_type = ANY(:mime_type::text[])
  OR confidentiality_code && :confidentiality_code::text[] OR event_code_list && :event_code_list::text[])
GROUP BY 1 LIMIT 1000

-- name: peer_certificates
-- The newest of each subject: what was renewed is no news.
SELECT DISTINCT ON (direction, subject) direction = 'I', subject, issuer, not_after, seen_at
FROM peer_certificate ORDER BY direction, subject, first_seen_at DESC, not_after DESC LIMIT 2000

-- name: note_peers
-- Written when it is new, and then once a day.
INSERT INTO peer_certificate AS p (direction, fingerprint, subject, issuer, not_after)
SELECT DISTINCT ON (1, 2) direction::"char", fingerprint::bytea, subject, issuer, not_after
FROM unnest(:directions::text[], :fingerprints::text[], :subjects::text[], :issuers::text[], :ends::timestamptz[])
  AS g (direction, fingerprint, subject, issuer, not_after)
ON CONFLICT (direction, fingerprint) DO UPDATE SET seen_at = now() WHERE p.seen_at < now() - interval '1 day'

-- name: forget_peers
-- What nobody has shown for a quarter of a year, and all beyond what the table may have.
DELETE FROM peer_certificate WHERE seen_at < now() - interval '92 days' OR (direction, fingerprint) IN (
  SELECT direction, fingerprint FROM peer_certificate ORDER BY seen_at DESC, first_seen_at DESC OFFSET 2000)
