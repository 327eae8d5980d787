-- The directory of care services (domain/directory.py). One row for each version of each resource, never deleted, so that
-- a search can be answered, page after page, as of one change.
CREATE SEQUENCE directory_change;
CREATE TABLE directory_version (
  change_id bigint PRIMARY KEY,              -- drawn under a lock: in the order of commits
  kind text NOT NULL,                        -- resource type
  id text COLLATE "C" NOT NULL,              -- logical id
  version integer NOT NULL,
  updated_at timestamptz NOT NULL,           -- whole milliseconds, later than those of every commit before
  superseded_by bigint NOT NULL DEFAULT 9223372036854775807,  -- the change that made the next version
  deleted boolean NOT NULL,
  source text NOT NULL,                      -- who says so: an import's --source
  digest bytea NOT NULL,                     -- SHA-256 of the content
  content text NOT NULL,                     -- the resource as JSON, without versionId and lastUpdated
  terms tsvector NOT NULL,                   -- what it is found by; empty when it is deleted
  texts text NOT NULL,                       -- folded texts, each on a line behind parameter and ^
  sort_key bytea NOT NULL,                   -- of its name, in Polish order (domain/polish.py)
  part_of text COLLATE "C",                  -- logical id of the same type
  valid_from timestamptz NOT NULL,
  valid_until timestamptz NOT NULL,
  latitude float8,
  longitude float8
);
CREATE UNIQUE INDEX directory_version_by_id ON directory_version (kind, id, version);
CREATE INDEX directory_version_by_time ON directory_version (updated_at);
CREATE INDEX directory_version_by_term ON directory_version USING gin (terms);
CREATE INDEX directory_version_by_whole ON directory_version (kind, part_of) WHERE part_of IS NOT NULL;
