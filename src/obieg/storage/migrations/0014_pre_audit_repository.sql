-- The Audit Record Repository: records of others stand beside ours.
CREATE INDEX audit_event_received ON audit_event (happened_at, audit_id) WHERE happened_at IS NOT NULL;

-- How far each audit repository elsewhere has been told.
CREATE TABLE audit_position (
  repository text PRIMARY KEY,
  audit_id bigint NOT NULL,
  sent_at timestamptz NOT NULL DEFAULT now()
);

-- About where in the log a moment is: records are numbered nearly in the order of their times, which needs no index of
-- its own. Whoever asks looks a little further on both sides.
CREATE FUNCTION obieg_audit_id_at(moment timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
  low bigint := 0;
  high bigint := coalesce((SELECT max(audit_id) FROM audit_event), 0) + 1;
  middle bigint;
  found_id bigint;
  found_at timestamptz;
BEGIN
  IF moment = 'infinity' THEN
    RETURN high;
  END IF;
  WHILE low < high LOOP
    middle := (low + high) / 2;
    SELECT audit_id, recorded_at INTO found_id, found_at
    FROM audit_event WHERE audit_id >= middle ORDER BY audit_id LIMIT 1;
    IF found_id IS NULL OR found_at >= moment THEN
      high := middle;
    ELSE
      low := found_id + 1;
    END IF;
  END LOOP;
  RETURN low;
END $$;

-- The participants of an audit message who are the patients of documents: a retrieval knows them only while it reads.
CREATE FUNCTION obieg_audit_patients(patients text[]) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT coalesce(string_agg('<ParticipantObjectIdentification ParticipantObjectID="'
    || replace(replace(replace(replace(p, '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;')
    || '" ParticipantObjectTypeCode="1" ParticipantObjectTypeCodeRole="1"><ParticipantObjectIDTypeCode csd-code="2"'
    || ' codeSystemName="RFC-3881" originalText="Patient Number"/></ParticipantObjectIdentification>', ''), '')
  FROM unnest(patients) p
$$;
