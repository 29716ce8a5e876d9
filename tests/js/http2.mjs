// The same request three times over h2c, over HTTP/2 with TLS, and over HTTP/1.1 with TLS.
import { readFileSync } from "node:fs";
import http2 from "node:http2";
import https from "node:https";

const { plain, secure, ca, path, apikey } = JSON.parse(process.argv[2]);
const root = readFileSync(ca);
const headers = { apikey, authorization: `Bearer ${apikey}` };

function overHttp2(session) {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ":path": path, ...headers });
    const answer = { body: "" };
    stream.on("response", (head) => {
      answer.status = head[":status"];
      answer.cacheStatus = head["cache-status"];
    });
    stream.setEncoding("utf8");
    stream.on("data", (text) => (answer.body += text));
    stream.on("end", () => resolve(answer));
    stream.on("error", reject);
    stream.end();
  });
}

function overHttp1() {
  return new Promise((resolve, reject) => {
    const options = { ca: root, servername: "localhost", headers, ALPNProtocols: ["http/1.1"] };
    const request = https.get(secure + path, options, (response) => {
      const answer = { status: response.statusCode, cacheStatus: response.headers["cache-status"], body: "" };
      response.setEncoding("utf8");
      response.on("data", (text) => (answer.body += text));
      response.on("end", () => resolve(answer));
    });
    request.on("error", reject);
  });
}

async function three(ask) {
  return [await ask(), await ask(), await ask()];
}

const cleartext = http2.connect(plain);
const h2c = await three(() => overHttp2(cleartext));
cleartext.close();
const encrypted = http2.connect(secure, { ca: root, servername: "localhost" });
const h2 = await three(() => overHttp2(encrypted));
encrypted.close();
const tls_http1 = await three(overHttp1);
console.log(JSON.stringify({ h2c, h2, tls_http1 }));
process.exit(0);
