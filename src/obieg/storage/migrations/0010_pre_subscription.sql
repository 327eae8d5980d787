-- Who is told of documents and submission sets (DSUBm, domain/subscriptions.py). Few rows, read by every registration: on
-- Citus a reference table, and so is what is told of it.
CREATE TABLE subscription (
  subscription_id uuid PRIMARY KEY,
  patient_key bigint NOT NULL,               -- whose objects, with those merged; 0: of everybody
  owner text NOT NULL,                       -- the system that made it
  person text NOT NULL,                      -- and the person who asked for it there; '': the system by itself
  requester bytea NOT NULL,                  -- as which objects are looked at when they are sent: domain.requester.Requester in JSON
  kind "char" NOT NULL,                      -- D documents, S submission sets
  topic text NOT NULL,                       -- canonical address
  events text[] NOT NULL,                    -- of codes/subscription_topics.toml
  status text NOT NULL DEFAULT 'requested',  -- requested, active, error, off
  error text NOT NULL DEFAULT '',
  end_at timestamptz NOT NULL,
  base text NOT NULL,                        -- address of the service by which it was made
  endpoint text NOT NULL,
  payload text NOT NULL,                     -- media type
  content text NOT NULL,                     -- empty, id-only, full-resource
  criteria text NOT NULL,                    -- the filter as it was sent
  contacts text[] NOT NULL DEFAULT '{}',     -- 'system|value'
  resource bytea NOT NULL,                   -- as it was sent, without what this table says
  number bigint NOT NULL DEFAULT 0,          -- of the newest event that was on its way
  version integer NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  -- What an object must be, as searches ask it (obieg_patterns_fit and obieg_people_fit); NULL: anything.
  statuses "char"[],
  type_code text[],
  class_code text[],
  practice_setting_code text[],
  healthcare_facility_type_code text[],
  format_code text[],
  event_code_list text[],
  confidentiality_code text[],
  author text[],
  source_id text[],
  source text[]
);
CREATE INDEX subscription_active ON subscription (patient_key) WHERE status = 'active';
CREATE INDEX subscription_by_owner ON subscription (owner, person, subscription_id);
CREATE INDEX subscription_by_end ON subscription (end_at) WHERE status <> 'off';
CREATE INDEX subscription_off ON subscription (updated_at) WHERE status = 'off';

-- What a subscriber was told, by number. An event gets its number when it is sent for the first time: the registrations
-- that cause events need not wait for one another.
CREATE TABLE subscription_event (
  subscription_id uuid NOT NULL REFERENCES subscription ON DELETE CASCADE,
  number bigint NOT NULL,
  outbox_id bigint NOT NULL,
  occurred_at timestamptz NOT NULL,
  notice bytea NOT NULL,                     -- domain.subscriptions.Notice
  PRIMARY KEY (subscription_id, number),
  UNIQUE (subscription_id, outbox_id)
);

-- The subscription of a destination of the outbox; NULL for receivers of the settings.
CREATE FUNCTION obieg_subscription_of(destination text) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN starts_with(destination, 'subscription:') THEN substr(destination, 14)::uuid END
$$;
CREATE INDEX outbox_subscribed ON outbox (next_attempt_at) WHERE state = 'W' AND starts_with(destination, 'subscription:');

-- The body of a letter of the outbox: domain.subscriptions.Notice. focus and sent: address and JSON of a resource
-- elsewhere, of which a publisher tells (ITI-111); '' for what stands here.
CREATE FUNCTION obieg_notice(event text, kind text, entry_uuid uuid, patient_key bigint, endpoint text,
  focus text DEFAULT '', sent text DEFAULT '') RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT convert_to(json_build_object('event', event, 'kind', kind, 'entry_uuid', coalesce(entry_uuid::text, ''),
    'patient', coalesce(obieg_person_id(patient_key), ''), 'endpoint', endpoint,
    'focus', focus, 'resource', sent)::text, 'UTF8')
$$;

-- Whoever registers, changes or removes, by whatever way: subscribers are told in the same commit. One look at an index of
-- active subscriptions where nobody subscribes. What a publisher tells of resources elsewhere is matched by the same
-- functions, with a row that is stored nowhere; the notice carries what cannot be read again. Their plans are kept:
-- PostgreSQL would otherwise plan each insertion anew for the number of keys, which takes ten times as long.
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

CREATE FUNCTION obieg_tell_document() RETURNS trigger
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
CREATE TRIGGER document_entry_told AFTER INSERT OR DELETE OR UPDATE OF status ON document_entry
  FOR EACH ROW EXECUTE FUNCTION obieg_tell_document();

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

CREATE FUNCTION obieg_tell_submission_set() RETURNS trigger
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM subscription WHERE status = 'active') THEN
    RETURN NULL;
  END IF;
  PERFORM obieg_tell_of_submission_set(NEW, obieg_kin(NEW.patient_key), '', '');
  RETURN NULL;
END $$;
CREATE TRIGGER submission_set_told AFTER INSERT ON submission_set
  FOR EACH ROW EXECUTE FUNCTION obieg_tell_submission_set();
