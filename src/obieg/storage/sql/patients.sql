-- The patient index. A batch is one transaction: what must hold raises through obieg_expect and undoes all.

-- name: find_standing
-- Whom identifiers name: the patient, or the end of the chain of links. The locators are read first, as on Citus they
-- lie on other shards than the patients.
WITH found AS MATERIALIZED (
  SELECT l.authority, l.value, l.patient_key, l.retired_at
  FROM unnest(:authorities::text[], :values::text[]) AS wanted (authority, value)
  JOIN patient_locator l ON l.authority = wanted.authority AND l.value = wanted.value
)
SELECT f.authority, f.value, p.patient_key, p.affinity_domain_id, f.retired_at IS NOT NULL
FROM found f
LEFT JOIN patient_link k ON k.patient_key = f.patient_key
JOIN patient p ON p.patient_key = coalesce(k.survivor_key, f.patient_key)

-- name: find_authorities
-- In which of these authorities any patient has an identifier.
SELECT a.authority FROM unnest(:authorities::text[]) AS a (authority)
WHERE EXISTS (SELECT FROM patient_locator l WHERE l.authority = a.authority)

-- name: find_identifiers
-- All that name the patient, those included that came with a link and are not retired; an empty list of authorities
-- is every authority.
SELECT DISTINCT i.authority, i.value
FROM (
  SELECT u.authority, u.value
  FROM patient_record r, unnest(r.authorities, r.values) AS u (authority, value)
  WHERE r.patient_key = ANY(obieg_kin(:patient_key::bigint)) AND r.removed_at IS NULL
  UNION
  SELECT :own_authority::text, p.affinity_domain_id FROM patient p WHERE p.patient_key = :patient_key::bigint
) i
JOIN patient_locator l ON l.authority = i.authority AND l.value = i.value
WHERE l.retired_at IS NULL AND l.patient_key = ANY(obieg_kin(:patient_key::bigint))
  AND (:authorities::text[] = '{}' OR i.authority = ANY(:authorities::text[]))

-- name: find_records
-- What is known of the patients whom identifiers name, all records of each.
WITH named AS MATERIALIZED (
  SELECT DISTINCT coalesce(k.survivor_key, l.patient_key) AS survivor_key
  FROM unnest(:authorities::text[], :values::text[]) AS wanted (authority, value)
  JOIN patient_locator l ON l.authority = wanted.authority AND l.value = wanted.value
  LEFT JOIN patient_link k ON k.patient_key = l.patient_key
)
SELECT r.patient_key, n.survivor_key, p.affinity_domain_id, r.record_key, r.version, r.source, r.authorities, r.values,
       r.demographics, r.blocks, r.updated_at, p.version, r.fed_by
FROM named n
JOIN patient p ON p.patient_key = n.survivor_key
JOIN patient_record r ON r.patient_key = ANY(obieg_kin(n.survivor_key)) AND r.removed_at IS NULL

-- name: find_candidates
-- Records of every patient who has a record under one of the blocks. A block that half the region shares says nothing:
-- no more than :block_max of its records are looked at.
WITH named AS MATERIALIZED (
  SELECT DISTINCT coalesce(k.survivor_key, b.patient_key) AS survivor_key
  FROM unnest(:blocks::bigint[]) AS wanted (block)
  CROSS JOIN LATERAL (
    SELECT patient_key FROM patient_block WHERE block = wanted.block LIMIT :block_max::bigint
  ) b
  LEFT JOIN patient_link k ON k.patient_key = b.patient_key
)
SELECT r.patient_key, n.survivor_key, p.affinity_domain_id, r.record_key, r.version, r.source, r.authorities, r.values,
       r.demographics, r.blocks, r.updated_at, p.version, r.fed_by
FROM named n
JOIN patient p ON p.patient_key = n.survivor_key
JOIN patient_record r ON r.patient_key = ANY(obieg_kin(n.survivor_key)) AND r.removed_at IS NULL

-- name: read_blocks
-- Which records stand under these blocks, as one number. Read before the candidates: whoever comes in between is seen
-- by expect_blocks.
SELECT coalesce(bit_xor(hashint8extended(record_key, block)), 0) FROM patient_block WHERE block = ANY(:blocks::bigint[])

