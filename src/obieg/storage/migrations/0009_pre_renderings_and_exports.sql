-- Renderings that an older mapping made, brought to a newer one while the node serves; and exports of everything.

-- How far a kind of rendering was gone over; committed with what was renewed.
CREATE TABLE rerendering (
  kind text PRIMARY KEY,                     -- a name of ops.rerendering.KINDS
  rendering_version bigint NOT NULL,         -- that is aimed at
  after_patient bigint NOT NULL,
  after_entry uuid NOT NULL,
  looked bigint NOT NULL,                    -- rows, of this pass
  renewed bigint NOT NULL,
  started_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz
);

-- Bulk Data exports: what was asked for, and how far it has come.
CREATE TABLE export (
  export_id uuid PRIMARY KEY,
  requester text NOT NULL,
  request text NOT NULL,                     -- the address that was asked
  base text NOT NULL,                        -- of the service, as it stands in the resources
  types text[] NOT NULL,                     -- resource types, in their order
  since timestamptz,                         -- only what has changed since
  state "char" NOT NULL DEFAULT 'R',         -- R running, D done, F failed
  error text NOT NULL DEFAULT '',
  begun_at timestamptz NOT NULL DEFAULT now(),    -- transactionTime
  position integer NOT NULL DEFAULT 0,       -- of the next piece; whoever writes it must have seen it
  at_type integer NOT NULL DEFAULT 1,        -- position in types, from 1
  after text NOT NULL DEFAULT '',            -- what was read last of that type; '' before the first
  file integer NOT NULL DEFAULT 1,           -- number of the file that is written
  in_file integer NOT NULL DEFAULT 0,        -- resources in it
  finished_at timestamptz
);
CREATE INDEX export_running ON export (begun_at) WHERE state = 'R';

-- NDJSON in pieces, packed as actors/exporter.py says; a piece is committed with the position that it leads to.
CREATE TABLE export_piece (
  export_id uuid NOT NULL REFERENCES export ON DELETE CASCADE,
  position integer NOT NULL,
  type text NOT NULL,
  file integer NOT NULL,
  resources integer NOT NULL,
  size integer NOT NULL,                     -- bytes before they were packed
  content bytea NOT NULL,
  PRIMARY KEY (export_id, position)
);
ALTER TABLE export_piece ALTER COLUMN content SET STORAGE EXTERNAL;
