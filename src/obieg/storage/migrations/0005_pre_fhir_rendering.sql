-- Documents and lists over FHIR: their renderings, made at the first reading, and what FHIR says of changes.

CREATE TABLE fhir_rendering (
  patient_key bigint NOT NULL,
  entry_uuid uuid NOT NULL,
  rendering_version bigint NOT NULL,         -- of what wrote it; an older one is made anew
  content bytea NOT NULL,                    -- JSON in pieces around the volatile values (mapping/fhir_documents.py)
  PRIMARY KEY (patient_key, entry_uuid)
);

-- A change of an object is a revision of it.
CREATE FUNCTION obieg_revise() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  NEW.revision := OLD.revision + 1;
  NEW.updated_at := clock_timestamp();
  RETURN NEW;
END $$;
CREATE TRIGGER document_entry_revise BEFORE UPDATE OF status, patient_key ON document_entry
  FOR EACH ROW EXECUTE FUNCTION obieg_revise();
CREATE TRIGGER submission_set_revise BEFORE UPDATE OF status, patient_key ON submission_set
  FOR EACH ROW EXECUTE FUNCTION obieg_revise();
CREATE TRIGGER folder_revise BEFORE UPDATE OF status, patient_key, last_update_time ON folder
  FOR EACH ROW EXECUTE FUNCTION obieg_revise();

-- What a document relates to and what a list holds is part of its content in FHIR: where that changes after registration
-- it has another version there. New relations come with new objects, or their statement says so.
CREATE FUNCTION obieg_revise_source() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
  held record;
BEGIN
  SELECT l.patient_key, l.kind INTO held FROM object_locator l WHERE l.entry_uuid = OLD.source;
  IF held.kind = 'D' THEN
    UPDATE document_entry SET status = status WHERE patient_key = held.patient_key AND entry_uuid = OLD.source;
  ELSIF held.kind = 'S' THEN
    UPDATE submission_set SET status = status WHERE patient_key = held.patient_key AND entry_uuid = OLD.source;
  ELSIF held.kind = 'F' THEN
    UPDATE folder SET status = status WHERE patient_key = held.patient_key AND entry_uuid = OLD.source;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER association_revise AFTER DELETE OR UPDATE OF status ON association
  FOR EACH ROW EXECUTE FUNCTION obieg_revise_source();

-- What is removed, moved or written anew leaves no rendering behind.
CREATE FUNCTION obieg_drop_rendering() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM fhir_rendering WHERE patient_key = OLD.patient_key AND entry_uuid = OLD.entry_uuid;
  RETURN NULL;
END $$;
CREATE TRIGGER document_entry_rendering AFTER DELETE OR UPDATE OF patient_key, ebrim ON document_entry
  FOR EACH ROW EXECUTE FUNCTION obieg_drop_rendering();
CREATE TRIGGER submission_set_rendering AFTER DELETE OR UPDATE OF patient_key, ebrim ON submission_set
  FOR EACH ROW EXECUTE FUNCTION obieg_drop_rendering();
CREATE TRIGGER folder_rendering AFTER DELETE OR UPDATE OF patient_key, ebrim ON folder
  FOR EACH ROW EXECUTE FUNCTION obieg_drop_rendering();

-- A question is a list of groups: one alternative of every group must fit. Alternatives are separated by 0x1F, their
-- parts by 0x1E. NULL, where nothing is asked, is for the statement to look at. The functions say that they cost little:
-- otherwise PostgreSQL plans each search anew for the parameters that are NULL, which takes longer than the search.

-- The keys under which to look: of the patients named ('authority' 0x1E 'value'), or else of the objects named.
CREATE FUNCTION obieg_search_keys(patients text[], uuids uuid[], unique_ids text[]) RETURNS bigint[]
LANGUAGE plpgsql STABLE PARALLEL SAFE COST 1 AS $$
DECLARE
  keys bigint[];
  named bigint[];
  one text;
  part text;
BEGIN
  FOREACH one IN ARRAY patients LOOP
    named := '{}';
    FOREACH part IN ARRAY string_to_array(one, E'\x1f') LOOP
      named := named || obieg_patient_keys(split_part(part, E'\x1e', 1), split_part(part, E'\x1e', 2));
    END LOOP;
    keys := CASE WHEN keys IS NULL THEN named
                 ELSE ARRAY(SELECT unnest(keys) INTERSECT SELECT unnest(named)) END;
  END LOOP;
  IF keys IS NULL THEN
    keys := ARRAY(
      SELECT patient_key FROM object_locator WHERE entry_uuid = ANY(uuids)
      UNION
      SELECT patient_key FROM unique_id_locator WHERE unique_id = ANY(unique_ids));
  END IF;
  RETURN keys;
