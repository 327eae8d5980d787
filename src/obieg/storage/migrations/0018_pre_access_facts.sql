-- Who may see what rests on facts (docs/access.md): what is said of a patient, and by whom.

-- What one source says of a patient, each version of it a row; nothing is deleted. It belongs to the patient whom the
-- source names, not to the end of a chain of links, and so needs no moving when a link is taken back.
CREATE TABLE access_fact (
  patient_key bigint NOT NULL,
  source text COLLATE "C" NOT NULL,          -- the FHIR resource that says it (Consent/…), or the node's own act (Emergency/…)
  version integer NOT NULL,                  -- 1, 2, …; an end is a version without a say
  kind text NOT NULL CHECK (kind IN ('declaration', 'encounter', 'representative', 'consent', 'emergency', 'hold',
                                     'objection', 'notices', 'protected', 'death')),
  facts json NOT NULL,                       -- array of values of domain/access.py; objection, notices, protected: true; death: a day
  resource text,                             -- as FHIR JSON without versionId and lastUpdated; NULL: ended, or not from FHIR
  status text NOT NULL DEFAULT '',           -- of a Consent
  actors text[] NOT NULL DEFAULT '{}',       -- of a Consent: whom it names, as a search asks for them
  recorded_at timestamptz NOT NULL,
  recorded_by text NOT NULL,
  superseded_at timestamptz,                 -- by the next version
  superseded_by text,                        -- who said that
  PRIMARY KEY (patient_key, source, version)
);
CREATE INDEX access_fact_standing ON access_fact (patient_key) WHERE superseded_at IS NULL;

-- A locator: of whom a source speaks.
CREATE TABLE access_source (
  source text COLLATE "C" PRIMARY KEY,
  patient_key bigint NOT NULL
);

-- For whom somebody may act.
CREATE INDEX access_fact_representative ON access_fact USING gin ((facts::jsonb) jsonb_path_ops)
  WHERE kind = 'representative' AND superseded_at IS NULL;

-- Documents by which patients acknowledge privacy policies (BPPC).
CREATE INDEX document_entry_acknowledging ON document_entry (patient_key) WHERE format_code LIKE 'urn:ihe:iti:bppc%';

-- The last day that a partial date (YYYY[MM[DD]] and what follows) can be; NULL for what is no date.
CREATE FUNCTION obieg_last_day(stated text) RETURNS date
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  parts text[] := regexp_match(stated, '^((?:1[6-9]|2[0-9])\d\d)(?:(0[1-9]|1[0-2])(?:(0[1-9]|[12]\d|3[01])\d*)?)?$');
  last date;
BEGIN
  IF parts IS NULL THEN
    RETURN NULL;
  END IF;
  last := make_date(parts[1]::integer, coalesce(parts[2], '12')::integer, 1) + interval '1 month' - interval '1 day';
  IF parts[3] IS NULL THEN
    RETURN last;
  END IF;
  IF parts[3]::integer > extract(day FROM last) THEN
    RETURN NULL;
  END IF;
  RETURN make_date(parts[1]::integer, parts[2]::integer, parts[3]::integer);
END $$;

-- Of whom a request speaks, by the ids of patients, by those of their objects, or by keys that are known already: each
-- person once, the key of the survivor, and in JSON as storage/access_store.py reads it: all keys, the survivor's first,
-- with the transactions that last wrote these patients (migration kept_decisions), the affinity-domain ids that belong to
-- them, and their facts: what sources say, as they wrote it, and what the patient index (the most exact date of birth
-- first) and documents say. It is put together as text: making JSON of what is JSON already takes longer than all else.
CREATE FUNCTION obieg_persons(authorities text[], ids text[], uuids uuid[], unique_ids text[], known bigint[],
                              own_authority text)
RETURNS TABLE (patient_key bigint, facts text)
LANGUAGE plpgsql STABLE PARALLEL SAFE SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
  located bigint[] := known;
  seen bigint[] := '{}';
  keys bigint[];
  one bigint;
