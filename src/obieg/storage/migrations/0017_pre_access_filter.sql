-- What a filter hides (docs/access.md).

-- These with all documents reached from them by associations between documents, in either direction, and all versions.
CREATE FUNCTION obieg_lineage(keys bigint[], uuids uuid[]) RETURNS uuid[]
LANGUAGE plpgsql STABLE PARALLEL SAFE SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  RETURN ARRAY(
    WITH RECURSIVE edges (one, other) AS MATERIALIZED (
      SELECT a.source, a.target FROM association a WHERE a.patient_key = ANY(keys) AND a.type <> 'HasMember'
      UNION ALL
      SELECT a.target, a.source FROM association a WHERE a.patient_key = ANY(keys) AND a.type <> 'HasMember'
      UNION ALL
      SELECT d.entry_uuid, d.logical_id FROM document_entry d WHERE d.patient_key = ANY(keys) AND d.version > 1
      UNION ALL
      SELECT d.logical_id, d.entry_uuid FROM document_entry d WHERE d.patient_key = ANY(keys) AND d.version > 1
    ), reached (entry_uuid) AS (
      SELECT unnest(uuids)
      UNION
      SELECT e.other FROM reached r JOIN edges e ON e.one = r.entry_uuid
    )
    SELECT entry_uuid FROM reached);
END $$;

-- Patients of whom some document is of the lineage of another one; few have such documents.
CREATE VIEW related_document AS
  SELECT a.patient_key FROM association a WHERE a.type <> 'HasMember'
  UNION ALL
  SELECT d.patient_key FROM document_entry d WHERE d.version > 1;

-- Of what attributes a document must have one.
CREATE TYPE obieg_look AS (
  documents uuid[], class_codes text[], type_codes text[], practice_setting_codes text[], labels text[], authors text[],
  encounters text[], created_from text, created_to text
);

-- A filter (domain/sight.py): of the documents of which patients, and what it asks of them, in one of two forms. Nearly
-- all are the plain one: a document is shown if none of its labels is "above" what is open, or it has what is opened
-- (whatever its labels), and neither it nor anything of its lineage has what is denied. Others are rules: of which
-- patients, which source, its place there, whether it permits (null: what was said before does not hold), up to which rank
-- (N 0, R 1, V 2), and conditions: all that are given must hold, or, of a rule with "any", one of them. In each source the
-- last rule that fits a document decides; it is shown if a source permits it and none denies it, nor anything of its
-- lineage.
CREATE TYPE obieg_filter AS (
  keys bigint[],
  rules json,          -- NULL: the plain form
  above text[],        -- NULL: nothing is open
  opened obieg_look,
  denied obieg_look
);

CREATE FUNCTION obieg_has(d document_entry, look obieg_look) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT d.entry_uuid = ANY(look.documents)
    OR d.class_code = ANY(look.class_codes)
    OR d.type_code = ANY(look.type_codes)
    OR d.practice_setting_code = ANY(look.practice_setting_codes)
    OR d.labels && look.labels
    OR d.authors && look.authors
    OR d.encounters && look.encounters
    OR d.creation_time >= look.created_from
    OR d.creation_time < look.created_to
$$;

-- Whether a plain filter shows a document, whatever of its lineage is denied. Planned as part of what asks it.
CREATE FUNCTION obieg_shows(asked obieg_filter, d document_entry) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT (d.patient_key = ANY(asked.keys)) IS NOT TRUE
    OR ((NOT d.labels && asked.above OR obieg_has(d, asked.opened)) IS TRUE
        AND obieg_has(d, asked.denied) IS NOT TRUE)
$$;

-- The documents that a filter hides; none where there is no filter.
CREATE FUNCTION obieg_hidden_documents(asked obieg_filter) RETURNS SETOF uuid
LANGUAGE plpgsql STABLE PARALLEL SAFE COST 10 ROWS 10 SET plan_cache_mode = force_generic_plan AS $$
DECLARE
  hidden uuid[];
  denied uuid[];
  related boolean;
