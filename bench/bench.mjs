// `make bench`: cached reads and forwarded requests, against nginx and against PostgREST itself.
// SECONDS_EACH and TURNS say how long and how often each is measured; QUICK=1 is one short turn
// for trying things out, which doesn't write docs/benchmarks.md.
import { ask, askDifferent, measure, metric, ohaVersion, residentBytes } from "./measure.mjs";
import { caseTable, machine, median, memoryTable, warnOfLoad, writeDocument } from "./report.mjs";
import { small, startAll, startSluice, stop, token } from "./servers.mjs";

const quick = Boolean(process.env.QUICK) && process.env.QUICK !== "0";
const seconds = Number(process.env.SECONDS_EACH || (quick ? 2 : 5));
const turns = Number(process.env.TURNS || (quick ? 1 : 5));

const credentials = {
  apikey: token({ role: "anon" }),
  authorization: `Bearer ${token({ sub: "a11ce000-0000-4000-8000-000000000001", role: "authenticated", aud: "authenticated", aal: "aal1" })}`,
};
const point = (table) => `/${table}?id=eq.7&select=*`;
const list = "/items?select=*&id=lte.70&order=id";

process.on("exit", stop);
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => process.exit(1));

try {
  await run();
  process.exit(0);
} catch (error) {
  console.error(`\nThe benchmark failed: ${error.message}`);
  process.exit(1);
}

async function run() {
  if (!(seconds > 0 && turns > 0)) throw new Error("SECONDS_EACH and TURNS are numbers above 0");
  const oha = ohaVersion();
  const before = warnOfLoad();
  console.log("Starting PostgreSQL, PostgREST, a gateway, nginx and Sluice …");
  const servers = await startAll();
  const about = { ...machine(oha), load: before, seconds, turns };
  console.log(about.lines.join("\n"));
  const tables = [];
  for (const { title, note, rivals } of cases(servers)) {
    const bytes = await verify(rivals);
    const heading = title.replace("{bytes}", bytes.toLocaleString("en"));
    console.log(`\n${heading}`);
    const table = caseTable(rivals, await compare(rivals, bytes));
    console.log(table);
    tables.push({ title: heading, note, table });
  }
  const memory = memoryTable(await fillMemory(servers.gateway.url));
  console.log(`\nMemory\n${memory}`);
  if (quick) return console.log("\nA quick run: docs/benchmarks.md is left as it was.");
  console.log(`\nWritten to ${writeDocument(about, tables, memory)}.`);
}

/** What is compared with what. `cached`: what the answer says where it must be a hit. */
function cases({ postgres, postgrest, gateway, nginx, redis, sluice, node, bare }) {
  const direct = { name: "PostgREST direct", role: "direct", base: postgrest.url, pids: [postgrest.pid, postgres.pid] };
  const peer = { name: "nginx", role: "nginx", base: `${nginx.url}/rest/v1`, pids: [nginx.pid] };
  const our = (name, { url, admin, pid }) => ({ name, admin, role: "sluice", base: `${url}/rest/v1`, pids: [pid] });
  const ours = our("Sluice", sluice);
  const shared = our("Sluice over Redis, hit in its own memory", node);
  const fetched = our("Sluice over Redis, hit in Redis (memory = 0)", bare);
  const hit = ["cache-status", /^sluice; hit/];
  const hits = (path) =>
    [
      direct,
      { ...peer, name: "nginx proxy_cache, hit", cached: ["x-cache-status", /^HIT$/] },
      { ...ours, name: "Sluice, hit", cached: hit },
      { ...shared, cached: hit },
      { ...fetched, pids: [...fetched.pids, redis.pid], cached: hit },
    ].map((rival) => ({ ...rival, url: rival.base + path, headers: credentials }));
  const forwarded = [direct, { ...peer, name: "nginx proxy_pass" }, { ...ours, name: "Sluice, forwarded" }];
  const atOnce = [
    { name: "the upstream itself (nginx)", role: "direct", base: gateway.url, pids: [gateway.pid] },
    { ...forwarded[1], base: nginx.url },
    { ...forwarded[2], base: sluice.url },
  ];
  return [
    { title: "Cached read of one row, scope user, {bytes} B of JSON", rivals: hits(point("items")) },
    { title: "Cached list, scope user, {bytes} B of JSON", rivals: hits(list) },
    {
      title: "Forwarded to PostgREST (no route), {bytes} B of JSON",
      note: "PostgREST is the bottleneck here. What tells the proxies apart is their own processor time.",
      rivals: forwarded.map((rival) => ({ ...rival, url: rival.base + point("orders"), headers: credentials })),
    },
    {
      title: "Forwarded to an upstream that answers at once, {bytes} B of JSON",
      note: "What forwarding itself costs.",
      rivals: atOnce.map((rival) => ({ ...rival, url: `${rival.base}/functions/v1/small`, headers: credentials, body: small })),
    },
  ];
}

