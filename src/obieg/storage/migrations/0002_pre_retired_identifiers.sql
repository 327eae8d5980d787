-- An identifier that a merge (ADT^A40) named as old finds and registers nothing; the other identifiers of the subsumed
-- patient, of which the source of the merge knows nothing, lead to the survivor. Undoing a merge clears the mark.
ALTER TABLE patient_locator ADD COLUMN retired_at timestamptz;