-- name: find_apart
-- Pairs that a person has decided to be different, by deciding or by taking back the link between them.
WITH kin AS MATERIALIZED (
  SELECT k AS patient_key FROM unnest(:patient_keys::bigint[]) k
  UNION
  SELECT l.patient_key FROM patient_link l WHERE l.survivor_key = ANY(:patient_keys::bigint[])
), pairs AS (
  SELECT t.left_key, t.right_key FROM kin JOIN patient_task t ON t.left_key = kin.patient_key
  WHERE t.decision = 'different'
  UNION
  SELECT t.left_key, t.right_key FROM kin JOIN patient_task t ON t.right_key = kin.patient_key
  WHERE t.decision = 'different'
  UNION
  SELECT h.patient_key, h.merged_into FROM kin JOIN patient_link_history h ON h.patient_key = kin.patient_key
  UNION
  SELECT h.patient_key, h.merged_into FROM kin JOIN patient_link_history h ON h.merged_into = kin.patient_key
)
SELECT coalesce(a.survivor_key, p.left_key), coalesce(b.survivor_key, p.right_key)
FROM pairs p
LEFT JOIN patient_link a ON a.patient_key = p.left_key
LEFT JOIN patient_link b ON b.patient_key = p.right_key
WHERE p.right_key IS NOT NULL

-- name: insert_patient
INSERT INTO patient (patient_key, affinity_domain_id) VALUES (:patient_key::bigint, :affinity_domain_id::text)

-- name: touch_patient
-- The row is locked from here on: a link waits, or is seen by expect_unlinked.
UPDATE patient SET version = version + 1, updated_at = now() WHERE patient_key = :patient_key::bigint

-- name: insert_record
INSERT INTO patient_record (patient_key, record_key, source, fed_by, authorities, values, demographics, blocks, names,
                            sounds, birth_date, sex)
VALUES (:patient_key::bigint, :record_key::bigint, :source::text, :fed_by::text, :authorities::text[], :values::text[],
        :demographics::bytea, :blocks::bigint[], :names::text, :sounds::text, :birth_date::text, :sex::text)

-- name: update_record
WITH saved AS (
  UPDATE patient_record SET
    source = :source::text, fed_by = :fed_by::text, authorities = :authorities::text[], values = :values::text[],
    demographics = :demographics::bytea, blocks = :blocks::bigint[], names = :names::text, sounds = :sounds::text,
    birth_date = :birth_date::text, sex = :sex::text, version = version + 1, updated_at = now(),
    removed_at = CASE WHEN :removed::boolean THEN now() END
  WHERE patient_key = :patient_key::bigint AND record_key = :record_key::bigint AND version = :version::integer
  RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM saved), 1, 'the record was changed meanwhile')

-- name: insert_blocks
INSERT INTO patient_block (block, patient_key, record_key)
SELECT DISTINCT b, :patient_key::bigint, :record_key::bigint FROM unnest(:blocks::bigint[]) AS b

-- name: delete_blocks
DELETE FROM patient_block
WHERE record_key = :record_key::bigint AND patient_key = :patient_key::bigint AND block = ANY(
  SELECT unnest(blocks) FROM patient_record
  WHERE patient_key = :patient_key::bigint AND record_key = :record_key::bigint)

-- name: lock_blocks
-- Two feeds that bring the same unknown person at once wait for one another; the next statement then sees what the first
-- has stored, and the second decides again.
SELECT count(pg_advisory_xact_lock(b)) FROM (SELECT b FROM unnest(:blocks::bigint[]) b ORDER BY 1) o

-- name: expect_blocks
SELECT obieg_expect(
  (SELECT coalesce(bit_xor(hashint8extended(record_key, block)), 0) FROM patient_block WHERE block = ANY(:blocks::bigint[])), :state::bigint,
  'a record that may be of the same person was stored meanwhile')

-- name: insert_locators
-- An identifier that somebody has taken meanwhile is a unique violation, which undoes the batch.
INSERT INTO patient_locator (authority, value, patient_key)
SELECT i.authority, i.value, :patient_key::bigint
FROM unnest(:authorities::text[], :values::text[]) AS i (authority, value)

-- name: delete_locators
DELETE FROM patient_locator l
USING unnest(:authorities::text[], :values::text[]) AS i (authority, value)
WHERE l.authority = i.authority AND l.value = i.value AND l.patient_key = ANY(obieg_kin(:patient_key::bigint))
  AND l.retired_at IS NULL

