-- Log-ins of patients through an identity provider.

-- One that a browser has begun, until it is ended or too late. No secret stands here that opens anything by itself.
CREATE TABLE patient_login (
  relay_state text PRIMARY KEY,              -- opaque
  browser text NOT NULL,                     -- SHA-256 of what the browser's cookie says
  request_id text NOT NULL,                  -- ID of the AuthnRequest
  return_to text NOT NULL,                   -- path of this node
  begun_at timestamptz NOT NULL,
  until timestamptz NOT NULL
);
CREATE INDEX patient_login_by_end ON patient_login (until);

-- Patients who are logged in. Who logs out is deleted here; the audit remembers.
CREATE TABLE patient_session (
  session_id uuid PRIMARY KEY,
  token bytea NOT NULL UNIQUE,               -- SHA-256 of what the cookie says
  pesel text NOT NULL,
  family_name text NOT NULL,
  given_name text NOT NULL,
  birth_date date NOT NULL,
  issuer text NOT NULL,                      -- who proved them
  assurance text NOT NULL,                   -- URI of the level of assurance
  name_id text NOT NULL,                     -- by both the identity provider knows the session
  session_index text NOT NULL,
  address text NOT NULL,
  agent text NOT NULL,                       -- what the browser calls itself
  started_at timestamptz NOT NULL,
  seen_at timestamptz NOT NULL,
  until timestamptz NOT NULL                 -- at the latest
);
CREATE INDEX patient_session_by_pesel ON patient_session (pesel);
CREATE INDEX patient_session_by_end ON patient_session (until);
