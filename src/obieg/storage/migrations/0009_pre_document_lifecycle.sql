-- Documents that are changed and removed, and the history that remains of it.

-- A version that has a newer one of the same patient. It stays, deprecated, and is found only by who asks for old
-- versions (ITI TF-2:3.18.4.1.2.3.5.1, $MetadataLevel). Where the newer one went to another patient, this one remains
-- what the first patient's record holds of it (NIST 16102c).
ALTER TABLE document_entry ADD COLUMN superseded boolean NOT NULL DEFAULT false;
ALTER TABLE folder ADD COLUMN superseded boolean NOT NULL DEFAULT false;
UPDATE document_entry d SET superseded = true
WHERE EXISTS (SELECT FROM unique_id_locator u JOIN document_entry n
                ON n.patient_key = u.patient_key AND n.entry_uuid = u.entry_uuid
              WHERE u.unique_id = d.unique_id AND u.kind = 'D' AND n.patient_key = d.patient_key
                AND n.logical_id = d.logical_id AND n.version > d.version);
UPDATE folder f SET superseded = true
WHERE EXISTS (SELECT FROM unique_id_locator u JOIN folder n
                ON n.patient_key = u.patient_key AND n.entry_uuid = u.entry_uuid
              WHERE u.unique_id = f.unique_id AND u.kind = 'F' AND n.patient_key = f.patient_key
                AND n.logical_id = f.logical_id AND n.version > f.version);

-- All versions of one object; the first one has the logicalID as its entryUUID, so object_locator finds it.
CREATE INDEX document_entry_by_logical_id ON document_entry (logical_id) WHERE version > 1;
CREATE INDEX folder_by_logical_id ON folder (logical_id) WHERE version > 1;

-- current: what is answered to who does not ask for old versions.
CREATE OR REPLACE VIEW registry_object AS
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

-- As before, but what an update says of a document binds it to nothing.
CREATE OR REPLACE FUNCTION obieg_move_documents(from_keys bigint[], to_key bigint, uuids uuid[]) RETURNS uuid[]
LANGUAGE plpgsql AS $$
DECLARE
  asked uuid[] := ARRAY(
    SELECT entry_uuid FROM document_entry WHERE patient_key = ANY(from_keys) AND entry_uuid = ANY(uuids));
  moving uuid[] := asked;
  folders uuid[];
  objects uuid[];
  staying uuid[] := '{}';
  bound uuid[];
  inner_ids uuid[];
  dropped uuid[];
BEGIN
  LOOP
    folders := ARRAY(
      SELECT a.source FROM association a JOIN object_locator f ON f.entry_uuid = a.source AND f.kind = 'F'
      WHERE a.patient_key = ANY(from_keys) AND a.type = 'HasMember' AND a.target = ANY(moving)
        AND a.source <> ALL(staying)
        AND NOT EXISTS (SELECT FROM association o WHERE o.patient_key = ANY(from_keys) AND o.source = a.source
                          AND o.type = 'HasMember' AND o.target <> ALL(moving)));
    objects := moving || folders;
    bound := ARRAY(
      SELECT m.target FROM association m JOIN object_locator s ON s.entry_uuid = m.source AND s.kind = 'S'
      WHERE m.patient_key = ANY(from_keys) AND m.type = 'HasMember' AND m.target = ANY(objects)
        AND EXISTS (SELECT FROM association o JOIN object_locator x ON x.entry_uuid = o.target AND x.kind IN ('D', 'F')
                    WHERE o.patient_key = ANY(from_keys) AND o.source = m.source AND o.type = 'HasMember'
                      AND o.target <> ALL(objects))
      UNION
      SELECT e.uuid FROM association r CROSS JOIN LATERAL (VALUES (r.source, r.target), (r.target, r.source)) e (uuid, other)
      WHERE r.patient_key = ANY(from_keys) AND r.type NOT IN ('HasMember', 'UpdateAvailabilityStatus', 'SubmitAssociation') AND e.uuid = ANY(moving) AND e.other <> ALL(moving)
        AND (r.source = ANY(moving) OR r.target = ANY(moving)));
    EXIT WHEN bound = '{}';
    staying := staying || bound;
    moving := ARRAY(SELECT u FROM unnest(moving) u WHERE u <> ALL(staying));
  END LOOP;
  objects := objects || ARRAY(
    SELECT DISTINCT a.source FROM association a JOIN object_locator s ON s.entry_uuid = a.source AND s.kind = 'S'
    WHERE a.patient_key = ANY(from_keys) AND a.type = 'HasMember' AND a.target = ANY(objects));
  inner_ids := ARRAY(
    SELECT a.entry_uuid FROM association a
    WHERE a.patient_key = ANY(from_keys) AND a.source = ANY(objects) AND a.target = ANY(objects));
  -- Sets that brought nothing but associations go with these.
  objects := objects || ARRAY(
    SELECT DISTINCT a.source FROM association a JOIN object_locator s ON s.entry_uuid = a.source AND s.kind = 'S'
    WHERE a.patient_key = ANY(from_keys) AND a.type = 'HasMember' AND a.target = ANY(inner_ids)
      AND a.source <> ALL(objects)
      AND NOT EXISTS (SELECT FROM association o WHERE o.patient_key = ANY(from_keys) AND o.source = a.source
                        AND o.target <> ALL(inner_ids)));
  inner_ids := inner_ids || ARRAY(
    SELECT a.entry_uuid FROM association a
    WHERE a.patient_key = ANY(from_keys) AND a.source = ANY(objects) AND a.target = ANY(inner_ids));
  dropped := ARRAY(
    SELECT a.entry_uuid FROM association a
    WHERE a.patient_key = ANY(from_keys) AND (a.source = ANY(objects) OR a.target = ANY(objects))
      AND a.entry_uuid <> ALL(inner_ids));
  dropped := dropped || ARRAY(
    SELECT a.entry_uuid FROM association a WHERE a.patient_key = ANY(from_keys)
      AND (a.target = ANY(dropped) OR a.target = ANY(inner_ids) AND a.entry_uuid <> ALL(inner_ids)));
  DELETE FROM association WHERE patient_key = ANY(from_keys) AND entry_uuid = ANY(dropped);
  DELETE FROM object_locator WHERE entry_uuid = ANY(dropped);
  objects := objects || inner_ids;
  UPDATE document_entry SET patient_key = to_key WHERE patient_key = ANY(from_keys) AND entry_uuid = ANY(objects);
  UPDATE submission_set SET patient_key = to_key WHERE patient_key = ANY(from_keys) AND entry_uuid = ANY(objects);
  UPDATE folder SET patient_key = to_key WHERE patient_key = ANY(from_keys) AND entry_uuid = ANY(objects);
  UPDATE association SET patient_key = to_key WHERE patient_key = ANY(from_keys) AND entry_uuid = ANY(objects);
  UPDATE object_locator SET patient_key = to_key WHERE entry_uuid = ANY(objects);
  UPDATE unique_id_locator u SET patient_key = to_key
  FROM (
    SELECT unique_id, entry_uuid FROM document_entry WHERE patient_key = to_key AND entry_uuid = ANY(objects)
    UNION ALL
    SELECT unique_id, entry_uuid FROM submission_set WHERE patient_key = to_key AND entry_uuid = ANY(objects)
    UNION ALL
    SELECT unique_id, entry_uuid FROM folder WHERE patient_key = to_key AND entry_uuid = ANY(objects)
  ) o
  WHERE u.unique_id = o.unique_id AND u.entry_uuid = o.entry_uuid;
  RETURN ARRAY(SELECT u FROM unnest(asked) u WHERE u <> ALL(moving));
END $$;
