-- What follows from the facts, step by step, in the order of docs/access.md. 9223372036854775807 is "never ends".

-- The counter -------------------------------------------------------------------------------------------------------

-- Whoever may hand out asks for the log as the person who stands there would; who may not stays, and is refused below.
CREATE TABLE handed AS
SELECT a.ask, r.acting_for
FROM asked AS a
JOIN permission_act AS t USING (permission)
JOIN requester AS r USING (who)
JOIN role_group AS g USING (role)
WHERE t.act = 'handout' AND g.people IN ('counter', 'medical') AND r.person <> '' AND r.proof = 'session'
    AND r.organisation <> '' AND r.acting_for <> '' AND (r.limited_to = '' OR r.limited_to IN (
        SELECT n.identifier FROM identifier AS n WHERE n.world = a.world
    ));
INSERT INTO requester SELECT -1 - ask, acting_for, '', 'patient', '', '', '', '', '' FROM handed;
UPDATE asked SET who = -1 - ask, permission = 'log' WHERE ask IN (SELECT ask FROM handed);

-- Words ------------------------------------------------------------------------------------------------------------

CREATE TABLE asker AS
WITH grouped AS (
    SELECT r.*, CASE
        WHEN r.person = '' THEN 'system'
        WHEN g.people IN ('operator', 'officer', 'counter') AND r.proof <> 'session' THEN 'nobody'
        ELSE coalesce(g.people, 'nobody')
    END AS people
    FROM requester AS r
    LEFT JOIN role_group AS g ON g.role = r.role
)
SELECT
    grouped.*,
    CASE people WHEN 'assistant' THEN acting_for ELSE person END AS professional,
    people = 'medical' OR (people = 'assistant' AND acting_for <> '') AS treats,
    CASE WHEN grouped.purpose <> '' THEN coalesce(p.intent, 'other') ELSE coalesce(u.intent, 'other') END AS intent,
    CASE WHEN grouped.purpose <> '' THEN grouped.purpose ELSE coalesce(u.purpose, '') END AS said
FROM grouped
LEFT JOIN purpose_group AS p ON p.purpose = grouped.purpose
LEFT JOIN purpose_unsaid AS u USING (people);
CREATE UNIQUE INDEX asker_who ON asker (who);

CREATE TABLE asker_value AS
SELECT who, 'actor' AS field, person AS value FROM asker WHERE person <> ''
UNION SELECT who, 'actor', acting_for FROM asker WHERE acting_for <> ''
UNION SELECT who, 'actor', organisation FROM asker WHERE organisation <> ''
UNION SELECT who, 'actor', unit FROM asker WHERE unit <> ''
UNION SELECT who, 'role', role FROM asker WHERE role <> ''
UNION SELECT who, 'purpose', said FROM asker WHERE said <> ''
-- Whom an assistant acts for has one of the medical roles: what is denied to any of them is denied to the assistant.
UNION SELECT a.who, 'role denied', a.role FROM asker AS a WHERE a.role <> ''
UNION SELECT a.who, 'role denied', g.role FROM asker AS a JOIN role_group AS g ON g.people = 'medical'
WHERE a.people = 'assistant';
CREATE INDEX asker_value_index ON asker_value (who, field, value);

CREATE TABLE person AS
SELECT
    w.*,
    w.died IS NOT NULL AND w.died <= m.today AS dead,
    CAST(substr(m.today, 1, 4) AS INTEGER) - CAST(substr(w.born, 1, 4) AS INTEGER)
        - (substr(m.today, 6) < substr(w.born, 6)) AS age  -- '02-28' < '02-29' < '03-01'; NULL: of age
FROM world AS w, moment AS m;
CREATE UNIQUE INDEX person_world ON person (world);

CREATE INDEX document_value_index ON document_value (doc, field, value);
CREATE INDEX document_shelf ON document (shelf, lineage);
-- A document answers to the names of its whole lineage.
INSERT INTO document_value
SELECT d.doc, 'document', kin.entry_uuid
FROM document AS d
JOIN document AS kin ON kin.shelf = d.shelf AND kin.lineage = d.lineage;

