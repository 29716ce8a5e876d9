// `make bench`: cached reads, forwarded requests and deferred writes, against nginx, PostgREST and what could be had at
// best, and whether the figures are what is promised (requirements.mjs).
//   QUICK=1                short turns, fewer entries, docs/benchmarks.md is left alone
//   TURNS, SECONDS_EACH    how often and how long each is measured
//   ONLY='row/(nginx|sluice)$'  only the rivals whose `case/rival` matches; nothing is written
//   PROGRAMS=folder        where sluice, limit and bare are, instead of building them
import { ackCases } from "./acks.mjs";
import { cases } from "./cases.mjs";
import { drainCase } from "./drain.mjs";
import { entriesCase, fillMemory } from "./entries.mjs";
import { inTurns } from "./figures.mjs";
import { loadVersions, measure } from "./load.mjs";
import { ask, metric } from "./measure.mjs";
import { queuedCase } from "./queued.mjs";
import { caseTable, machine, memoryTable, requirementsTable, warnOfLoad, writeDocument } from "./report.mjs";
import { judge } from "./requirements.mjs";
import { startAll, stop } from "./servers.mjs";

const quick = Boolean(process.env.QUICK) && process.env.QUICK !== "0";
const seconds = Number(process.env.SECONDS_EACH || (quick ? 1 : 4));
const turns = Number(process.env.TURNS || (quick ? 1 : 5));
const entries = quick ? 50_000 : 1_000_000;
const drained = quick ? 4000 : 20_000;
const queued = quick ? 50_000 : 1_000_000;
const kilobytes = quick ? [20_000] : [100_000, 400_000];
const only = process.env.ONLY ? new RegExp(process.env.ONLY) : undefined;
const wanted = (name) => only?.test(name) ?? true;

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
  // wrk counts in whole seconds.
  const numbers = [seconds, turns];
  if (!numbers.every((number) => Number.isInteger(number) && number > 0)) throw new Error("SECONDS_EACH and TURNS are whole numbers above 0");
  const versions = loadVersions();
  const load = warnOfLoad();
  const servers = await startAll();
  const about = { lines: machine(versions), load, seconds, turns };
  console.log(about.lines.join("\n"));
  const sections = [];
  const figures = new Map();
  for await (const contest of contests(servers)) sections.push(await section(contest, figures));
  for await (const measured of writes(servers)) sections.push(present(measured, figures));
  if (wanted("memory")) {
    const memory = { title: "Memory", note: 'A fresh Sluice with `memory = "192MiB"` is asked for answers of 1 KB (1,024 B), each under its own query.' };
    sections.push(show({ ...memory, table: memoryTable(await fillMemory(servers.gateway.url, kilobytes)) }));
  }
  if (sections.length === 0) throw new Error(`ONLY=${process.env.ONLY} matches nothing; bench/cases.mjs and entries.mjs have the names`);
  const rows = judge(figures, { entries, drained, queued }).filter(([, , measured]) => !only || measured !== "-");
  const promised = requirementsTable(rows);
  console.log(`\nWhat is promised\n${promised}`);
  if (quick || only) return console.log("\nNot a whole run: docs/benchmarks.md is left as it was.");
  console.log(`\nWritten to ${writeDocument(about, promised, sections)}.`);
}

/** The cases that are wanted, each with the rivals that are. */
async function* contests(servers) {
  for (const { rivals, ...rest } of await cases(servers)) {
    const taking = rivals.filter(({ id }) => wanted(`${rest.id}/${id}`));
    if (taking.length > 0) yield { ...rest, rivals: taking };
  }
  const many = await entriesCase(servers.gateway.url, entries, wanted);
  if (many.rivals.length > 0) yield many;
}

/** The cases of deferred writes, which measure themselves. */
async function* writes(servers) {
  const options = { turns, quick, wanted };
  yield* ackCases(servers, options);
  const drain = await drainCase(servers, drained, options);
  if (drain) yield drain;
  const many = await queuedCase(servers, queued, options);
  if (many) yield many;
}

