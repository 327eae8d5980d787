-- Documents that are changed and removed: the history that remains of it.

-- What was done to a document, folder or association after its registration, with how it was before and after.
CREATE TABLE registry_change (
  patient_key bigint NOT NULL,
  change_id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
  kind "char" NOT NULL,                      -- D, F, A, S
  act text NOT NULL,                         -- domain.history.Act
  entry_uuid uuid NOT NULL,                  -- of the object that was there; of a new version what came before it
  logical_id uuid,
  unique_id text,
  before bytea,                              -- the object as JSON; NULL when there was nothing
  after bytea,                               -- likewise
  changed_at timestamptz NOT NULL DEFAULT now(),
  changed_by text NOT NULL,
  transaction text NOT NULL,
  request_id text NOT NULL,
  PRIMARY KEY (patient_key, change_id)
);
CREATE INDEX registry_change_by_unique_id ON registry_change (unique_id) WHERE unique_id IS NOT NULL;
CREATE INDEX registry_change_by_entry_uuid ON registry_change (entry_uuid);

-- Documents whose key was dropped: proof of what there was, for ever.
CREATE TABLE removed_document (
  unique_id text NOT NULL,
  repository_unique_id text NOT NULL,
  removed_at timestamptz NOT NULL DEFAULT now(),
  removed_by text NOT NULL,
  request_id text NOT NULL,
  patient_id text NOT NULL,
  mime_type text NOT NULL,
  size bigint NOT NULL,
  sha1 text NOT NULL,
  sha256 bytea NOT NULL,
  stored_at timestamptz,
  PRIMARY KEY (unique_id, repository_unique_id, removed_at)
);

-- Of the entries that were removed, the year of the last one in what an entity keeps about a patient: how long the rest
-- must be kept goes by the last entry, which stays it (docs/retention.md).
CREATE TABLE last_entry (
  patient_key bigint NOT NULL,
  entity text COLLATE "C" NOT NULL,          -- root#extension; '': named none, so it may be any
  year integer NOT NULL,
  PRIMARY KEY (patient_key, entity)
);