-- name: lock_patients
SELECT patient_key FROM patient WHERE patient_key = ANY(:patient_keys::bigint[]) ORDER BY patient_key FOR UPDATE

-- name: expect_unlinked
SELECT obieg_expect(
  (SELECT count(*) FROM patient_link WHERE patient_key = ANY(:patient_keys::bigint[])), 0, 'a patient was linked meanwhile')

-- name: expect_versions
-- Patients who were compared are what they were.
SELECT obieg_expect(
  (SELECT count(*) FROM unnest(:patient_keys::bigint[], :versions::integer[]) AS w (patient_key, version)
   JOIN patient p ON p.patient_key = w.patient_key AND p.version = w.version),
  cardinality(:patient_keys::bigint[]), 'a patient was changed meanwhile')

-- name: expect_kin
-- The patients under whom the person's records stand are linked to this one.
SELECT obieg_expect(
  (SELECT count(*) FROM patient_link WHERE survivor_key = :patient_key::bigint AND patient_key = ANY(:kin::bigint[])),
  cardinality(:kin::bigint[]), 'a link was taken back meanwhile')

-- name: expect_standing
-- Identifiers name whom they named.
SELECT obieg_expect(
  (SELECT count(*)
   FROM unnest(:authorities::text[], :values::text[], :patient_keys::bigint[]) AS w (authority, value, patient_key)
   JOIN patient_locator l ON l.authority = w.authority AND l.value = w.value AND l.retired_at IS NULL
   LEFT JOIN patient_link k ON k.patient_key = l.patient_key
   WHERE coalesce(k.survivor_key, l.patient_key) = w.patient_key),
  cardinality(:patient_keys::bigint[]), 'an identifier was given to another patient meanwhile')

-- name: expect_numbers
-- How many numbers of these authorities the records of the patient state.
SELECT obieg_expect(
  (SELECT count(*) FROM (
     SELECT w.authority FROM unnest(:authorities::text[], :counts::bigint[]) AS w (authority, count)
     JOIN patient_record r ON r.patient_key = ANY(obieg_kin(:patient_key::bigint)) AND r.removed_at IS NULL
     CROSS JOIN LATERAL unnest(r.authorities, r.values) AS u (authority, value)
     WHERE u.authority = w.authority
     GROUP BY w.authority, w.count HAVING count(DISTINCT u.value) = w.count) agreed),
  cardinality(:authorities::text[]), 'the patient was given another number in this authority meanwhile')

-- name: close_moot_tasks
-- Lines between patients who become one person; before the link is made.
WITH persons AS MATERIALIZED (
  SELECT s AS survivor_key, unnest(obieg_kin(s)) AS patient_key FROM unnest(:patient_keys::bigint[]) s
)
UPDATE patient_task t SET decision = 'moot', decided_by = :by::text, decided_at = now()
FROM persons l, persons r
WHERE t.decision = '' AND t.left_key = l.patient_key AND t.right_key = r.patient_key
  AND l.survivor_key <> r.survivor_key

-- name: insert_links
INSERT INTO patient_link (patient_key, merged_into, survivor_key, reason, linked_by)
SELECT m.patient_key, :survivor_key::bigint, :survivor_key::bigint, m.reason, m.linked_by
FROM unnest(:linked_keys::bigint[], :reasons::text[], :linked_by::text[]) AS m (patient_key, reason, linked_by)

-- name: move_links
-- Who was linked to a patient that is now linked itself: the chain gets a new end.
UPDATE patient_link SET survivor_key = :survivor_key::bigint WHERE survivor_key = ANY(:linked_keys::bigint[])

-- name: retire_locators
WITH retired AS (
  UPDATE patient_locator l SET retired_at = now(), retired_by = nullif(i.retired_by, 0),
    replaced_authority = nullif(i.replaced_authority, ''), replaced_value = nullif(i.replaced_value, '')
  FROM unnest(:authorities::text[], :values::text[], :retired_by::bigint[], :replaced_authorities::text[],
              :replaced_values::text[]) AS i (authority, value, retired_by, replaced_authority, replaced_value)
  WHERE l.authority = i.authority AND l.value = i.value AND l.retired_at IS NULL
  RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM retired), :count::bigint, 'an identifier was merged meanwhile')

