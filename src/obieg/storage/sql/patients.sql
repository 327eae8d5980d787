-- name: find_standing
-- Whom identifiers name: the patient, or the end of the chain of merges. The locators are read first, as on Citus they
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
-- All that name the patient, those included that came with a merge and are not retired; an empty list of authorities
-- is every authority.
SELECT i.authority, i.value
FROM patient_identifier i
JOIN patient_locator l ON l.authority = i.authority AND l.value = i.value
WHERE (i.patient_key = :patient_key::bigint
       OR i.patient_key IN (SELECT k.patient_key FROM patient_link k WHERE k.survivor_key = :patient_key::bigint))
  AND l.retired_at IS NULL
  AND (:authorities::text[] = '{}' OR i.authority = ANY(:authorities::text[]))
ORDER BY i.authority, i.value

-- name: insert_patient
INSERT INTO patient (patient_key, affinity_domain_id, family, given, sort_key, birth_date, sex, street, city, postal_code,
                     country, phone)
VALUES (:patient_key::bigint, :affinity_domain_id::text, coalesce(:family::text, ''), coalesce(:given::text, ''),
        coalesce(:sort_key::bytea, ''::bytea), coalesce(:birth_date::text, ''), coalesce(:sex::text, ''),
        coalesce(:street::text, ''), coalesce(:city::text, ''), coalesce(:postal_code::text, ''),
        coalesce(:country::text, ''), coalesce(:phone::text, ''))

-- name: update_patient
-- What the feed does not state (null) stays. The row is locked from here on: a merge waits, or is seen by expect_unmerged.
UPDATE patient SET
  family = coalesce(:family::text, family), given = coalesce(:given::text, given),
  sort_key = coalesce(:sort_key::bytea, sort_key), birth_date = coalesce(:birth_date::text, birth_date),
  sex = coalesce(:sex::text, sex), street = coalesce(:street::text, street), city = coalesce(:city::text, city),
  postal_code = coalesce(:postal_code::text, postal_code), country = coalesce(:country::text, country),
  phone = coalesce(:phone::text, phone), updated_at = now()
WHERE patient_key = :patient_key::bigint

-- name: insert_identifiers
INSERT INTO patient_identifier (patient_key, authority, value)
SELECT :patient_key::bigint, i.authority, i.value
FROM unnest(:authorities::text[], :values::text[]) AS i (authority, value)

-- name: insert_locators
-- An identifier that somebody has taken meanwhile is a unique violation, which undoes the batch.
INSERT INTO patient_locator (authority, value, patient_key)
SELECT i.authority, i.value, :patient_key::bigint
FROM unnest(:authorities::text[], :values::text[]) AS i (authority, value)

-- name: lock_patients
SELECT patient_key FROM patient WHERE patient_key = ANY(:patient_keys::bigint[]) ORDER BY patient_key FOR UPDATE

-- name: expect_unmerged
SELECT obieg_expect(
  (SELECT count(*) FROM patient_link WHERE patient_key = ANY(:patient_keys::bigint[])), 0, 'a patient was merged meanwhile')

-- name: expect_single
SELECT obieg_expect(
  (SELECT count(*) FROM patient_identifier WHERE patient_key = :patient_key::bigint AND authority = :authority::text),
  1, 'the patient was given another number in this authority meanwhile')

-- name: insert_links
INSERT INTO patient_link (patient_key, merged_into, survivor_key)
SELECT m.patient_key, :survivor_key::bigint, :survivor_key::bigint
FROM unnest(:merged_keys::bigint[]) AS m (patient_key)

-- name: move_links
-- Who was merged into a patient that is now merged itself: the chain gets a new end.
UPDATE patient_link SET survivor_key = :survivor_key::bigint WHERE survivor_key = ANY(:merged_keys::bigint[])

-- name: retire_locators
WITH retired AS (
  UPDATE patient_locator l SET retired_at = now()
  FROM unnest(:authorities::text[], :values::text[]) AS i (authority, value)
  WHERE l.authority = i.authority AND l.value = i.value AND l.retired_at IS NULL
  RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM retired), :count::bigint, 'an identifier was merged meanwhile')
