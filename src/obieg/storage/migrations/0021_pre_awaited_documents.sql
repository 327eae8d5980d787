-- Documents of a patient that a professional waits for: the portal tells when one has come that they may see.
CREATE TABLE awaited_document (
  awaited_id uuid PRIMARY KEY,
  patient_key bigint NOT NULL,
  person text NOT NULL,
  organisation text NOT NULL,
  kind text NOT NULL,                        -- key of codes/document_kinds.toml; '': any
  types text[] NOT NULL,                     -- codes of typeCode; {}: any
  since timestamptz NOT NULL DEFAULT now(),
  until timestamptz NOT NULL,
  UNIQUE (person, organisation, patient_key, kind)
);
