-- Many feeds in one transaction: what they are judged by, and everything they store. What must hold raises through
-- obieg_expect, as in patients.sql.

-- name: find_locators
-- The values of each authority in one scan. OFFSET 0 here and below: each row is looked up by its key, whatever the planner
-- believes of tables that grow tenfold within minutes.
SELECT w.authority, l.value, l.patient_key, l.retired
FROM (SELECT authority, array_agg(value) AS values
      FROM unnest(:authorities::text[], :values::text[]) AS u (authority, value) GROUP BY authority) w
CROSS JOIN LATERAL (
  SELECT value, patient_key, retired_at IS NOT NULL AS retired FROM patient_locator
  WHERE authority = w.authority AND value = ANY(w.values) OFFSET 0
) l

-- name: find_entries
-- What stands under the blocks. The array comes from a query, here and below: of one that it sees the planner would look
-- every element up in its statistics.
SELECT block, record_key, patient_key FROM patient_block WHERE block = ANY((SELECT :blocks::bigint[])::bigint[])

-- name: expect_entries
-- As expect_blocks, by a number that can be worked out for records that are not stored yet. Where every transaction that
-- came to an end since the blocks were read is one of our own, nobody has stored anything meanwhile and none is looked
-- up. Who adds a patient holds the locks of its blocks until its end, and we hold them now.
WITH since AS MATERIALIZED (
  SELECT :seen::pg_snapshot AS seen, pg_snapshot_xmax(pg_current_snapshot()) AS until
)
SELECT CASE
  WHEN (SELECT until::text::bigint - pg_snapshot_xmax(seen)::text::bigint
               + (SELECT count(*) FROM pg_snapshot_xip(seen))
               = (SELECT count(*) FROM unnest(:ours::xid8[]) o (xid) WHERE xid < until AND NOT pg_visible_in_snapshot(xid, seen))
        FROM since)
  THEN true
  ELSE obieg_expect(
    (SELECT coalesce(bit_xor((record_key % 2147483647) * (block % 2147483629)), 0)
     FROM patient_block WHERE block = ANY((SELECT :blocks::bigint[])::bigint[])),
    :state::bigint, 'a record that may be of the same person was stored meanwhile')
END

-- name: find_persons
-- The persons of these patients with all their records; a patient without records is a row without one.
WITH ends AS MATERIALIZED (
  SELECT DISTINCT coalesce((SELECT k.survivor_key FROM patient_link k WHERE k.patient_key = w.patient_key),
                           w.patient_key) AS survivor_key
  FROM unnest(:patient_keys::bigint[]) AS w (patient_key)
), kin AS MATERIALIZED (
  SELECT survivor_key, survivor_key AS patient_key FROM ends
  UNION ALL
  SELECT e.survivor_key, k.patient_key
  FROM ends e
  CROSS JOIN LATERAL (SELECT patient_key FROM patient_link WHERE survivor_key = e.survivor_key OFFSET 0) k
)
SELECT n.patient_key, n.survivor_key, p.affinity_domain_id, r.record_key, r.version, r.source, r.authorities, r.values,
       r.demographics, r.blocks, r.updated_at, p.version, r.fed_by
FROM kin n
CROSS JOIN LATERAL (
  SELECT affinity_domain_id, version FROM patient WHERE patient_key = n.survivor_key OFFSET 0
) p
LEFT JOIN LATERAL (
  SELECT * FROM patient_record WHERE patient_key = n.patient_key OFFSET 0
) r ON r.removed_at IS NULL

-- name: moment
SELECT clock_timestamp(), pg_current_snapshot()::text

-- name: own_transaction
SELECT pg_current_xact_id()::text

-- name: touch_patients
UPDATE patient p SET version = p.version + w.changes, updated_at = now()
FROM unnest(:patient_keys::bigint[], :changes::integer[]) AS w (patient_key, changes)
WHERE p.patient_key = w.patient_key

-- name: copy_patients
COPY patient (patient_key, affinity_domain_id, version) FROM STDIN (FORMAT binary)

-- name: copy_locators
COPY patient_locator (authority, value, patient_key) FROM STDIN (FORMAT binary)