CREATE TABLE paper AS
SELECT d.*, coalesce(max(h.height), 1) AS height
FROM document AS d
LEFT JOIN document_value AS l ON l.doc = d.doc AND l.field = 'label'
LEFT JOIN label_height AS h ON h.label = l.value
GROUP BY d.doc;
-- A document without a confidentiality is normal.
INSERT INTO document_value
SELECT d.doc, 'label', 'N' FROM document AS d
WHERE NOT EXISTS (
    SELECT 1 FROM document_value AS l JOIN label_height AS h ON h.label = l.value WHERE l.doc = d.doc AND l.field = 'label'
);
CREATE UNIQUE INDEX paper_doc ON paper (doc);
CREATE INDEX paper_shelf ON paper (shelf, lineage);

CREATE TABLE inquiry AS
SELECT
    a.ask, a.who, a.world, a.shelf, t.act, w.people, p.protected, p.dead,
    t.act = 'read' OR (w.people = 'patient' AND t.act IN ('identify', 'consent', 'log')) AS needs_basis
FROM asked AS a
JOIN permission_act AS t USING (permission)
JOIN asker AS w USING (who)
JOIN person AS p USING (world);
CREATE UNIQUE INDEX inquiry_ask ON inquiry (ask);

-- Consents ---------------------------------------------------------------------------------------------------------

CREATE INDEX given_consent_world ON given_consent (world);
CREATE INDEX provision_consent ON provision (consent);
CREATE INDEX wish_provision ON wish (provision, about);
CREATE INDEX wish_value_provision ON wish_value (provision, field, value);

-- Provisions that fit whom: every list that is given shares a value with the requester.
CREATE TABLE heard AS
SELECT
    pair.who, pair.consent, v.provision, v.place, v.permit,
    min(coalesce(c.ends, 9223372036854775807), coalesce(v.ends, 9223372036854775807)) AS ends,
    EXISTS (
        SELECT 1 FROM wish_value AS x
        WHERE x.provision = v.provision AND x.field = 'actor' AND x.value IN (a.person, a.acting_for) AND x.value <> ''
    ) AS names_person,
    EXISTS (SELECT 1 FROM wish AS w WHERE w.provision = v.provision AND w.about = 'whom' AND w.field = 'purpose')
        AS names_purpose,
    EXISTS (SELECT 1 FROM wish AS w WHERE w.provision = v.provision AND w.about = 'what' AND w.field = 'document')
        AS names_document,
    (
        SELECT max(h.height) FROM wish_value AS x JOIN label_height AS h ON h.label = x.value
        WHERE x.provision = v.provision AND x.field = 'label'
    ) AS names_height
FROM (SELECT DISTINCT i.who, g.consent FROM inquiry AS i JOIN given_consent AS g USING (world)) AS pair
JOIN asker AS a USING (who)
JOIN consent AS c USING (consent)
JOIN provision AS v USING (consent)
CROSS JOIN moment AS m
WHERE (c.begins IS NULL OR c.begins <= m.now) AND (c.ends IS NULL OR m.now < c.ends)
    AND (v.begins IS NULL OR v.begins <= m.now) AND (v.ends IS NULL OR m.now < v.ends)
    AND NOT EXISTS (
        SELECT 1 FROM wish AS w
        WHERE w.provision = v.provision AND w.about = 'whom' AND NOT EXISTS (
            SELECT 1 FROM wish_value AS x JOIN asker_value AS y USING (value)
            WHERE x.provision = w.provision AND x.field = w.field AND y.who = pair.who
                AND y.field = CASE WHEN w.field = 'role' AND NOT v.permit THEN 'role denied' ELSE w.field END
        )
    );

-- What of them permits the requester anything, and how high.
CREATE TABLE offer AS
SELECT
    h.who, h.consent, h.provision, h.ends, h.names_person,
    CASE
        WHEN h.names_document OR h.names_height = 3 THEN 3
        WHEN h.names_person OR h.names_height = 2 THEN 2
        ELSE 1
    END AS height
FROM heard AS h
JOIN asker AS a USING (who)
WHERE h.permit AND a.treats AND (a.intent IN ('care', 'emergency') OR (a.intent = 'other' AND h.names_purpose));
CREATE INDEX offer_index ON offer (who, consent, provision);
CREATE INDEX heard_index ON heard (who, consent);

