-- name: put_letter
-- A newer message replaces what waits or died under its key; what is on its way is left alone. A dead letter must go as
-- well: sent again, it would undo what the newer one says.
WITH replaced AS (
  DELETE FROM outbox
  WHERE destination = :destination::text AND patient_key = :patient_key::bigint AND key = :key::text
    AND :key::text <> '' AND (leased_until IS NULL OR leased_until < now())
)
INSERT INTO outbox (patient_key, destination, transaction, key, body)
VALUES (:patient_key::bigint, :destination::text, :transaction::text, :key::text, :body::bytea)

-- name: take_letters
-- The first of each patient's that is due. Whoever comes second passes over what is locked, and sees the lease after.
WITH due AS (
  SELECT o.patient_key, o.outbox_id FROM outbox o
  WHERE o.destination = :destination::text AND o.state = 'W' AND o.next_attempt_at <= now()
    AND (o.leased_until IS NULL OR o.leased_until < now())
    AND NOT EXISTS (
      SELECT FROM outbox e
      WHERE e.destination = o.destination AND e.patient_key = o.patient_key AND e.outbox_id < o.outbox_id
        AND e.state = 'W')
  ORDER BY o.next_attempt_at
  LIMIT :count::bigint
  FOR UPDATE SKIP LOCKED
)
UPDATE outbox o SET leased_until = now() + make_interval(secs => :lease_s::float8), attempts = o.attempts + 1
FROM due
WHERE o.patient_key = due.patient_key AND o.outbox_id = due.outbox_id
RETURNING o.outbox_id, o.patient_key, o.transaction, o.destination, o.body, o.created_at, o.attempts,
          o.last_error

-- name: delete_letter
-- By the sender that holds it: an attempt that began after this one's lease had ended has another number.
WITH gone AS (
  DELETE FROM outbox
  WHERE patient_key = :patient_key::bigint AND outbox_id = :outbox_id::bigint AND attempts = :attempts::integer
  RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM gone), 1, 'another sender has the message')

-- name: drop_superseded
DELETE FROM outbox o
WHERE o.patient_key = :patient_key::bigint AND o.outbox_id = :outbox_id::bigint AND o.attempts = :attempts::integer
  AND o.key <> ''
  AND EXISTS (
    SELECT FROM outbox n
    WHERE n.destination = o.destination AND n.patient_key = o.patient_key AND n.key = o.key
      AND n.outbox_id > o.outbox_id)

-- name: postpone_letter
UPDATE outbox SET leased_until = NULL, next_attempt_at = now() + make_interval(secs => :pause_s::float8),
  last_error = :why::text
WHERE patient_key = :patient_key::bigint AND outbox_id = :outbox_id::bigint AND attempts = :attempts::integer

-- name: bury_letter
WITH dead AS (
  UPDATE outbox SET state = 'D', leased_until = NULL, died_at = now(), last_error = :why::text
  WHERE patient_key = :patient_key::bigint AND outbox_id = :outbox_id::bigint AND attempts = :attempts::integer
    AND state = 'W'
  RETURNING 1
)
SELECT obieg_expect((SELECT count(*) FROM dead), 1, 'another sender has the message')

-- name: expired_letters
SELECT outbox_id, patient_key, transaction, destination, body, created_at, attempts, last_error
FROM outbox
WHERE state = 'W' AND since < now() - make_interval(secs => :age_s::float8)
  AND (leased_until IS NULL OR leased_until < now())
ORDER BY created_at
LIMIT :count::bigint

-- name: backlog
SELECT destination, count(*) FILTER (WHERE state = 'W'), count(*) FILTER (WHERE state = 'D'),
       coalesce(extract(epoch FROM now() - min(created_at) FILTER (WHERE state = 'W')), 0)::float8
FROM outbox GROUP BY destination ORDER BY destination

-- name: list_letters
-- Dead letters first, then what has waited longest.
SELECT outbox_id, destination, transaction, key, state::text, created_at, attempts, next_attempt_at, leased_until > now(),
       last_error, died_at
FROM outbox
WHERE (:destination::text = '' OR destination = :destination::text) AND (NOT :dead::boolean OR state = 'D')
ORDER BY state, created_at, outbox_id
LIMIT :count::bigint

-- name: retry_letters
-- Waiting ones at once; dead letters are given their whole time again. An empty list is all of them.
UPDATE outbox SET state = 'W', next_attempt_at = now(), died_at = NULL,
  since = CASE state WHEN 'D' THEN now() ELSE since END
WHERE (:ids::bigint[] = '{}' OR outbox_id = ANY(:ids::bigint[]))
  AND (:destination::text = '' OR destination = :destination::text)
  AND (leased_until IS NULL OR leased_until < now())
RETURNING outbox_id

-- name: drop_letters
DELETE FROM outbox
WHERE (:ids::bigint[] = '{}' OR outbox_id = ANY(:ids::bigint[]))
  AND (:destination::text = '' OR destination = :destination::text)
  AND (NOT :dead::boolean OR state = 'D')
  AND (leased_until IS NULL OR leased_until < now())
RETURNING outbox_id