END $$;

-- Whether a time or period fits; each alternative is four bounds: start from, start before, stop from, stop before.
CREATE FUNCTION obieg_times_fit(start text, stop text, groups text[]) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE COST 1 AS $$
BEGIN
  RETURN NOT EXISTS (
    SELECT FROM unnest(groups) g WHERE NOT EXISTS (
      SELECT FROM unnest(string_to_array(g, E'\x1f')) a
      WHERE coalesce(start, stop) IS NOT NULL
        AND coalesce(start, '00000000000000') >= split_part(a, E'\x1e', 1)
        AND coalesce(start, '00000000000000') < split_part(a, E'\x1e', 2)
        AND coalesce(stop, '99999999999998') >= split_part(a, E'\x1e', 3)
        AND coalesce(stop, '99999999999998') < split_part(a, E'\x1e', 4)));
END $$;

-- Whether values fit patterns of LIKE.
CREATE FUNCTION obieg_patterns_fit(given text[], groups text[]) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE COST 1 AS $$
BEGIN
  RETURN NOT EXISTS (
    SELECT FROM unnest(groups) g WHERE NOT EXISTS (
      SELECT FROM unnest(given) v WHERE v LIKE ANY(string_to_array(g, E'\x1f'))));
END $$;

-- Whether an object has one of the identifiers of every group: urn:uuid: with the entryUUID, or the uniqueId.
CREATE FUNCTION obieg_identifiers_fit(entry_uuid uuid, unique_id text, groups text[]) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE COST 1 AS $$
BEGIN
  RETURN NOT EXISTS (
    SELECT FROM unnest(groups) g
    WHERE NOT ARRAY['urn:uuid:' || entry_uuid::text, unique_id] && string_to_array(g, E'\x1f'));
END $$;

-- A text without case and marks, by which FHIR compares (string, http://hl7.org/fhir/R4/search.html#string).
CREATE FUNCTION obieg_fold(said text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT lower(translate(said,
    'ĄĆĘŁŃÓŚŹŻąćęłńóśźżÁÀÂÄÃÅČĎÉÈÊËĚÍÌÎÏŇÑÒÔÖÕŘŠŤÚÙÛÜŮÝŽáàâäãåčďéèêëěíìîïňñòôöõřšťúùûüůýž',
    'ACELNOSZZacelnoszzAAAAAACDEEEEEIIIINNOOOORSTUUUUUYZaaaaaacdeeeeeiiiinnoooorstuuuuuyz'))
$$;

-- Whether a person (XCN) fits: 'F' family or 'G' given, 'e' exact or 'b' beginning, and the text.
CREATE FUNCTION obieg_people_fit(people text[], groups text[]) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE COST 1 AS $$
BEGIN
  RETURN NOT EXISTS (
    SELECT FROM unnest(groups) g WHERE NOT EXISTS (
      SELECT FROM unnest(string_to_array(g, E'\x1f')) a
      CROSS JOIN LATERAL (
        SELECT split_part(a, E'\x1e', 1) AS part, split_part(a, E'\x1e', 2) AS way, split_part(a, E'\x1e', 3) AS said
      ) q
      CROSS JOIN unnest(people) p
      CROSS JOIN LATERAL unnest(CASE WHEN q.part = 'F' THEN ARRAY[split_part(split_part(p, '^', 2), '&', 1)]
                                     ELSE split_part(p, '^', 3) || string_to_array(split_part(p, '^', 4), ' ') END) n
      WHERE CASE WHEN q.way = 'e' THEN n = q.said ELSE starts_with(obieg_fold(n), obieg_fold(q.said)) END));
END $$;

-- A time as the searches compare and answer it, in UTC.
CREATE FUNCTION obieg_digits(at timestamptz) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT to_char(at AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS') $$;

-- The affinity-domain id of the person to whom a key belongs.
CREATE FUNCTION obieg_person_id(patient_key bigint) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
  RETURN (SELECT p.affinity_domain_id FROM patient p
          WHERE p.patient_key = coalesce((SELECT k.survivor_key FROM patient_link k WHERE k.patient_key = $1), $1));
END $$;

DO $$
BEGIN
  ALTER TABLE fhir_rendering ALTER COLUMN content SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN NULL;
END $$;
