-- The audit is sealed: its records are leaves of a Merkle tree (docs/audit.md).

CREATE TABLE audit_seal (
  sequence bigint PRIMARY KEY,               -- from 1, without gaps
  tree_size bigint NOT NULL,                 -- leaves of the tree with those of this seal
  records int8multirange NOT NULL,           -- audit_id of its records; their order is that of the leaves
  leaves bytea NOT NULL,                     -- SHA-256 of each leaf, one after another
  peaks bytea NOT NULL,                      -- hashes of the tree's peaks, one after another
  note text NOT NULL                         -- the tree's head, signed
);
-- Hashes do not shrink: none is tried to be compressed.
ALTER TABLE audit_seal ALTER COLUMN leaves SET STORAGE EXTERNAL;
-- Which seal a record is in, and which seals hold records that came after a number.
CREATE INDEX audit_seal_by_record ON audit_seal (upper(records));

-- RFC 3161 time-stamps over notes; a later one covers all seals before it.
CREATE TABLE audit_timestamp (
  sequence bigint NOT NULL,
  token bytea NOT NULL,                      -- TimeStampResp
  obtained_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (sequence, obtained_at)
);

-- When the audit was last looked at and nothing was left to be sealed; one row.
CREATE TABLE audit_sealing (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  checked_at timestamptz NOT NULL
);
INSERT INTO audit_sealing (checked_at) VALUES (now());

-- Notes of other nodes, which this one keeps for them: two of one sequence are a proof that somebody changed the past.
CREATE TABLE audit_witnessed (
  origin text NOT NULL,                      -- whose
  sequence bigint NOT NULL,
  note_digest bytea NOT NULL,                -- SHA-256
  note text NOT NULL,
  received_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (origin, sequence, note_digest)
);

-- The other patients of a record, when it is sealed.
CREATE INDEX audit_patient_by_record ON audit_patient (audit_id, patient_id);
