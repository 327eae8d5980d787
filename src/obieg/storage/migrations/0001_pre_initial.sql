-- Patients, registry, repository and audit. Everything about a patient is keyed by patient_key first; look-ups by other
-- names go through small locator tables keyed by that name (ARCHITECTURE.md, Data). On Citus the patient tables are
-- distributed by patient_key and each locator by its own key.

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
  version integer NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE patient_locator (
  authority text NOT NULL,                   -- OID
  value text NOT NULL,
  patient_key bigint NOT NULL,
  retired_at timestamptz,                    -- by a merge: from then on it finds and registers nothing
  retired_by bigint,                         -- the patient whose link retired it; undoing that link revives it
  replaced_authority text,                   -- the identifier that stands in its place
  replaced_value text,
  PRIMARY KEY (authority, value)
);
CREATE INDEX patient_locator_by_link ON patient_locator (retired_by) WHERE retired_by IS NOT NULL;
CREATE INDEX patient_locator_by_replacement ON patient_locator (replaced_authority, replaced_value)
  WHERE replaced_authority IS NOT NULL;

-- A merge: one row; undo deletes it. survivor_key is the end of the chain.
CREATE TABLE patient_link (
  patient_key bigint PRIMARY KEY,
  merged_into bigint NOT NULL,
  survivor_key bigint NOT NULL,
  reason text NOT NULL DEFAULT 'A40',        -- A40, automatic, decision
  linked_by text NOT NULL DEFAULT '',
  linked_at timestamptz NOT NULL DEFAULT now(),
  CHECK (patient_key <> survivor_key)
);
CREATE INDEX patient_link_by_survivor ON patient_link (survivor_key);
CREATE INDEX patient_link_by_target ON patient_link (merged_into);

-- The keys under which a patient's objects stand: the patient's own and those of patients merged into them. Empty for an
-- id that names nobody, or that was merged away; an id whose patient is linked to another one without being retired
-- answers for the survivor. An array, so that every question goes through an index; PL/pgSQL because its plans are kept,
-- while a function in SQL is planned anew in every statement.
CREATE FUNCTION obieg_patient_keys(authority text, value text) RETURNS bigint[]
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
  key bigint := (SELECT coalesce(k.survivor_key, l.patient_key)
                 FROM patient_locator l LEFT JOIN patient_link k ON k.patient_key = l.patient_key
                 WHERE l.authority = $1 AND l.value = $2 AND l.retired_at IS NULL);
BEGIN
  IF key IS NULL THEN
    RETURN '{}';
  END IF;
  RETURN key || ARRAY(SELECT k.patient_key FROM patient_link k WHERE k.survivor_key = key);
END $$;

-- All keys of the person to whom a key belongs: after a merge an association stands under the key of the survivor and
-- one of its ends under that of the patient merged away, so whoever follows associations looks under all of them.
CREATE FUNCTION obieg_kin(patient_key bigint) RETURNS bigint[]
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
  survivor bigint := coalesce((SELECT k.survivor_key FROM patient_link k WHERE k.patient_key = $1), $1);
BEGIN
  RETURN survivor || ARRAY(SELECT k.patient_key FROM patient_link k WHERE k.survivor_key = survivor);
END $$;

-- registry --------------------------------------------------------------------------------------------------------
-- status: A Approved, D Deprecated. kind: D DocumentEntry, S SubmissionSet, F Folder, A Association.
-- Coded attributes are stored as 'code^^scheme', which is how stored queries name them.
-- ebrim is the rendering in pieces around the volatile values, separated by a NUL byte (mapping/ebrim.py).
-- superseded: a version that has a newer one of the same patient. It stays, deprecated, and is found only by who asks for
-- old versions (ITI TF-2:3.18.4.1.2.3.5.1, $MetadataLevel). Where the newer one went to another patient, this one remains
-- what the first patient's record holds of it (NIST 16102c).

