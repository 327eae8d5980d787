/* Opens a SMART Health Link. The key stands behind # in the address, which browsers send to nobody; the file comes
   encrypted and is decrypted here. Everything of it is shown as text: nothing in it can become markup or script. */
const page = document.querySelector('[data-link]');
const step = (name) => page.querySelector(`[data-step="${name}"]`);
const STEPS = ['ask', 'wrong', 'gone', 'unreadable', 'busy', 'foreign', 'none', 'shown'];
const ABSENT = 'absent-unknown'; // what the code system of IPS for "nothing is known" is named after
const SUMMARY_MAX = 64e6; // bytes of a file when it is decompressed

const show = (...names) => {
  for (const name of STEPS) step(name).hidden = !names.includes(name);
};

const bytes = (text) => {
  const decoded = atob(text.replaceAll('-', '+').replaceAll('_', '/'));
  return Uint8Array.from(decoded, (character) => character.charCodeAt(0));
};
const utf8 = (data) => new TextDecoder('utf-8', { fatal: true }).decode(data);

/* The payload of the link in the address, or null. */
function payload() {
  const found = /^#shlink:\/([\w-]+)$/.exec(location.hash);
  try {
    const said = JSON.parse(utf8(bytes(found[1])));
    new URL(said.url);
    return typeof said.key === 'string' && (said.v ?? 1) === 1 ? said : null;
  } catch {
    return null;
  }
}

/* Compact JWE, dir with A256GCM (RFC 7516); what fails its authentication throws. */
async function decrypted(jwe, key) {
  const [head, wrapped, iv, text, tag] = jwe.trim().split('.');
  const header = JSON.parse(utf8(bytes(head)));
  if (header.alg !== 'dir' || header.enc !== 'A256GCM' || wrapped) throw new Error('another algorithm');
  const opened = await crypto.subtle.importKey('raw', bytes(key), 'AES-GCM', false, ['decrypt']);
  const sealed = new Uint8Array([...bytes(text), ...bytes(tag)]);
  const additionalData = new TextEncoder().encode(head);
  const data = await crypto.subtle.decrypt({ name: 'AES-GCM', iv: bytes(iv), additionalData }, opened, sealed);
  return header.zip === 'DEF' ? inflated(data) : data;
}

async function inflated(data) {
  const reader = new Blob([data]).stream().pipeThrough(new DecompressionStream('deflate-raw')).getReader();
  const pieces = [];
  let size = 0;
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    size += read.value.length;
    if (size > SUMMARY_MAX) throw new Error('too large');
    pieces.push(read.value);
  }
  return new Blob(pieces).arrayBuffer();
}

// what is shown -------------------------------------------------------------------------------------------------

function element(name, text = '', attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  return made;
}

const day = (said) => (said ?? '').slice(0, 10).split('-').reverse().join('.');
const called = (concept) => concept?.text || concept?.coding?.find((c) => c.display)?.display || '';
const coded = (concept) => concept?.coding?.find((c) => c.code)?.code || '';
const concept = (r) => r.code ?? r.medicationCodeableConcept ?? r.vaccineCode ?? r.type ?? {};
const unknown = (r) => (concept(r).coding ?? []).some((c) => (c.system ?? '').includes(ABSENT));

function item(r) {
  if (r.resourceType === 'DocumentReference') {
    const attachment = r.content?.[0]?.attachment ?? {};
    return { what: attachment.title || called(r.type), value: '', when: attachment.creation };
  }
  const quantity = r.valueQuantity;
  const value = quantity
    ? `${quantity.comparator ?? ''}${quantity.value ?? ''} ${quantity.unit ?? ''}`.trim()
    : r.valueString || called(r.valueCodeableConcept) || r.dosage?.find((d) => d.text)?.text || '';
  const when = r.effectiveDateTime ?? r.onsetDateTime ?? r.occurrenceDateTime ?? r.performedDateTime ?? r.recordedDate;
  return { what: called(concept(r)) || coded(concept(r)), value, when };
}