-- name: copy_records
COPY patient_record (patient_key, record_key, version, created_at, updated_at, fed_by, source, authorities, values,
                     demographics, blocks, names, sounds, birth_date, sex) FROM STDIN (FORMAT binary)

-- name: copy_blocks
COPY patient_block (block, patient_key, record_key) FROM STDIN (FORMAT binary)

-- name: copy_audit
COPY audit_event (transaction, outcome, patient_id, request_id, message) FROM STDIN (FORMAT binary)

-- name: make_staging
CREATE TEMPORARY TABLE IF NOT EXISTS changed_record (
  patient_key bigint, record_key bigint, found_version integer, updated_at timestamptz, fed_by text, source text,
  authorities text[], values text[], demographics bytea, blocks bigint[], names text, sounds text, birth_date text, sex text,
  version integer
) ON COMMIT DELETE ROWS

-- name: copy_changed
COPY changed_record (patient_key, record_key, found_version, version, updated_at, fed_by, source, authorities, values,
                     demographics, blocks, names, sounds, birth_date, sex) FROM STDIN (FORMAT binary)

-- name: update_records
WITH saved AS (
  UPDATE patient_record r SET
    source = c.source, fed_by = c.fed_by, authorities = c.authorities, values = c.values,
    demographics = c.demographics, blocks = c.blocks, names = c.names, sounds = c.sounds, birth_date = c.birth_date, sex = c.sex, version = c.version,
    updated_at = c.updated_at
  FROM changed_record c
  WHERE r.patient_key = c.patient_key AND r.record_key = c.record_key AND r.version = c.found_version
  RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM saved), :count::bigint, 'a record was changed meanwhile')

-- name: delete_entries
DELETE FROM patient_block b
USING unnest(:blocks::bigint[], :record_keys::bigint[]) AS w (block, record_key)
WHERE b.block = w.block AND b.record_key = w.record_key

-- name: release_locators
DELETE FROM patient_locator l
USING unnest(:authorities::text[], :values::text[], :patient_keys::bigint[]) AS w (authority, value, patient_key)
WHERE l.authority = w.authority AND l.value = w.value AND l.patient_key = w.patient_key AND l.retired_at IS NULL

-- name: insert_links_at
INSERT INTO patient_link (patient_key, merged_into, survivor_key, reason, linked_by, linked_at)
SELECT m.patient_key, :survivor_key::bigint, :survivor_key::bigint, m.reason, m.linked_by, :at::timestamptz
FROM unnest(:linked_keys::bigint[], :reasons::text[], :linked_by::text[]) AS m (patient_key, reason, linked_by)

-- name: put_letters
-- As put_letter; of messages of one key the batch has only the newest.
WITH letters AS MATERIALIZED (
  SELECT * FROM unnest(:patient_keys::bigint[], :destinations::text[], :transactions::text[], :keys::text[],
                       :bodies::bytea[]) WITH ORDINALITY AS w (patient_key, destination, transaction, key, body, place)
), replaced AS (
  DELETE FROM outbox o USING letters w
  WHERE o.destination = w.destination AND o.patient_key = w.patient_key AND o.key = w.key AND w.key <> ''
    AND (o.leased_until IS NULL OR o.leased_until < now())
)
INSERT INTO outbox (patient_key, destination, transaction, key, body)
SELECT patient_key, destination, transaction, key, body FROM letters ORDER BY place

-- name: begin_import
-- Another process that imports the same file holds the lock.
SELECT pg_try_advisory_lock(hashtextextended('obieg import ' || :fingerprint::text, 0))

-- name: read_import
SELECT position, line, counts, reject_bytes, finished_at, file FROM patient_import WHERE fingerprint = :fingerprint::text

-- name: insert_import
INSERT INTO patient_import (fingerprint, file, size, position, counts, started_by)
VALUES (:fingerprint::text, :file::text, :size::bigint, :position::bigint, '{}', :by::text)
ON CONFLICT (fingerprint) DO UPDATE SET position = excluded.position, line = 1, counts = '{}', reject_bytes = 0, finished_at = NULL,
  started_at = now(), started_by = excluded.started_by, file = excluded.file

