-- People who log in, their passkeys, sessions and failures. What must hold raises through obieg_expect, as elsewhere.

-- name: read_account
-- One person by login, id, identifier or the token of a session, ended or not; all where none is given.
SELECT p.person_id, p.login, p.name, p.identifier, p.created_at, p.disabled_at IS NOT NULL, p.password, p.totp,
  p.totp_step, p.one_time, p.one_time_until,
  (SELECT count(*) FROM passkey k WHERE k.person_id = p.person_id),
  ARRAY(SELECT l.organisation FROM person_place l WHERE l.person_id = p.person_id
    ORDER BY l.organisation_name, l.organisation, l.role),
  ARRAY(SELECT l.organisation_name FROM person_place l WHERE l.person_id = p.person_id
    ORDER BY l.organisation_name, l.organisation, l.role),
  ARRAY(SELECT l.role FROM person_place l WHERE l.person_id = p.person_id
    ORDER BY l.organisation_name, l.organisation, l.role),
  ARRAY(SELECT a.organisation FROM person_assists a WHERE a.person_id = p.person_id
    ORDER BY a.professional_name, a.professional, a.organisation),
  ARRAY(SELECT a.professional FROM person_assists a WHERE a.person_id = p.person_id
    ORDER BY a.professional_name, a.professional, a.organisation),
  ARRAY(SELECT a.professional_name FROM person_assists a WHERE a.person_id = p.person_id
    ORDER BY a.professional_name, a.professional, a.organisation)
FROM person p
WHERE (:login::text = '' OR p.login = :login::text) AND (:person_id::uuid IS NULL OR p.person_id = :person_id::uuid)
  AND (:identifier::text = '' OR p.identifier = :identifier::text)
  AND (:token::bytea IS NULL OR p.person_id = (SELECT s.person_id FROM session s WHERE s.token = :token::bytea))
ORDER BY p.login

-- name: insert_person
INSERT INTO person (person_id, login, name, identifier, created_at, one_time, one_time_until)
VALUES (:person_id::uuid, :login::text, :name::text, :identifier::text, :created_at::timestamptz, :one_time::bytea,
  :one_time_until::timestamptz)

-- name: insert_place
INSERT INTO person_place (person_id, organisation, role, organisation_name)
VALUES (:person_id::uuid, :organisation::text, :role::text, :organisation_name::text)
ON CONFLICT (person_id, organisation, role) DO UPDATE SET organisation_name = excluded.organisation_name

-- name: delete_place
DELETE FROM person_place
WHERE person_id = :person_id::uuid AND organisation = :organisation::text AND role = :role::text

-- name: disable_person
UPDATE person SET disabled_at = CASE WHEN :disabled::boolean THEN now() END
WHERE person_id = :person_id::uuid

-- name: end_grants
-- What the person let apps do: at all, in one role at one facility, or for one professional. What they did as a patient stays.
UPDATE oauth_grant SET ended_at = now() WHERE grant_id IN (
  SELECT g.grant_id
  FROM oauth_grant g, LATERAL (SELECT g.content::json -> 'person' AS who) w
  JOIN person p ON p.person_id = :person_id::uuid AND p.identifier = w.who ->> 'person'
  WHERE g.ended_at IS NULL AND coalesce(w.who ->> 'role', '') <> 'patient'
    AND (:organisation::text = '' OR w.who ->> 'organisation' = :organisation::text)
    AND (:role::text = '' OR w.who ->> 'role' = :role::text)
    AND (:professional::text = '' OR w.who ->> 'acting_for' = :professional::text))

-- name: reset_person
UPDATE person SET password = '', totp = '', one_time = :one_time::bytea, one_time_until = :until::timestamptz
WHERE person_id = :person_id::uuid

-- name: delete_passkeys
DELETE FROM passkey WHERE person_id = :person_id::uuid

-- name: count_login_failure
-- No row where the subject must wait. :pauses by the number of failures, the last for all further ones.
INSERT INTO login_failure AS f (subject, failures, blocked_until, failed_at)
VALUES (:subject::bytea, 1, :now::timestamptz + make_interval(secs => (:pauses::float8[])[1]), :now::timestamptz)
ON CONFLICT (subject) DO UPDATE SET
  failures = f.failures + 1,
  failed_at = :now::timestamptz,
  blocked_until = :now::timestamptz
    + make_interval(secs => (:pauses::float8[])[least(f.failures + 1, array_length(:pauses::float8[], 1))])
