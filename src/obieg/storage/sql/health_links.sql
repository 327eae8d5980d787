-- Links to a health summary that patients hand out.

-- name: forget_links
-- What is over keeps no file, and for long nothing.
WITH gone AS (
  DELETE FROM health_link WHERE expires_at < now() - make_interval(days => :days::integer)
), tickets AS (
  DELETE FROM health_link_ticket WHERE expires_at < now()
)
UPDATE health_link SET file = '' WHERE expires_at BETWEEN now() - make_interval(days => :days::integer) AND now() AND file <> ''

-- name: put_link
-- Raises where too many of the patient hold.
WITH made AS (
  INSERT INTO health_link (link_id, patient_key, locator, passcode, label, made_by, made_by_name, purpose, expires_at, file)
  SELECT :link_id::uuid, k.keys[1], :locator::bytea, :passcode::bytea, :label::text, :made_by::text, :made_by_name::text,
         :purpose::text, :expires_at::timestamptz, convert_to(:file::text, 'UTF8')
  FROM (SELECT obieg_patient_keys(:authority::text, :value::text) AS keys) k
  WHERE k.keys <> '{}' AND (
    SELECT count(*) FROM health_link l
    WHERE l.patient_key = ANY(k.keys) AND l.ended_at IS NULL AND l.expires_at > now()
      AND l.tries < :tries::integer) < :most::bigint
  RETURNING link_id
)
SELECT obieg_expect((SELECT count(*) FROM made), 1, 'too many links hold')

-- name: links_of
SELECT l.link_id::text, l.label, l.made_by_name, l.made_at, l.expires_at, l.ended_at, l.tries, l.opened, l.opened_at
FROM health_link l WHERE l.patient_key = ANY(obieg_patient_keys(:authority::text, :value::text))
ORDER BY l.made_at DESC, l.link_id LIMIT :count::bigint

-- name: end_health_link
-- Raises where the patient has no such link that holds.
WITH ended AS (
  UPDATE health_link SET ended_at = now(), file = ''
  WHERE link_id = :link_id::uuid AND patient_key = ANY(obieg_patient_keys(:authority::text, :value::text))
    AND ended_at IS NULL AND expires_at > now()
  RETURNING link_id
)
SELECT obieg_expect((SELECT count(*) FROM ended), 1, 'no such link holds')

-- name: try_link
-- One try; a wrong one counts, for good. Those that come at once wait for one another here.
UPDATE health_link l
SET tries = l.tries + CASE WHEN :passcode::bytea IN ('', l.passcode) THEN 0 ELSE 1 END
FROM patient p
WHERE l.locator = :locator::bytea AND l.ended_at IS NULL AND l.expires_at > now() AND l.tries < :most::integer
  AND p.patient_key = (obieg_kin(l.patient_key))[1]
RETURNING l.link_id::text, p.affinity_domain_id, l.passcode = :passcode::bytea, l.tries, l.made_by, l.purpose, l.made_at,
          CASE WHEN l.passcode = :passcode::bytea THEN l.file ELSE '' END

-- name: count_opening
UPDATE health_link SET opened = opened + 1, opened_at = now() WHERE link_id = :link_id::uuid

-- name: put_ticket
INSERT INTO health_link_ticket (ticket, link_id, recipient, expires_at)
VALUES (:ticket::bytea, :link_id::uuid, :recipient::text, now() + make_interval(secs => :seconds::integer))

-- name: take_ticket
WITH taken AS (
  DELETE FROM health_link_ticket WHERE ticket = :ticket::bytea RETURNING link_id, recipient, expires_at
)
SELECT l.link_id::text, p.affinity_domain_id, true, l.tries, l.made_by, l.purpose, l.made_at, l.file, t.recipient
FROM taken t JOIN health_link l ON l.link_id = t.link_id JOIN patient p ON p.patient_key = (obieg_kin(l.patient_key))[1]
WHERE t.expires_at > now() AND l.locator = :locator::bytea AND l.ended_at IS NULL AND l.expires_at > now()
