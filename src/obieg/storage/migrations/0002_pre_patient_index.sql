-- Who is who: records keep what each source says, patients are the persons, links join patients and can be undone.

CREATE TABLE patient_record (
  patient_key bigint NOT NULL,
  record_key bigint NOT NULL,                -- random
  source text NOT NULL,                      -- who says so, by the message
  fed_by text NOT NULL DEFAULT '',           -- whose it is: the system that fed it, as proved; '': nobody's
  authorities text[] NOT NULL,               -- of its identifiers, in the source's order
  values text[] NOT NULL,
  demographics bytea NOT NULL,               -- domain.persons.Demographics as JSON
  blocks bigint[] NOT NULL,                  -- where to look for the same person; the first is the strongest
  names text NOT NULL,                       -- folded 'family|given …' of the first name (domain/searching.py)
  sounds text NOT NULL,                      -- how that sounds
  birth_date text NOT NULL,
  sex text NOT NULL,
  version integer NOT NULL DEFAULT 1,
  removed_at timestamptz,                    -- withdrawn by its source
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (patient_key, record_key)
);
CREATE INDEX patient_record_by_name ON patient_record (names text_pattern_ops, birth_date);
CREATE INDEX patient_record_by_sound ON patient_record (sounds text_pattern_ops, birth_date);
CREATE INDEX patient_record_by_birth ON patient_record (birth_date, names text_pattern_ops)
  INCLUDE (sounds, removed_at, patient_key, record_key);

-- A locator by what records of one person nearly always share.
CREATE TABLE patient_block (
  block bigint NOT NULL,
  patient_key bigint NOT NULL,
  record_key bigint NOT NULL,
  PRIMARY KEY (block, record_key)
);

-- Links that were taken back: until when both were read as one.
CREATE TABLE patient_link_history (
  patient_key bigint NOT NULL,
  merged_into bigint NOT NULL,
  survivor_key bigint NOT NULL,
  reason text NOT NULL,
  linked_by text NOT NULL,
  linked_at timestamptz NOT NULL,
  unlinked_at timestamptz NOT NULL DEFAULT now(),
  unlinked_by text NOT NULL,
  PRIMARY KEY (patient_key, unlinked_at)
);
CREATE INDEX patient_link_history_by_target ON patient_link_history (merged_into);

-- The worklist and, once decided, the log of decisions. A pair decided to be different is not asked about again.
CREATE TABLE patient_task (
  task_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind text NOT NULL,
  left_key bigint NOT NULL,
  right_key bigint,
  judgement bytea,                           -- domain.matching.Judgement as JSON
  detail text NOT NULL DEFAULT '',
  opened_at timestamptz NOT NULL DEFAULT now(),
  decision text NOT NULL DEFAULT '',         -- same, different, moot, undone, withdrawn; '' while open
  decided_by text NOT NULL DEFAULT '',
  decided_at timestamptz,
  note text NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX patient_task_open ON patient_task (kind, least(left_key, right_key), greatest(left_key, right_key), detail)
  WHERE decision = '';
CREATE INDEX patient_task_by_left ON patient_task (left_key);
CREATE INDEX patient_task_by_right ON patient_task (right_key);

-- The answer to a search that has more than one page: whom it found, so that no page loses or repeats a row.
CREATE TABLE patient_search (
  search_id uuid NOT NULL,                   -- may be named by the requester
  requester text NOT NULL,
  patient_keys bigint[] NOT NULL,
  scores smallint[] NOT NULL,
  authorities text[] NOT NULL,
  capped boolean NOT NULL,
  position integer NOT NULL,                 -- how many were given so far
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (search_id, requester)
);
CREATE INDEX patient_search_by_time ON patient_search (created_at);

-- What was learned of how records of one person differ, newest last.
CREATE TABLE matching_weights (
  weights_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  learned_at timestamptz NOT NULL DEFAULT now(),
  records bigint NOT NULL,
  weights bytea NOT NULL
);

-- Takes document entries from one person to another, with the submission sets and folders that hold nothing else and
-- the associations among what moves. What a document is bound to by its submission set or by a relation to another
-- document (RPLC and the like) is of one patient: where not all of it moves none of it does, and the documents that stay
-- are returned, because somebody must look at them. A folder binds nothing: a document leaves those that stay; nor does
-- what an update says of a document.
CREATE FUNCTION obieg_move_documents(from_keys bigint[], to_key bigint, uuids uuid[]) RETURNS uuid[]
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
      WHERE r.patient_key = ANY(from_keys) AND r.type NOT IN ('HasMember', 'UpdateAvailabilityStatus', 'SubmitAssociation')
        AND e.uuid = ANY(moving) AND e.other <> ALL(moving)
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
  -- Whose the removed ones were is not known any more: of both, so that nothing is kept for a shorter time.
  INSERT INTO last_entry (patient_key, entity, year)
  SELECT to_key, entity, max(year) FROM last_entry WHERE patient_key = ANY(from_keys) GROUP BY entity
  ON CONFLICT (patient_key, entity) DO UPDATE SET year = greatest(last_entry.year, excluded.year);
  RETURN ARRAY(SELECT u FROM unnest(asked) u WHERE u <> ALL(moving));
END $$;