CREATE TABLE document_entry (
  patient_key bigint NOT NULL,
  entry_uuid uuid NOT NULL,
  unique_id text NOT NULL,
  logical_id uuid NOT NULL,
  version integer NOT NULL DEFAULT 1,
  status "char" NOT NULL DEFAULT 'A',
  entry_type "char" NOT NULL DEFAULT 'S',    -- S stable, O on-demand; L, M: the same with limited metadata
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
  source_patient_id text NOT NULL DEFAULT '',  -- whose document it is when a patient is divided again
  -- What filters of access control look at (docs/access.md), written with the row, of what the metadata say:
  labels text[] NOT NULL DEFAULT '{}',       -- of confidentialityCode N, R and V alone; N where none of them is there
  authors text[] NOT NULL DEFAULT '{}',      -- root#extension of authorPerson and authorInstitution
  encounters text[] NOT NULL DEFAULT '{}',   -- root#extension of the encounters in referenceIdList
  superseded boolean NOT NULL DEFAULT false,
  ebrim bytea NOT NULL,
  rendering_version smallint NOT NULL DEFAULT 1,  -- of the mapping that wrote ebrim (mapping.ebrim.RENDERING_VERSION)
  revision integer NOT NULL DEFAULT 1,       -- counts what happened to the object: its version in FHIR
  updated_at timestamptz,                    -- NULL until something has
  registered_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (patient_key, entry_uuid)
);
CREATE INDEX document_entry_by_time ON document_entry (patient_key, status, creation_time);
-- All versions of one object: the first one has the logicalID as its entryUUID, so object_locator finds it.
CREATE INDEX document_entry_by_logical_id ON document_entry (logical_id) WHERE version > 1;
CREATE INDEX document_entry_versions ON document_entry (patient_key) WHERE version > 1;

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
  rendering_version smallint NOT NULL DEFAULT 1,  -- of the mapping that wrote ebrim (mapping.ebrim.RENDERING_VERSION)
  revision integer NOT NULL DEFAULT 1,       -- counts what happened to the object: its version in FHIR
  updated_at timestamptz,                    -- NULL until something has
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
  -- When the folder itself was written: where a member is hidden, it is dated as if that had never been put there.
  written_time text NOT NULL DEFAULT '',
  superseded boolean NOT NULL DEFAULT false,
  ebrim bytea NOT NULL,
  rendering_version smallint NOT NULL DEFAULT 1,  -- of the mapping that wrote ebrim (mapping.ebrim.RENDERING_VERSION)
  revision integer NOT NULL DEFAULT 1,       -- counts what happened to the object: its version in FHIR
  updated_at timestamptz,                    -- NULL until something has
  registered_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (patient_key, entry_uuid)
);
CREATE INDEX folder_by_logical_id ON folder (logical_id) WHERE version > 1;

CREATE TABLE association (
  patient_key bigint NOT NULL,
  entry_uuid uuid NOT NULL,
  type text NOT NULL,                        -- domain.documents.AssociationType
  source uuid NOT NULL,
  target uuid NOT NULL,
  status "char" NOT NULL DEFAULT 'A',
  member_since text,                         -- when a document was put into a folder
  ebrim bytea NOT NULL,
  rendering_version smallint NOT NULL DEFAULT 1,  -- of the mapping that wrote ebrim (mapping.ebrim.RENDERING_VERSION)
  PRIMARY KEY (patient_key, entry_uuid)
);
CREATE INDEX association_by_source ON association (patient_key, source);
CREATE INDEX association_by_target ON association (patient_key, target);
-- Few associations relate documents; each document of an answer is asked for its own.
CREATE INDEX association_of_documents ON association (patient_key, source) WHERE type <> 'HasMember';

CREATE TABLE object_locator (
  entry_uuid uuid PRIMARY KEY,
  kind "char" NOT NULL,
  patient_key bigint NOT NULL
);

-- Several document entries may share a uniqueId (with one hash); a set's or folder's is its own. A folder that goes to
-- another patient does so as a new version, under the uniqueId that it has.
CREATE TABLE unique_id_locator (
  unique_id text NOT NULL,
  entry_uuid uuid NOT NULL,
  kind "char" NOT NULL,
  version integer NOT NULL DEFAULT 1,
  patient_key bigint NOT NULL,
  hash text,
  PRIMARY KEY (unique_id, entry_uuid)
);
CREATE UNIQUE INDEX unique_id_of_set_or_folder ON unique_id_locator (unique_id, version) WHERE kind IN ('S', 'F');

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
  content_key bytea,                         -- of a snapshot of an on-demand document: equal for equal content
  stored_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (unique_id, repository_unique_id)
);

