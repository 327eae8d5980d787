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
