// What a server answers, and what it takes: processor time, memory, its own counters.
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import net from "node:net";

const ticksPerSecond = Number(execFileSync("getconf", ["CLK_TCK"]));
const patience = 30_000;

/** One GET on a connection of its own, with exactly these headers, as wrk sends it. */
export function ask(url, headers = {}) {
  const { host, hostname, port, pathname, search } = new URL(url);
  const fields = Object.entries({ Host: host, ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, hostname, () => socket.write(`GET ${pathname}${search} HTTP/1.1\r\n${fields.join("")}\r\n`));
    let raw = Buffer.alloc(0);
    socket.on("data", (part) => {
      raw = Buffer.concat([raw, part]);
      const answer = parse(raw);
      if (!answer) return;
      socket.destroy();
      resolve(answer);
    });
    socket.setTimeout(patience, () => socket.destroy(new Error(`${url}: no answer within ${patience / 1000} s`)));
    socket.on("end", () => reject(new Error(`${url}: the connection was closed after ${raw.length} bytes`)));
    socket.on("error", reject);
  });
}

/** The answer that stands in `raw`, once it is whole. `raw` is what was sent: head and body. */
function parse(raw) {
  const end = raw.indexOf("\r\n\r\n");
  if (end < 0) return undefined;
  const [first, ...lines] = raw.subarray(0, end).toString("latin1").split("\r\n");
  const headers = Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf(":")).toLowerCase(), line.slice(line.indexOf(":") + 1).trim()]));
  const status = Number(first.split(" ")[1]);
  const rest = raw.subarray(end + 4);
  const body = bodyOf(status, headers, rest);
  return body && { status, headers, body: body.toString(), raw };
}

function bodyOf(status, headers, rest) {
  if (status === 304 || status === 204) return rest;
  if (headers["transfer-encoding"] === "chunked") return fromChunks(rest);
  const length = Number(headers["content-length"]);
  return rest.length >= length ? rest : undefined;
}

function fromChunks(rest) {
  const parts = [];
  for (let at = 0; ; ) {
    const line = rest.indexOf("\r\n", at);
    if (line < 0) return undefined;
    const length = Number.parseInt(rest.subarray(at, line).toString(), 16);
    at = line + 2 + length + 2;
    if (rest.length < at) return undefined;
    if (length === 0) return Buffer.concat(parts);
    parts.push(rest.subarray(line + 2, at - 2));
  }
}

/** Seconds of processor time, user and system, that these processes and what they started have taken. */
export function processorSeconds(pids) {
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

/** A process's resident memory, in bytes. */
export function residentBytes(pid) {
  const line = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(line[1]) * 1024;
}

/** The sum of a metric's series whose labels hold all of `labels`. */
export async function metric(admin, name, labels = "") {
  const [sum] = await metrics(admin, [[name, labels]]);
  return sum;
}

/** The same of several, `[name, labels]` each, at one moment. */
export async function metrics(admin, wanted) {
  const { body } = await ask(`${admin}/metrics`);
  return wanted.map(([name, labels]) => {
    const series = body.split("\n").filter((line) => new RegExp(`^${name}[{ ]`).test(line) && line.includes(labels));
    return series.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
  });
}
