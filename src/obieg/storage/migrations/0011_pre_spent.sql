-- What may be shown once only (MessageID per issuer, OneTimeUse assertion, JWT), from the commit of the audit record of
-- the request that used it up, until nothing can be shown with it any more.

CREATE TABLE spent_token (
  digest bytea PRIMARY KEY,                  -- SHA-256 of kind, issuer and identifier
  request_id text NOT NULL,                  -- a request with several audit records uses it up once
  expires_at timestamptz NOT NULL
);
CREATE INDEX spent_token_by_end ON spent_token (expires_at);

-- Uses up what ``digests`` name, or raises OB002 when another request has. Of two requests at once the second waits for
-- the commit of the first, because both insert the same key.
CREATE FUNCTION obieg_spend(digests bytea[], ends timestamptz[], by_request text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
  owner text;
BEGIN
  FOR i IN 1 .. cardinality(digests) LOOP
    LOOP
      INSERT INTO spent_token (digest, request_id, expires_at) VALUES (digests[i], by_request, ends[i])
      ON CONFLICT (digest) DO NOTHING;
      EXIT WHEN FOUND;
      SELECT request_id INTO owner FROM spent_token WHERE digest = digests[i];
      EXIT WHEN owner = by_request;
      IF owner IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'OB002', MESSAGE = 'used up by another request';
      END IF;  -- forgotten in between: try again
    END LOOP;
  END LOOP;
  RETURN true;
END $$;
