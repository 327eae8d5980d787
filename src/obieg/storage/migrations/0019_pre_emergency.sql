-- What follows from access (docs/access.md, Obligations): patients are told, the data-protection officer reviews.

-- What a patient is told: the portal shows it, and who can be reached is also told that it is there. What repeats within
-- a day is one row.
CREATE TABLE access_notice (
  patient_key bigint NOT NULL,
  notice_id bigint GENERATED ALWAYS AS IDENTITY,
  kind text NOT NULL CHECK (kind IN ('emergency', 'access', 'document', 'message', 'handout', 'consent')),
  key text COLLATE "C" NOT NULL,             -- the same for what repeats
  said json NOT NULL,                        -- domain/obligations.py, Told.said
  times integer NOT NULL DEFAULT 1,
  first_at timestamptz NOT NULL DEFAULT now(),
  last_at timestamptz NOT NULL DEFAULT now(),
  read_at timestamptz,
  PRIMARY KEY (patient_key, notice_id),
  UNIQUE (patient_key, key)
);

-- What the officer has to look at afterwards: emergency access, a row for each session, entries of the access log that
-- patients report, and prints at the counter for which no code was told.
CREATE TABLE access_review (
  review_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  patient_key bigint NOT NULL,
  source text COLLATE "C" UNIQUE,            -- Emergency/…; NULL: of a session that was not opened here
  professional text NOT NULL,
  professional_name text NOT NULL,
  organisation text NOT NULL,
  reason text NOT NULL,                      -- key of [emergency.reasons] in codes/access.toml; '': not opened here; handout:
                                             -- no-phone, or a reason of codes/handouts.toml
  explanation text NOT NULL,
  opened_at timestamptz NOT NULL,
  until timestamptz NOT NULL,
  renewals integer NOT NULL DEFAULT 0,
  ended_at timestamptz,                      -- before its time
  reads integer NOT NULL DEFAULT 0,          -- requests that it permitted
  last_read_at timestamptz,
  decided_at timestamptz,
  decided_by text,
  justified boolean,
  note text,
  kind text NOT NULL DEFAULT 'emergency' CHECK (kind IN ('emergency', 'reported', 'handout')),
  audit_id bigint,                           -- reported: the entry of the log
  reported_by text                           -- reported: the patient, or who acts for them
);
CREATE UNIQUE INDEX access_review_reported ON access_review (patient_key, audit_id) WHERE audit_id IS NOT NULL;
CREATE INDEX access_review_patient ON access_review (patient_key, professional);
CREATE INDEX access_review_open ON access_review (opened_at) WHERE decided_at IS NULL;

-- Fulfils obligations in the transaction of the act: tells patients, and counts what a session of break-glass permitted.
CREATE FUNCTION obieg_tell(told jsonb) RETURNS boolean
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
DECLARE
  t record;
  made record;
