-- name: read_version
-- The newest, or the one with the number.
SELECT change_id, kind, id, version, updated_at, content, deleted
FROM directory_version
WHERE kind = :kind::text AND id = :id::text
  AND CASE WHEN :version::integer IS NULL THEN superseded_by = 9223372036854775807 ELSE version = :version::integer END

-- name: newest_change
SELECT coalesce(max(change_id), 0) FROM directory_version

-- name: find_versions
-- One page of what fits as the directory was after the change that bounds it, with the whole number and the bound.
WITH bound AS (
  SELECT coalesce(:bound::bigint, (SELECT max(change_id) FROM directory_version), 0) AS change_id
), found AS MATERIALIZED (
  SELECT v.change_id, v.id,
    CASE :sort::text WHEN '_id' THEN convert_to(v.id, 'UTF8') WHEN '_lastUpdated' THEN int8send(v.change_id)
      ELSE v.sort_key END AS key
  FROM directory_version v, bound
  WHERE v.terms @@ :terms::tsquery
    AND v.change_id <= bound.change_id AND v.superseded_by > bound.change_id
    AND NOT EXISTS (SELECT FROM unnest(:patterns::text[]) AS pattern WHERE v.texts !~ pattern)
    AND v.updated_at >= :updated_from::timestamptz AND v.updated_at < :updated_before::timestamptz
    AND v.valid_from BETWEEN :starts_least::timestamptz AND :starts_most::timestamptz
    AND v.valid_until BETWEEN :ends_least::timestamptz AND :ends_most::timestamptz
    AND (:kilometres::float8 IS NULL OR 2 * 6371.0088 * asin(least(1, sqrt(
      power(sin(radians(v.latitude - :latitude::float8) / 2), 2)
      + cos(radians(:latitude::float8)) * cos(radians(v.latitude))
        * power(sin(radians(v.longitude - :longitude::float8) / 2), 2)))) <= :kilometres::float8)
), page AS (
  SELECT change_id, row_number() OVER (
    ORDER BY CASE WHEN NOT :descending::boolean THEN key END, CASE WHEN :descending::boolean THEN key END DESC, id
  ) AS place
  FROM found
)
SELECT (SELECT count(*) FROM found), bound.change_id,
       v.change_id, v.kind, v.id, v.version, v.updated_at, v.content, v.deleted
FROM bound
LEFT JOIN page ON page.place > :skipped::bigint AND page.place <= :skipped::bigint + :count::bigint
LEFT JOIN directory_version v ON v.change_id = page.change_id
ORDER BY page.place

-- name: named_versions
-- As the directory was after a change; what was deleted by then is left out.
SELECT v.change_id, v.kind, v.id, v.version, v.updated_at, v.content, v.deleted
FROM unnest(:kinds::text[], :ids::text[]) AS n(kind, id)
JOIN directory_version v ON v.kind = n.kind AND v.id = n.id
WHERE v.change_id <= :bound::bigint AND v.superseded_by > :bound::bigint AND NOT v.deleted
ORDER BY v.kind, v.id

-- name: wholes_above
-- UNION ends also where parts go round in a circle.
WITH RECURSIVE kin(id) AS (
  SELECT unnest(:ids::text[]) COLLATE "C"
  UNION
  SELECT v.part_of FROM kin JOIN directory_version v ON v.kind = :kind::text AND v.id = kin.id
  WHERE v.part_of IS NOT NULL AND v.change_id <= :bound::bigint AND v.superseded_by > :bound::bigint
)
SELECT id FROM kin LIMIT :count::bigint

-- name: parts_below
WITH RECURSIVE kin(id) AS (
  SELECT unnest(:ids::text[]) COLLATE "C"
  UNION
  SELECT v.id FROM kin JOIN directory_version v ON v.kind = :kind::text AND v.part_of = kin.id
  WHERE v.change_id <= :bound::bigint AND v.superseded_by > :bound::bigint AND NOT v.deleted
)
SELECT id FROM kin LIMIT :count::bigint

