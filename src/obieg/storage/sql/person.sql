-- Everything about one person, for the archive that the person may have: each statement answers lines of JSON, of all who
-- are linked. :ids are the CX of these in the affinity domain. What is secret of others (tokens, keys) is left out;
-- whom an officer withholds the archive leaves out of every line.

-- name: person_keys
SELECT obieg_kin(coalesce((SELECT k.survivor_key FROM patient_link k WHERE k.patient_key = :patient_key::bigint),
  :patient_key::bigint))

-- name: person_patients
SELECT to_json(p)::text FROM patient p WHERE p.patient_key = ANY(:keys::bigint[]) ORDER BY p.created_at, p.patient_key

-- name: person_identifiers
SELECT (to_jsonb(l) - 'retired_by')::text FROM patient_locator l
WHERE l.patient_key = ANY(:keys::bigint[]) ORDER BY l.authority, l.value

-- name: person_records
SELECT json_build_object('patient_key', r.patient_key, 'record_key', r.record_key, 'source', r.source, 'fed_by', r.fed_by,
  'authorities', r.authorities, 'values', r.values, 'demographics', convert_from(r.demographics, 'UTF8')::json,
  'version', r.version, 'created_at', r.created_at, 'updated_at', r.updated_at, 'removed_at', r.removed_at)::text
FROM patient_record r WHERE r.patient_key = ANY(:keys::bigint[]) ORDER BY r.created_at, r.record_key

-- name: person_links
SELECT json_build_object('patient', p.affinity_domain_id, 'merged_into', i.affinity_domain_id, 'reason', k.reason,
  'linked_at', k.linked_at, 'linked_by', k.linked_by)::text
FROM patient_link k JOIN patient p ON p.patient_key = k.patient_key JOIN patient i ON i.patient_key = k.merged_into
WHERE k.patient_key = ANY(:keys::bigint[]) ORDER BY k.linked_at, k.patient_key

-- name: person_links_taken_back
SELECT json_build_object('patient', p.affinity_domain_id, 'merged_into', i.affinity_domain_id, 'reason', h.reason,
  'linked_at', h.linked_at, 'linked_by', h.linked_by, 'unlinked_at', h.unlinked_at, 'unlinked_by', h.unlinked_by)::text
FROM patient_link_history h JOIN patient p ON p.patient_key = h.patient_key
JOIN patient i ON i.patient_key = h.merged_into
WHERE h.patient_key = ANY(:keys::bigint[]) OR h.merged_into = ANY(:keys::bigint[]) ORDER BY h.linked_at, h.patient_key

-- name: person_decisions
SELECT (to_jsonb(t) - 'judgement')::text FROM patient_task t
WHERE t.left_key = ANY(:keys::bigint[]) OR t.right_key = ANY(:keys::bigint[]) ORDER BY t.task_id

-- name: person_documents
SELECT (to_jsonb(d) - 'ebrim' || jsonb_build_object('status', CASE d.status WHEN 'A' THEN 'Approved' ELSE 'Deprecated' END))::text
FROM document_entry d WHERE d.patient_key = ANY(:keys::bigint[]) ORDER BY d.registered_at, d.entry_uuid

-- name: person_submission_sets
SELECT (to_jsonb(s) - 'ebrim' - 'fingerprint')::text FROM submission_set s
WHERE s.patient_key = ANY(:keys::bigint[]) ORDER BY s.registered_at, s.entry_uuid

-- name: person_folders
SELECT (to_jsonb(f) - 'ebrim')::text FROM folder f
WHERE f.patient_key = ANY(:keys::bigint[]) ORDER BY f.registered_at, f.entry_uuid

-- name: person_associations
SELECT (to_jsonb(a) - 'ebrim')::text FROM association a
WHERE a.patient_key = ANY(:keys::bigint[]) ORDER BY a.entry_uuid

-- name: person_corrections
SELECT json_build_object('changed_at', c.changed_at, 'act', c.act, 'changed_by', c.changed_by, 'transaction', c.transaction,
  'request_id', c.request_id, 'entry_uuid', c.entry_uuid, 'unique_id', c.unique_id,
  'before', convert_from(c.before, 'UTF8')::json, 'after', convert_from(c.after, 'UTF8')::json)::text
FROM registry_change c WHERE c.patient_key = ANY(:keys::bigint[]) ORDER BY c.changed_at, c.change_id

