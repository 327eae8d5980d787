-- Subscriptions and what they are told (DSUBm). What an act of the outbox means for a subscription stands in its batch.

-- name: subscription_patient
-- The key under which a subscription of this patient stands, the survivor's where others were merged into it.
SELECT (obieg_patient_keys(:authority::text, :value::text))[1]

-- name: tell_of_published_document
-- Nothing of it is stored but what subscribers are told.
SELECT obieg_tell_of_document(jsonb_populate_record(NULL::document_entry, :entry::jsonb), :event::text,
  obieg_kin(:patient_key::bigint), :focus::text, :sent::text)

-- name: tell_of_published_set
SELECT obieg_tell_of_submission_set(jsonb_populate_record(NULL::submission_set, :entry::jsonb),
  obieg_kin(:patient_key::bigint), :focus::text, :sent::text)

-- name: insert_subscription
INSERT INTO subscription (subscription_id, patient_key, owner, kind, topic, events, end_at, base, endpoint, payload, content,
  criteria, contacts, resource, statuses, type_code, class_code, practice_setting_code, healthcare_facility_type_code,
  format_code, event_code_list, confidentiality_code, author, source_id, source, requester, person)
VALUES (:subscription_id::uuid, :patient_key::bigint, :owner::text, :kind::"char", :topic::text, :events::text[],
  :end_at::timestamptz, :base::text, :endpoint::text, :payload::text, :content::text, :criteria::text, :contacts::text[],
  :resource::bytea, :status::"char"[], :type_code::text[], :class_code::text[], :practice_setting_code::text[],
  :healthcare_facility_type_code::text[], :format_code::text[], :event_code_list::text[], :confidentiality_code::text[],
  :author::text[], :source_id::text[], :source::text[], :requester::bytea, :person::text)

-- name: read_subscription
-- With how many events it has had, those that wait for their number among them.
SELECT s.subscription_id::text, s.kind::text, s.topic, s.status, s.error, s.end_at, s.base, s.endpoint, s.payload,
       s.content, s.resource, s.version, s.updated_at, s.requester,
       s.number + (
         SELECT count(*) FROM outbox o
         WHERE o.destination = 'subscription:' || s.subscription_id AND o.patient_key = s.patient_key
           AND convert_from(o.body, 'UTF8')::json ->> 'event' <> 'handshake'
           AND NOT EXISTS (SELECT FROM subscription_event e
                           WHERE e.subscription_id = s.subscription_id AND e.outbox_id = o.outbox_id))
FROM subscription s WHERE s.subscription_id = :subscription_id::uuid

-- name: find_subscriptions
SELECT s.subscription_id::text, s.kind::text, s.topic, s.status, s.error, s.end_at, s.base, s.endpoint, s.payload,
       s.content, s.resource, s.version, s.updated_at, s.requester,
       s.number + (
         SELECT count(*) FROM outbox o
         WHERE o.destination = 'subscription:' || s.subscription_id AND o.patient_key = s.patient_key
           AND convert_from(o.body, 'UTF8')::json ->> 'event' <> 'handshake'
           AND NOT EXISTS (SELECT FROM subscription_event e
                           WHERE e.subscription_id = s.subscription_id AND e.outbox_id = o.outbox_id)),
       count(*) OVER ()
FROM subscription s
WHERE s.owner = :owner::text AND s.person = :person::text
  AND (:ids::text[] IS NULL OR s.subscription_id::text = ANY(:ids::text[]))
  AND (:statuses::text[] IS NULL OR s.status = ANY(:statuses::text[]))
  AND (:topics::text[] IS NULL OR s.topic = ANY(:topics::text[]))
  AND (:endpoints::text[] IS NULL OR s.endpoint = ANY(:endpoints::text[]))
  AND (:payloads::text[] IS NULL OR s.payload = ANY(:payloads::text[]))
  AND (:contents::text[] IS NULL OR s.content = ANY(:contents::text[]))
  AND (:contacts::text[] IS NULL OR EXISTS (SELECT FROM unnest(s.contacts) c WHERE c LIKE ANY(:contacts::text[])))
  AND (:filters::text[] IS NULL OR s.criteria LIKE ANY(:filters::text[]))
  AND (:authority::text IS NULL
       OR s.patient_key = ANY(obieg_patient_keys(:authority::text, :value::text)))
