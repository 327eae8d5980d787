-- Facts about patients in one call, planned once (docs/access.md).

-- The facts of a person, as domain.access.Facts in JSON, with the documents by which policies are acknowledged; their keys
-- are those of obieg_kin. A function, so that its plan is
-- made once for each connection: making it costs several times as much as running it.
CREATE FUNCTION obieg_facts(keys bigint[], own_authority text) RETURNS json
LANGUAGE plpgsql STABLE PARALLEL SAFE SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  RETURN (
    SELECT json_build_object(
      'identifiers', (
        SELECT coalesce(json_agg(i.identifier), '[]') FROM (
          SELECT DISTINCT u.authority || '#' || u.value AS identifier
          FROM patient_record r CROSS JOIN LATERAL unnest(r.authorities, r.values) AS u (authority, value)
          JOIN patient_locator l ON l.authority = u.authority AND l.value = u.value
          WHERE r.patient_key = ANY(keys) AND r.removed_at IS NULL
            AND l.retired_at IS NULL AND l.patient_key = ANY(keys)
          UNION
          SELECT l.authority || '#' || l.value
          FROM patient o JOIN patient_locator l ON l.authority = own_authority AND l.value = o.affinity_domain_id
          WHERE o.patient_key = ANY(keys) AND l.retired_at IS NULL
        ) i),
      'birth_date', (
        SELECT obieg_last_day(r.birth_date) FROM patient_record r
        WHERE r.patient_key = ANY(keys) AND r.removed_at IS NULL AND obieg_last_day(r.birth_date) IS NOT NULL
        ORDER BY length(r.birth_date) DESC, r.updated_at DESC, r.record_key LIMIT 1),
      'died_on', least(said.died_on, (
        SELECT min(coalesce(obieg_last_day(d.said ->> 'deceased_at'), d.updated_at::date))
        FROM (
          SELECT convert_from(r.demographics, 'UTF8')::json AS said, r.updated_at FROM patient_record r
          WHERE r.patient_key = ANY(keys) AND r.removed_at IS NULL
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
        SELECT coalesce(json_agg(json_build_object('document', d.entry_uuid, 'policies', d.event_code_list,
                                                   'begin', d.service_start_time, 'end', d.service_stop_time)), '[]')
        FROM document_entry d
        WHERE d.patient_key = ANY(keys) AND d.format_code LIKE 'urn:ihe:iti:bppc%' AND d.status = 'A' AND NOT d.superseded)
    )
    FROM (
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
      WHERE f.patient_key = ANY(keys) AND f.superseded_at IS NULL
    ) said);
END $$;

-- Of whom a request speaks: each person once, with all keys, the survivor's first, the affinity-domain ids that belong to
-- them, and their facts.
CREATE FUNCTION obieg_persons(authorities text[], ids text[], uuids uuid[], unique_ids text[], known bigint[],
                              own_authority text)
RETURNS TABLE (keys bigint[], affinity_domain_ids text[], facts json)
LANGUAGE plpgsql STABLE PARALLEL SAFE SET plan_cache_mode = force_generic_plan AS $$
DECLARE
  one bigint;
  seen bigint[] := '{}';
BEGIN
  FOREACH one IN ARRAY obieg_located(authorities, ids, uuids, unique_ids, known) LOOP
    CONTINUE WHEN one = ANY(seen);
    keys := obieg_kin(one);
    seen := seen || keys;
    affinity_domain_ids := ARRAY(SELECT p.affinity_domain_id FROM patient p WHERE p.patient_key = ANY(keys));
    facts := obieg_facts(keys, own_authority);
    RETURN NEXT;
  END LOOP;
END $$;
