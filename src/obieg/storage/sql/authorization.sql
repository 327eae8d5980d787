-- The authorization server.

-- name: list_oauth_keys
SELECT key_id, public_key, wrapped, signs_from FROM oauth_key ORDER BY signs_from, key_id

-- name: lock_oauth_keys
SELECT pg_advisory_xact_lock(hashtextextended('oauth_key', 0))

-- name: insert_oauth_key
INSERT INTO oauth_key (key_id, public_key, wrapped, signs_from)
SELECT :key_id, :public_key, :wrapped, :signs_from::timestamptz
WHERE NOT EXISTS (SELECT FROM oauth_key WHERE signs_from > :unless_after::timestamptz)

-- name: forget_oauth_keys
DELETE FROM oauth_key k
WHERE EXISTS (SELECT FROM oauth_key n WHERE n.signs_from > k.signs_from AND n.signs_from < :before::timestamptz)

-- name: insert_oauth_grant
INSERT INTO oauth_grant (grant_id, client_id, session, content, until)
VALUES (:grant_id, :client_id, :session, :content, :until)

-- name: read_asked_grant
SELECT content FROM oauth_grant
WHERE grant_id = :grant_id AND session = :session AND granted_at IS NULL AND ended_at IS NULL
  AND until > :now::timestamptz

-- name: allow_oauth_grant
WITH changed AS (
  UPDATE oauth_grant SET granted_at = now(), content = :content, until = :until
  WHERE grant_id = :grant_id AND granted_at IS NULL AND ended_at IS NULL RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM changed), 1, 'the person has answered')

-- name: deny_oauth_grant
UPDATE oauth_grant SET ended_at = now() WHERE grant_id = :grant_id AND granted_at IS NULL

-- name: insert_oauth_secret
INSERT INTO oauth_secret (digest, kind, grant_id, until) VALUES (:digest, :kind, :grant_id, :until)

-- name: read_oauth_secret
SELECT s.kind::text, g.grant_id::text, g.content, s.used_at IS NOT NULL,
       s.until > :now::timestamptz AND g.until > :now::timestamptz AND g.ended_at IS NULL
FROM oauth_secret s JOIN oauth_grant g ON g.grant_id = s.grant_id WHERE s.digest = :digest

-- name: use_oauth_secret
WITH changed AS (
  UPDATE oauth_secret SET used_at = now() WHERE digest = :digest AND used_at IS NULL RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM changed), 1, 'it has been used')

-- name: prolong_oauth_grant
-- Only a grant that stands.
WITH changed AS (
  UPDATE oauth_grant SET until = greatest(until, :until::timestamptz)
  WHERE grant_id = :grant_id AND ended_at IS NULL AND until > :now::timestamptz RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM changed), 1, 'the grant has ended')

-- name: end_oauth_grant
WITH changed AS (
  UPDATE oauth_grant SET ended_at = :now::timestamptz
  WHERE grant_id = :grant_id AND ended_at IS NULL AND until > :now::timestamptz RETURNING 1
)
SELECT count(*) FROM changed

-- name: list_oauth_grants
SELECT grant_id::text, content, granted_at, until FROM oauth_grant
WHERE granted_at IS NOT NULL AND ended_at IS NULL AND until > :now::timestamptz
ORDER BY granted_at DESC, grant_id LIMIT :count

-- name: insert_oauth_revoked
INSERT INTO oauth_revoked (token_id, until) VALUES (:token_id, :until) ON CONFLICT DO NOTHING

-- name: read_oauth_standing
SELECT EXISTS (SELECT FROM oauth_revoked WHERE token_id = :token_id),
       (SELECT content FROM oauth_grant
        WHERE grant_id = :grant_id::uuid AND granted_at IS NOT NULL AND ended_at IS NULL)

-- name: insert_oauth_launch
INSERT INTO oauth_launch (digest, content, until) VALUES (:digest, :content, :until)

-- name: read_oauth_launch
SELECT content FROM oauth_launch WHERE digest = :digest AND until > :now::timestamptz

-- name: forget_oauth_grants
DELETE FROM oauth_grant WHERE until < :now::timestamptz

-- name: forget_oauth_launches
DELETE FROM oauth_launch WHERE until < :now::timestamptz

-- name: forget_oauth_revoked
DELETE FROM oauth_revoked WHERE until < :now::timestamptz

-- name: insert_launch_code
INSERT INTO launch_code (digest, content, until) VALUES (:digest, :content, :until)

-- name: forget_launch_codes
DELETE FROM launch_code WHERE until < :now::timestamptz
