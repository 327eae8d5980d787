-- Statements of the link itself.

-- name: plan_once
-- For the rest of the batch: statements that are planned once for each connection.
SELECT set_config('plan_cache_mode', 'force_generic_plan', true)

-- name: plan_once_if_known
-- The same of a batch that is undone unless what a sight was made of is still all that is known of its patients.
SELECT set_config('plan_cache_mode', 'force_generic_plan', true),
       obieg_expect_known(:keys::bigint[], :versions::xid[])
