-- Work that goes over many patients and may be interrupted: how far it came, committed with what it stored.

CREATE TABLE patient_import (
  fingerprint text PRIMARY KEY,              -- SHA-256 of the file and of how it is read
  file text NOT NULL,                        -- as it was named
  size bigint NOT NULL,                      -- bytes
  position bigint NOT NULL DEFAULT 0,        -- bytes taken in
  line bigint NOT NULL DEFAULT 1,            -- where that is
  counts bytea NOT NULL,                     -- what became of the records, as JSON
  reject_bytes bigint NOT NULL DEFAULT 0,    -- of the file of rejects that belong to them
  started_by text NOT NULL,
  started_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz
);

-- Going over patients again, in the order of their records' keys; one row.
CREATE TABLE patient_rematch (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  after_patient bigint NOT NULL,
  after_record bigint NOT NULL,
  counts bytea NOT NULL,                     -- as JSON
  started_by text NOT NULL,
  started_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz
);
