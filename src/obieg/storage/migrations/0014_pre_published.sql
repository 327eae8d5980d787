-- What a publisher tells of resources elsewhere (DSUBm, ITI-111) is matched as what is registered here: by the same
-- functions, with a row that is stored nowhere. The notice carries what cannot be read again.
DROP FUNCTION obieg_notice(text, text, uuid, bigint, text);
CREATE FUNCTION obieg_notice(event text, kind text, entry_uuid uuid, patient_key bigint, endpoint text,
  focus text DEFAULT '', sent text DEFAULT '') RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT convert_to(json_build_object('event', event, 'kind', kind, 'entry_uuid', coalesce(entry_uuid::text, ''),
    'patient', coalesce(obieg_person_id(patient_key), ''), 'endpoint', endpoint,
    'focus', focus, 'resource', sent)::text, 'UTF8')
$$;

-- focus and sent: address and JSON of a published resource, '' for what stands here. Plans are kept as before.
CREATE FUNCTION obieg_tell_of_document(d document_entry, event text, keys bigint[], focus text, sent text) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  INSERT INTO outbox (patient_key, destination, transaction, key, body)
  SELECT s.patient_key, 'subscription:' || s.subscription_id, 'ITI-112', '',
         obieg_notice(event, 'D', d.entry_uuid, d.patient_key, s.endpoint, focus,
                      CASE WHEN s.content = 'full-resource' THEN sent ELSE '' END)
  FROM subscription s
  WHERE s.patient_key = ANY(keys || 0::bigint) AND s.status = 'active' AND s.kind = 'D' AND s.end_at > now()
    AND event = ANY(s.events)
    AND (s.statuses IS NULL OR d.status = ANY(s.statuses))
    AND (s.type_code IS NULL OR obieg_patterns_fit(ARRAY[d.type_code], s.type_code))
    AND (s.class_code IS NULL OR obieg_patterns_fit(ARRAY[d.class_code], s.class_code))
    AND (s.practice_setting_code IS NULL OR obieg_patterns_fit(ARRAY[d.practice_setting_code], s.practice_setting_code))
    AND (s.healthcare_facility_type_code IS NULL
         OR obieg_patterns_fit(ARRAY[d.healthcare_facility_type_code], s.healthcare_facility_type_code))
    AND (s.format_code IS NULL OR obieg_patterns_fit(ARRAY[d.format_code], s.format_code))
    AND (s.event_code_list IS NULL OR obieg_patterns_fit(d.event_code_list, s.event_code_list))
    AND (s.confidentiality_code IS NULL OR obieg_patterns_fit(d.confidentiality_code, s.confidentiality_code))
    AND (s.author IS NULL OR obieg_people_fit(d.author_person, s.author));
END $$;

CREATE FUNCTION obieg_tell_of_submission_set(d submission_set, keys bigint[], focus text, sent text) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  INSERT INTO outbox (patient_key, destination, transaction, key, body)
  SELECT s.patient_key, 'subscription:' || s.subscription_id, 'ITI-112', '',
         obieg_notice('create', 'S', d.entry_uuid, d.patient_key, s.endpoint, focus,
                      CASE WHEN s.content = 'full-resource' THEN sent ELSE '' END)
  FROM subscription s
  WHERE s.patient_key = ANY(keys || 0::bigint) AND s.status = 'active' AND s.kind = 'S'
    AND s.end_at > now() AND 'create' = ANY(s.events)
    AND (s.statuses IS NULL OR d.status = ANY(s.statuses))
    AND (s.source_id IS NULL OR obieg_patterns_fit(ARRAY[d.source_id], s.source_id))
    AND (s.source IS NULL OR obieg_people_fit(d.author_person, s.source));
END $$;

CREATE OR REPLACE FUNCTION obieg_tell_document() RETURNS trigger
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
DECLARE
  d document_entry%ROWTYPE;
  keys bigint[];
  event text := 'create';
BEGIN
  IF NOT EXISTS (SELECT FROM subscription WHERE status = 'active') THEN
    RETURN NULL;
  END IF;
  IF TG_OP = 'DELETE' THEN
    d := OLD;
    event := 'delete';
  ELSE
    d := NEW;
    IF TG_OP = 'UPDATE' THEN
      IF OLD.status = NEW.status THEN
        RETURN NULL;
      END IF;
      event := 'status';
    END IF;
  END IF;
  keys := obieg_kin(d.patient_key);
  -- A version of what the patient had before is no new document; one that came from another patient is.
  IF event = 'create' AND d.version > 1 AND EXISTS (
    SELECT FROM document_entry o
    WHERE o.patient_key = ANY(keys) AND o.logical_id = d.logical_id AND o.version < d.version) THEN
    event := 'version';
  END IF;
  PERFORM obieg_tell_of_document(d, event, keys, '', '');
  RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION obieg_tell_submission_set() RETURNS trigger
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM subscription WHERE status = 'active') THEN
    RETURN NULL;
  END IF;
  PERFORM obieg_tell_of_submission_set(NEW, obieg_kin(NEW.patient_key), '', '');
  RETURN NULL;
END $$;
