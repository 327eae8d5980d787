-- Who may see what: the facts that a decision rests on, and the sources that say them.

-- name: access_facts
-- The facts of patients, as domain.access.Facts in JSON, with the documents by which policies are acknowledged: a row for
-- each person, under the key of the survivor. Facts of all who are linked hold; identifiers are the living ones. Who is
-- born on a partial date is as young as can be.
WITH persons AS MATERIALIZED (
  SELECT DISTINCT coalesce(k.survivor_key, w.patient_key) AS survivor_key
  FROM unnest(:patient_keys::bigint[]) AS w (patient_key) LEFT JOIN patient_link k ON k.patient_key = w.patient_key
)
SELECT p.survivor_key, convert_to(json_build_object(
  'identifiers', (
    SELECT coalesce(json_agg(i.identifier), '[]') FROM (
      SELECT DISTINCT u.authority || '#' || u.value AS identifier
      FROM patient_record r CROSS JOIN LATERAL unnest(r.authorities, r.values) AS u (authority, value)
      JOIN patient_locator l ON l.authority = u.authority AND l.value = u.value
      WHERE r.patient_key = ANY(kin.keys) AND r.removed_at IS NULL
        AND l.retired_at IS NULL AND l.patient_key = ANY(kin.keys)
      UNION
      SELECT l.authority || '#' || l.value
      FROM patient o JOIN patient_locator l ON l.authority = :own_authority::text AND l.value = o.affinity_domain_id
      WHERE o.patient_key = ANY(kin.keys) AND l.retired_at IS NULL
    ) i),
  'birth_date', (
    SELECT obieg_last_day(r.birth_date) FROM patient_record r
    WHERE r.patient_key = ANY(kin.keys) AND r.removed_at IS NULL AND obieg_last_day(r.birth_date) IS NOT NULL
    ORDER BY length(r.birth_date) DESC, r.updated_at DESC, r.record_key LIMIT 1),
  'died_on', least(said.died_on, (
    SELECT min(coalesce(obieg_last_day(d.said ->> 'deceased_at'), d.updated_at::date))
    FROM (
      SELECT convert_from(r.demographics, 'UTF8')::json AS said, r.updated_at FROM patient_record r
      WHERE r.patient_key = ANY(kin.keys) AND r.removed_at IS NULL
    ) d
    WHERE (d.said ->> 'deceased')::boolean OR d.said ->> 'deceased_at' <> '')),
  'protected', coalesce(said.protected, false),
  'objection', coalesce(said.objection, false),
  'notices', coalesce(said.notices, false),
  'declarations', coalesce(said.declarations, '[]'),
  'encounters', coalesce(said.encounters, '[]'),
  'representatives', coalesce(said.representatives, '[]'),
  'consents', coalesce(said.consents, '[]'),
  'emergencies', coalesce(said.emergencies, '[]'),
  'holds', coalesce(said.holds, '[]'),
  'acknowledged', (
    SELECT coalesce(json_agg(json_build_object(
      'document', d.entry_uuid, 'policies', d.event_code_list, 'begin', d.service_start_time, 'end', d.service_stop_time)), '[]')
    FROM document_entry d
    WHERE d.patient_key = ANY(kin.keys) AND d.format_code LIKE 'urn:ihe:iti:bppc%' AND d.status = 'A' AND NOT d.superseded)
)::text, 'UTF8')
FROM persons p
CROSS JOIN LATERAL (SELECT obieg_kin(p.survivor_key) AS keys) kin
CROSS JOIN LATERAL (
  SELECT bool_or(f.kind = 'protected') AS protected,
         bool_or(f.kind = 'objection') AS objection,
         bool_or(f.kind = 'notices') AS notices,
         min(CASE WHEN f.kind = 'death' THEN (v #>> '{}')::date END) AS died_on,
         json_agg(v) FILTER (WHERE f.kind = 'declaration') AS declarations,
         json_agg(v) FILTER (WHERE f.kind = 'encounter') AS encounters,
         json_agg(v) FILTER (WHERE f.kind = 'representative') AS representatives,
         json_agg(v) FILTER (WHERE f.kind = 'consent') AS consents,
         json_agg(v) FILTER (WHERE f.kind = 'emergency') AS emergencies,
         json_agg(v) FILTER (WHERE f.kind = 'hold') AS holds
  FROM access_fact f CROSS JOIN LATERAL json_array_elements(f.facts) AS v
  WHERE f.patient_key = ANY(kin.keys) AND f.superseded_at IS NULL
) said

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

-- name: read_sources
-- What sources say now; those that have ended are left out.
SELECT f.source, f.version, f.kind, f.facts::text, f.resource, f.recorded_at, f.recorded_by
FROM access_source a
JOIN access_fact f ON f.patient_key = a.patient_key AND f.source = a.source AND f.superseded_at IS NULL
WHERE a.source = ANY(:sources::text[]) AND f.resource IS NOT NULL

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
  AND f.recorded_at >= :updated_from::timestamptz AND f.recorded_at < :updated_before::timestamptz
ORDER BY f.recorded_at DESC, f.source
LIMIT :count::bigint OFFSET :skipped::bigint
