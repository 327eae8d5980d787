-- Submissions that were provided here and that the registry elsewhere did not refuse, by SHA-256 of the submission as
-- received, with hash and size of its documents: an identical repetition is Success and makes nothing new.
CREATE TABLE provided_submission (
  fingerprint bytea PRIMARY KEY,
  submission_id uuid NOT NULL,               -- pending as long as pending_submission has it
  provided_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE pending_submission ADD COLUMN fingerprint bytea NOT NULL DEFAULT ''::bytea;
