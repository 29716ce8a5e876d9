// How a Sluice fares as its memory fills.
import { credentials } from "./cases.mjs";
import { askEach, measure } from "./load.mjs";
import { ask, metric, residentBytes } from "./measure.mjs";
import { startSluice } from "./servers.mjs";

const few = 1000;
const roomy = ['memory = "4GiB"'];

/**
 * Two Sluices, one with few small entries and one with `count`, as a case: hits of any of them, each as likely as the
 * others. `overhead`: what an entry of the second takes of resident memory beyond its body, in bytes.
 */
export async function entriesCase(upstream, count, wanted) {
  const rivals = [];
  const notes = [];
  for (const [id, entries] of [["few", few], ["many", count]].filter(([id]) => wanted(`entries/${id}`))) {
    const sluice = await startSluice(upstream, roomy);
    const url = `${sluice.url}/functions/v1/row`;
    const { overhead, took } = await fill(sluice, url, entries);
    const name = `Sluice, any of ${entries.toLocaleString("en")} entries`;
    const hit = { admin: sluice.admin, cached: ["cache-status", /^sluice; hit/] };
    notes.push(`${entries.toLocaleString("en")} were stored within ${took.toFixed(1)} s`);
    rivals.push({ id, name, url, probe: `${url}?v=1`, headers: credentials, pids: [sluice.pid], keys: ["random", entries], ...hit, overhead });
  }
  const note = `wrk makes each request from a key, which takes it longer than to repeat one. ${notes.join(", ")}.`;
  return { id: "entries", title: "Hits of many entries, scope user, {bytes} B of JSON each, under keys at random", note, rivals, over: ["few"] };
}

/** Asks twice for each key, so that the second time is a hit that is like those to come. */
async function fill({ pid, admin }, url, entries) {
  const { body } = await ask(`${url}?v=1`, credentials);
  // What connections and the program itself take isn't the entries'.
  await measure({ url, headers: credentials, pids: [pid], keys: ["random", 1] }, 1);
  const empty = residentBytes(pid);
  const { seconds: took } = await askEach(url, credentials, 1, entries);
  const before = await metric(admin, "sluice_requests_total", 'outcome="hit"');
  await askEach(url, credentials, 1, entries);
  const hits = (await metric(admin, "sluice_requests_total", 'outcome="hit"')) - before;
  const kept = await metric(admin, "sluice_cache_entries");
  if (hits < entries || kept < entries) throw new Error(`Sluice has ${kept} of ${entries} entries and counted ${hits} hits`);
  return { overhead: (residentBytes(pid) - empty) / (entries - 1) - Buffer.byteLength(body), took };
}

/** Fills a fresh Sluice with entries of 1 KB, up to each of `counts`; the last may be more than fit. */
export async function fillMemory(upstream, counts) {
  const sluice = await startSluice(upstream);
  const url = `${sluice.url}/functions/v1/kilobyte`;
  const key = { apikey: credentials.apikey };
  const look = async (stage, asked, took) => ({
    stage,
    asked,
    took,
    resident: residentBytes(sluice.pid),
    entries: await metric(sluice.admin, "sluice_cache_entries"),
    bytes: await metric(sluice.admin, "sluice_cache_bytes"),
  });
  await ask(`${url}?v=0`, key);
  const { headers, body } = await ask(`${url}?v=0`, key);
  if (body.length !== 1024 || !/^sluice; hit/.test(headers["cache-status"])) throw new Error(`no hit: ${JSON.stringify(headers)}`);
  const stages = [await look("empty", 0, 0)];
  for (const count of counts) {
    const { asked } = stages.at(-1);
    const { seconds } = await askEach(url, key, asked + 1, count);
    stages.push(await look(`${count.toLocaleString("en")} entries asked for`, count, seconds));
  }
  return stages;
}