-- name: advance_import
WITH advanced AS (
  UPDATE patient_import SET position = :position::bigint, line = :line::bigint, counts = :counts::bytea,
    reject_bytes = :reject_bytes::bigint, updated_at = now(),
    finished_at = CASE WHEN :finished::boolean THEN now() END
  WHERE fingerprint = :fingerprint::text AND position = :before::bigint
  RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM advanced), 1, 'another process imports this file')

-- name: read_rematch
SELECT after_patient, after_record, counts, finished_at FROM patient_rematch

-- name: begin_rematch
INSERT INTO patient_rematch (after_patient, after_record, counts, started_by) VALUES (0, 0, '{}', :by::text)
ON CONFLICT (only_row) DO UPDATE SET after_patient = 0, after_record = 0, counts = '{}', started_at = now(),
  started_by = excluded.started_by, finished_at = NULL

-- name: advance_rematch
UPDATE patient_rematch SET after_patient = :after_patient::bigint, after_record = :after_record::bigint,
  counts = :counts::bytea, updated_at = now(), finished_at = CASE WHEN :finished::boolean THEN now() END

-- name: count_records
SELECT count(*) FROM patient_record
WHERE removed_at IS NULL AND (patient_key, record_key) > (:after_patient::bigint, :after_record::bigint)

-- name: next_records
-- Records to be looked at again, in the order of their keys.
SELECT r.patient_key, r.record_key, r.authorities, r.values, r.blocks
FROM patient_record r
WHERE r.removed_at IS NULL AND (r.patient_key, r.record_key) > (:after_patient::bigint, :after_record::bigint)
ORDER BY r.patient_key, r.record_key LIMIT :count::bigint

-- name: find_open_pairs
-- Pairs of persons that are on the worklist already.
SELECT coalesce(a.survivor_key, t.left_key), coalesce(b.survivor_key, t.right_key)
FROM unnest(:patient_keys::bigint[]) AS w (patient_key)
CROSS JOIN LATERAL (
  SELECT left_key, right_key FROM patient_task WHERE left_key = w.patient_key AND decision = ''
  UNION ALL
  SELECT left_key, right_key FROM patient_task WHERE right_key = w.patient_key AND decision = ''
) t
LEFT JOIN patient_link a ON a.patient_key = t.left_key
LEFT JOIN patient_link b ON b.patient_key = t.right_key
WHERE t.right_key IS NOT NULL

-- name: sample_records
-- All records of some patients; their keys are random, so that any stretch of them is a sample.
SELECT r.authorities, r.values, r.demographics
FROM patient_record r
WHERE r.removed_at IS NULL AND r.patient_key > :after_patient::bigint
ORDER BY r.patient_key, r.record_key LIMIT :count::bigint

-- name: count_people
SELECT (SELECT count(*) FROM patient) - (SELECT count(*) FROM patient_link)

-- name: insert_weights
INSERT INTO matching_weights (records, weights) VALUES (:records::bigint, :weights::bytea) RETURNING weights_id

-- name: newest_weights
SELECT weights_id, learned_at, records, weights FROM matching_weights ORDER BY weights_id DESC LIMIT 1

-- name: records_of
-- What each source says of one person, oldest first.
SELECT r.patient_key, p.affinity_domain_id, r.source, r.authorities, r.values, r.demographics, r.version, r.created_at,
       r.updated_at, r.removed_at, r.fed_by
FROM patient_record r JOIN patient p ON p.patient_key = r.patient_key
WHERE r.patient_key = ANY(obieg_kin(:patient_key::bigint))
ORDER BY r.created_at, r.record_key

-- name: retired_of
-- Identifiers that a person's records state and that name nobody any more.
SELECT DISTINCT l.authority, l.value, l.retired_at
FROM patient_record r, unnest(r.authorities, r.values) AS u (authority, value)
JOIN patient_locator l ON l.authority = u.authority AND l.value = u.value
WHERE r.patient_key = ANY(obieg_kin(:patient_key::bigint)) AND l.retired_at IS NOT NULL
ORDER BY l.authority, l.value
