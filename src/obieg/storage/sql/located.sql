-- Whom a request is about, for decisions about access.

-- name: located_patients
-- Each person once: all keys, the survivor's first, and the affinity-domain ids that belong to them.
SELECT p.keys, ARRAY(SELECT o.affinity_domain_id FROM patient o WHERE o.patient_key = ANY(p.keys))
FROM (
  SELECT DISTINCT ON (k.keys[1]) k.keys
  FROM unnest((
    SELECT obieg_located(:authorities::text[], :ids::text[], :uuids::uuid[], :unique_ids::text[], :keys::bigint[])
  )) AS w (patient_key)
  CROSS JOIN LATERAL (SELECT obieg_kin(w.patient_key) AS keys) k
) p
