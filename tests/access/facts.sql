-- Who asks, about whom, for what: as rows. Beside them the tables of docs/access.md. What follows from both: oracle.sql.
-- Moments are microseconds since 1970 in UTC, NULL where a period is open; days are texts as in ISO 8601.

CREATE TABLE moment (
    now INTEGER NOT NULL, today TEXT NOT NULL,
    emergency_opens_restricted INTEGER NOT NULL, restriction_binds_author INTEGER NOT NULL
);
CREATE TABLE switched_off (basis TEXT PRIMARY KEY);
CREATE TABLE asked (
    ask INTEGER PRIMARY KEY, who INTEGER NOT NULL, world INTEGER NOT NULL, shelf INTEGER NOT NULL, permission TEXT NOT NULL
);
CREATE TABLE requester (
    who INTEGER PRIMARY KEY, person TEXT NOT NULL, acting_for TEXT NOT NULL, role TEXT NOT NULL,
    organisation TEXT NOT NULL, unit TEXT NOT NULL, purpose TEXT NOT NULL, limited_to TEXT NOT NULL,
    proof TEXT NOT NULL
);

-- The patient.
CREATE TABLE world (
    world INTEGER PRIMARY KEY, born TEXT, of_age_at INTEGER, died TEXT, died_from INTEGER, died_to INTEGER,
    protected INTEGER NOT NULL, objection INTEGER NOT NULL, notices INTEGER NOT NULL
);
CREATE TABLE identifier (world INTEGER NOT NULL, identifier TEXT NOT NULL);
CREATE TABLE declaration (
    world INTEGER NOT NULL, professional TEXT NOT NULL, kind TEXT NOT NULL, organisation TEXT NOT NULL,
    begins INTEGER, ends INTEGER
);
CREATE TABLE encounter (world INTEGER NOT NULL, organisation TEXT NOT NULL, begins INTEGER, ends INTEGER);
CREATE TABLE representative (
    world INTEGER NOT NULL, person TEXT NOT NULL, kind TEXT NOT NULL, begins INTEGER, ends INTEGER
);
CREATE TABLE emergency (world INTEGER NOT NULL, professional TEXT NOT NULL, begins INTEGER, ends INTEGER);
CREATE TABLE hold (world INTEGER NOT NULL, document TEXT NOT NULL, begins INTEGER, ends INTEGER);
CREATE TABLE given_consent (world INTEGER NOT NULL, consent INTEGER NOT NULL);

-- Consents. Each provision lists what it asks: of the requester (actor, role, purpose) and of the document.
CREATE TABLE consent (consent INTEGER PRIMARY KEY, begins INTEGER, ends INTEGER);
CREATE TABLE provision (
    provision INTEGER PRIMARY KEY, consent INTEGER NOT NULL, place INTEGER NOT NULL, permit INTEGER NOT NULL,
    begins INTEGER, ends INTEGER, created_from TEXT, created_to TEXT
);
CREATE TABLE wish (provision INTEGER NOT NULL, about TEXT NOT NULL, field TEXT NOT NULL);  -- about: whom, what
CREATE TABLE wish_value (provision INTEGER NOT NULL, field TEXT NOT NULL, value TEXT NOT NULL);

-- Documents; the lineage is known by the names of all that is in it.
CREATE TABLE document (
    doc INTEGER PRIMARY KEY, shelf INTEGER NOT NULL, number INTEGER NOT NULL, entry_uuid TEXT NOT NULL,
    lineage TEXT NOT NULL, created TEXT NOT NULL
);
CREATE TABLE document_value (doc INTEGER NOT NULL, field TEXT NOT NULL, value TEXT NOT NULL);

CREATE TABLE role_group (role TEXT PRIMARY KEY, people TEXT NOT NULL);
INSERT INTO role_group VALUES
    ('medical-doctor', 'medical'), ('dentist', 'medical'), ('feldsher', 'medical'), ('nurse', 'medical'),
    ('midwife', 'medical'), ('paramedic', 'medical'), ('pharmacist', 'medical'), ('physiotherapist', 'medical'),
    ('laboratory-diagnostician', 'medical'), ('school-hygienist', 'medical'), ('medical-professional', 'medical'),
    ('medical-assistant', 'assistant'), ('administrative-employee', 'clerk'), ('patient', 'patient'),
    ('operator', 'operator'), ('privacy-officer', 'officer'), ('patient-counter', 'counter');

CREATE TABLE purpose_group (purpose TEXT PRIMARY KEY, intent TEXT NOT NULL);
INSERT INTO purpose_group VALUES
    ('TREAT', 'care'), ('CAREMGT', 'care'), ('COC', 'care'), ('ETREAT', 'emergency'), ('BTG', 'emergency'),
    ('PATRQT', 'own'), ('FAMRQT', 'own'), ('PWATRNY', 'own');

-- What is meant where no purpose is said.
CREATE TABLE purpose_unsaid (people TEXT PRIMARY KEY, purpose TEXT NOT NULL, intent TEXT NOT NULL);
INSERT INTO purpose_unsaid VALUES
    ('medical', 'TREAT', 'care'), ('assistant', 'TREAT', 'care'), ('patient', 'PATRQT', 'own');

CREATE TABLE research (purpose TEXT PRIMARY KEY);
INSERT INTO research VALUES
    ('HRESCH'), ('BIORCH'), ('CLINTRCH'), ('CLINTRCHNPC'), ('CLINTRCHPC'), ('DSRCH'), ('POARCH'), ('PRECLINTRCH'),
    ('TRANSRCH');

CREATE TABLE team_role (kind TEXT NOT NULL, role TEXT NOT NULL);
INSERT INTO team_role VALUES
    ('doctor', 'medical-doctor'), ('doctor', 'feldsher'), ('nurse', 'nurse'), ('midwife', 'midwife');

