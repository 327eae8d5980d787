-- Statements of the link itself.

-- name: plan_once
-- For the rest of the batch: statements that are planned once for each connection.
SELECT set_config('plan_cache_mode', 'force_generic_plan', true)