WHERE f.blocked_until <= :now::timestamptz
RETURNING failures

-- name: forget_login_failure
DELETE FROM login_failure WHERE subject = :subject::bytea

-- name: insert_login_attempt
INSERT INTO login_attempt (token, step, person_id, challenge, secret, replaces, until)
VALUES (:token::bytea, :step::text, :person_id::uuid, :challenge::bytea, :secret::bytea, :replaces::uuid,
  :until::timestamptz)

-- name: read_login_attempt
SELECT step, person_id, challenge, secret, replaces, until FROM login_attempt
WHERE token = :token::bytea AND until > :now::timestamptz

-- name: set_login_challenge
UPDATE login_attempt SET challenge = :challenge::bytea WHERE token = :token::bytea

-- name: take_login_challenge
WITH old AS (
  SELECT token, challenge FROM login_attempt
  WHERE token = :token::bytea AND until > :now::timestamptz AND challenge <> ''
  FOR UPDATE
)
UPDATE login_attempt a SET challenge = '' FROM old WHERE a.token = old.token
RETURNING a.step, a.person_id, old.challenge, a.secret, a.replaces, a.until

-- name: finish_login_attempt
WITH finished AS (DELETE FROM login_attempt WHERE token = :token::bytea RETURNING 1)
SELECT obieg_expect((SELECT count(*) FROM finished), 1, 'the log-in is over')

-- name: drop_enrolments
DELETE FROM login_attempt WHERE person_id = :person_id::uuid AND step = 'enrol'

-- name: drop_login_attempts
DELETE FROM login_attempt WHERE person_id = :person_id::uuid

-- name: spend_totp
WITH spent AS (
  UPDATE person SET totp_step = :step::bigint
  WHERE person_id = :person_id::uuid AND totp_step < :step::bigint AND disabled_at IS NULL
  RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM spent), 1, 'the code was used')

-- name: enrol_password
UPDATE person SET password = :password::text, totp = :totp::bytea, totp_step = 0, one_time = '', one_time_until = NULL
WHERE person_id = :person_id::uuid

-- name: enrol_passkey
WITH added AS (
  INSERT INTO passkey (credential_id, person_id, public_key, sign_count, label, created_at)
  VALUES (:credential_id::bytea, :person_id::uuid, :public_key::bytea, :sign_count::bigint, :label::text,
    :created_at::timestamptz)
)
UPDATE person SET one_time = '', one_time_until = NULL WHERE person_id = :person_id::uuid

-- name: read_passkeys
SELECT credential_id, person_id, public_key, sign_count, label, created_at, used_at FROM passkey
WHERE (:credential_id::bytea IS NULL OR credential_id = :credential_id::bytea)
  AND (:person_id::uuid IS NULL OR person_id = :person_id::uuid)
ORDER BY created_at, credential_id

-- name: use_passkey
WITH used AS (
  UPDATE passkey SET sign_count = :sign_count::bigint, used_at = :used_at::timestamptz
  WHERE credential_id = :credential_id::bytea
  RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM used), 1, 'the passkey was removed')

-- name: remove_passkey
DELETE FROM passkey WHERE credential_id = :credential_id::bytea AND person_id = :person_id::uuid

-- name: expect_way_to_log_in
SELECT obieg_expect(
  (SELECT count(*) FROM person p
   WHERE p.person_id = :person_id::uuid
     AND (p.password <> '' OR EXISTS (SELECT FROM passkey k WHERE k.person_id = p.person_id))),
  1, 'nothing to log in by would remain')

-- name: insert_session
INSERT INTO session (session_id, token, person_id, method, started_at, seen_at, until, address, agent, organisation, role,
  vouched_by, proved_at)
VALUES (:session_id::uuid, :token::bytea, :person_id::uuid, :method::text, :started_at::timestamptz,
  :started_at::timestamptz, :until::timestamptz, :address::text, :agent::text, :organisation::text, :role::text,
  :vouched_by::text, :proved_at::timestamptz)

-- name: use_session
-- When it was used last is not written more often than :exactly says.
UPDATE session SET seen_at = :now::timestamptz
WHERE token = :token::bytea AND ended_at IS NULL AND until > :now::timestamptz
  AND seen_at > :now::timestamptz - :idle::interval AND seen_at < :now::timestamptz - :exactly::interval

