// Tables, and docs/benchmarks.md.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { quotient } from "./figures.mjs";
import { programs } from "./programs.mjs";
import { postgresProgram, postgrestProgram } from "./servers.mjs";

const root = path.dirname(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname));

/** The load of the last minute; says so where others are using the machine. */
export function warnOfLoad() {
  const [load] = os.loadavg();
  if (load > os.cpus().length / 4) {
    console.log(`The machine is busy (load ${load.toFixed(2)} on ${os.cpus().length} cores): expect noise.`);
  }
  return load;
}

/** The machine and the versions, as lines of a Markdown list. */
export function machine(load) {
  const first = (command, ...options) => execFileSync(command, options, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim().split("\n")[0];
  // nginx prints its version on standard error.
  const nginx = first("sh", "-c", 'PATH="$PATH:/usr/sbin" nginx -v 2>&1').replace("nginx version: nginx/", "nginx ");
  const cpu = /^model name\s*: (.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? os.arch();
  return [
    `- ${os.cpus().length} cores (${cpu}), ${Math.round(os.totalmem() / 2 ** 30)} GiB, Linux ${os.release()}`,
    `- ${first(programs().sluice, "--version")}${commit()}, ${first("rustc", "--version").split(" (")[0]}`,
    `- ${nginx}, ${first(postgrestProgram(), "--version")}, ${first(postgresProgram("postgres"), "--version").split(" (").slice(0, 2).join(" (")}, ${first("redis-server", "--version").replace(/ server v=(\S+).*/, " $1")}, ${load}`,
  ];
}

/** The commit that was built, where this is a repository and the programs are its own. */
function commit() {
  if (process.env.PROGRAMS) return "";
  const git = (...options) => execFileSync("git", ["-C", root, ...options], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  try {
    const changed = git("status", "--porcelain", "--", "src", "Cargo.toml", "Cargo.lock") ? ", with changes" : "";
    return ` (commit ${git("rev-parse", "--short", "HEAD")}${changed})`;
  } catch {
    return "";
  }
}

/** Aligned Markdown: the first column to the left, the others to the right. */
function table(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const line = (cells) => `| ${cells.map((cell, column) => (column ? cell.padStart(widths[column]) : cell.padEnd(widths[column]))).join(" | ")} |`;
  const rule = `|${widths.map((width, column) => (column ? `${"-".repeat(width + 1)}:` : "-".repeat(width + 2))).join("|")}|`;
  return [line(rows[0]), rule, ...rows.slice(1).map(line)].join("\n");
}

const whole = (number) => Math.round(number).toLocaleString("en");
const milliseconds = (number) => (Number.isFinite(number) ? `${number.toFixed(2)} ms` : "-");
const processorTime = (number) => (Number.isFinite(number) ? `${number.toFixed(1)} µs` : "-");
const mebibytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

/** One case: a row for each rival, with its rate in relation to those of the rivals that `over` names. */
export function caseTable(rivals, results, over) {
  const references = over.map((id) => rivals.findIndex((rival) => rival.id === id)).filter((index) => index >= 0);
  const times = (number) => `${number.toFixed(number < 10 ? 2 : 0)}×`;
  const heads = ["server", "requests/s", "lowest–highest", "p50", "p99", "CPU per request", ...references.map((index) => `over ${rivals[index].id}`)];
  const rows = rivals.map(({ name }, index) => {
    const { rate, lowest, highest, p50, p99, cpu } = results[index];
    const ratios = references.map((reference) => times(quotient("rate", results[index], results[reference])));
    return [name, whole(rate), `${whole(lowest)}–${whole(highest)}`, milliseconds(p50), milliseconds(p99), processorTime(cpu), ...ratios];
  });
  return table([heads, ...rows]);
}

/** What is promised, and what came of it. */
export function requirementsTable(rows) {
  return table([["what", "wanted", "measured", "verdict"], ...rows]);
}

/** What a Sluice takes as it is filled. */
export function memoryTable(stages) {
  const [{ resident: empty }] = stages;
  const heads = ["after", "resident", "more than empty", "sluice_cache_entries", "sluice_cache_bytes", "filled at"];
  const rows = stages.map(({ stage, asked, took, resident, entries, bytes }, index) => {
    const rate = index ? `${whole((asked - stages[index - 1].asked) / took)}/s` : "-";
    return [stage, mebibytes(resident), mebibytes(resident - empty), whole(entries), `${whole(bytes)} (${mebibytes(bytes)})`, rate];
  });
  return table([heads, ...rows]);
}

/** Writes docs/benchmarks.md and returns its name. */
export function writeDocument({ lines, load, seconds, turns }, promised, sections) {
  const cases = sections.map(({ title, note, table }) => `## ${title}\n\n${note ? `${note}\n\n` : ""}${table}\n`);
  const text = `# Benchmarks

Written by \`make bench\` on ${new Date().toISOString().slice(0, 10)}; run it to get your own.

${lines.join("\n")}
- Load average before the run: ${load.toFixed(2)}

## What is promised

${promised}

## How it is measured

Every server has one worker, unless its row says otherwise. wrk asks over loopback with one thread and 32 connections kept alive,
for ${seconds} s each, in turns; where a table says so, oha does. The figures are medians of ${turns} turns, quotients those of the turns' own
quotients. The load generator shares the machine's cores with the servers, so requests/s and latencies hold in relation to each other,
not by themselves; the processor time per request is the steadiest figure. It is user and system time of the server's own processes,
for PostgREST direct of PostgreSQL as well, for hits in Redis of Redis as well. In each turn the answers' status and length are checked,
and by Sluice's own counters that they were hits.

Requests carry \`apikey\` and an HS256 token as supabase-js sends them; answers are not compressed. nginx keys its
cache by URI and \`Authorization\` and checks no token; Sluice checks it, and keeps a user's entries to him.
The bare loop (\`benches/limit.rs\`) reads, parses the head, looks the target up in a map and writes the bytes of Sluice's own answer;
the bare Pingora proxy (\`benches/bare.rs\`) names its upstream and does nothing else.

Deferred writes are PATCHes of one column of one row by its key, as supabase-js sends them, in turns of so many instead of so long;
wrk makes each from a row's number and its user's token, and their answers aren't looked at. Instead Sluice's own counters and the
database tell that each write was queued, and later applied, exactly once. PostgreSQL runs with \`fsync\` on, Sluice's journal lies on the same disk.

${cases.join("\n")}`;
  const file = path.join("docs", "benchmarks.md");
  writeFileSync(path.join(root, file), text);
  return file;
}
