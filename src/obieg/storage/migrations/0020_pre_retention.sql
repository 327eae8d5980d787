-- What people say for retention, and which backups there are (docs/retention.md).

-- A mark of codes/national/pl/retention.toml; nothing is deleted, an end is a time.
CREATE TABLE retention_mark (
  mark_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  patient_key bigint NOT NULL,               -- of whom it was said
  unique_id text COLLATE "C" NOT NULL,       -- the document; '': all of the patient
  mark text NOT NULL,
  organisation text NOT NULL DEFAULT '',     -- for which facility it was said; '': by an operator of the node
  day date,                                  -- of a service
  reason text NOT NULL,
  said_at timestamptz NOT NULL DEFAULT now(),
  said_by text NOT NULL,
  ended_at timestamptz,
  ended_by text
);
CREATE INDEX retention_mark_of_patient ON retention_mark (patient_key);
CREATE INDEX retention_mark_of_document ON retention_mark (unique_id) WHERE unique_id <> '';

-- Backups: each holds the keys of all documents that stood when it began. A row is made before the first byte is.
CREATE TABLE backup_made (
  stamp text COLLATE "C" PRIMARY KEY,        -- of the run; its database is the file database.<stamp>
  folder text NOT NULL,
  begun_at timestamptz NOT NULL,
  ended_at timestamptz,                      -- a later run overwrote it, or somebody said that it is destroyed
  ended_by text
);