ORDER BY s.subscription_id
LIMIT :count::bigint OFFSET :skipped::bigint

-- name: end_subscription
-- What waits for it is forgotten; what is on its way cannot be called back.
WITH ended AS (
  UPDATE subscription SET status = 'off', error = '', version = version + 1, updated_at = now()
  WHERE subscription_id = :subscription_id::uuid AND version = :version::integer
  RETURNING subscription_id
), forgotten AS (
  DELETE FROM outbox o USING ended e WHERE o.destination = 'subscription:' || e.subscription_id
)
SELECT obieg_expect((SELECT count(*) FROM ended), 1, 'another has changed this subscription')

-- name: delete_subscription
WITH gone AS (
  DELETE FROM subscription WHERE subscription_id = :subscription_id::uuid AND version = :version::integer
  RETURNING subscription_id
), forgotten AS (
  DELETE FROM outbox o USING gone g WHERE o.destination = 'subscription:' || g.subscription_id
)
SELECT obieg_expect((SELECT count(*) FROM gone), 1, 'another has changed this subscription')

-- name: end_subscriptions
WITH ended AS (
  UPDATE subscription SET status = 'off', error = '', version = version + 1, updated_at = now()
  WHERE status <> 'off' AND end_at <= now()
  RETURNING subscription_id
), forgotten AS (
  DELETE FROM outbox o USING ended e WHERE o.destination = 'subscription:' || e.subscription_id
)
SELECT subscription_id::text FROM ended

-- name: remove_off_subscriptions
-- What they were told goes with them.
DELETE FROM subscription WHERE status = 'off' AND updated_at < now() - make_interval(secs => :kept_s::bigint)
RETURNING subscription_id::text

-- name: number_event
-- Once for each letter, however often it is sent; only the sender that holds the letter does so.
WITH numbered AS (
  UPDATE subscription s SET number = s.number + 1
  WHERE s.subscription_id = :subscription_id::uuid AND NOT EXISTS (
    SELECT FROM subscription_event e
    WHERE e.subscription_id = s.subscription_id AND e.outbox_id = :outbox_id::bigint)
  RETURNING s.subscription_id, s.number
)
INSERT INTO subscription_event (subscription_id, number, outbox_id, occurred_at, notice)
SELECT n.subscription_id, n.number, :outbox_id::bigint, :occurred_at::timestamptz, :notice::bytea FROM numbered n

-- name: numbered_event
SELECT number FROM subscription_event
WHERE subscription_id = :subscription_id::uuid AND outbox_id = :outbox_id::bigint

-- name: subscription_events
SELECT number, occurred_at, notice FROM subscription_event
WHERE subscription_id = :subscription_id::uuid AND number BETWEEN :first::bigint AND :last::bigint
ORDER BY number
LIMIT :count::bigint

-- name: take_subscribed
-- As take_letters, of all subscriptions that are not over: each is a lane of its own.
WITH due AS (
  SELECT o.patient_key, o.outbox_id FROM outbox o
  WHERE starts_with(o.destination, 'subscription:') AND o.state = 'W' AND o.next_attempt_at <= now()
    AND (o.leased_until IS NULL OR o.leased_until < now())
    AND EXISTS (
      SELECT FROM subscription s
      WHERE s.subscription_id = obieg_subscription_of(o.destination) AND s.status <> 'off' AND s.end_at > now())
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

-- name: subscriber_reached
-- The first letter that is taken is the handshake; after an error one that an operator had sent again.
UPDATE subscription SET status = 'active', error = '', version = version + 1, updated_at = now()
WHERE subscription_id = obieg_subscription_of(:destination::text) AND status IN ('requested', 'error')

-- name: subscriber_lost
-- It is not tried any more: what waits behind the letter waits no longer.
WITH lost AS (
  UPDATE subscription SET status = 'error', error = :why::text, version = version + 1, updated_at = now()
  WHERE subscription_id = obieg_subscription_of(:destination::text) AND status <> 'off'
  RETURNING subscription_id
)
UPDATE outbox o SET state = 'D', died_at = now(), last_error = 'an earlier notification could not be delivered'
FROM lost l
WHERE o.destination = 'subscription:' || l.subscription_id AND o.state = 'W'
  AND (o.leased_until IS NULL OR o.leased_until < now())