-- name: insert_tasks
-- A pair that is on the worklist already stays there once, and one that a person has decided to be different is not
-- asked about again, unless both have become one patient all the same.
INSERT INTO patient_task (kind, left_key, right_key, judgement, detail)
SELECT t.kind, t.left_key, nullif(t.right_key, 0), convert_to(t.judgement, 'UTF8'), t.detail
FROM unnest(:kinds::text[], :left_keys::bigint[], :right_keys::bigint[], :judgements::text[], :details::text[])
  AS t (kind, left_key, right_key, judgement, detail)
CROSS JOIN LATERAL (SELECT obieg_kin(t.left_key) AS lefts, obieg_kin(t.right_key) AS rights) kin
WHERE t.right_key = ANY(kin.lefts) OR NOT EXISTS (
  SELECT FROM patient_task d
  WHERE d.decision = 'different' AND d.left_key = ANY(kin.lefts || kin.rights)
    AND (d.left_key = ANY(kin.lefts) AND d.right_key = ANY(kin.rights)
      OR d.left_key = ANY(kin.rights) AND d.right_key = ANY(kin.lefts)))
ON CONFLICT DO NOTHING

-- name: find_by_birth
-- Records born on one of these dates (partial ones among them), by name or by how it sounds. Who fits is told by the
-- index alone: else all who were born on that day would be read for the one who is asked for.
WITH fitting AS MATERIALIZED (
  SELECT patient_key, record_key FROM patient_record
  WHERE birth_date = ANY(:births::text[]) AND removed_at IS NULL AND (names LIKE :names::text OR sounds LIKE :sounds::text)
  ORDER BY names LIMIT :records_max::bigint
)
SELECT r.patient_key, p.patient_key, p.affinity_domain_id, r.authorities, r.values, r.demographics
FROM fitting f
JOIN patient_record r ON r.patient_key = f.patient_key AND r.record_key = f.record_key
LEFT JOIN patient_link k ON k.patient_key = r.patient_key
JOIN patient p ON p.patient_key = coalesce(k.survivor_key, r.patient_key)
ORDER BY r.names

-- name: find_by_name
-- What begins alike stands side by side in the index. LIKE would say the same, but a plan that is kept for any pattern
-- could not use the index for it.
SELECT r.patient_key, p.patient_key, p.affinity_domain_id, r.authorities, r.values, r.demographics
FROM patient_record r
LEFT JOIN patient_link k ON k.patient_key = r.patient_key
JOIN patient p ON p.patient_key = coalesce(k.survivor_key, r.patient_key)
WHERE r.names ~>=~ :names_from::text AND r.names ~<~ :names_before::text AND r.removed_at IS NULL
  AND r.birth_date >= :born_from::text AND r.birth_date < :born_before::text
  AND ' ' || split_part(r.names, '|', 2) LIKE ANY(:given::text[])
ORDER BY r.names USING ~<~ LIMIT :records_max::bigint

-- name: find_by_sound
SELECT r.patient_key, p.patient_key, p.affinity_domain_id, r.authorities, r.values, r.demographics
FROM patient_record r
LEFT JOIN patient_link k ON k.patient_key = r.patient_key
JOIN patient p ON p.patient_key = coalesce(k.survivor_key, r.patient_key)
WHERE r.sounds ~>=~ :sounds_from::text AND r.sounds ~<~ :sounds_before::text AND r.removed_at IS NULL
  AND r.birth_date >= :born_from::text AND r.birth_date < :born_before::text
ORDER BY r.sounds USING ~<~ LIMIT :records_max::bigint

-- name: find_by_birth_range
WITH fitting AS MATERIALIZED (
  SELECT patient_key, record_key FROM patient_record
  WHERE birth_date >= :born_from::text AND birth_date < :born_before::text AND removed_at IS NULL
    AND (names LIKE :names::text OR sounds LIKE :sounds::text)
  ORDER BY birth_date, names LIMIT :records_max::bigint
)
SELECT r.patient_key, p.patient_key, p.affinity_domain_id, r.authorities, r.values, r.demographics
FROM fitting f
JOIN patient_record r ON r.patient_key = f.patient_key AND r.record_key = f.record_key
LEFT JOIN patient_link k ON k.patient_key = r.patient_key
JOIN patient p ON p.patient_key = coalesce(k.survivor_key, r.patient_key)
ORDER BY r.birth_date, r.names

