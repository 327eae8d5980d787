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