-- A submission whose documents are stored here and which a registry elsewhere has not yet answered.
CREATE TABLE pending_submission (
  submission_id uuid PRIMARY KEY,            -- entryUUID of the submission set
  unique_ids text[] NOT NULL,
  message bytea NOT NULL,                    -- the very ITI-42 body, with final UUIDs
  subject jsonb NOT NULL DEFAULT '{}',       -- facts of a Requester by which who provided it is named, however late (ITI-40)
  fingerprint bytea NOT NULL DEFAULT ''::bytea,  -- of provided_submission
  created_at timestamptz NOT NULL DEFAULT now(),
  attempts integer NOT NULL DEFAULT 0,
  next_attempt_at timestamptz NOT NULL,
  last_error text NOT NULL DEFAULT ''
);
CREATE INDEX pending_submission_due ON pending_submission (next_attempt_at);

-- Submissions that were provided here and that the registry elsewhere did not refuse, by SHA-256 of the submission as
-- received, with hash and size of its documents: an identical repetition is Success and makes nothing new.
CREATE TABLE provided_submission (
  fingerprint bytea PRIMARY KEY,
  submission_id uuid NOT NULL,               -- pending as long as pending_submission has it
  provided_at timestamptz NOT NULL DEFAULT now()
);

-- audit -----------------------------------------------------------------------------------------------------------

CREATE TABLE audit_event (
  audit_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  recorded_at timestamptz NOT NULL DEFAULT now(),
  transaction text NOT NULL,
  outcome smallint NOT NULL,                 -- EventOutcomeIndicator: 0, 4, 8, 12
  patient_id text NOT NULL DEFAULT '',       -- CX, when the act was about a patient
  request_id text NOT NULL,
  message text NOT NULL,                     -- DICOM PS3.15 AuditMessage
  -- The log keeps what others record, too, as it came:
  format text NOT NULL DEFAULT 'dicom',      -- of message; dicom: ours. See obieg.domain.audit.AuditFormat
  happened_at timestamptz,                   -- as a message of others says; NULL: recorded_at
  sender text NOT NULL DEFAULT ''            -- who sent a message of others
);
-- Who looked at a patient's data, also by the person's former ids.
CREATE INDEX audit_event_by_patient ON audit_event (patient_id, audit_id) WHERE patient_id <> '';
-- The other patients of an act that was about several, such as a search.
CREATE TABLE audit_patient (
  patient_id text NOT NULL,                  -- CX
  audit_id bigint NOT NULL,
  PRIMARY KEY (patient_id, audit_id)
);

-- One shape for all four kinds of registry object, with the id of the patient they belong to now: after a merge the
-- survivor's. current: what is answered to who does not ask for old versions.
CREATE VIEW registry_object AS
SELECT u.kind, u.patient_key, u.entry_uuid, u.logical_id, u.status, u.version, u.last_update_time, u.ebrim,
       u.entry_type, u.format_code, u.confidentiality_code, (
  SELECT p.affinity_domain_id FROM patient p
  WHERE p.patient_key = coalesce((SELECT k.survivor_key FROM patient_link k WHERE k.patient_key = u.patient_key),
                                 u.patient_key)
) AS patient_id, u.current
FROM (
  SELECT 'D'::"char" AS kind, patient_key, entry_uuid, logical_id, status, version, '' AS last_update_time, ebrim,
         entry_type, format_code, confidentiality_code, NOT superseded AS current
  FROM document_entry
  UNION ALL
  SELECT 'S', patient_key, entry_uuid, entry_uuid, status, 1, '', ebrim, NULL, NULL, NULL, true FROM submission_set
  UNION ALL
  SELECT 'F', patient_key, entry_uuid, logical_id, status, version, last_update_time, ebrim, NULL, NULL, NULL,
         NOT superseded
  FROM folder
  UNION ALL
  SELECT 'A', patient_key, entry_uuid, entry_uuid, status, 1, '', ebrim, NULL, NULL, NULL, status = 'A' FROM association
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
