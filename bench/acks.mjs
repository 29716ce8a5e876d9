// How soon a PATCH is answered: by PostgREST once it is done, by Sluice once it is queued.
import { closeSync, fdatasyncSync, openSync, writeSync } from "node:fs";
import path from "node:path";
import { credentials } from "./cases.mjs";
import { inTurns, median } from "./figures.mjs";
import { walkRows } from "./load.mjs";
import { metric } from "./measure.mjs";
import { startRelay } from "./relay.mjs";
import { place, startDeferring, usersFile } from "./servers.mjs";

const { apikey } = credentials;
/** What supabase-js sends with a read, and with a PATCH that wants no row back. */
export const reading = { apikey, Accept: "application/json" };
export const patching = { apikey, "Content-Type": "application/json", Prefer: "return=minimal" };
/** Milliseconds that the longer way adds to a request and its answer. */
const added = 40;

/** Each case: its clients, whether the way is the longer one, how many PATCHes a turn of each rival has. */
const cases = [
  { id: "ack-1", clients: 1, sent: { direct: 500, sluice: 1000 } },
  { id: "ack-64", clients: 64, sent: { direct: 4000, sluice: 10_000 } },
  { id: "far-1", clients: 1, far: true, sent: { direct: 50, sluice: 1000 } },
  { id: "far-64", clients: 64, far: true, sent: { direct: 3000, sluice: 10_000 } },
];

/** The cases, measured. */
export async function* ackCases(servers, { turns, quick, wanted }) {
  const all = cases.map(({ id, sent, ...rest }) => ({
    id,
    rivals: Object.keys(sent).filter((rival) => wanted(`${id}/${rival}`)),
    sent: Object.fromEntries(Object.entries(sent).map(([rival, count]) => [rival, quick ? count / 2 : count])),
    ...rest,
  }));
  const taking = all.filter(({ rivals }) => rivals.length > 0);
  if (taking.length === 0) return;
  const contest = await startContest(servers);
  // Before the first turn of each there is one that isn't counted.
  await warm(contest.sluice, contest.users, "held", taking.reduce((sum, { sent }) => sum + sent.sluice * (turns + 1), 0));
  for (const { id, clients, far, sent, rivals } of taking) {
    const run = { direct: () => contest.direct(clients, sent.direct, far), sluice: () => contest.deferred(clients, sent.sluice, far) };
    yield {
      id,
      title: `PATCH of one row by ${clients === 1 ? "one client" : `each of ${clients} clients`}${far ? `, ${added} ms added on the way upstream` : ""}`,
      note: id === "ack-1" ? about() : undefined,
      rivals: rivals.map((rival) => ({ id: rival, name: rival === "direct" ? "PostgREST direct, done" : "Sluice, queued" })),
      results: await inTurns(rivals, turns, async (rival, turn) => {
        if (turn === 0) await run[rival]();
        return run[rival]();
      }),
      over: ["direct"],
    };
  }
  await contest.sluice.end();
}

/** A Sluice that defers, and ways that can be longer to its upstream and to PostgREST. */
async function startContest({ gateway, postgrest, postgres }) {
  const users = usersFile(1000);
  const [toGateway, toPostgrest] = [await startRelay(gateway.port), await startRelay(postgrest.port)];
  const sluice = await startDeferring(toGateway.url, ['memory = "1GiB"']);
  const pids = [postgrest.pid, postgres.pid];
  let deferred = 0;
  const lengthen = (far) => (toGateway.delay = toPostgrest.delay = far ? added / 2 : 0);
  return {
    sluice,
    users,
    direct(clients, count, far) {
      lengthen(far);
      const url = `${far ? toPostgrest.url : postgrest.url}/notes`;
      return walkRows({ url, headers: patching, pids, users, clients, first: 1, last: count, mark: "direct" });
    },
    deferred(clients, count, far) {
      lengthen(far);
      const first = deferred + 1;
      deferred += count;
      return patchDeferred(sluice, users, "held", { clients, first, last: deferred, mark: "deferred" });
    },
  };
}

function about() {
  return `PostgreSQL and Sluice make each write durable; to write 4 KB at the end of a file and wait until they are on that disk takes ${fdatasyncTime().toFixed(2)} ms. Sluice's upstream answers 503 to PATCHes, so that what is queued stays; Sluice has read the rows before.`;
}

/** The milliseconds that an fdatasync after a write takes where the journals are. */
function fdatasyncTime() {
  const file = openSync(path.join(place, "fdatasync"), "w");
  const times = Array.from({ length: 200 }, (_, index) => {
    const before = performance.now();
    writeSync(file, Buffer.alloc(4096, index), 0, 4096, index * 4096);
    fdatasyncSync(file);
    return performance.now() - before;
  });
  closeSync(file);
  return median(times);
}

/** Reads the rows from `first` to `last` through a Sluice, each as its user, and makes sure that it has them then. */
export async function warm(sluice, users, table, last, first = 1) {
  const request = { url: `${sluice.url}/rest/v1/${table}`, headers: reading, pids: [sluice.pid], users, clients: 64 };
  await walkRows({ ...request, first, last });
  const before = await metric(sluice.admin, "sluice_requests_total", 'outcome="hit"');
  const { served } = await walkRows({ ...request, first, last });
  const hits = (await metric(sluice.admin, "sluice_requests_total", 'outcome="hit"')) - before;
  if (hits < served - 64) throw new Error(`Sluice has ${hits} of the rows ${first} to ${last} of ${table}`);
}

/** PATCHes rows through a Sluice whose upstream doesn't take any, and makes sure that all were deferred. */
export async function patchDeferred(sluice, users, table, { clients, ...which }) {
  const before = await depth(sluice);
  const result = await walkRows({ url: `${sluice.url}/rest/v1/${table}`, headers: patching, pids: [sluice.pid], users, clients, ...which });
  // wrk doesn't wait for its last answers; Sluice goes on with some of those.
  const queued = (await settled(sluice)) - before;
  if (queued < result.served || queued > result.sent) throw new Error(`Sluice queued ${queued} of ${result.sent} writes`);
  return { ...result, queued };
}

/** How much a Sluice has queued. */
export const depth = ({ admin }) => metric(admin, "sluice_queue_depth");

/** The same, once it has stood still for a while. */
async function settled(sluice) {
  const before = await depth(sluice);
  await new Promise((resolve) => setTimeout(resolve, 200));
  const after = await depth(sluice);
  return after === before ? after : settled(sluice);
}
