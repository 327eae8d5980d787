-- What patients do by themselves (docs/access.md).

-- Links to a health summary that patients hand out (docs/access.md, Health links). The summary is encrypted under a key
-- that stands in the link alone.
CREATE TABLE health_link (
  link_id uuid PRIMARY KEY,
  patient_key bigint NOT NULL,
  locator bytea NOT NULL UNIQUE,             -- SHA-256 of the secret in the link's address
  passcode bytea NOT NULL,                   -- SHA-256 of that secret and the passcode
  label text NOT NULL,
  made_by text NOT NULL,                     -- root#extension: the patient, or who acts for them
  made_by_name text NOT NULL,
  purpose text NOT NULL,                     -- for which they asked
  made_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  ended_at timestamptz,                      -- before its time
  tries integer NOT NULL DEFAULT 0,          -- wrong passcodes
  opened integer NOT NULL DEFAULT 0,
  opened_at timestamptz,                     -- the last time
  file bytea NOT NULL                        -- JWE; '': the link is over
);
CREATE INDEX health_link_patient ON health_link (patient_key, made_at);
CREATE INDEX health_link_expires ON health_link (expires_at);

-- By whom the file of a link may be fetched once, within minutes.
CREATE TABLE health_link_ticket (
  ticket bytea PRIMARY KEY,                  -- SHA-256 of the link's secret and the ticket
  link_id uuid NOT NULL REFERENCES health_link ON DELETE CASCADE,
  recipient text NOT NULL,
  expires_at timestamptz NOT NULL
);

-- What patients and facilities write to one another (docs/access.md, Messages).
CREATE TABLE message_thread (
  thread_id uuid PRIMARY KEY,
  patient_key bigint NOT NULL,
  facility text NOT NULL,                    -- root#extension
  subject text NOT NULL,
  opened_at timestamptz NOT NULL DEFAULT now(),
  last_at timestamptz NOT NULL DEFAULT now(),
  closed_at timestamptz
);
CREATE INDEX message_thread_patient ON message_thread (patient_key, last_at);
CREATE INDEX message_thread_facility ON message_thread (facility, last_at);

CREATE TABLE message (
  thread_id uuid NOT NULL REFERENCES message_thread ON DELETE CASCADE,
  message_id bigint GENERATED ALWAYS AS IDENTITY,
  of_patient boolean NOT NULL,               -- written by the patient, or who acts for them
  author text NOT NULL,                      -- root#extension
  author_name text NOT NULL,
  role text NOT NULL,
  text text NOT NULL,
  sent_at timestamptz NOT NULL DEFAULT now(),
  read_at timestamptz,                       -- by the other side
  PRIMARY KEY (thread_id, message_id)
);
