-- Who looks whom up, as the audit tells it (docs/access.md, Watching).

-- name: count_look_ups
-- For each person who asked within a window, but patients themselves: different people asked about, identifiers of nobody,
-- people to whom no basis followed within the window, people of the same surname.
WITH look_up AS MATERIALIZED (
  SELECT u.said[1] AS person, u.said[2] AS name, p.patient_id, a.recorded_at,
         a.message ~ '<EventOutcomeDescription>([^<]*; )?access: ' AS founded
  FROM audit_event a
  CROSS JOIN LATERAL regexp_match(
    a.message, 'UserID="([^"]*#[^"]*)"(?: UserName="([^"&<]*)[^"]*")? UserIsRequestor="true"') AS u (said)
  CROSS JOIN LATERAL (
    SELECT a.patient_id UNION SELECT o.patient_id FROM audit_patient o WHERE o.audit_id = a.audit_id
  ) p (patient_id)
  WHERE a.audit_id >= obieg_audit_id_at(:since::timestamptz - interval '1 hour')
    AND a.recorded_at >= :since::timestamptz AND a.recorded_at < :until::timestamptz
    AND a.format = 'dicom' AND a.transaction = ANY(:transactions::text[]) AND p.patient_id <> '' AND u.said IS NOT NULL
    AND a.message !~ 'UserIsRequestor="true"><RoleIDCode csd-code="patient"'
), asked AS (
  SELECT l.person, max(l.name) AS name, l.patient_id, bool_or(l.founded) AS founded, min(l.recorded_at) AS first,
         max(l.recorded_at) AS last
  FROM look_up l GROUP BY l.person, l.patient_id
), known AS (
  SELECT a.*, k.patient_key IS NOT NULL AS exists,
         EXISTS (
           SELECT FROM patient_record r
           WHERE r.patient_key = k.patient_key AND r.removed_at IS NULL
             AND lower(convert_from(r.demographics, 'UTF8')::json #>> '{names,0,family}')
                 = lower(substring(a.name FROM '(\S+)\s*$'))
         ) AS namesake
  FROM asked a
  LEFT JOIN patient_locator k
    ON k.authority = substring(a.patient_id FROM '&([^&]*)&ISO') AND k.value = split_part(a.patient_id, '^', 1)
)
SELECT k.person, coalesce(max(k.name), ''), min(k.first), max(k.last),
       count(*) FILTER (WHERE k.exists), count(*) FILTER (WHERE NOT k.exists),
       count(*) FILTER (WHERE k.exists AND NOT k.founded), count(*) FILTER (WHERE k.namesake)
FROM known k GROUP BY k.person