CREATE TABLE reading AS  -- of one consent by one requester for the documents of a shelf
SELECT DISTINCT i.who, g.consent, i.shelf, i.protected
FROM inquiry AS i
JOIN given_consent AS g USING (world);

CREATE TABLE fitting AS  -- provisions and what they fit
SELECT s.provision, d.doc
FROM (
    SELECT DISTINCT h.provision, r.shelf FROM reading AS r JOIN heard AS h USING (who, consent)
) AS s
JOIN provision AS v USING (provision)
JOIN paper AS d USING (shelf)
WHERE (v.created_from IS NULL OR v.created_from <= d.created)
    AND (v.created_to IS NULL OR (d.created <> '' AND d.created < v.created_to))
    AND NOT EXISTS (
        SELECT 1 FROM wish AS w
        WHERE w.provision = s.provision AND w.about = 'what' AND NOT EXISTS (
            SELECT 1 FROM wish_value AS x JOIN document_value AS y USING (field, value)
            WHERE x.provision = w.provision AND x.field = w.field AND y.doc = d.doc
        )
    );
CREATE INDEX fitting_index ON fitting (provision);

-- The last provision that fits both decides. A permission for something above its height or for a purpose that is not
-- its own does not fit; one that does not name the professional of a protected person opens nothing, but takes back what
-- was denied before it (not what the denial itself took back).
CREATE TABLE verdict AS
SELECT who, consent, protected, doc, permit, opens
FROM (
    SELECT
        r.who, r.consent, r.protected, d.doc, h.permit,
        max(CASE WHEN h.permit AND (NOT r.protected OR h.names_person) THEN h.place ELSE -1 END) OVER every
            > max(CASE WHEN h.permit THEN -1 ELSE h.place END) OVER every AS opens,
        row_number() OVER (every ORDER BY h.place DESC) AS nth
    FROM reading AS r
    JOIN heard AS h USING (who, consent)
    JOIN fitting AS f USING (provision)
    JOIN paper AS d ON d.doc = f.doc AND d.shelf = r.shelf
    LEFT JOIN offer AS o ON o.who = r.who AND o.consent = r.consent AND o.provision = h.provision
        AND o.height >= d.height
    WHERE NOT h.permit OR o.provision IS NOT NULL
    WINDOW every AS (PARTITION BY r.who, r.consent, r.protected, d.doc)
)
WHERE nth = 1;
CREATE INDEX verdict_index ON verdict (who, consent, protected, permit);

-- Refused before any basis -----------------------------------------------------------------------------------------

CREATE TABLE refused AS
SELECT ask, min(number) AS number
FROM (
    SELECT i.ask, CASE
        WHEN a.intent = 'other' AND NOT EXISTS (
            SELECT 1 FROM given_consent AS g JOIN heard AS h USING (consent)
            WHERE g.world = i.world AND h.who = i.who AND h.permit AND h.names_purpose
        ) THEN 1
        WHEN a.people = 'system' THEN 2
        WHEN a.limited_to <> '' AND a.limited_to NOT IN (
            SELECT n.identifier FROM identifier AS n WHERE n.world = i.world
        ) THEN 3
        WHEN a.people IN ('clerk', 'counter', 'operator', 'officer', 'nobody') THEN 4
        WHEN a.people = 'assistant' AND a.acting_for = '' THEN 5
        WHEN (a.people = 'patient') <> (a.intent = 'own') THEN 6
    END AS number
    FROM inquiry AS i
    JOIN asker AS a USING (who)
    WHERE i.needs_basis
)
WHERE number IS NOT NULL
GROUP BY ask;
CREATE UNIQUE INDEX refused_ask ON refused (ask);

-- Bases ------------------------------------------------------------------------------------------------------------

CREATE INDEX identifier_world ON identifier (world, identifier);
CREATE INDEX declaration_world ON declaration (world);
CREATE INDEX encounter_world ON encounter (world);
CREATE INDEX representative_world ON representative (world);
CREATE INDEX emergency_world ON emergency (world);
CREATE INDEX hold_world ON hold (world);

