// Opens a SMART Health Link with the npm package kill-the-clipboard: node npm_shl.mjs FOLDER LINK RECIPIENT PASSCODE [MAX]
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [folder, link, recipient, passcode, max] = process.argv.slice(2);
const found = createRequire(`${folder}/package.json`).resolve('kill-the-clipboard');
const { SHLViewer } = await import(pathToFileURL(found.replace(/index\.cjs$/, 'index.esm.js')));
const viewer = new SHLViewer({ shlinkURI: link });
const shl = viewer.shl ?? {};
const said = { flag: shl.flag, label: shl.label, exp: shl.exp };
try {
  const asked = { recipient, passcode, ...(max ? { embeddedLengthMax: Number(max) } : {}) };
  const content = await viewer.resolveSHL(asked);
  process.stdout.write(JSON.stringify({ ...said, resources: content.fhirResources }));
} catch (error) {
  process.stdout.write(JSON.stringify({ ...said, error: error.constructor.name, message: error.message }));
}
