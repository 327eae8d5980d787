// npm oauth4webapi as a service with proofs of possession (RFC 9449); one JSON task on stdin, one answer on stdout.
import { readFileSync } from "node:fs";

globalThis.crypto ??= (await import("node:crypto")).webcrypto;
const [folder] = process.argv.slice(2);
const oauth = await import(`${folder}/node_modules/oauth4webapi/build/index.js`);
const task = JSON.parse(readFileSync(0, "utf8"));
const insecure = { [oauth.allowInsecureRequests]: true }; // the laboratory listens on loopback

const issuer = new URL(task.issuer);
const found = await oauth.discoveryRequest(issuer, { algorithm: "oauth2", ...insecure });
const server = await oauth.processDiscoveryResponse(issuer, found);
const client = { client_id: "service" };
const key = await crypto.subtle.importKey("jwk", task.key, { name: "ECDSA", namedCurve: "P-384" }, false, ["sign"]);
const authentication = oauth.PrivateKeyJwt({ key, kid: task.key.kid });
const pair = await oauth.generateKeyPair("ES256", { extractable: true });
const DPoP = oauth.DPoP(client, pair);
const parameters = new URLSearchParams({ scope: task.scope });
const answer = await oauth.clientCredentialsGrantRequest(server, client, authentication, parameters, { DPoP, ...insecure });
const token = await oauth.processClientCredentialsResponse(server, client, answer);
const url = new URL(`${task.fhir}/Patient/${task.patient}`);
const ask = () => oauth.protectedResourceRequest(token.access_token, "GET", url, undefined, undefined, { DPoP, ...insecure });
const first = await ask();
const second = await ask();
const claims = JSON.parse(Buffer.from(token.access_token.split(".")[1], "base64url").toString());
process.stdout.write(
  JSON.stringify({
    algs: server.dpop_signing_alg_values_supported,
    token_type: token.token_type,
    confirmation: claims.cnf.jkt,
    thumbprint: await DPoP.calculateThumbprint(),
    first: first.status,
    second: second.status,
    id: (await second.json()).id,
  }),
);