/** All rivals answer 200 with the same body, those that cache from their cache. Returns its length. */
async function verify(rivals) {
  let body = rivals.find((rival) => rival.body)?.body;
  for (const rival of rivals) {
    // The first request fills the cache.
    await ask(rival.url, rival.headers);
    const answer = await ask(rival.url, rival.headers);
    body ??= answer.body;
    const [name, wanted] = rival.cached ?? [];
    const right = answer.status === 200 && answer.body === body && body.length > 100;
    if (!right || (name && !wanted.test(answer.headers[name] ?? ""))) {
      throw new Error(`${rival.name} answered ${answer.status} ${JSON.stringify(answer.headers)}\n${answer.body.slice(0, 500)}`);
    }
  }
  return Buffer.byteLength(body);
}

/** Measures the rivals in turns; the medians, and the lowest and highest rate. */
async function compare(rivals, bytes) {
  const runs = rivals.map(() => []);
  for (let turn = 0; turn < turns; turn += 1) {
    for (const [index, rival] of rivals.entries()) {
      // Connections, pools and branch predictors before the first turn.
      if (turn === 0) await measure(rival.url, rival.headers, 0.5, rival.pids);
      const hitsBefore = await hits(rival);
      const result = await measure(rival.url, rival.headers, seconds, rival.pids);
      if (result.bytes !== bytes) throw new Error(`${rival.name} answered with ${result.bytes} bytes, not ${bytes}`);
      const counted = (await hits(rival)) - hitsBefore;
      const expected = rival.role === "sluice" && rival.cached ? result.served : 0;
      // Over Redis a call that took too long is a forwarded request.
      if (counted < expected * 0.999) throw new Error(`Sluice counted ${counted} hits, not ${expected}`);
      runs[index].push(result);
    }
  }
  return runs.map((results) => {
    const of = (key) => results.map((result) => result[key]);
    const medians = Object.fromEntries(["rate", "p50", "p99", "cpu"].map((key) => [key, median(of(key))]));
    return { ...medians, lowest: Math.min(...of("rate")), highest: Math.max(...of("rate")) };
  });
}

/** The hits that a Sluice has counted; 0 for any other server. */
async function hits({ admin }) {
  return admin ? metric(admin, "sluice_requests_total", 'outcome="hit"') : 0;
}

/** Fills a fresh Sluice with entries of 1 KB: 100,000, which fit, then as many as don't. */
async function fillMemory(upstream) {
  const sluice = await startSluice(upstream);
  const url = `${sluice.url}/functions/v1/kilobyte`;
  const look = async (stage, asked, took) => ({
    stage,
    asked,
    took,
    resident: residentBytes(sluice.pid),
    entries: await metric(sluice.admin, "sluice_cache_entries"),
    bytes: await metric(sluice.admin, "sluice_cache_bytes"),
  });
  const key = { apikey: credentials.apikey };
  await ask(`${url}?v=first`, key);
  const { headers, body } = await ask(`${url}?v=first`, key);
  if (body.length !== 1024 || !/^sluice; hit/.test(headers["cache-status"])) throw new Error(`no hit: ${JSON.stringify(headers)}`);
  const stages = [await look("empty", 1, 0)];
  stages.push(await look("100,000 entries", 100_001, await askDifferent(url, key, 100_000)));
  if (!quick) stages.push(await look("400,000 entries asked for", 400_001, await askDifferent(url, key, 300_000)));
  return stages;
}
