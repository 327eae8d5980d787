-- All keys of the person to whom a key belongs: after a merge an association stands under the key of the survivor and
-- one of its ends under that of the patient merged away, so whoever follows associations looks under all of them.
CREATE FUNCTION obieg_kin(patient_key bigint) RETURNS bigint[]
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
  survivor bigint := coalesce((SELECT k.survivor_key FROM patient_link k WHERE k.patient_key = $1), $1);
BEGIN
  RETURN survivor || ARRAY(SELECT k.patient_key FROM patient_link k WHERE k.survivor_key = survivor);
END $$;
