// How fast what is queued reaches PostgREST, against a client that sends the same writes itself.
import { depth, patchDeferred, patching, warm } from "./acks.mjs";
import { inTurns } from "./figures.mjs";
import { walkRows } from "./load.mjs";
import { metrics, processorSeconds } from "./measure.mjs";
import { startDeferring, usersFile } from "./servers.mjs";

/** As many as Sluice replays side by side. */
const clients = 16;
const times = 10;
const patience = 120_000;

/** The case, measured; `writes`: how many each rival makes in a turn. */
export async function drainCase(servers, writes, { turns, wanted }) {
  const users = usersFile(1000);
  // Each has rows of its own: what a client changes past Sluice isn't what Sluice has read.
  const ranges = { plain: [1, writes], sluice: [writes + 1, 2 * writes], ten: [2 * writes + 1, 2 * writes + writes / times] };
  const names = {
    plain: `a client, ${clients} at a time, through the gateway`,
    sluice: "Sluice, each to another row",
    ten: `Sluice, ${times} to each row`,
  };
  const rivals = Object.keys(names).filter((id) => wanted(`drain/${id}`));
  if (rivals.length === 0) return undefined;
  const sluice = await startDeferring(servers.gateway.url, ['memory = "1GiB"']);
  const results = await inTurns(rivals, turns, (id, turn) => {
    const [first, last] = ranges[id];
    const request = { users, first, last, mark: `${id}, turn ${turn},`, times: id === "ten" ? times : 1 };
    return id === "plain" ? plain(servers, request) : drained(servers, sluice, request);
  });
  await sluice.end();
  return {
    id: "drain",
    title: `${writes.toLocaleString("en")} PATCHes reach PostgREST`,
    note: "What Sluice has queued while PostgREST was stopped, from the moment on when it goes on; the processor time is Sluice's.",
    rivals: rivals.map((id) => ({ id, name: names[id] })),
    results,
    over: ["plain"],
  };
}

/** A client that keeps its connections and does nothing else. */
async function plain({ gateway, postgres }, request) {
  const result = await walkRows({ url: `${gateway.url}/rest/v1/notes`, headers: patching, pids: [], clients, ...request });
  const done = changed(postgres, request);
  if (done < result.served || done > result.sent) throw new Error(`${done} of ${result.sent} PATCHes were made`);
  return { ...result, cpu: NaN };
}

/** Queues the writes while PostgREST stands still, then lets it go on. */
async function drained({ postgrest, postgres }, sluice, request) {
  const { users, first, last, times } = request;
  await warm(sluice, users, "notes", last, first);
  const before = await ended(sluice);
  process.kill(postgrest.pid, "SIGSTOP");
  const { queued } = await patchDeferred(sluice, users, "notes", { clients: 64, ...request });
  const used = processorSeconds([sluice.pid]);
  const start = performance.now();
  process.kill(postgrest.pid, "SIGCONT");
  while ((await ended(sluice)).all < before.all + queued) {
    if (performance.now() - start > patience) throw new Error(`${await depth(sluice)} of ${queued} writes are still queued`);
    // To be asked takes it processor time.
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const seconds = (performance.now() - start) / 1000;
  const cpu = ((processorSeconds([sluice.pid]) - used) / queued) * 1e6;
  const done = (await ended(sluice)).applied - before.applied;
  // The last ones may not have been queued.
  const rows = changed(postgres, request);
  if (done !== queued || rows < last - first + 1 - 64 || (times === 1 && rows !== queued)) {
    throw new Error(`of ${queued} writes ${done} were applied, and ${rows} rows have their last value`);
  }
  return { rate: queued / seconds, p50: NaN, p99: NaN, cpu };
}

/** How many writes have ended, and how many of them were applied. */
async function ended({ admin }) {
  const counts = await metrics(admin, ["applied", "superseded", "rejected"].map((state) => ["sluice_writes_total", `state="${state}"`]));
  return { applied: counts[0], all: counts.reduce((sum, each) => sum + each) };
}

/** How many of the rows have the last value that they were given. */
function changed({ sql }, { first, last, mark, times }) {
  return Number(sql(`select count(*) from notes where id between ${first} and ${last} and title = '${mark} ${times}'`));
}
