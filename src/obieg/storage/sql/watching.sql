-- Who looks whom up, as the audit tells it (docs/access.md, Watching).

-- name: count_look_ups
-- For each person who asked within a window, but patients themselves: different people asked about, identifiers of nobody
-- (patients and documents), people to whom no basis followed within the window where it was one of :founding, and what is
-- compared of the people asked about (at most :compared_max) and of the person's own record: key, family names, addresses.
--
-- It goes through all that was asked within an hour, twice a minute: so messages are cut where they must be, for a regular
-- expression takes ten times as long.
WITH look_up AS MATERIALIZED (
  SELECT u.person, max(u.name) AS name, p.patient_id, min(a.recorded_at) AS first, max(a.recorded_at) AS last,
         bool_or(o.said LIKE 'access: %' OR o.said LIKE '%; access: %') AS founded,
         bool_or(a.transaction = ANY(:founding::text[])) AS judged
  FROM audit_event a
  CROSS JOIN LATERAL (
    -- Who asks: UserID, UserName or none, and UserIsRequestor, as they are written; the name ends at an entity.
    SELECT split_part(part, '"', 2) AS person,
           CASE WHEN named THEN split_part(split_part(split_part(part, '"', 4), '&', 1), '<', 1) END AS name
    FROM string_to_table(a.message, '<ActiveParticipant ') part
    CROSS JOIN LATERAL (SELECT split_part(part, '"', 3) = ' UserName=' AS named) n
    WHERE part LIKE 'UserID="%' AND split_part(part, '"', 2) LIKE '%#%'
      AND split_part(part, '"', CASE WHEN named THEN 5 ELSE 3 END) = ' UserIsRequestor='
      AND split_part(part, '"', CASE WHEN named THEN 6 ELSE 4 END) = 'true'
    LIMIT 1
  ) u
  CROSS JOIN LATERAL split_part(split_part(a.message, '<EventOutcomeDescription>', 2), '<', 1) AS o (said)
  CROSS JOIN LATERAL (
    SELECT a.patient_id UNION ALL SELECT m.patient_id FROM audit_patient m WHERE m.audit_id = a.audit_id
    -- A document of nobody; of ITI-67 it stands in the query, whose Base64 begins as that of _id does.
    UNION ALL SELECT coalesce(substring(a.message FROM 'ParticipantObjectID="(urn:uuid:[^"]*)"'),
                              substring(a.message FROM '<ParticipantObjectQuery>(X2lk[^<]*)<'))
    WHERE a.patient_id = '' AND a.transaction = ANY(:by_id::text[])
  ) p (patient_id)
  WHERE a.audit_id >= obieg_audit_id_at(:since::timestamptz - interval '1 hour')
    AND a.recorded_at >= :since::timestamptz AND a.recorded_at < :until::timestamptz
    AND a.format = 'dicom' AND a.transaction = ANY(:transactions::text[]) AND p.patient_id <> ''
    AND a.message NOT LIKE '%UserIsRequestor="true"><RoleIDCode csd-code="patient"%'
  GROUP BY u.person, p.patient_id
), named AS (
  SELECT l.*, k.patient_key FROM look_up l
  LEFT JOIN patient_locator k
    ON k.authority = substring(l.patient_id FROM '&([^&]*)&ISO') AND k.value = split_part(l.patient_id, '^', 1)
), asked AS (
  SELECT n.person, max(n.name) AS name, n.patient_key, CASE WHEN n.patient_key IS NULL THEN n.patient_id END AS nobody,
         bool_or(n.judged) AND NOT bool_or(n.founded) AS unfounded, min(n.first) AS first, max(n.last) AS last,
         row_number() OVER (PARTITION BY n.person ORDER BY n.patient_key IS NULL, max(n.last) DESC) AS place
  FROM named n GROUP BY n.person, n.patient_key, nobody
), compared AS (
  SELECT a.person, json_agg(json_build_array(a.patient_key, d.said #>> '{names,0,family}', d.said -> 'addresses')) AS of
  FROM asked a
  JOIN patient_record r ON r.patient_key = a.patient_key AND r.removed_at IS NULL
  CROSS JOIN LATERAL (SELECT convert_from(r.demographics, 'UTF8')::json) AS d (said)
  WHERE a.place <= :compared_max::bigint
  GROUP BY a.person
)
SELECT a.person, coalesce(max(a.name), ''), min(a.first), max(a.last),
       count(a.patient_key), count(*) FILTER (WHERE a.patient_key IS NULL),
       count(*) FILTER (WHERE a.patient_key IS NOT NULL AND a.unfounded),
       (SELECT coalesce(c.of, '[]')::text FROM compared c WHERE c.person = a.person),
       (SELECT coalesce(json_agg(json_build_array(l.patient_key, '', convert_from(r.demographics, 'UTF8')::json -> 'addresses')),
                        '[]')::text
        FROM patient_locator l JOIN patient_record r ON r.patient_key = l.patient_key AND r.removed_at IS NULL
        WHERE l.authority = split_part(a.person, '#', 1) AND l.value = split_part(a.person, '#', 2))
FROM asked a GROUP BY a.person