BEGIN
  IF asked.keys IS NULL THEN
    RETURN;
  END IF;
  related := EXISTS (SELECT FROM related_document r WHERE r.patient_key = ANY(asked.keys));
  IF asked.rules IS NULL AND NOT related THEN
    RETURN QUERY SELECT d.entry_uuid FROM document_entry d
    WHERE d.patient_key = ANY(asked.keys) AND NOT obieg_shows(asked, d);
    RETURN;
  END IF;
  WITH said (patients, source, place, permit, "any", above, documents, class_codes, type_codes, practice_setting_codes,
             labels, authors, encounters, created_from, created_to) AS (
    SELECT r.patients, r.source, r.place, r.permit, coalesce(r."any", false),
           CASE WHEN r.permit IS DISTINCT FROM false AND r.rank < 2 THEN CASE r.rank WHEN 1 THEN ARRAY['V'] ELSE ARRAY['V', 'R'] END END,
           r.documents, r.class_codes, r.type_codes, r.practice_setting_codes, r.labels, r.authors, r.encounters,
           r.created_from, r.created_to
    FROM json_to_recordset(asked.rules) AS r (
      patients bigint[], source integer, place integer, permit boolean, rank integer, "any" boolean, documents uuid[],
      class_codes text[], type_codes text[], practice_setting_codes text[], labels text[], authors text[],
      encounters text[], created_from text, created_to text)
    UNION ALL
    SELECT asked.keys, 1, 0, true, false, asked.above, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    WHERE asked.rules IS NULL AND asked.above IS NOT NULL
    UNION ALL
    SELECT asked.keys, 2, 0, true, true, NULL, (asked.opened).* WHERE asked.rules IS NULL
    UNION ALL
    SELECT asked.keys, 3, 0, false, true, NULL, (asked.denied).* WHERE asked.rules IS NULL
  ), rule AS MATERIALIZED (
    SELECT s.patients, s.source, s."any", s.above, s.class_codes, s.type_codes, s.practice_setting_codes, s.labels,
           s.authors, s.encounters, s.created_from, s.created_to,
           s.place * 4 + CASE WHEN s.permit THEN 1 WHEN NOT s.permit THEN 2 ELSE 0 END AS said,
           CASE WHEN related AND s.documents IS NOT NULL THEN obieg_lineage(s.patients, s.documents) ELSE s.documents END AS documents
    FROM said s
  ), last AS (
    SELECT d.entry_uuid, r.source, max(r.said) % 4 AS said
    FROM document_entry d
    LEFT JOIN rule r ON d.patient_key = ANY(r.patients)
      AND (r.above IS NULL OR NOT d.labels && r.above)
      AND CASE WHEN r."any" THEN
        obieg_has(d, (r.documents, r.class_codes, r.type_codes, r.practice_setting_codes, r.labels, r.authors,
                      r.encounters, r.created_from, r.created_to)::obieg_look)
      ELSE
        (r.documents IS NULL OR d.entry_uuid = ANY(r.documents))
        AND (r.class_codes IS NULL OR d.class_code = ANY(r.class_codes))
        AND (r.type_codes IS NULL OR d.type_code = ANY(r.type_codes))
        AND (r.practice_setting_codes IS NULL OR d.practice_setting_code = ANY(r.practice_setting_codes))
        AND (r.labels IS NULL OR d.labels && r.labels)
        AND (r.authors IS NULL OR d.authors && r.authors)
        AND (r.encounters IS NULL OR d.encounters && r.encounters)
        AND (r.created_from IS NULL OR d.creation_time >= r.created_from)
        AND (r.created_to IS NULL OR d.creation_time < r.created_to)
      END
    WHERE d.patient_key = ANY(asked.keys)
    GROUP BY 1, 2
  ), verdict AS (
    SELECT entry_uuid, coalesce(bool_or(said = 1), false) AS permits, coalesce(bool_or(said = 2), false) AS denies
    FROM last GROUP BY 1
  )
  SELECT array_agg(v.entry_uuid) FILTER (WHERE NOT v.permits), array_agg(v.entry_uuid) FILTER (WHERE v.denies)
  INTO hidden, denied FROM verdict v;
  IF denied IS NOT NULL THEN
    hidden := coalesce(hidden, '{}') || CASE WHEN related THEN obieg_lineage(asked.keys, denied) ELSE denied END;
  END IF;
  RETURN QUERY SELECT unnest(hidden);
END $$;

-- The same with what exists only because of them: submission sets and folders whose documents are all hidden, associations
-- with a hidden end, submission sets that hold nothing but these.
CREATE FUNCTION obieg_hidden(asked obieg_filter) RETURNS SETOF uuid
LANGUAGE plpgsql STABLE PARALLEL SAFE COST 20 ROWS 20 SET plan_cache_mode = force_generic_plan AS $$
DECLARE
  documents uuid[];