-- name: read_session
-- A place that was taken from the person is none any more, and for whom they may not act any more they do not.
SELECT s.session_id, s.person_id, s.method, s.started_at, s.seen_at, s.until, s.address, s.agent,
  l.organisation, l.organisation_name, l.role, s.vouched_by, s.proved_at, a.professional, a.professional_name
FROM session s
JOIN person p ON p.person_id = s.person_id
LEFT JOIN person_place l ON l.person_id = s.person_id AND l.organisation = s.organisation AND l.role = s.role
LEFT JOIN person_assists a ON a.person_id = s.person_id AND a.organisation = s.organisation
  AND a.professional = s.acting_for
WHERE s.token = :token::bytea AND s.ended_at IS NULL AND s.until > :now::timestamptz
  AND s.seen_at > :now::timestamptz - :idle::interval AND p.disabled_at IS NULL

-- name: list_sessions
SELECT s.session_id, s.person_id, s.method, s.started_at, s.seen_at, s.until, s.address, s.agent,
  l.organisation, l.organisation_name, l.role, s.vouched_by, s.proved_at, a.professional, a.professional_name,
  p.login, p.name
FROM session s
JOIN person p ON p.person_id = s.person_id
LEFT JOIN person_place l ON l.person_id = s.person_id AND l.organisation = s.organisation AND l.role = s.role
LEFT JOIN person_assists a ON a.person_id = s.person_id AND a.organisation = s.organisation
  AND a.professional = s.acting_for
WHERE s.ended_at IS NULL AND s.until > :now::timestamptz AND s.seen_at > :now::timestamptz - :idle::interval
  AND (:person_id::uuid IS NULL OR s.person_id = :person_id::uuid)
ORDER BY s.started_at DESC, s.session_id

-- name: choose_place
WITH chosen AS (
  UPDATE session s SET organisation = l.organisation, role = l.role, acting_for = ''
  FROM person_place l
  WHERE s.session_id = :session_id::uuid AND s.ended_at IS NULL AND l.person_id = s.person_id
    AND l.organisation = :organisation::text AND l.role = :role::text
  RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM chosen), 1, 'the place is not theirs')

-- name: choose_professional
WITH chosen AS (
  UPDATE session s SET acting_for = :professional::text
  WHERE s.session_id = :session_id::uuid AND s.ended_at IS NULL
    AND (:professional::text = '' OR EXISTS (
      SELECT FROM person_assists a
      WHERE a.person_id = s.person_id AND a.organisation = s.organisation AND a.professional = :professional::text))
  RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM chosen), 1, 'they may not act for them')

-- name: insert_assists
INSERT INTO person_assists (person_id, organisation, professional, professional_name)
VALUES (:person_id::uuid, :organisation::text, :professional::text, :professional_name::text)
ON CONFLICT (person_id, organisation, professional) DO UPDATE SET professional_name = excluded.professional_name

-- name: delete_assists
DELETE FROM person_assists
WHERE person_id = :person_id::uuid AND organisation = :organisation::text AND professional = :professional::text

-- name: read_launch_code
SELECT content, session_id::text FROM launch_code WHERE digest = :digest::bytea AND until > :now::timestamptz

-- name: use_launch_code
WITH used AS (
  UPDATE launch_code SET session_id = :session_id::uuid
  WHERE digest = :digest::bytea AND session_id IS NULL AND until > :now::timestamptz
  RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM used), 1, 'the code was used')

-- name: end_sessions
-- :least is how many must end for the rest of the batch to hold.
WITH ended AS (
  UPDATE session SET ended_at = now(), end_reason = :reason::text
  WHERE ended_at IS NULL
    AND (:session_id::uuid IS NULL OR session_id = :session_id::uuid)
    AND (:person_id::uuid IS NULL OR person_id = :person_id::uuid)
    AND (:but::uuid IS NULL OR session_id <> :but::uuid)
  RETURNING 1
)
SELECT count(*), obieg_expect(least(count(*), :least::bigint), :least::bigint, 'no such session') FROM ended

-- name: forget_log_ins
WITH attempts AS (DELETE FROM login_attempt WHERE until < :now::timestamptz),
failures AS (
  DELETE FROM login_failure
  WHERE failed_at < :now::timestamptz - :failures::interval AND blocked_until < :now::timestamptz
)
DELETE FROM session WHERE until < :now::timestamptz - :sessions::interval