/* The text of a narrative; its markup is left out. */
function paragraphs(div) {
  const named = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: ' ' };
  const character = (all, name) => {
    if (name[0] !== '#') return named[name] ?? all;
    const code = name[1] === 'x' ? parseInt(name.slice(2), 16) : parseInt(name.slice(1), 10);
    return code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : all;
  };
  return div
    .replace(/<\/?(?:p|li|tr|div|table|ul|ol|h\d|caption|br)\b[^>]*>/gi, '\n')
    .replace(/<[^>]*>/g, ' ')
    .replace(/&(#?\w+);/g, character)
    .split('\n')
    .map((text) => text.replace(/\s+/g, ' ').trim())
    .filter(Boolean);
}

function table(items) {
  const columns = [...page.querySelectorAll('[data-columns] li')].map((each) => each.textContent);
  const made = element('table', '', { class: 'cards' });
  const head = made.appendChild(element('thead')).appendChild(element('tr'));
  for (const name of columns) head.append(element('th', name, { scope: 'col' }));
  const body = made.appendChild(element('tbody'));
  for (const { what, value, when } of items) {
    const row = body.appendChild(element('tr'));
    row.append(element('th', what, { scope: 'row' }));
    row.append(element('td', value || '–', { 'data-l': columns[1] }), element('td', day(when) || '–', { 'data-l': columns[2] }));
  }
  const around = element('div', '', { class: 'tw' });
  around.append(made);
  return around;
}

function section(given, known, language) {
  const code = coded(given.code);
  const own = page.querySelector(`[data-sections] [data-code="${CSS.escape(code)}"]`);
  const made = element('section');
  made.append(own ? element('h3', own.textContent) : element('h3', given.title ?? '', { lang: language }));
  const entries = (given.entry ?? []).map((e) => known.get(e.reference)).filter(Boolean);
  const items = entries.filter((r) => !unknown(r) && r.resourceType !== 'Provenance').map(item);
  const texts = items.length || entries.some(unknown) ? [] : paragraphs(given.text?.div ?? '');
  if (items.some((each) => each.value)) made.append(table(items));
  else if (items.length) {
    const list = made.appendChild(element('ul'));
    for (const { what, when } of items) {
      const row = list.appendChild(element('li', what, { lang: language }));
      if (when) row.append(' ', element('span', day(when), { class: 't-2' }));
    }
  } else if (texts.length) for (const text of texts) made.append(element('p', text, { lang: language }));
  else made.append(element('p', page.dataset.nothing, { class: 't-2' }));
  return made;
}

function write(bundle, data) {
  const resources = (bundle.entry ?? []).map((e) => e.resource);
  const known = new Map((bundle.entry ?? []).map((e) => [e.fullUrl, e.resource]));
  const composition = resources.find((r) => r.resourceType === 'Composition');
  const patient = resources.find((r) => r.resourceType === 'Patient');
  const name = patient?.name?.[0] ?? {};
  const language = (composition.language ?? 'pl').slice(0, 2);
  const paper = page.querySelector('article');
  const head = element('div', '', { class: 'from' });
  head.append(element('h2', [...(name.given ?? []), name.family ?? ''].join(' ')));
  const said = [
    patient?.birthDate && page.dataset.born.replace('%1', day(patient.birthDate)),
    page.dataset.made.replace('%1', day(composition.date)),
  ];
  head.append(element('p', said.filter(Boolean).join(' · '), { class: 'meta' }));
  paper.replaceChildren(head, ...(composition.section ?? []).map((each) => section(each, known, language)));
  const save = page.querySelector('[data-save]');
  save.href = URL.createObjectURL(new Blob([data], { type: 'application/fhir+json' }));
  save.download = page.dataset.file;
  show('shown');
  paper.focus();
}

// the way there ---------------------------------------------------------------------------------------------------

const link = payload();
const form = step('ask');

async function open() {
  const passcode = form.elements.passcode.value.replaceAll(' ', '');
  const asked = { recipient: form.elements.recipient.value.trim(), passcode, embeddedLengthMax: 16e6 };
  const sent = { method: 'POST', headers: { 'content-type': 'application/json' }, credentials: 'omit', body: JSON.stringify(asked) };
  let answer;
  try {
    answer = await fetch(link.url, sent);
  } catch {
    return show('ask', 'busy');
  }
  if (answer.status === 401) {
    const { remainingAttempts } = await answer.json();
    step('wrong').querySelector('[data-left]').textContent = page.dataset.left.replace('%1', remainingAttempts);
    form.elements.passcode.value = '';
    return remainingAttempts ? show('ask', 'wrong') : show('gone');
  }
  if (answer.status === 404) return show('gone');
  if (!answer.ok) return show('ask', 'busy');
  try {
    const { files } = await answer.json();
    const file = files.find((each) => each.contentType.startsWith('application/fhir+json'));
    const jwe = file.embedded ?? (await (await fetch(file.location, { credentials: 'omit' })).text());
    const data = await decrypted(jwe, link.key);
    return write(JSON.parse(utf8(data)), data);
  } catch {
    return show('unreadable');
  }
}

if (!location.hash) show('none');
else if (!link) show('unreadable');
else if (new URL(link.url).origin !== location.origin) show('foreign');
else {
  show('ask');
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    open();
  });
}
page.querySelector('[data-print]').addEventListener('click', () => print());
// Another language is the same page: the link stays behind #.
for (const other of document.querySelectorAll('.lang a')) other.hash = location.hash;
