-- Statements of the link itself.

-- name: plan_once
-- For the rest of the batch: statements that are planned once for each connection.
SELECT set_config('plan_cache_mode', 'force_generic_plan', true)

-- name: plan_once_if_known
-- The same of a batch that is undone unless what a sight was made of is still all that is known of its patients
-- (migration kept_decisions).
SELECT set_config('plan_cache_mode', 'force_generic_plan', true), obieg_expect(
  (SELECT count(*) FROM unnest(:keys::bigint[], :versions::text[]) AS k (key, version)
   JOIN patient p ON p.patient_key = k.key AND p.xmin::text = k.version),
  cardinality(:keys::bigint[]), 'what a decision rested on was changed meanwhile')
