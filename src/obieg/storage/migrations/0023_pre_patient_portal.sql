-- What patients do by themselves at the portal (docs/access.md, Reports of patients).

-- A patient may report any entry of the access log; the officer decides of it like of emergency access.
ALTER TABLE access_review
  ADD COLUMN kind text NOT NULL DEFAULT 'emergency' CHECK (kind IN ('emergency', 'reported')),
  ADD COLUMN audit_id bigint,                -- reported: the entry of the log
  ADD COLUMN reported_by text;               -- reported: the patient, or who acts for them
CREATE UNIQUE INDEX access_review_reported ON access_review (patient_key, audit_id) WHERE audit_id IS NOT NULL;

-- For whom somebody may act.
CREATE INDEX access_fact_representative ON access_fact USING gin ((facts::jsonb) jsonb_path_ops)
  WHERE kind = 'representative' AND superseded_at IS NULL;
