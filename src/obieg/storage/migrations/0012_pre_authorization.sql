-- The authorization server: whom people let do what, by which secrets that is shown, and the keys that tokens are signed by.

CREATE TABLE oauth_key (
  key_id text PRIMARY KEY,                   -- kid
  public_key text NOT NULL,                  -- JWK
  wrapped bytea NOT NULL,                    -- the private value, wrapped by the node's master key
  signs_from timestamptz NOT NULL
);

-- What a person lets an app do. Asked first; granted_at says that the person agreed.
CREATE TABLE oauth_grant (
  grant_id uuid PRIMARY KEY,
  client_id text NOT NULL,
  session text NOT NULL,                     -- in which the person was asked; nobody else may answer
  content text NOT NULL,                     -- domain.authorization.Grant, JSON
  granted_at timestamptz,
  ended_at timestamptz,
  until timestamptz NOT NULL
);
CREATE INDEX oauth_grant_until ON oauth_grant (until);

-- Authorization codes and refresh tokens: their SHA-256, never themselves.
CREATE TABLE oauth_secret (
  digest bytea PRIMARY KEY,
  kind "char" NOT NULL,                      -- C code, R refresh token
  grant_id uuid NOT NULL REFERENCES oauth_grant ON DELETE CASCADE,
  used_at timestamptz,                       -- used ones stay until their grant ends: a second use ends the grant
  until timestamptz NOT NULL
);
CREATE INDEX oauth_secret_grant ON oauth_secret (grant_id);

CREATE TABLE oauth_launch (
  digest bytea PRIMARY KEY,
  content text NOT NULL,                     -- domain.authorization.Launch, JSON
  until timestamptz NOT NULL
);

-- Access tokens that were revoked by themselves.
CREATE TABLE oauth_revoked (
  token_id text PRIMARY KEY,
  until timestamptz NOT NULL
);