CREATE TABLE label_height (label TEXT PRIMARY KEY, height INTEGER NOT NULL);
INSERT INTO label_height VALUES ('N', 1), ('R', 2), ('V', 3);

CREATE TABLE refusal (number INTEGER PRIMARY KEY, reason TEXT NOT NULL);
INSERT INTO refusal VALUES
    (1, 'purpose'), (2, 'system'), (3, 'limited'), (4, 'role'), (5, 'assistant'), (6, 'own-purpose');

-- The bases in their order.
CREATE TABLE basis (place INTEGER PRIMARY KEY, basis TEXT NOT NULL);
INSERT INTO basis VALUES
    (1, 'author'), (2, 'same-entity'), (3, 'poz'), (4, 'consent'), (5, 'emergency'), (6, 'patient'), (7, 'guardian'),
    (8, 'authorised'), (9, 'close');

-- Who may do what needs no basis.
CREATE TABLE allowed (act TEXT NOT NULL, people TEXT NOT NULL);
INSERT INTO allowed VALUES
    ('identify', 'system'), ('identify', 'medical'), ('identify', 'assistant'), ('identify', 'clerk'),
    ('identify', 'counter'), ('handout', 'counter'), ('handout', 'medical'),
    ('feed', 'system'), ('feed', 'medical'), ('feed', 'assistant'), ('feed', 'clerk'),
    ('change', 'system'), ('change', 'medical'),
    ('consent', 'system'), ('consent', 'medical'), ('consent', 'clerk'),
    ('emergency', 'medical'),
    ('operate', 'system'),
    ('inspect', 'system'), ('inspect', 'operator'), ('inspect', 'officer'),
    ('answer', 'medical'), ('answer', 'assistant'), ('answer', 'clerk'),
    ('maintain', 'operator'),
    ('review', 'officer'),
    ('open', 'system'), ('open', 'medical'), ('open', 'assistant'), ('open', 'clerk'), ('open', 'patient'),
    ('open', 'operator'), ('open', 'officer'), ('open', 'counter'), ('open', 'nobody');

-- By which of their own bases people may do what.
CREATE TABLE own_basis (act TEXT NOT NULL, basis TEXT NOT NULL);
INSERT INTO own_basis VALUES
    ('read', 'patient'), ('read', 'guardian'), ('read', 'authorised'), ('read', 'close'),
    ('identify', 'patient'), ('identify', 'guardian'), ('identify', 'authorised'), ('identify', 'close'),
    ('consent', 'patient'), ('consent', 'guardian'), ('consent', 'authorised'),
    ('log', 'patient'), ('log', 'guardian'), ('log', 'authorised');

CREATE TABLE permission_act (permission TEXT PRIMARY KEY, act TEXT NOT NULL);
INSERT INTO permission_act VALUES
    -- find, retrieve, summarise, subscribe to documents
    ('document_registry:object:find', 'read'),
    ('consent_registry:code:ask', 'consent'),
    ('emergency_access:session:open', 'emergency'),
    ('access_log:patient:read', 'log'), ('handouts:patient:print', 'handout'),
    ('patient_portal:access:report', 'log'),
    ('health_links:link:share', 'log'), ('own_documents:document:add', 'log'), ('messaging:patient:write', 'log'),
    ('messaging:facility:answer', 'answer'), ('health_links:link:open', 'open'),
    ('patient_portal:notice:read', 'log'), ('representatives:patient:read', 'log'),
    ('document_registry:object:find_of_several', 'read'),
    ('document_repository:document:retrieve', 'read'),
    ('patient_summary:patient:read', 'read'),
    ('text_search:document:search', 'read'), ('event_reader:event:read', 'read'),
    ('exporter:patient:everything', 'read'),
    ('notification_broker:subscription:write', 'read'),
    ('notification_broker:subscription:search', 'read'),
    -- look up who a patient is
    ('patient_index:patient:search', 'identify'),
    ('patient_index:patient:match', 'identify'),
    ('patient_portal:people:read', 'identify'),
    ('patient_index:demographics:query', 'identify'),
    ('patient_index:demographics:discover', 'identify'),
    ('patient_index:identifier:cross_reference', 'identify'),
    -- tell of documents
    ('document_registry:submission:register', 'feed'),
    ('document_repository:document:provide', 'feed'),
    ('document_recipient:document:receive', 'feed'),
    ('notification_broker:resource:publish', 'feed'),
    -- update or remove metadata and documents
    ('document_lifecycle:submission:update', 'change'),
    ('document_lifecycle:submission:update_restricted', 'change'),
    ('document_lifecycle:metadata:remove', 'change'),
    ('document_removal:document:remove', 'change'),
    ('document_holds:document:hold', 'change'),
    -- record, change or end a consent of the patient
    ('consent_registry:consent:access', 'consent'),
    -- exports of everything, records of audit that others send, who patients are
    ('patient_index:identity:feed', 'operate'),
    ('exporter:everything:export', 'operate'),
    ('audit_repository:audit_event:create', 'operate'),
    -- search the audit
    ('audit_repository:audit_event:search', 'inspect'),
    -- what tells nothing of patients: directory, topics, validation, issuing of tokens
    ('provider_directory:resource:search', 'open'),
    ('provider_directory:history:read', 'open'),
    ('notification_broker:topic:search', 'open'),
    ('decision_point:document:decide', 'open'),
    ('resource:content:validate', 'open'),
    ('security_token_service:assertion:issue', 'open');

-- Every act can be asked by its name, too.
INSERT INTO permission_act SELECT DISTINCT act, act FROM own_basis UNION SELECT DISTINCT act, act FROM allowed;
