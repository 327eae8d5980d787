-- What an XDR source provided to this node as a recipient (ITI-41 without a registry): kept for whoever takes it. Its
-- documents stand in stored_document under the repository 'inbox', which no retrieval can name.
CREATE TABLE inbox_submission (
  inbox_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  unique_id text NOT NULL UNIQUE,            -- of the submission set
  fingerprint bytea NOT NULL,                -- SHA-256 of the submission as received: an identical repetition is Success
  received_at timestamptz NOT NULL DEFAULT now(),
  sender text NOT NULL,                      -- who proved to be the sender
  source_id text NOT NULL,
  patient_id text NOT NULL DEFAULT '',       -- CX, as the sender names the patient
  title text NOT NULL DEFAULT '',
  intended_recipient text[] NOT NULL DEFAULT '{}',
  submission bytea NOT NULL,                 -- domain.documents.Submission as JSON, with size and hash of the documents
  document_ids text[] NOT NULL,              -- uniqueIds, in the order of the entries
  taken_at timestamptz
);
CREATE INDEX inbox_submission_waiting ON inbox_submission (inbox_id) WHERE taken_at IS NULL;