BEGIN
  IF asked.keys IS NULL THEN
    RETURN;
  END IF;
  documents := ARRAY(SELECT obieg_hidden_documents(asked));
  IF documents = '{}' THEN
    RETURN;
  END IF;
  RETURN QUERY
  WITH document AS MATERIALIZED (
    SELECT unnest(documents) AS entry_uuid
  ), emptied AS MATERIALIZED (
    SELECT h.source AS entry_uuid FROM (
      SELECT DISTINCT a.source FROM document d
      JOIN association a ON a.patient_key = ANY(asked.keys) AND a.target = d.entry_uuid AND a.type = 'HasMember'
    ) h
    WHERE NOT EXISTS (
      SELECT FROM association a JOIN object_locator l ON l.entry_uuid = a.target AND l.kind = 'D'
      WHERE a.patient_key = ANY(asked.keys) AND a.source = h.source AND a.type = 'HasMember'
        AND a.target NOT IN (SELECT entry_uuid FROM document))
  ), gone AS MATERIALIZED (
    SELECT entry_uuid FROM document UNION ALL SELECT entry_uuid FROM emptied
  ), cut AS MATERIALIZED (
    SELECT a.entry_uuid, a.source, a.type FROM gone g
    JOIN association a ON a.patient_key = ANY(asked.keys) AND a.source = g.entry_uuid
    UNION
    SELECT a.entry_uuid, a.source, a.type FROM gone g
    JOIN association a ON a.patient_key = ANY(asked.keys) AND a.target = g.entry_uuid
  ), cut_members AS MATERIALIZED (
    SELECT a.entry_uuid, a.source, a.type FROM cut c
    JOIN association a ON a.patient_key = ANY(asked.keys) AND a.target = c.entry_uuid
  ), all_cut AS MATERIALIZED (
    SELECT * FROM cut UNION SELECT * FROM cut_members
  )
  SELECT entry_uuid FROM gone
  UNION
  SELECT entry_uuid FROM all_cut
  UNION
  SELECT h.source FROM (SELECT DISTINCT c.source FROM all_cut c WHERE c.type = 'HasMember') h
  WHERE NOT EXISTS (
    SELECT FROM association a
    WHERE a.patient_key = ANY(asked.keys) AND a.source = h.source AND a.type = 'HasMember'
      AND a.entry_uuid NOT IN (SELECT c.entry_uuid FROM all_cut c));
END $$;

-- Folders that hold a hidden document: their date, and a revision, as if it had never been put there.
CREATE FUNCTION obieg_folder_times(asked obieg_filter) RETURNS TABLE (entry_uuid uuid, "time" text, revision text)
LANGUAGE plpgsql STABLE PARALLEL SAFE COST 20 ROWS 5 SET plan_cache_mode = force_generic_plan AS $$
DECLARE
  documents uuid[];
BEGIN
  IF asked.keys IS NULL THEN
    RETURN;
  END IF;
  documents := ARRAY(SELECT obieg_hidden_documents(asked));
  IF documents = '{}' THEN
    RETURN;
  END IF;
  RETURN QUERY
  WITH document AS MATERIALIZED (
    SELECT unnest(documents) AS entry_uuid
  )
  SELECT f.entry_uuid, greatest(f.written_time, max(m.member_since)),
         left(md5(concat(f.status, string_agg(concat(m.entry_uuid, m.status), ' ' ORDER BY m.entry_uuid))), 8)
  FROM (
    SELECT DISTINCT a.source FROM document d
    JOIN association a ON a.patient_key = ANY(asked.keys) AND a.target = d.entry_uuid AND a.type = 'HasMember'
  ) h
  JOIN folder f ON f.patient_key = ANY(asked.keys) AND f.entry_uuid = h.source
  LEFT JOIN association m ON m.patient_key = ANY(asked.keys) AND m.source = f.entry_uuid AND m.type = 'HasMember'
    AND m.target NOT IN (SELECT d.entry_uuid FROM document d)
  GROUP BY f.patient_key, f.entry_uuid;
END $$;

-- Of these uniqueIds of documents those whose documents may be read: of one patient at least who is permitted all newest
-- entries with this uniqueId are shown.
CREATE FUNCTION obieg_readable(unique_ids text[], permitted bigint[], asked obieg_filter) RETURNS SETOF text
LANGUAGE plpgsql STABLE PARALLEL SAFE COST 20 ROWS 5 SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  RETURN QUERY
  SELECT DISTINCT o.unique_id FROM (
    SELECT u.unique_id
    FROM unique_id_locator u
    JOIN document_entry d ON d.patient_key = u.patient_key AND d.entry_uuid = u.entry_uuid AND NOT d.superseded
    WHERE u.unique_id = ANY(unique_ids) AND u.kind = 'D' AND d.patient_key = ANY(permitted)
    GROUP BY u.unique_id, (obieg_kin(d.patient_key))[1]
    HAVING bool_and(asked.keys IS NULL OR d.entry_uuid NOT IN (SELECT obieg_hidden_documents(asked)))
  ) o;
END $$;