-- name: person_removed
SELECT to_json(r)::text FROM removed_document r WHERE r.patient_id = ANY(:ids::text[]) ORDER BY r.removed_at, r.unique_id

-- name: person_last_entries
SELECT to_json(l)::text FROM last_entry l WHERE l.patient_key = ANY(:keys::bigint[]) ORDER BY l.year, l.entity

-- name: person_facts
SELECT json_build_object('source', f.source, 'version', f.version, 'kind', f.kind, 'facts', f.facts,
  'resource', f.resource::json, 'status', f.status, 'recorded_at', f.recorded_at, 'recorded_by', f.recorded_by,
  'superseded_at', f.superseded_at, 'superseded_by', f.superseded_by)::text
FROM access_fact f WHERE f.patient_key = ANY(:keys::bigint[]) ORDER BY f.recorded_at, f.source, f.version

-- name: person_retention
SELECT to_json(m)::text FROM retention_mark m WHERE m.patient_key = ANY(:keys::bigint[]) ORDER BY m.mark_id

-- name: person_subscriptions
SELECT (to_jsonb(s) - 'requester' - 'resource')::text FROM subscription s
WHERE s.patient_key = ANY(:keys::bigint[]) ORDER BY s.created_at, s.subscription_id

-- name: person_letters
SELECT json_build_object('transaction', o.transaction, 'destination', o.destination, 'created_at', o.created_at,
  'state', o.state, 'attempts', o.attempts, 'last_error', o.last_error)::text
FROM outbox o WHERE o.patient_key = ANY(:keys::bigint[]) ORDER BY o.outbox_id

-- name: person_inbox
SELECT (to_jsonb(i) - 'submission' - 'fingerprint')::text FROM inbox_submission i
WHERE i.patient_id = ANY(:ids::text[]) ORDER BY i.inbox_id

-- name: person_sessions
SELECT (to_jsonb(s) - 'token' - 'session_index')::text FROM patient_session s
WHERE s.pesel IN (SELECT l.value FROM patient_locator l WHERE l.patient_key = ANY(:keys::bigint[])
  AND l.authority = :pesel_root::text) ORDER BY s.started_at

-- name: person_consents
SELECT f.resource FROM access_fact f
WHERE f.patient_key = ANY(:keys::bigint[]) AND f.superseded_at IS NULL AND f.source LIKE 'Consent/%'
  AND f.resource IS NOT NULL
ORDER BY f.recorded_at, f.source

-- name: person_notices
SELECT to_json(n)::text
FROM access_notice n WHERE n.patient_key = ANY(:keys::bigint[]) ORDER BY n.first_at, n.notice_id

-- name: person_emergencies
SELECT to_json(r)::text
FROM access_review r WHERE r.patient_key = ANY(:keys::bigint[]) ORDER BY r.opened_at, r.review_id

-- name: person_consent_codes
SELECT (to_jsonb(c) - 'digest')::text FROM consent_code c
WHERE c.patient_key = ANY(:keys::bigint[]) ORDER BY c.made_at, c.code_id

-- name: person_awaited
SELECT to_json(a)::text FROM awaited_document a
WHERE a.patient_key = ANY(:keys::bigint[]) ORDER BY a.since, a.awaited_id

-- name: person_health_links
SELECT (to_jsonb(l) - 'locator' - 'passcode' - 'file')::text FROM health_link l
WHERE l.patient_key = ANY(:keys::bigint[]) ORDER BY l.made_at, l.link_id

-- name: person_messages
SELECT (to_jsonb(m) || jsonb_build_object('facility', t.facility, 'subject', t.subject))::text
FROM message m JOIN message_thread t USING (thread_id)
WHERE t.patient_key = ANY(:keys::bigint[]) ORDER BY m.message_id

-- name: person_contents
-- The documents whose bytes are here.
SELECT s.unique_id, s.mime_type, s.size, encode(s.sha256, 'hex'), s.location, s.wrapped_key
FROM stored_document s
WHERE s.state = 'R' AND (s.patient_id = ANY(:ids::text[]) OR s.unique_id IN (
  SELECT d.unique_id FROM document_entry d WHERE d.patient_key = ANY(:keys::bigint[])))
ORDER BY s.unique_id

-- name: contents_of
-- Likewise of the named documents.
SELECT s.unique_id, s.mime_type, s.size, encode(s.sha256, 'hex'), s.location, s.wrapped_key
FROM stored_document s WHERE s.state = 'R' AND s.unique_id = ANY(:unique_ids::text[]) ORDER BY s.unique_id
