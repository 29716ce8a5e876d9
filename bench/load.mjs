// The load: wrk where as much as possible is asked, oha where a rate is kept.
import { execFile, execFileSync, spawnSync } from "node:child_process";
import path from "node:path";
import { promisify } from "node:util";
import { processorSeconds } from "./measure.mjs";

const here = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);
const run = promisify(execFile);
const connections = 32;
const environment = { ...process.env, PATH: `${process.env.PATH}:${process.env.HOME}/.cargo/bin` };
const ends = ["--pdeathsig", "KILL", "--"];

/** The versions of wrk and oha. Throws with the remedy where one isn't installed. */
export function loadVersions() {
  // wrk ends with 1 after it has said its version.
  const wrk = /^wrk \S*?(\d+(\.\d+)+)/.exec(spawnSync("wrk", ["--version"], { encoding: "utf8" }).stdout ?? "");
  if (!wrk) throw new Error("wrk isn't there. Install it, on Debian with: sudo apt-get install wrk");
  try {
    return `wrk ${wrk[1]}, ${execFileSync("oha", ["--version"], { env: environment, encoding: "utf8" }).trim()}`;
  } catch {
    throw new Error("oha isn't there. Install it with: cargo install oha --locked");
  }
}

const headerOptions = (headers) => Object.entries(headers).flatMap(([name, value]) => ["-H", `${name}: ${value}`]);

/** Runs wrk with one thread, for so long or, where keys are walked, until each was asked for. */
async function wrk(url, headers, seconds, keys = [], clients = connections, script = "wrk.lua") {
  const options = ["-t", "1", "-c", String(clients), "-d", `${seconds}s`, "--timeout", "10s", "-s", path.join(here, script)];
  const command = [...ends, "wrk", ...options, ...headerOptions(headers), url, "--", ...keys.map(String)];
  const running = run("setpriv", command, { env: environment });
  // It goes on until it is interrupted, and prints its figures then.
  running.child.stdout.on("data", (text) => text.includes("all\n") && running.child.kill("SIGINT"));
  const { stdout } = await running;
  const report = JSON.parse(stdout.trim().split("\n").at(-1));
  if (report.requests === 0 || report.failed > 0 || report.refused > 0) throw new Error(`${url}: ${JSON.stringify(report)}`);
  return {
    served: report.requests,
    // What it read of answers that weren't whole at the end is part of `bytes`.
    bytes: report.bytes / report.requests,
    rate: report.requests / report.seconds,
    p50: report.p50,
    p99: report.p99,
    seconds: report.seconds,
  };
}

/** Runs oha, at so many requests a second or at as many as it can. */
async function oha(url, headers, seconds, rate) {
  const options = ["--no-tui", "--output-format", "json", "--disable-compression", "-c", String(connections)];
  const amount = ["-z", `${seconds}s`, "--wait-ongoing-requests-after-deadline", ...(rate ? ["-q", String(rate)] : [])];
  const command = [...ends, "oha", ...options, ...amount, ...headerOptions(headers), url];
  const { stdout } = await run("setpriv", command, { env: environment, maxBuffer: 1 << 26 });
  const { summary, latencyPercentiles, statusCodeDistribution, errorDistribution } = JSON.parse(stdout);
  const { 200: served = 0, ...others } = statusCodeDistribution;
  if (served === 0 || Object.keys(others).length + Object.keys(errorDistribution).length > 0) {
    throw new Error(`${url}: ${JSON.stringify([statusCodeDistribution, errorDistribution])}`);
  }
  return {
    served,
    bytes: summary.totalData / served,
    rate: served / summary.total,
    p50: latencyPercentiles.p50 * 1000,
    p99: latencyPercentiles.p99 * 1000,
  };
}

/**
 * Puts load on a rival for so many whole seconds: requests served, requests/s, p50 and p99 in ms, the server's
 * microseconds per request. `bytes`: of an answer on average; its head is included where wrk counted (`whole`).
 */
export async function measure({ url, headers, pids, by = "wrk", rate, keys }, seconds) {
  const before = processorSeconds(pids);
  const result = by === "oha" ? await oha(url, headers, seconds, rate) : await wrk(url, headers, seconds, keys);
  const used = processorSeconds(pids) - before;
  return { ...result, whole: by === "wrk", cpu: (used / result.served) * 1e6 };
}

/** Asks once for each `?v=` from `first` to `last`. Returns how many were asked and how many seconds it took. */
export async function askEach(url, headers, first, last) {
  const { served, seconds } = await wrk(url, headers, 3600, ["each", first, last]);
  if (served < last - first + 1) throw new Error(`${url}: ${served} of ${last - first + 1} were answered`);
  return { served, seconds };
}

/**
 * Asks for the rows from `first` to `last`, each as the user whose it is, by so many `clients` at once; with a `mark`,
 * PATCHes them, each so many `times`. What is measured is as of [`measure`]; answers to the last requests aren't waited for.
 */
export async function walkRows({ url, headers, pids, users, clients, first, last, times = 1, mark }) {
  const keys = [...(mark ? ["PATCH"] : ["GET"]), users, first, last, times, ...(mark ? [mark] : [])];
  const before = processorSeconds(pids);
  const result = await wrk(url, headers, 3600, keys, clients, "rows.lua");
  const used = processorSeconds(pids) - before;
  const sent = (last - first + 1) * times;
  if (result.served < sent - clients) throw new Error(`${url}: ${result.served} of ${sent} were answered`);
  return { ...result, sent, cpu: (used / result.served) * 1e6 };
}
