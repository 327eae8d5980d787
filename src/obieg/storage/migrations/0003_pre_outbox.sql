-- What leaves the node (domain/outbox.py). A row is deleted when its receiver has it, or by a newer one of its key.
CREATE TABLE outbox (
  patient_key bigint NOT NULL,               -- 0: not about one patient, in order among themselves
  outbox_id bigint GENERATED ALWAYS AS IDENTITY,
  destination text NOT NULL,                 -- name of a receiver in the settings
  transaction text NOT NULL,
  key text NOT NULL,                         -- one of a key waits at a time; '' is no key
  body bytea NOT NULL,                       -- what the transaction writes the message from
  state "char" NOT NULL DEFAULT 'W',         -- W waiting, D dead letter
  created_at timestamptz NOT NULL DEFAULT now(),  -- part of the control id, never changes
  since timestamptz NOT NULL DEFAULT now(),  -- when its time began: later than created_at where a dead letter was revived
  next_attempt_at timestamptz NOT NULL DEFAULT now(),
  leased_until timestamptz,                  -- a sender has it on its way
  attempts integer NOT NULL DEFAULT 0,
  last_error text NOT NULL DEFAULT '',
  died_at timestamptz,
  PRIMARY KEY (patient_key, outbox_id)
);
CREATE INDEX outbox_due ON outbox (destination, next_attempt_at) WHERE state = 'W';
CREATE INDEX outbox_lane ON outbox (destination, patient_key, outbox_id);