BEGIN
  IF ids <> '{}' THEN
    located := located || ARRAY(
      SELECT l.patient_key FROM unnest(authorities, ids) AS named (authority, value)
      JOIN patient_locator l ON l.authority = named.authority AND l.value = named.value
      WHERE l.retired_at IS NULL);
  END IF;
  IF uuids <> '{}' THEN
    located := located || ARRAY(
      SELECT l.patient_key FROM object_locator l WHERE l.entry_uuid = ANY(uuids)
      UNION
      SELECT d.patient_key FROM document_entry d WHERE d.logical_id = ANY(uuids) AND d.version > 1
      UNION
      SELECT f.patient_key FROM folder f WHERE f.logical_id = ANY(uuids) AND f.version > 1);
  END IF;
  IF unique_ids <> '{}' THEN
    located := located || ARRAY(SELECT u.patient_key FROM unique_id_locator u WHERE u.unique_id = ANY(unique_ids));
  END IF;
  FOREACH one IN ARRAY located LOOP
    CONTINUE WHEN one = ANY(seen);
    keys := obieg_kin(one);
    seen := seen || keys;
    patient_key := keys[1];
    facts := concat('{"keys":[', array_to_string(keys, ','), '],', (
      SELECT concat('"versions":{', string_agg('"' || p.patient_key || '":"' || p.xmin || '"', ','), '},"ids":[',
                    string_agg(to_json(p.affinity_domain_id)::text, ','), '],"own":[',
                    string_agg(to_json(l.authority || '#' || l.value)::text, ','), ']')
      FROM patient p
      LEFT JOIN patient_locator l ON l.authority = own_authority AND l.value = p.affinity_domain_id AND l.retired_at IS NULL
      WHERE p.patient_key = ANY(keys)
    ), ',"others":[', (
      SELECT string_agg(to_json(l.authority || '#' || l.value)::text, ',')
      FROM patient_record r CROSS JOIN LATERAL unnest(r.authorities, r.values) AS i (authority, value)
      JOIN patient_locator l ON l.authority = i.authority AND l.value = i.value
      WHERE r.patient_key = ANY(keys) AND r.removed_at IS NULL AND l.retired_at IS NULL AND l.patient_key = ANY(keys)
    ), '],"records":[', (
      SELECT string_agg(json_build_object('born', obieg_last_day(r.birth_date), 'died',
        CASE WHEN position('"deceased'::bytea IN r.demographics) > 0 THEN (
          -- A day is as it is stated; of a month, a year or a death without a date it is no later than when it was told.
          SELECT least(o.day, CASE WHEN o.day IS NULL OR length(s.stated) < 8 THEN r.updated_at::date END)
          FROM (SELECT convert_from(r.demographics, 'UTF8')::json AS said OFFSET 0) d
          CROSS JOIN LATERAL (SELECT d.said ->> 'deceased_at' AS stated) s
          CROSS JOIN LATERAL (SELECT obieg_last_day(s.stated) AS day) o
          WHERE (d.said ->> 'deceased')::boolean OR s.stated <> '')
        END)::text, ',' ORDER BY length(r.birth_date) DESC, r.updated_at DESC, r.record_key)
      FROM patient_record r WHERE r.patient_key = ANY(keys) AND r.removed_at IS NULL
    ), '],"said":[', (
      SELECT string_agg('{"kind":"' || f.kind || '","facts":' || f.facts::text || '}', ',')
      FROM access_fact f WHERE f.patient_key = ANY(keys) AND f.superseded_at IS NULL
    ), '],"acknowledged":[', (
      -- What it ends on is told as precisely as it was sent: what ends on a day, a month or a year ends with it.
      SELECT string_agg(json_build_object('document', d.entry_uuid, 'policies', d.event_code_list,
          'begin', d.service_start_time, 'end', coalesce(substring(encode(d.ebrim, 'escape') FROM
            '<rim:Slot name="serviceStopTime"><rim:ValueList><rim:Value>(\d+)</rim:Value>'), d.service_stop_time)
        )::text, ',')
      FROM document_entry d
      WHERE d.patient_key = ANY(keys) AND d.format_code LIKE 'urn:ihe:iti:bppc%' AND d.status = 'A' AND NOT d.superseded
    ), ']}');
    RETURN NEXT;
  END LOOP;
END $$;
