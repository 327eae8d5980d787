-- People who work here and how they log in (domain/accounts.py). Few rows, read by every request with a session: on Citus
-- reference tables. No secret stands here that opens anything by itself: passwords are hashed (argon2id), TOTP secrets
-- wrapped by the node's master key, of cookies and one-time passwords there are only hashes.
CREATE TABLE person (
  person_id uuid PRIMARY KEY,
  login text NOT NULL UNIQUE,                -- folded
  name text NOT NULL,
  identifier text NOT NULL UNIQUE,           -- root#extension, or the login
  created_at timestamptz NOT NULL,
  disabled_at timestamptz,
  password text NOT NULL DEFAULT '',         -- PHC string format
  totp bytea NOT NULL DEFAULT '',            -- wrapped secret
  totp_step bigint NOT NULL DEFAULT 0,       -- of the newest code that was used
  one_time bytea NOT NULL DEFAULT '',        -- SHA-256
  one_time_until timestamptz
);

CREATE TABLE person_place (
  person_id uuid NOT NULL REFERENCES person ON DELETE CASCADE,
  organisation text NOT NULL,                -- root#extension
  role text NOT NULL,                        -- code of codes/roles.toml
  organisation_name text NOT NULL,
  PRIMARY KEY (person_id, organisation, role)
);

CREATE TABLE passkey (
  credential_id bytea PRIMARY KEY,
  person_id uuid NOT NULL REFERENCES person ON DELETE CASCADE,
  public_key bytea NOT NULL,                 -- COSE
  sign_count bigint NOT NULL,
  label text NOT NULL,
  created_at timestamptz NOT NULL,
  used_at timestamptz
);
CREATE INDEX passkey_by_person ON passkey (person_id);

-- A log-in that is not over.
CREATE TABLE login_attempt (
  token bytea PRIMARY KEY,                   -- SHA-256
  step text NOT NULL,                        -- totp, passkey, enrol
  person_id uuid REFERENCES person ON DELETE CASCADE,
  challenge bytea NOT NULL DEFAULT '',       -- '': used up, or none was given
  secret bytea NOT NULL DEFAULT '',          -- wrapped, of a TOTP that is being set up
  replaces uuid,                             -- session in which it was asked for
  until timestamptz NOT NULL
);
CREATE INDEX login_attempt_by_person ON login_attempt (person_id);
CREATE INDEX login_attempt_by_end ON login_attempt (until);

-- By subject, whether there is such a person or not.
CREATE TABLE login_failure (
  subject bytea PRIMARY KEY,                 -- SHA-256 of the folded login
  failures integer NOT NULL,
  blocked_until timestamptz NOT NULL,
  failed_at timestamptz NOT NULL
);
CREATE INDEX login_failure_by_age ON login_failure (failed_at);

CREATE TABLE session (
  session_id uuid PRIMARY KEY,
  token bytea NOT NULL UNIQUE,               -- SHA-256 of what the cookie says
  person_id uuid NOT NULL REFERENCES person ON DELETE CASCADE,
  method text NOT NULL,                      -- passkey, password
  started_at timestamptz NOT NULL,
  seen_at timestamptz NOT NULL,
  until timestamptz NOT NULL,
  address text NOT NULL,
  agent text NOT NULL,
  organisation text NOT NULL DEFAULT '',     -- where and as whom the person acts
  role text NOT NULL DEFAULT '',
  acting_for text NOT NULL DEFAULT '',       -- root#extension of a professional, as person_assists permits it
  vouched_by text NOT NULL DEFAULT '',       -- client_id of the system that launched it; '': the person logged in here
  proved_at timestamptz,                     -- when the person proved to it who they are; NULL: started_at
  ended_at timestamptz,
  end_reason text NOT NULL DEFAULT ''
);
CREATE INDEX session_by_person ON session (person_id) WHERE ended_at IS NULL;
CREATE INDEX session_by_end ON session (until);

-- For whom assistants may act, and where.
CREATE TABLE person_assists (
  person_id uuid NOT NULL REFERENCES person ON DELETE CASCADE,
  organisation text NOT NULL,                       -- root#extension
  professional text NOT NULL,                       -- root#extension
  professional_name text NOT NULL,                  -- with title, as colleagues say it
  PRIMARY KEY (person_id, organisation, professional)
);

-- What a hospital's own system asked for: somebody opens these pages with a patient, without logging in again. Its code is
-- good for once; what was used stays until its end, so that a second use is noticed.
CREATE TABLE launch_code (
  digest bytea PRIMARY KEY,                         -- SHA-256 of the code
  content text NOT NULL,                            -- domain.launching.Launching
  until timestamptz NOT NULL,
  session_id uuid                                   -- that it became
);
CREATE INDEX launch_code_by_end ON launch_code (until);
