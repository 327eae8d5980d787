-- Log-ins of patients through an identity provider.

-- name: forget_patient_logins
-- Some of what is over; the rest waits for the next time.
WITH login AS (
  DELETE FROM patient_login WHERE relay_state IN (
    SELECT relay_state FROM patient_login WHERE until < :now::timestamptz ORDER BY until LIMIT 100
    FOR UPDATE SKIP LOCKED)
)
DELETE FROM patient_session WHERE session_id IN (
  SELECT session_id FROM patient_session WHERE until < :now::timestamptz ORDER BY until LIMIT 100
  FOR UPDATE SKIP LOCKED)

-- name: insert_patient_login
INSERT INTO patient_login (relay_state, browser, request_id, return_to, begun_at, until)
VALUES (:relay_state, :browser, :request_id, :return_to, :begun_at, :until)

-- name: take_patient_login
-- Another browser's does not end by this.
DELETE FROM patient_login WHERE relay_state = :relay_state AND browser = :browser
RETURNING request_id, return_to, begun_at, until

-- name: insert_patient_session
INSERT INTO patient_session (session_id, token, pesel, family_name, given_name, birth_date, issuer, assurance, name_id,
  session_index, address, agent, started_at, seen_at, until)
VALUES (:session_id, :token, :pesel, :family_name, :given_name, :birth_date, :issuer, :assurance, :name_id,
  :session_index, :address, :agent, :started_at, :started_at, :until)

-- name: patient_session
-- One that has not ended; it is used by this. That is written down only where it makes a difference.
WITH found AS (
  SELECT * FROM patient_session
  WHERE token = :token::bytea AND until > :now::timestamptz AND seen_at > :idle::timestamptz
), used AS (
  UPDATE patient_session s SET seen_at = :now::timestamptz FROM found
  WHERE s.session_id = found.session_id AND found.seen_at < :seen::timestamptz
)
SELECT session_id::text, pesel, family_name, given_name, birth_date, issuer, assurance, name_id, session_index, address,
  agent, started_at, seen_at, until
FROM found

-- name: patient_sessions
SELECT session_id::text, pesel, family_name, given_name, birth_date, issuer, assurance, name_id, session_index, address,
  agent, started_at, seen_at, until
FROM patient_session
WHERE (:pesel::text IS NULL OR pesel = :pesel::text) AND until > :now::timestamptz AND seen_at > :idle::timestamptz
ORDER BY started_at DESC

-- name: end_patient_session
DELETE FROM patient_session WHERE session_id = :session_id::uuid AND pesel = :pesel
RETURNING 1
