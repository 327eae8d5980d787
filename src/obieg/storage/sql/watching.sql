-- Who looks whom up, as the audit tells it (docs/access.md, Watching).

-- name: count_look_ups
-- For each person who asked within a window, but patients themselves: different people asked about, identifiers of nobody
-- (patients and documents), people to whom no basis followed within the window where it was one of :founding, and what is
-- compared of the people asked about (at most :compared_max) and of the person's own record: key, family names, addresses.
WITH look_up AS MATERIALIZED (
  SELECT u.said[1] AS person, u.said[2] AS name, p.patient_id, a.recorded_at,
         a.message ~ '<EventOutcomeDescription>([^<]*; )?access: ' AS founded, a.transaction = ANY(:founding::text[]) AS judged
  FROM audit_event a
  CROSS JOIN LATERAL regexp_match(
    a.message, 'UserID="([^"]*#[^"]*)"(?: UserName="([^"&<]*)[^"]*")? UserIsRequestor="true"') AS u (said)
  CROSS JOIN LATERAL (
    SELECT a.patient_id UNION SELECT o.patient_id FROM audit_patient o WHERE o.audit_id = a.audit_id
    -- A document of nobody; of ITI-67 it stands in the query, whose Base64 begins as that of _id does.
    UNION SELECT coalesce(substring(a.message FROM 'ParticipantObjectID="(urn:uuid:[^"]*)"'),
                          substring(a.message FROM '<ParticipantObjectQuery>(X2lk[^<]*)<'))
    WHERE a.patient_id = '' AND a.transaction = ANY(:by_id::text[])
  ) p (patient_id)
  WHERE a.audit_id >= obieg_audit_id_at(:since::timestamptz - interval '1 hour')
    AND a.recorded_at >= :since::timestamptz AND a.recorded_at < :until::timestamptz
    AND a.format = 'dicom' AND a.transaction = ANY(:transactions::text[]) AND p.patient_id <> '' AND u.said IS NOT NULL
    AND a.message !~ 'UserIsRequestor="true"><RoleIDCode csd-code="patient"'
), named AS (
  SELECT l.*, k.patient_key FROM look_up l
  LEFT JOIN patient_locator k
    ON k.authority = substring(l.patient_id FROM '&([^&]*)&ISO') AND k.value = split_part(l.patient_id, '^', 1)
), asked AS (
  SELECT n.person, max(n.name) AS name, n.patient_key, CASE WHEN n.patient_key IS NULL THEN n.patient_id END AS nobody,
         bool_or(n.judged) AND NOT bool_or(n.founded) AS unfounded, min(n.recorded_at) AS first, max(n.recorded_at) AS last,
         row_number() OVER (PARTITION BY n.person ORDER BY n.patient_key IS NULL, max(n.recorded_at) DESC) AS place
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