CREATE TABLE heading AS  -- what is left to be judged
SELECT i.*, a.person, a.professional, a.organisation, a.role, a.treats, a.intent, a.treats AND a.intent IN ('care', 'emergency') AS cares
FROM inquiry AS i
JOIN asker AS a USING (who)
WHERE i.needs_basis AND i.ask NOT IN (SELECT ask FROM refused);
CREATE UNIQUE INDEX heading_ask ON heading (ask);
CREATE INDEX heading_world ON heading (world);

CREATE TABLE ground AS
SELECT ask, basis, max(coalesce(ends, 9223372036854775807)) AS ends
FROM (
    SELECT h.ask, 'author' AS basis, NULL AS ends
    FROM heading AS h
    WHERE h.cares

    UNION ALL
    SELECT h.ask, 'same-entity', e.ends
    FROM heading AS h JOIN encounter AS e USING (world) CROSS JOIN moment AS m
    WHERE h.cares AND NOT h.protected AND e.organisation = h.organisation AND h.organisation <> ''
        AND (e.begins IS NULL OR e.begins <= m.now) AND (e.ends IS NULL OR m.now < e.ends)

    UNION ALL
    SELECT h.ask, 'poz', d.ends
    FROM heading AS h JOIN declaration AS d USING (world) CROSS JOIN moment AS m
    WHERE h.cares AND NOT h.dead AND d.professional = h.professional AND d.organisation IN ('', h.organisation)
        AND (h.people = 'assistant' OR EXISTS (SELECT 1 FROM team_role AS t WHERE t.kind = d.kind AND t.role = h.role))
        AND (d.begins IS NULL OR d.begins <= m.now) AND (d.ends IS NULL OR m.now < d.ends)

    UNION ALL
    SELECT h.ask, 'consent', o.ends
    FROM heading AS h JOIN given_consent AS g USING (world) JOIN offer AS o USING (who, consent)
    WHERE NOT h.protected OR o.names_person

    UNION ALL
    SELECT h.ask, 'emergency', s.ends
    FROM heading AS h JOIN emergency AS s USING (world) CROSS JOIN moment AS m
    WHERE h.treats AND h.intent = 'emergency' AND s.professional = h.professional
        AND (s.begins IS NULL OR s.begins <= m.now) AND (s.ends IS NULL OR m.now < s.ends)

    UNION ALL
    SELECT h.ask, 'patient', NULL
    FROM heading AS h JOIN person AS p USING (world)
    WHERE h.people = 'patient' AND NOT p.dead AND (p.age IS NULL OR p.age >= 16)
        AND h.person IN (SELECT n.identifier FROM identifier AS n WHERE n.world = h.world)

    UNION ALL
    SELECT h.ask, 'guardian', min(p.of_age_at, coalesce(r.ends, p.of_age_at))
    FROM heading AS h JOIN person AS p USING (world) JOIN representative AS r USING (world) CROSS JOIN moment AS m
    WHERE h.people = 'patient' AND r.kind = 'guardian' AND r.person = h.person AND NOT p.dead AND p.age < 18
        AND (r.begins IS NULL OR r.begins <= m.now) AND (r.ends IS NULL OR m.now < r.ends)

    UNION ALL
    SELECT h.ask, 'authorised', r.ends
    FROM heading AS h JOIN representative AS r USING (world) CROSS JOIN moment AS m
    WHERE h.people = 'patient' AND r.kind = 'authorised' AND r.person = h.person AND NOT h.dead
        AND (r.begins IS NULL OR r.begins <= m.now) AND (r.ends IS NULL OR m.now < r.ends)

    UNION ALL
    -- "When they died" is some moment of the day that is known.
    SELECT h.ask, 'authorised', NULL
    FROM heading AS h JOIN person AS p USING (world) JOIN representative AS r USING (world)
    WHERE h.people = 'patient' AND r.kind = 'authorised' AND r.person = h.person AND h.dead
        AND (r.begins IS NULL OR r.begins < p.died_to) AND (r.ends IS NULL OR p.died_from < r.ends)
        AND (r.begins < r.ends) IS NOT FALSE

    UNION ALL
    SELECT h.ask, 'close', NULL
    FROM heading AS h JOIN person AS p USING (world) JOIN representative AS r USING (world)
    WHERE h.people = 'patient' AND r.kind = 'close' AND r.person = h.person AND h.dead AND NOT p.objection
        AND (r.begins IS NULL OR r.begins < p.died_to) AND (r.ends IS NULL OR p.died_from < r.ends)
        AND (r.begins < r.ends) IS NOT FALSE
)
GROUP BY ask, basis;
DELETE FROM ground WHERE basis IN (SELECT basis FROM switched_off);
DELETE FROM ground
WHERE basis IN (SELECT basis FROM own_basis)
    AND NOT EXISTS (
        SELECT 1 FROM heading AS h JOIN own_basis AS o USING (act) WHERE h.ask = ground.ask AND o.basis = ground.basis
    );
