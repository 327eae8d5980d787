-- What was decided about access is kept, and shown by only while it holds (docs/access.md, Kept decisions).

-- The transaction that last wrote the row of a patient (its xmin) stands for all that a decision rests on: whoever changes
-- any of it writes the row, too, in the same commit. It does so here, so that no statement can forget it.
CREATE FUNCTION obieg_touch(keys bigint[]) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  UPDATE patient SET version = version WHERE patient_key = ANY(keys) AND xmin <> pg_current_xact_id()::xid;
END $$;

-- Raises unless these are still the transactions that last wrote these patients.
CREATE FUNCTION obieg_expect_known(keys bigint[], versions xid[]) RETURNS void
LANGUAGE plpgsql STABLE AS $$
BEGIN
  FOR place IN 1 .. cardinality(keys) LOOP
    IF NOT EXISTS (SELECT FROM patient p WHERE p.patient_key = keys[place] AND p.xmin = versions[place]) THEN
      PERFORM obieg_expect(0, 1, 'what a decision rested on was changed meanwhile');
    END IF;
  END LOOP;
END $$;

CREATE FUNCTION obieg_touch_patient() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  PERFORM obieg_touch(CASE TG_OP
    WHEN 'INSERT' THEN ARRAY[NEW.patient_key]
    WHEN 'DELETE' THEN ARRAY[OLD.patient_key]
    ELSE ARRAY[OLD.patient_key, NEW.patient_key] END);
  RETURN NULL;
END $$;

-- Of many rows at once, as an import brings them.
CREATE FUNCTION obieg_touch_patients() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  PERFORM obieg_touch(ARRAY(SELECT DISTINCT c.patient_key FROM came c));
  RETURN NULL;
END $$;

CREATE FUNCTION obieg_touch_linked() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  PERFORM obieg_touch(CASE TG_OP
    WHEN 'INSERT' THEN ARRAY[NEW.patient_key, NEW.survivor_key]
    WHEN 'DELETE' THEN ARRAY[OLD.patient_key, OLD.survivor_key]
    ELSE ARRAY[OLD.patient_key, OLD.survivor_key, NEW.patient_key, NEW.survivor_key] END);
  RETURN NULL;
END $$;

CREATE TRIGGER access_fact_touches AFTER INSERT OR UPDATE OR DELETE ON access_fact
  FOR EACH ROW EXECUTE FUNCTION obieg_touch_patient();
CREATE TRIGGER patient_link_touches AFTER INSERT OR UPDATE OR DELETE ON patient_link
  FOR EACH ROW EXECUTE FUNCTION obieg_touch_linked();
CREATE TRIGGER patient_locator_comes AFTER INSERT ON patient_locator
  REFERENCING NEW TABLE AS came FOR EACH STATEMENT EXECUTE FUNCTION obieg_touch_patients();
CREATE TRIGGER patient_locator_touches AFTER UPDATE OR DELETE ON patient_locator
  FOR EACH ROW EXECUTE FUNCTION obieg_touch_patient();
CREATE TRIGGER patient_record_comes AFTER INSERT ON patient_record
  REFERENCING NEW TABLE AS came FOR EACH STATEMENT EXECUTE FUNCTION obieg_touch_patients();
CREATE TRIGGER patient_record_touches AFTER UPDATE OR DELETE ON patient_record
  FOR EACH ROW EXECUTE FUNCTION obieg_touch_patient();
-- Of documents only those by which patients acknowledge policies.
CREATE TRIGGER document_entry_touches AFTER INSERT ON document_entry
  FOR EACH ROW WHEN (NEW.format_code LIKE 'urn:ihe:iti:bppc%') EXECUTE FUNCTION obieg_touch_patient();
CREATE TRIGGER document_entry_touches_changed AFTER UPDATE ON document_entry
  FOR EACH ROW WHEN (OLD.format_code LIKE 'urn:ihe:iti:bppc%' OR NEW.format_code LIKE 'urn:ihe:iti:bppc%')
  EXECUTE FUNCTION obieg_touch_patient();
CREATE TRIGGER document_entry_touches_gone AFTER DELETE ON document_entry
  FOR EACH ROW WHEN (OLD.format_code LIKE 'urn:ihe:iti:bppc%') EXECUTE FUNCTION obieg_touch_patient();
