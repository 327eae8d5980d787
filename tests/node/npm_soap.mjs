// One ITI-41 or ITI-43 request with the npm package "soap"; the task is read from standard input as JSON.
import { createRequire } from 'node:module';
import { randomUUID } from 'node:crypto';

const require = createRequire(process.argv[2] + '/');
const soap = require('soap');

let input = '';
for await (const piece of process.stdin) input += piece;
const task = JSON.parse(input);

const client = await soap.createClientAsync(
  task.wsdl, { forceSoap12Headers: true, normalizeNames: true, parseReponseAttachments: true, disableCache: true });
client.setEndpoint(task.address);
const wsa = 'http://www.w3.org/2005/08/addressing';
client.addSoapHeader(
  `<wsa:Action xmlns:wsa="${wsa}">${task.action}</wsa:Action>`
  + `<wsa:MessageID xmlns:wsa="${wsa}">urn:uuid:${randomUUID()}</wsa:MessageID>`
  + `<wsa:To xmlns:wsa="${wsa}">${task.address}</wsa:To>`);
const attachments = task.attachments.map(({ contentId, content }) => ({
  mimetype: 'application/octet-stream', contentId, name: contentId, body: Buffer.from(content, 'base64') }));
const args = task.args ?? { _xml: task.xml };
try {
  const [result] = await client[`${task.operation.replaceAll('-', '_')}Async`](args, { forceMTOM: true, attachments });
  const parts = (client.lastResponseAttachments?.parts ?? []).map(
    (part) => ({ headers: part.headers, content: Buffer.from(part.body).toString('base64') }));
  console.log(JSON.stringify({ result, parts }));
} catch (error) {
  console.log(JSON.stringify({ error: String(error.message ?? error), status: error.response?.status }));
}
