// What a server does under load: oha's figures, and the processor time that the server took.
import { execFile, execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import http from "node:http";
import { promisify } from "node:util";

const run = promisify(execFile);
const connections = 32;
const ticksPerSecond = Number(execFileSync("getconf", ["CLK_TCK"]));
const environment = { ...process.env, PATH: `${process.env.PATH}:${process.env.HOME}/.cargo/bin` };

/** oha's version. Throws with the remedy where it isn't installed. */
export function ohaVersion() {
  try {
    return execFileSync("oha", ["--version"], { env: environment, encoding: "utf8" }).trim();
  } catch {
    throw new Error("oha isn't there. Install it with: cargo install oha --locked");
  }
}

/** One request, with exactly these headers. */
export function ask(url, headers = {}) {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { headers, agent: false }, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("end", () => resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(parts).toString() }));
      response.on("error", reject);
    });
    request.on("error", reject);
    request.end();
  });
}

/** Runs oha and returns its report; every request must have been answered with 200. */
async function oha(url, headers, amount) {
  const lines = Object.entries(headers).flatMap(([name, value]) => ["-H", `${name}: ${value}`]);
  const options = ["--no-tui", "--output-format", "json", "--disable-compression", "-c", String(connections)];
  const { stdout } = await run("oha", [...options, ...amount, ...lines, url], { env: environment, maxBuffer: 1 << 26 });
  const report = JSON.parse(stdout);
  const { 200: served = 0, ...others } = report.statusCodeDistribution;
  if (served === 0 || Object.keys(others).length + Object.keys(report.errorDistribution).length > 0) {
    throw new Error(`${url}: ${JSON.stringify([report.statusCodeDistribution, report.errorDistribution])}`);
  }
  return { served, report };
}

/** Seconds of processor time, user and system, that these processes and what they started have taken. */
function processorSeconds(pids) {
  const processes = new Map();
  for (const name of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const text = readFileSync(`/proc/${name}/stat`, "utf8");
      // The command stands in parentheses and may hold anything.
      const fields = text.slice(text.lastIndexOf(")") + 2).split(" ").map(Number);
      // Own user and system time, then that of children that have ended.
      processes.set(Number(name), { parent: fields[1], ticks: fields[11] + fields[12] + fields[13] + fields[14] });
    } catch {
      // It has ended meanwhile.
    }
  }
  const belongs = (pid) => pids.includes(pid) || (processes.has(pid) && belongs(processes.get(pid).parent));
  const ticks = [...processes].filter(([pid]) => belongs(pid)).map(([, { ticks }]) => ticks);
  return ticks.reduce((sum, each) => sum + each, 0) / ticksPerSecond;
}

/** Asks for `seconds`: requests/s, p50 and p99 in ms, the processes' microseconds per request. */
export async function measure(url, headers, seconds, pids) {
  const before = processorSeconds(pids);
  const { served, report } = await oha(url, headers, ["-z", `${seconds}s`, "--wait-ongoing-requests-after-deadline"]);
  const used = processorSeconds(pids) - before;
  return {
    served,
    bytes: report.summary.totalData / served,
    rate: served / report.summary.total,
    p50: report.latencyPercentiles.p50 * 1000,
    p99: report.latencyPercentiles.p99 * 1000,
    cpu: (used / served) * 1e6,
  };
}

/** Asks for `count` URLs that differ in their query. Returns how many seconds it took. */
export async function askDifferent(url, headers, count) {
  const pattern = `${url}\\?v=[0-9a-f]{16}`;
  const { report } = await oha(pattern, headers, ["-n", String(count), "--rand-regex-url"]);
  return report.summary.total;
}

/** A process's resident memory, in bytes. */
export function residentBytes(pid) {
  const line = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(line[1]) * 1024;
}

/** The sum of a metric's series whose labels hold all of `labels`. */
export async function metric(admin, name, labels = "") {
  const { body } = await ask(`${admin}/metrics`);
  const series = body.split("\n").filter((line) => new RegExp(`^${name}[{ ]`).test(line) && line.includes(labels));
  return series.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
}