CREATE INDEX ground_basis ON ground (basis, ask);

-- What is shown ----------------------------------------------------------------------------------------------------

CREATE TABLE opened AS  -- by the bases that a restriction may hide from
SELECT h.ask, 'author' AS basis, d.doc, d.lineage
FROM ground AS g JOIN heading AS h USING (ask) JOIN paper AS d USING (shelf)
JOIN document_value AS x ON x.doc = d.doc AND x.field = 'author' AND x.value = h.professional
WHERE g.basis = 'author' AND h.act = 'read'
UNION ALL
SELECT h.ask, 'same-entity', d.doc, d.lineage
FROM ground AS g JOIN heading AS h USING (ask) JOIN paper AS d USING (shelf)
JOIN document_value AS x ON x.doc = d.doc AND x.field = 'author' AND x.value = h.organisation
WHERE g.basis = 'same-entity' AND h.act = 'read'
UNION ALL
SELECT h.ask, 'poz', d.doc, d.lineage
FROM ground AS g JOIN heading AS h USING (ask) JOIN paper AS d USING (shelf)
WHERE g.basis = 'poz' AND h.act = 'read' AND d.height <= 2
UNION ALL
SELECT h.ask, 'consent', d.doc, d.lineage
FROM ground AS g JOIN heading AS h USING (ask) JOIN given_consent AS c USING (world)
JOIN verdict AS v ON v.who = h.who AND v.consent = c.consent AND v.protected = h.protected AND v.opens
JOIN paper AS d ON d.doc = v.doc AND d.shelf = h.shelf
WHERE g.basis = 'consent' AND h.act = 'read'
UNION ALL
SELECT h.ask, 'emergency', d.doc, d.lineage
FROM ground AS g JOIN heading AS h USING (ask) JOIN paper AS d USING (shelf)
WHERE g.basis = 'emergency' AND h.act = 'read';

CREATE INDEX opened_index ON opened (ask, doc);

CREATE TABLE restricted AS
SELECT DISTINCT h.ask, d.lineage
FROM heading AS h
JOIN given_consent AS c USING (world)
JOIN verdict AS v ON v.who = h.who AND v.consent = c.consent AND v.protected = h.protected AND NOT v.permit
JOIN paper AS d ON d.doc = v.doc AND d.shelf = h.shelf
CROSS JOIN moment AS m
WHERE h.act = 'read' AND (m.restriction_binds_author OR NOT EXISTS (
    SELECT 1 FROM opened AS o WHERE o.ask = h.ask AND o.doc = d.doc AND o.basis IN ('author', 'same-entity')
));
CREATE INDEX restricted_index ON restricted (ask, lineage);

CREATE TABLE held AS
SELECT DISTINCT h.ask, d.lineage
FROM heading AS h
JOIN hold AS k USING (world)
JOIN paper AS d ON d.shelf = h.shelf AND d.entry_uuid = k.document
CROSS JOIN moment AS m
WHERE h.act = 'read' AND (k.begins IS NULL OR k.begins <= m.now) AND (k.ends IS NULL OR m.now < k.ends);
CREATE INDEX held_index ON held (ask, lineage);

CREATE TABLE shown AS
SELECT o.ask, o.doc
FROM opened AS o CROSS JOIN moment AS m
WHERE (o.basis = 'emergency' AND m.emergency_opens_restricted)
    OR NOT EXISTS (SELECT 1 FROM restricted AS r WHERE r.ask = o.ask AND r.lineage = o.lineage)
