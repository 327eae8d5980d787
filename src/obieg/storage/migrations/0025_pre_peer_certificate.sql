-- Certificates of others, as connections show them: known before they end, not when they have.

CREATE TABLE peer_certificate (
  direction "char" NOT NULL,                   -- I: of who called this node; O: of whom it called
  fingerprint bytea NOT NULL,                  -- SHA-256 of the DER
  subject text NOT NULL,                       -- RFC 4514
  issuer text NOT NULL,
  not_after timestamptz NOT NULL,
  first_seen_at timestamptz NOT NULL DEFAULT now(),
  seen_at timestamptz NOT NULL DEFAULT now(),  -- to the day
  PRIMARY KEY (direction, fingerprint)
);
