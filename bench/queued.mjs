// How a Sluice fares as its queue grows.
import { depth, patchDeferred, warm } from "./acks.mjs";
import { summary } from "./figures.mjs";
import { residentBytes } from "./measure.mjs";
import { startDeferring, usersFile } from "./servers.mjs";

const few = 1000;
const clients = 64;

/**
 * One Sluice, as a case: acknowledgements with few writes queued and with almost `count`. `perWrite`: what a queued one
 * takes of resident memory, in bytes.
 */
export async function queuedCase(servers, count, { turns, quick, wanted }) {
  if (!["few", "many"].every((id) => wanted(`queued/${id}`))) return undefined;
  const users = usersFile(10_000);
  const each = quick ? 2000 : 4000;
  const sluice = await startDeferring(servers.gateway.url, ['memory = "4GiB"']);
  await warm(sluice, users, "many", count);
  let next = 1;
  const patch = (amount) => {
    const first = next;
    next += amount;
    return patchDeferred(sluice, users, "many", { clients, first, last: next - 1, mark: "queued" });
  };
  const measure = async () => {
    const runs = [];
    for (let turn = 0; turn < turns; turn += 1) runs.push(await patch(each));
    return summary(runs);
  };
  await patch(few);
  const [before, resident] = [await depth(sluice), residentBytes(sluice.pid)];
  const first = await measure();
  const { seconds } = await patch(count - few - 2 * turns * each);
  const last = await measure();
  const queued = await depth(sluice);
  const perWrite = (residentBytes(sluice.pid) - resident) / (queued - before);
  await sluice.end();
  const from = (number) => `Sluice, from ${number.toLocaleString("en")} queued on`;
  return {
    id: "queued",
    title: `PATCHes by ${clients} clients while more and more are queued`,
    note: `${(10_000).toLocaleString("en")} users, each row is written to once; upstream answers 503 to PATCHes. What lies between the two was queued within ${seconds.toFixed(1)} s. A queued write takes ${Math.round(perWrite)} B of resident memory.`,
    rivals: [{ id: "few", name: from(few) }, { id: "many", name: from(count - turns * each) }],
    results: [first, { ...last, perWrite }],
    over: ["few"],
  };
}