UNION
SELECT h.ask, d.doc
FROM heading AS h
JOIN paper AS d USING (shelf)
WHERE h.act = 'read'
    AND EXISTS (SELECT 1 FROM ground AS g JOIN own_basis AS b USING (basis) WHERE g.ask = h.ask AND b.act = 'read')
    AND NOT EXISTS (SELECT 1 FROM held AS k WHERE k.ask = h.ask AND k.lineage = d.lineage)
UNION
-- A professional may change what names the professional's organisation as an author.
SELECT i.ask, d.doc
FROM inquiry AS i
JOIN asker AS w USING (who)
JOIN paper AS d USING (shelf)
JOIN document_value AS x ON x.doc = d.doc AND x.field = 'author' AND x.value = w.organisation
WHERE i.act = 'change' AND i.people = 'medical' AND w.organisation <> '';
CREATE INDEX shown_ask ON shown (ask);

-- What needs no basis ----------------------------------------------------------------------------------------------

CREATE TABLE plainly AS
SELECT ask, CASE
    WHEN act IN ('identify', 'consent', 'answer') AND purpose IN (SELECT purpose FROM research) THEN 'purpose'
    WHEN NOT EXISTS (SELECT 1 FROM allowed AS a WHERE a.act = i.act AND a.people = i.people) THEN 'role'
    WHEN act = 'handout' AND proof <> 'session' THEN 'role'
    WHEN act = 'inspect' AND people = 'system' AND proof NOT IN ('oauth', 'laboratory') THEN 'role'
    WHEN act IN ('consent', 'emergency', 'handout') AND limited_to <> '' AND limited_to NOT IN (
        SELECT n.identifier FROM identifier AS n WHERE n.world = i.world
    ) THEN 'limited'
    WHEN act = 'emergency' AND intent <> 'emergency' THEN 'purpose'
    WHEN act = 'answer' AND organisation = '' THEN 'none'
    WHEN act = 'handout' THEN 'none'
    WHEN act IN ('change', 'emergency') AND people = 'medical' AND organisation = '' THEN 'none'
END AS reason
FROM (
    SELECT i.*, w.purpose, w.intent, w.limited_to, w.organisation, w.proof
    FROM inquiry AS i JOIN asker AS w USING (who)
    WHERE NOT i.needs_basis
) AS i;
CREATE UNIQUE INDEX plainly_ask ON plainly (ask);

-- The answer: the reason of a refusal (NULL: permitted), bases, when those end that do, obligations, and the numbers of what is
-- shown as bits (NULL: no filter).
CREATE TABLE answer AS
SELECT
    i.ask,
    CASE WHEN NOT i.needs_basis THEN n.reason WHEN b.bases IS NULL THEN coalesce(f.reason, 'none') END AS reason,
    coalesce(b.bases, '') AS bases,
    coalesce(b.ends, '') AS ends,
    CASE WHEN i.act = 'read' AND b.bases IS NOT NULL THEN
        CASE WHEN b.emergency OR (p.notices AND NOT b.patient) THEN 'notify-patient ' ELSE '' END
        || CASE WHEN b.emergency THEN 'report-to-officer ' ELSE '' END
        || 'show-basis'
    ELSE '' END AS obligations,
    CASE WHEN i.act = 'read' OR (i.act = 'change' AND i.people = 'medical') THEN coalesce(s.bits, 0) END AS shown
FROM inquiry AS i
JOIN person AS p USING (world)
LEFT JOIN plainly AS n USING (ask)
LEFT JOIN refused AS r USING (ask)
LEFT JOIN refusal AS f USING (number)
LEFT JOIN (
    SELECT
        ask, group_concat(basis, ' ') AS bases,
        group_concat(CASE WHEN ends < 9223372036854775807 THEN basis || '@' || ends END, ' ') AS ends,
        max(basis = 'emergency') AS emergency, max(basis = 'patient') AS patient
    FROM (SELECT g.* FROM ground AS g JOIN basis AS o USING (basis) ORDER BY g.ask, o.place)
    GROUP BY ask
) AS b USING (ask)
LEFT JOIN (
    SELECT s.ask, sum(1 << d.number) AS bits FROM shown AS s JOIN paper AS d USING (doc) GROUP BY s.ask
) AS s USING (ask)
ORDER BY i.ask;