BEGIN
  FOR t IN
    SELECT * FROM jsonb_to_recordset(told) AS x (
      patient_key bigint, kind text, key text, said json, notify boolean, report boolean, until timestamptz)
    ORDER BY x.patient_key, x.key
  LOOP
    IF coalesce(t.notify, true) THEN  -- values leave their defaults out
      INSERT INTO access_notice AS n (patient_key, kind, key, said) VALUES (t.patient_key, t.kind, t.key, t.said)
      ON CONFLICT (patient_key, key) DO UPDATE SET said = EXCLUDED.said, times = n.times + 1, last_at = now()
      RETURNING n.notice_id, n.times INTO made;
      IF made.times = 1 THEN
        INSERT INTO outbox (patient_key, destination, transaction, key, body)
        VALUES (t.patient_key, 'patients', 'NOTICE', '', convert_to(made.notice_id::text, 'UTF8'));
      END IF;
    END IF;
    IF coalesce(t.report, false) AND t.kind = 'handout' THEN
      INSERT INTO access_review (patient_key, professional, professional_name, organisation, reason, explanation, opened_at,
                                 until, kind)
      VALUES (t.patient_key, t.said ->> 'person', coalesce(t.said ->> 'name', ''), t.said ->> 'organisation',
              t.said ->> 'reason', coalesce(t.said ->> 'acting_for_name', t.said ->> 'acting_for'), now(), now(), 'handout')
      RETURNING review_id INTO made;
      INSERT INTO outbox (patient_key, destination, transaction, key, body)
      VALUES (0, 'officer', 'NOTICE', '', convert_to(made.review_id::text, 'UTF8'));
    ELSIF coalesce(t.report, false) THEN
      UPDATE access_review SET reads = reads + 1, last_read_at = now()
      WHERE review_id = (
        SELECT r.review_id FROM access_review r
        WHERE r.patient_key = ANY(obieg_kin(t.patient_key))
          AND r.professional IN (t.said ->> 'person', t.said ->> 'acting_for')  -- an assistant reads by another's session
          AND r.ended_at IS NULL AND r.until > now()
        ORDER BY r.organisation = t.said ->> 'organisation' DESC, r.opened_at DESC LIMIT 1);
      IF NOT FOUND THEN
        INSERT INTO access_review (patient_key, professional, professional_name, organisation, reason, explanation,
                                   opened_at, until, reads, last_read_at)
        VALUES (t.patient_key, t.said ->> 'person', coalesce(t.said ->> 'name', ''), t.said ->> 'organisation', '', '',
                now(), coalesce(t.until, now()), 1, now())
        RETURNING review_id INTO made;
        INSERT INTO outbox (patient_key, destination, transaction, key, body)
        VALUES (0, 'officer', 'NOTICE', '', convert_to(made.review_id::text, 'UTF8'));
      END IF;
    END IF;
  END LOOP;
  RETURN true;
END $$;

-- A patient who asked to be told is told of documents that come, too, but for what a facility holds back: it is asked at
-- the commit, when it stands with what it relates to.
CREATE FUNCTION obieg_tell_patient() RETURNS trigger
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  IF EXISTS (SELECT FROM access_fact f
             WHERE f.patient_key = ANY(obieg_kin(NEW.patient_key)) AND f.superseded_at IS NULL AND f.kind = 'notices')
     AND NOT EXISTS (
       SELECT FROM access_fact f CROSS JOIN LATERAL json_array_elements(f.facts) h
       WHERE f.patient_key = ANY(obieg_kin(NEW.patient_key)) AND f.superseded_at IS NULL AND f.kind = 'hold'
         AND coalesce((h -> 'period' ->> 'end')::timestamptz > now(), true)
         AND replace(h ->> 'document', 'urn:uuid:', '')::uuid
             = ANY(obieg_lineage(obieg_kin(NEW.patient_key), ARRAY[NEW.entry_uuid]))) THEN
    PERFORM obieg_tell(jsonb_build_array(jsonb_build_object(
      'patient_key', NEW.patient_key, 'kind', 'document', 'key', 'document:' || NEW.entry_uuid,
      'said', jsonb_build_object('document', NEW.entry_uuid, 'organisations', NEW.authors), 'notify', true, 'report', false)));
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER document_entry_patient_told AFTER INSERT ON document_entry DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW WHEN (NEW.version = 1) EXECUTE FUNCTION obieg_tell_patient();

-- Decisions of the officer that a professional's name is not shown in access logs for a while (EHDS art. 9(3)).
CREATE TABLE access_withheld (
  withheld_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  person text NOT NULL,                      -- root#extension
  patient_key bigint,                        -- in whose log; NULL: in all
  reason text NOT NULL,
  decided_by text NOT NULL,
  decided_at timestamptz NOT NULL DEFAULT now(),
  until timestamptz NOT NULL
);
CREATE INDEX access_withheld_person ON access_withheld (person);

-- Codes that patients tell during a visit to consent, or at the counter to get a print; each is good for who asked, for
-- three tries and for minutes.
CREATE TABLE consent_code (
  code_id uuid PRIMARY KEY,                  -- also the id of the Consent that it makes, if it is for one
  patient_key bigint NOT NULL,
  digest bytea NOT NULL,                     -- SHA-256 of code_id and code
  person text NOT NULL,
  organisation text NOT NULL,
  scope text NOT NULL CHECK (scope IN ('person', 'facility', 'handout')),
  hours integer NOT NULL,                    -- for which the consent holds
  tries integer NOT NULL DEFAULT 0,
  made_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  used_at timestamptz
);
CREATE INDEX consent_code_patient ON consent_code (patient_key, made_at);