/** Measures one case; what it found goes into `figures` too. */
async function section({ title, rivals, ...rest }, figures) {
  const bytes = await verify(rivals);
  const results = (await compare(rivals)).map((result, index) => ({ ...result, overhead: rivals[index].overhead }));
  return present({ title: title.replace("{bytes}", bytes.toLocaleString("en")), rivals, results, ...rest }, figures);
}

/** Shows a case that was measured; what was found goes into `figures` too. */
function present({ id, title, note, rivals, results, over }, figures) {
  for (const [index, rival] of rivals.entries()) figures.set(`${id}/${rival.id}`, results[index]);
  return show({ title, note, table: caseTable(rivals, results, over) });
}

function show({ title, note, table }) {
  console.log(`\n${title}\n${table}`);
  return { title, note, table };
}

/** All rivals answer with the same body, those that cache from their cache. Returns its length. */
async function verify(rivals) {
  let body;
  for (const rival of rivals) {
    // The first request fills the cache, the second may be the first hit.
    for (const _ of [1, 2]) await ask(rival.probe ?? rival.url, rival.headers);
    const answer = await probe(rival);
    if (rival.status !== 304) body ??= answer.body;
    const expected = rival.status === 304 ? "" : body;
    if (answer.body !== expected) throw new Error(`${rival.name} answered with another body than the others\n${answer.body.slice(0, 500)}`);
  }
  return Buffer.byteLength(body ?? "");
}

/** One request to a rival, whose answer must be what is measured. Over Redis a single one may be no hit. */
async function probe(rival, attempts = rival.leeway ? 3 : 1) {
  const { status = 200, cached: [name, wanted] = [] } = rival;
  const answer = await ask(rival.probe ?? rival.url, rival.headers);
  if (answer.status === status && (!name || wanted.test(answer.headers[name] ?? ""))) return answer;
  if (attempts > 1) return probe(rival, attempts - 1);
  throw new Error(`${rival.name} answered ${answer.status} ${JSON.stringify(answer.headers)}\n${answer.body.slice(0, 500)}`);
}

/** Measures the rivals in turns. */
function compare(rivals) {
  return inTurns(rivals, turns, async (rival, turn) => {
    // Connections, pools and branch predictors before the first turn.
    if (turn === 0) await measure(rival, 1);
    return checked(rival);
  });
}

/** Measures a rival once, and makes sure that the answers were what they should be. */
async function checked(rival) {
  const before = await probe(rival);
  const hitsBefore = await hits(rival);
  const result = await measure(rival, seconds);
  const counted = (await hits(rival)) - hitsBefore;
  const after = await probe(rival);
  const least = rival.admin ? result.served * (1 - (rival.leeway ?? 0)) : 0;
  if (counted < least) throw new Error(`${rival.name}: ${counted} hits for ${result.served} requests`);
  checkLength(rival, result, [before, after]);
  return result;
}

/** The answers were, on average, as long as those to single requests. Digits of an age or a key may differ. */
function checkLength(rival, { bytes, served, whole }, answers) {
  const lengths = answers.map(({ raw, body }) => (whole ? raw.length : Buffer.byteLength(body)));
  // Parts of answers that weren't complete at the end, on 32 connections.
  const parts = whole ? (32 * Math.max(...lengths)) / served : 0;
  const digits = whole ? 8 : 0;
  if (bytes < Math.min(...lengths) - digits || bytes > Math.max(...lengths) + digits + parts) {
    throw new Error(`${rival.name}: ${bytes.toFixed(1)} bytes an answer, not ${lengths.join(" or ")}`);
  }
}

/** The hits that a Sluice has counted; 0 for any other server. */
async function hits({ admin }) {
  return admin ? metric(admin, "sluice_requests_total", 'outcome="hit"') : 0;
}
