// A tour: a miss, a hit, a second user who gets his own rows, an invalidation.
// ONCE=1 leaves afterwards: with 0 if all went as it should.
import { createHmac } from "node:crypto";
import { createRequire } from "node:module";
import { accepting, freePort, start, startUpstream, stopAll } from "./servers.mjs";

const require = createRequire(new URL("../tests/js/package.json", import.meta.url));
const { createClient } = require("@supabase/supabase-js");
const ws = require("ws");

const once = Boolean(process.env.ONCE) && process.env.ONCE !== "0";
const secret = "a-secret-of-the-demo-with-more-than-32-characters";

function token(claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ iss: "supabase-demo", ...claims })}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
}

const inADay = Math.floor(Date.now() / 1000) + 86_400;
const user = (sub) => token({ sub, role: "authenticated", aud: "authenticated", aal: "aal1", exp: inADay });
const keys = { anon: token({ role: "anon", exp: 4_000_000_000 }), service: token({ role: "service_role", exp: 4_000_000_000 }) };
const users = { Alice: user("a11ce000-0000-4000-8000-000000000001"), Bob: user("b0b00000-0000-4000-8000-000000000002") };

process.on("exit", stopAll);
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => process.exit(once ? 1 : 0));

try {
  await run();
} catch (error) {
  console.error(`\nThe demo failed: ${error.message}`);
  process.exit(1);
}

async function run() {
  console.log("Starting PostgreSQL, PostgREST and a gateway …");
  const upstream = await startUpstream(secret);
  const [port, adminPort] = [await freePort(8000), await freePort(8001)];
  console.log("Starting sluice serve -c demo/sluice.toml …");
  const sluice = await startSluice(upstream, port, adminPort);
  const url = `http://127.0.0.1:${port}`;
  await tour(url);
  if (once) process.exit(0);
  farewell(url, `http://127.0.0.1:${adminPort}`, upstream);
  sluice.on("exit", (code) => {
    console.error(`sluice ended with ${code}`);
    process.exit(1);
  });
}

async function startSluice(upstream, port, adminPort) {
  const command = [process.env.CARGO ?? "cargo", "run", "--release", "--quiet", "--", "serve", "-c", "demo/sluice.toml"];
  let sluice;
  const ended = start("sluice", command, {
    signal: "TERM",
    env: {
      DEMO_LISTEN: `127.0.0.1:${port}`,
      DEMO_ADMIN: `127.0.0.1:${adminPort}`,
      DEMO_UPSTREAM: upstream,
      DEMO_SERVICE_KEY: keys.service,
      DEMO_JWT_SECRET: secret,
    },
    started: (child) => (sluice = child),
  });
  await Promise.race([accepting(port), ended.then(() => Promise.reject(new Error("sluice ended at once")))]);
  await accepting(adminPort);
  return sluice;
}

function client(url, name) {
  let last;
  const supabase = createClient(url, keys.anon, {
    accessToken: async () => users[name],
    realtime: { transport: ws },
    global: { fetch: async (...request) => (last = await fetch(...request)) },
  });
  return { supabase, cacheStatus: () => last.headers.get("cache-status") };
}

async function tour(url) {
  const clients = { Alice: client(url, "Alice"), Bob: client(url, "Bob") };
  const list = (supabase) => supabase.from("notes").select("id, body").order("id");
  const change = (supabase) => supabase.from("notes").update({ body: "buy oat milk" }).eq("id", 1).select("body");
  const steps = [
    ["Alice reads her notes", "Alice", list, "fwd=uri-miss; stored", ["buy milk", "call Bob"]],
    ["Alice reads them again", "Alice", list, "hit", ["buy milk", "call Bob"]],
    ["Bob reads his, from the same URL", "Bob", list, "fwd=uri-miss; stored", ["call Alice"]],
    ["Bob reads them again", "Bob", list, "hit", ["call Alice"]],
    ["Alice changes a note", "Alice", change, "fwd=method", ["buy oat milk"]],
    ["Alice reads: no old value is left", "Alice", list, "fwd=uri-miss; stored", ["buy oat milk", "call Bob"]],
    ["Alice reads once more", "Alice", list, "hit", ["buy oat milk", "call Bob"]],
  ];
  console.log("");
  for (const [title, name, ask, expectedStatus, expectedNotes] of steps) {
    const { supabase, cacheStatus } = clients[name];
    const began = performance.now();
    const { data, error } = await ask(supabase);
    const time = `${(performance.now() - began).toFixed(1)} ms`;
    if (error) throw new Error(`${title}: ${error.message}`);
    const notes = data.map((note) => note.body);
    const status = cacheStatus() ?? "(none)";
    console.log(`${title.padEnd(36)} Cache-Status: ${status.padEnd(32)} ${time.padStart(8)}   ${notes.join(", ")}`);
    if (!status.startsWith(`sluice; ${expectedStatus}`)) throw new Error(`"sluice; ${expectedStatus}" was expected`);
    if (JSON.stringify(notes.sort()) !== JSON.stringify([...expectedNotes].sort())) throw new Error(`${expectedNotes} was expected`);
  }
}

function farewell(url, admin, upstream) {
  console.log(`
Sluice is at ${url}, its metrics at ${admin}/metrics, the gateway behind it at ${upstream}.
Try, in another terminal:

  export KEY=${keys.anon}
  export ALICE=${users.Alice}
  export BOB=${users.Bob}

  curl -i '${url}/rest/v1/notes?select=*' -H "apikey: $KEY" -H "Authorization: Bearer $ALICE"
  curl -i '${url}/rest/v1/notes?select=*' -H "apikey: $KEY" -H "Authorization: Bearer $BOB"
  curl -i '${url}/rest/v1/notes?id=eq.1' -X PATCH -H "apikey: $KEY" -H "Authorization: Bearer $ALICE" \\
       -H 'Content-Type: application/json' -d '{"body":"buy tea"}'
  curl -s ${admin}/metrics | grep sluice_requests_total

Ctrl-C stops everything.`);
}
