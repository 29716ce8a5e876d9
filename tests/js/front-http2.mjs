// The same request three times over HTTP/2 with TLS: status, fields as sent, body.
import { readFileSync } from "node:fs";
import http2 from "node:http2";

const { secure, ca, path, apikey } = JSON.parse(process.argv[2]);
const headers = { ":path": path, apikey, authorization: `Bearer ${apikey}` };
const session = http2.connect(secure, { ca: readFileSync(ca), servername: "localhost" });

function ask() {
  return new Promise((resolve, reject) => {
    const stream = session.request(headers);
    const answer = { body: "" };
    stream.on("response", (head, flags, raw) => {
      answer.status = head[":status"];
      answer.headers = raw;
    });
    stream.setEncoding("utf8");
    stream.on("data", (text) => (answer.body += text));
    stream.on("end", () => resolve(answer));
    stream.on("error", reject);
    stream.end();
  });
}

const answers = [await ask(), await ask(), await ask()];
session.close();
console.log(JSON.stringify(answers));
process.exit(0);
