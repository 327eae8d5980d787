-- Documents that professionals wait for.

-- name: forget_awaited
DELETE FROM awaited_document WHERE person = :person::text AND until < now()

-- name: put_awaited
-- Once for a patient and kind, and nothing where the person waits for too much.
INSERT INTO awaited_document (awaited_id, patient_key, person, organisation, kind, types, until)
SELECT :id::uuid, k.keys[1], :person::text, :organisation::text, :kind::text, :types::text[],
       now() + :days::integer * interval '1 day'
FROM (SELECT obieg_patient_keys(:authority::text, :value::text) AS keys) k
WHERE k.keys <> '{}' AND (SELECT count(*) FROM awaited_document a WHERE a.person = :person::text) < :most::bigint
ON CONFLICT (person, organisation, patient_key, kind) DO NOTHING

-- name: end_awaited
DELETE FROM awaited_document
WHERE awaited_id = :id::uuid AND person = :person::text AND organisation = :organisation::text

-- name: awaited_of
-- What a person waits for at a facility, the newest first.
SELECT a.awaited_id::text, p.affinity_domain_id, a.kind, a.since, a.until
FROM awaited_document a JOIN patient p ON p.patient_key = (obieg_kin(a.patient_key))[1]
WHERE a.person = :person::text AND a.organisation = :organisation::text AND a.until > now()
ORDER BY a.since DESC, a.awaited_id
