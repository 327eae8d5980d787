-- Who may see what: the facts that a decision rests on, and the sources that say them.

-- name: access_facts
-- The facts of patients, as domain.access.Facts in JSON: a row for each person, under the key of the survivor. Facts of
-- all who are linked hold; identifiers are the living ones. Who is born on a partial date is as young as can be.
SELECT p.patient_key, p.facts
FROM obieg_persons('{}', '{}', '{}', '{}', :patient_keys::bigint[], :own_authority::text) p

-- name: place_source
-- Of whom a new source speaks; a source that has a patient already is a unique violation, which undoes the batch.
INSERT INTO access_source (source, patient_key)
SELECT :source::text, l.patient_key FROM patient_locator l
WHERE l.authority = :authority::text AND l.value = :value::text AND l.retired_at IS NULL

-- name: put_fact
-- Follows the version that its writer has seen, or undoes the batch. Times grow from version to version.
WITH place AS (
  SELECT patient_key FROM access_source WHERE source = :source::text
), old AS (
  UPDATE access_fact f SET superseded_at = greatest(clock_timestamp(), f.recorded_at + interval '1 millisecond'),
    superseded_by = :recorded_by::text
  FROM place
  WHERE f.patient_key = place.patient_key AND f.source = :source::text AND f.superseded_at IS NULL
  RETURNING f.version, f.superseded_at
), put AS (
  INSERT INTO access_fact (patient_key, source, version, kind, facts, resource, status, actors, recorded_at, recorded_by)
  SELECT place.patient_key, :source::text, :before::integer + 1, :kind::text, :facts::json, :resource::text,
    :status::text, :actors::text[], coalesce((SELECT superseded_at FROM old), clock_timestamp()), :recorded_by::text
  FROM place
  RETURNING recorded_at
)
SELECT recorded_at, obieg_expect(coalesce((SELECT version FROM old), 0), :before::integer, 'the source was changed meanwhile')
FROM put

-- name: expect_source
-- The patient whom the new version names is the one of whom the source speaks.
SELECT obieg_expect(
  (SELECT count(*) FROM access_source s
   JOIN patient_locator l ON l.authority = :authority::text AND l.value = :value::text AND l.retired_at IS NULL
   WHERE s.source = :source::text AND s.patient_key = ANY(obieg_kin(l.patient_key))),
  1, 'the source speaks of another patient')

-- name: read_source
-- The standing version of a source, or the one with the number; with the ids of its patient: its own, and the survivor's.
SELECT f.source, f.version, f.kind, f.facts::text, f.resource, f.recorded_at, f.recorded_by, p.affinity_domain_id,
       coalesce((SELECT s.affinity_domain_id FROM patient_link k JOIN patient s ON s.patient_key = k.survivor_key
                 WHERE k.patient_key = f.patient_key), p.affinity_domain_id)
FROM access_source a
JOIN access_fact f ON f.patient_key = a.patient_key AND f.source = a.source
JOIN patient p ON p.patient_key = a.patient_key
WHERE a.source = :source::text
  AND CASE WHEN :version::integer IS NULL THEN f.superseded_at IS NULL ELSE f.version = :version::integer END

-- name: read_of_patient
-- What sources of some kinds say of a person now, those of all who are linked among them.
SELECT f.source, f.version, f.kind, f.facts::text, f.resource, f.recorded_at, f.recorded_by
FROM access_fact f
WHERE f.patient_key = ANY(obieg_patient_keys(:authority::text, :value::text)) AND f.superseded_at IS NULL
  AND f.kind = ANY(:kinds::text[])
ORDER BY f.source

-- name: find_consents
-- One page of the consents of a person, those of all who are linked among them, newest first; with how many there are.
WITH keys AS MATERIALIZED (
  SELECT DISTINCT k.patient_key
  FROM unnest(:authorities::text[], :values::text[]) AS w (authority, value)
  CROSS JOIN LATERAL unnest(obieg_patient_keys(w.authority, w.value)) AS k (patient_key)
  UNION
  SELECT s.patient_key FROM access_source s WHERE :authorities::text[] = '{}' AND s.source = ANY(:sources::text[])
)
SELECT count(*) OVER (), f.source, f.version, f.kind, f.facts::text, f.resource, f.recorded_at, f.recorded_by
FROM keys JOIN access_fact f ON f.patient_key = keys.patient_key
WHERE f.superseded_at IS NULL AND f.source LIKE 'Consent/%' AND f.resource IS NOT NULL
  AND (:sources::text[] = '{}' OR f.source = ANY(:sources::text[]))
  AND (:statuses::text[] = '{}' OR f.status = ANY(:statuses::text[]))
  AND (:actors::text[] = '{}' OR f.actors && :actors::text[])
  AND (:recorded_by::text = '' OR f.recorded_by = :recorded_by::text)
  AND f.recorded_at >= :updated_from::timestamptz AND f.recorded_at < :updated_before::timestamptz
ORDER BY f.recorded_at DESC, f.source
LIMIT :count::bigint OFFSET :skipped::bigint