-- name: wait_for_changes
-- Whoever stores a change holds this lock from before its time is taken until it is committed.
SELECT pg_advisory_xact_lock_shared(hashtextextended('obieg directory', 0))

-- name: history_versions
-- Newest first; as_of is earlier than every change that will be stored.
WITH bound AS (
  SELECT coalesce(:bound::bigint, (SELECT max(change_id) FROM directory_version), 0) AS change_id,
         date_trunc('milliseconds', clock_timestamp()) AS as_of
), wanted AS MATERIALIZED (
  SELECT v.change_id
  FROM directory_version v, bound
  WHERE v.kind = ANY(:kinds::text[]) AND (:id::text = '' OR v.id = :id::text)
    AND v.updated_at >= :since::timestamptz AND v.change_id <= bound.change_id
), page AS (
  SELECT change_id FROM wanted
  WHERE :before::bigint IS NULL OR change_id < :before::bigint
  ORDER BY change_id DESC LIMIT :count::bigint
)
SELECT (SELECT count(*) FROM wanted), bound.change_id, bound.as_of,
       v.change_id, v.kind, v.id, v.version, v.updated_at, v.content, v.deleted
FROM bound LEFT JOIN page ON true LEFT JOIN directory_version v ON v.change_id = page.change_id
ORDER BY v.change_id DESC

-- name: standing_versions
SELECT v.kind, v.id, v.version, v.digest, v.deleted, v.source
FROM unnest(:kinds::text[], :ids::text[]) AS n(kind, id)
JOIN directory_version v ON v.kind = n.kind AND v.id = n.id AND v.superseded_by = 9223372036854775807

-- name: standing_of_source
-- What a source says now, a page at a time.
SELECT kind, id, version, content
FROM directory_version
WHERE superseded_by = 9223372036854775807 AND NOT deleted AND source = :source::text
  AND (kind, id) > (:kind::text, :id::text)
ORDER BY kind, id LIMIT :count::bigint

-- name: lock_directory
SELECT pg_advisory_xact_lock(hashtextextended('obieg directory', 0))

-- name: take_time
-- The time of all changes of this transaction: later than those of every transaction before, whatever the clock does.
SELECT set_config('obieg.changed_at', greatest(
  date_trunc('milliseconds', clock_timestamp()),
  (SELECT updated_at + interval '1 millisecond' FROM directory_version ORDER BY change_id DESC LIMIT 1)
)::text, true)

-- name: put_version
-- Follows the version that its writer has seen, or undoes the batch.
WITH drawn AS (
  SELECT nextval('directory_change') AS change_id
), old AS (
  UPDATE directory_version SET superseded_by = (SELECT change_id FROM drawn)
  WHERE kind = :kind::text AND id = :id::text AND superseded_by = 9223372036854775807
  RETURNING version
), put AS (
  INSERT INTO directory_version (change_id, kind, id, version, updated_at, deleted, source, digest, content, terms, texts,
    sort_key, part_of, valid_from, valid_until, latitude, longitude)
  SELECT change_id, :kind::text, :id::text, :before::integer + 1, current_setting('obieg.changed_at')::timestamptz,
    :deleted::boolean, :source::text, :digest::bytea, :content::text, array_to_tsvector(:terms::text[]), :texts::text,
    :sort_key::bytea, :part_of::text, :valid_from::timestamptz, :valid_until::timestamptz, :latitude::float8,
    :longitude::float8
  FROM drawn
)
SELECT obieg_expect(coalesce((SELECT version FROM old), 0), :before::integer, 'the resource was changed meanwhile')

-- name: count_resources
SELECT kind, count(*), max(updated_at) FROM directory_version
WHERE superseded_by = 9223372036854775807 AND NOT deleted GROUP BY kind ORDER BY kind
