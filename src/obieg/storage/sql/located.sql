-- Whom a request is about, for decisions about access.

-- name: located_persons
-- Each person once: all keys, the survivor's first, the affinity-domain ids that belong to them, and their facts.
SELECT p.keys, p.affinity_domain_ids, convert_to(p.facts::text, 'UTF8')
FROM obieg_persons(:authorities::text[], :ids::text[], :uuids::uuid[], :unique_ids::text[], :keys::bigint[],
                   :own_authority::text) p