-- name: find_by_identifier
-- Records of the patients whom identifiers name; an empty authority is any of those given.
SELECT r.patient_key, n.survivor_key, p.affinity_domain_id, r.authorities, r.values, r.demographics
FROM (
  SELECT DISTINCT coalesce(k.survivor_key, l.patient_key) AS survivor_key
  FROM unnest(:authorities::text[], :values::text[]) AS wanted (authority, value)
  JOIN patient_locator l ON l.authority = wanted.authority AND l.value = wanted.value AND l.retired_at IS NULL
  LEFT JOIN patient_link k ON k.patient_key = l.patient_key
) n
JOIN patient p ON p.patient_key = n.survivor_key
JOIN patient_record r ON r.patient_key = ANY(obieg_kin(n.survivor_key)) AND r.removed_at IS NULL
LIMIT :records_max::bigint

-- name: find_all_authorities
-- Every authority in which anybody has an identifier: a walk along the index from one to the next.
WITH RECURSIVE walk AS (
  (SELECT authority FROM patient_locator ORDER BY authority LIMIT 1)
  UNION ALL
  SELECT (SELECT l.authority FROM patient_locator l WHERE l.authority > w.authority ORDER BY l.authority LIMIT 1)
  FROM walk w WHERE w.authority IS NOT NULL
)
SELECT authority FROM walk WHERE authority IS NOT NULL LIMIT 10000

-- name: read_patients
-- Patients with what their records say; identifiers that are retired, or that another patient has, are left out.
SELECT w.patient_key, p.affinity_domain_id, p.version, p.updated_at,
       (SELECT s.affinity_domain_id FROM patient s WHERE s.patient_key = k.survivor_key),
       r.demographics, r.updated_at, live.authorities, live.values
FROM unnest(:patient_keys::bigint[]) AS w (patient_key)
JOIN patient p ON p.patient_key = w.patient_key
LEFT JOIN patient_link k ON k.patient_key = w.patient_key
CROSS JOIN LATERAL (
  SELECT CASE WHEN k.patient_key IS NULL THEN obieg_kin(w.patient_key) ELSE ARRAY[w.patient_key] END AS keys
) kin
LEFT JOIN patient_record r ON r.patient_key = ANY(kin.keys) AND r.removed_at IS NULL
LEFT JOIN LATERAL (
  SELECT array_agg(u.authority ORDER BY u.n) AS authorities, array_agg(u.value ORDER BY u.n) AS values
  FROM unnest(r.authorities, r.values) WITH ORDINALITY AS u (authority, value, n)
  JOIN patient_locator l ON l.authority = u.authority AND l.value = u.value
  WHERE l.retired_at IS NULL AND l.patient_key = ANY(kin.keys)
) live ON true
ORDER BY r.updated_at DESC, r.record_key

-- name: insert_search
INSERT INTO patient_search (search_id, requester, patient_keys, scores, authorities, capped, position)
VALUES (:search_id::uuid, :requester::text, :patient_keys::bigint[], :scores::smallint[], :authorities::text[],
        :capped::boolean, :position::integer)
ON CONFLICT (search_id, requester) DO UPDATE SET
  patient_keys = excluded.patient_keys, scores = excluded.scores, authorities = excluded.authorities,
  capped = excluded.capped, position = excluded.position, created_at = now()

-- name: advance_search
UPDATE patient_search
SET position = least(coalesce(:start::integer, position) + :count::integer, cardinality(patient_keys))
FROM (
  SELECT position AS start FROM patient_search
  WHERE search_id = :search_id::uuid AND requester = :requester::text FOR UPDATE
) before
WHERE search_id = :search_id::uuid AND requester = :requester::text
  AND created_at > now() - make_interval(secs => :seconds::bigint)
RETURNING patient_keys, scores, authorities, capped, coalesce(:start::integer, before.start)

-- name: delete_search
WITH gone AS (
  DELETE FROM patient_search WHERE search_id = :search_id::uuid AND requester = :requester::text RETURNING 1
)
SELECT count(*) FROM gone

-- name: delete_old_searches
DELETE FROM patient_search WHERE created_at < now() - make_interval(secs => :seconds::bigint)
