-- The first schema. Everything about a patient is keyed by patient_key first; look-ups by other names go through small
-- locator tables keyed by that name (ARCHITECTURE.md, Data). On Citus the patient tables are distributed by
-- patient_key and each locator by its own key.

-- A write that relied on what another transaction changed in between: undo, read again, decide again.
CREATE FUNCTION obieg_expect(actual bigint, expected bigint, what text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
  IF actual IS DISTINCT FROM expected THEN
    RAISE EXCEPTION USING ERRCODE = 'OB001', MESSAGE = what;
  END IF;
  RETURN true;
END $$;

-- patients --------------------------------------------------------------------------------------------------------

CREATE TABLE patient (
  patient_key bigint PRIMARY KEY,            -- random 64 bit, never changes
  affinity_domain_id text NOT NULL,          -- opaque, unique with patient_key; no PESEL
  family text NOT NULL DEFAULT '',
  given text NOT NULL DEFAULT '',
  sort_key bytea NOT NULL DEFAULT ''::bytea, -- Polish order, made by the node (domain/polish.py): never a collation
  birth_date text NOT NULL DEFAULT '',       -- YYYY[MM[DD]]
  sex text NOT NULL DEFAULT '',
  street text NOT NULL DEFAULT '',
  city text NOT NULL DEFAULT '',
  postal_code text NOT NULL DEFAULT '',
  country text NOT NULL DEFAULT '',
  phone text NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX patient_by_name ON patient (sort_key, patient_key);

-- All identifiers of a patient, the affinity-domain id included.
CREATE TABLE patient_identifier (
  patient_key bigint NOT NULL,
  authority text NOT NULL,                   -- OID
  value text NOT NULL,
  added_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (patient_key, authority, value)
);

CREATE TABLE patient_locator (
  authority text NOT NULL,
  value text NOT NULL,
  patient_key bigint NOT NULL,
  retired_at timestamptz,                    -- by a merge: from then on it finds and registers nothing
  PRIMARY KEY (authority, value)
);

-- A merge: one row; undo deletes it. survivor_key is the end of the chain.
CREATE TABLE patient_link (
  patient_key bigint PRIMARY KEY,
  merged_into bigint NOT NULL,
  survivor_key bigint NOT NULL,
  linked_at timestamptz NOT NULL DEFAULT now(),
  CHECK (patient_key <> survivor_key)
);
CREATE INDEX patient_link_by_survivor ON patient_link (survivor_key);

-- The keys under which a patient's objects stand: the patient's own and those of patients merged into them. Empty for an
-- id that names nobody, or that was merged away. An array, so that every question goes through an index; PL/pgSQL because
-- its plans are kept, while a function in SQL is planned anew in every statement.
CREATE FUNCTION obieg_patient_keys(authority text, value text) RETURNS bigint[]
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
  RETURN ARRAY(
    SELECT l.patient_key FROM patient_locator l
    WHERE l.authority = $1 AND l.value = $2 AND l.retired_at IS NULL
    UNION ALL
    SELECT k.patient_key FROM patient_locator l JOIN patient_link k ON k.survivor_key = l.patient_key
    WHERE l.authority = $1 AND l.value = $2 AND l.retired_at IS NULL
  );
END $$;

-- registry --------------------------------------------------------------------------------------------------------
-- status: A Approved, D Deprecated. kind: D DocumentEntry, S SubmissionSet, F Folder, A Association.
-- Coded attributes are stored as 'code^^scheme', which is how stored queries name them.
-- ebrim is the rendering in pieces around the volatile values, separated by a NUL byte (mapping/ebrim.py).

CREATE TABLE document_entry (
  patient_key bigint NOT NULL,
  entry_uuid uuid NOT NULL,
  unique_id text NOT NULL,
  logical_id uuid NOT NULL,
  version integer NOT NULL DEFAULT 1,
  status "char" NOT NULL DEFAULT 'A',
  entry_type "char" NOT NULL DEFAULT 'S',    -- S stable, O on-demand
  class_code text,
  type_code text,
  format_code text,
  healthcare_facility_type_code text,
  practice_setting_code text,
  confidentiality_code text[] NOT NULL DEFAULT '{}',
  event_code_list text[] NOT NULL DEFAULT '{}',
  author_person text[] NOT NULL DEFAULT '{}',
  author_institution text[] NOT NULL DEFAULT '{}',
  reference_id_list text[] NOT NULL DEFAULT '{}',
  creation_time text,                        -- DTM filled up to 14 digits
  service_start_time text,
  service_stop_time text,
  repository_unique_id text,
  mime_type text NOT NULL,
  hash text,
  size bigint,
  title text NOT NULL DEFAULT '',
  ebrim bytea NOT NULL,
  registered_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (patient_key, entry_uuid)
);
CREATE INDEX document_entry_by_time ON document_entry (patient_key, status, creation_time);

CREATE TABLE submission_set (
  patient_key bigint NOT NULL,
  entry_uuid uuid NOT NULL,
  unique_id text NOT NULL,
  source_id text NOT NULL,
  status "char" NOT NULL DEFAULT 'A',
  submission_time text NOT NULL,
  content_type_code text,
  author_person text[] NOT NULL DEFAULT '{}',
  ebrim bytea NOT NULL,
  fingerprint bytea NOT NULL,                -- SHA-256 of the whole submission: an identical repetition is Success
  registered_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (patient_key, entry_uuid)
);

CREATE TABLE folder (
  patient_key bigint NOT NULL,
  entry_uuid uuid NOT NULL,
  unique_id text NOT NULL,
  logical_id uuid NOT NULL,
  version integer NOT NULL DEFAULT 1,
  status "char" NOT NULL DEFAULT 'A',
  code_list text[] NOT NULL DEFAULT '{}',
  last_update_time text NOT NULL,            -- YYYYMMDDhhmmss
  ebrim bytea NOT NULL,
  registered_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (patient_key, entry_uuid)
);

CREATE TABLE association (
  patient_key bigint NOT NULL,
  entry_uuid uuid NOT NULL,
  type text NOT NULL,                        -- domain.documents.AssociationType
  source uuid NOT NULL,
  target uuid NOT NULL,
  status "char" NOT NULL DEFAULT 'A',
  ebrim bytea NOT NULL,
  PRIMARY KEY (patient_key, entry_uuid)
);
CREATE INDEX association_by_source ON association (patient_key, source);
CREATE INDEX association_by_target ON association (patient_key, target);

CREATE TABLE object_locator (
  entry_uuid uuid PRIMARY KEY,
  kind "char" NOT NULL,
  patient_key bigint NOT NULL
);

-- Several document entries may share a uniqueId (with one hash); a set's or folder's is its own.
CREATE TABLE unique_id_locator (
  unique_id text NOT NULL,
  entry_uuid uuid NOT NULL,
  kind "char" NOT NULL,
  patient_key bigint NOT NULL,
  hash text,
  PRIMARY KEY (unique_id, entry_uuid)
);
CREATE UNIQUE INDEX unique_id_of_set_or_folder ON unique_id_locator (unique_id) WHERE kind IN ('S', 'F');

-- repository ------------------------------------------------------------------------------------------------------

CREATE TABLE stored_document (
  unique_id text NOT NULL,
  repository_unique_id text NOT NULL,
  state "char" NOT NULL,                     -- P pending (not retrievable), R registered
  patient_id text NOT NULL,                  -- CX, as submitted
  mime_type text NOT NULL,
  size bigint NOT NULL,
  sha1 text NOT NULL,
  sha256 bytea NOT NULL,
  location text NOT NULL,                    -- segment:offset:length, or the object's name
  wrapped_key bytea NOT NULL,
  stored_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (unique_id, repository_unique_id)
);

-- A submission whose documents are stored here and which a registry elsewhere has not yet answered.
CREATE TABLE pending_submission (
  submission_id uuid PRIMARY KEY,            -- entryUUID of the submission set
  unique_ids text[] NOT NULL,
  message bytea NOT NULL,                    -- the very ITI-42 body, with final UUIDs
  created_at timestamptz NOT NULL DEFAULT now(),
  attempts integer NOT NULL DEFAULT 0,
  next_attempt_at timestamptz NOT NULL,
  last_error text NOT NULL DEFAULT ''
);
CREATE INDEX pending_submission_due ON pending_submission (next_attempt_at);

-- audit -----------------------------------------------------------------------------------------------------------

CREATE TABLE audit_event (
  audit_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  recorded_at timestamptz NOT NULL DEFAULT now(),
  transaction text NOT NULL,
  outcome smallint NOT NULL,                 -- EventOutcomeIndicator: 0, 4, 8, 12
  patient_id text NOT NULL DEFAULT '',       -- CX, when the act was about a patient
  request_id text NOT NULL,
  message text NOT NULL                      -- DICOM PS3.15 AuditMessage
);

-- One shape for all four kinds of registry object, with the id of the patient they belong to now: after a merge the
-- survivor's.
CREATE VIEW registry_object AS
SELECT u.*, (
  SELECT p.affinity_domain_id FROM patient p
  WHERE p.patient_key = coalesce((SELECT k.survivor_key FROM patient_link k WHERE k.patient_key = u.patient_key),
                                 u.patient_key)
) AS patient_id
FROM (
  SELECT 'D'::"char" AS kind, patient_key, entry_uuid, logical_id, status, version, '' AS last_update_time, ebrim,
         entry_type, format_code, confidentiality_code
  FROM document_entry
  UNION ALL
  SELECT 'S', patient_key, entry_uuid, entry_uuid, status, 1, '', ebrim, NULL, NULL, NULL FROM submission_set
  UNION ALL
  SELECT 'F', patient_key, entry_uuid, logical_id, status, version, last_update_time, ebrim, NULL, NULL, NULL
  FROM folder
  UNION ALL
  SELECT 'A', patient_key, entry_uuid, entry_uuid, status, 1, '', ebrim, NULL, NULL, NULL FROM association
) u;

-- lz4 where the server has it: several times cheaper than the default, and every answer reads renderings.
DO $$
BEGIN
  ALTER TABLE document_entry ALTER COLUMN ebrim SET COMPRESSION lz4;
  ALTER TABLE submission_set ALTER COLUMN ebrim SET COMPRESSION lz4;
  ALTER TABLE folder ALTER COLUMN ebrim SET COMPRESSION lz4;
  ALTER TABLE association ALTER COLUMN ebrim SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN NULL;
END $$;
