// Tables, and docs/benchmarks.md.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { postgresProgram, postgrestProgram, program } from "./servers.mjs";

const root = path.dirname(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname));

/** The middle of these numbers, or the mean of the two in the middle. */
export function median(numbers) {
  const sorted = [...numbers].sort((one, other) => one - other);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The load of the last minute; says so where others are using the machine. */
export function warnOfLoad() {
  const [load] = os.loadavg();
  if (load > os.cpus().length / 4) {
    console.log(`The machine is busy (load ${load.toFixed(2)} on ${os.cpus().length} cores): expect noise.`);
  }
  return load;
}

/** The machine and the versions, as lines of a Markdown list. */
export function machine(oha) {
  const first = (command, ...options) => execFileSync(command, options, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim().split("\n")[0];
  // nginx prints its version on standard error.
  const nginx = first("sh", "-c", 'PATH="$PATH:/usr/sbin" nginx -v 2>&1').replace("nginx version: nginx/", "nginx ");
  const cpu = /^model name\s*: (.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? os.arch();
  return {
    lines: [
      `- ${os.cpus().length} cores (${cpu}), ${Math.round(os.totalmem() / 2 ** 30)} GiB, Linux ${os.release()}`,
      `- ${first(program, "--version")}${commit()}, ${first("rustc", "--version").split(" (")[0]}`,
      `- ${nginx}, ${first(postgrestProgram(), "--version")}, ${first(postgresProgram("postgres"), "--version").split(" (").slice(0, 2).join(" (")}, ${first("redis-server", "--version").replace(/ server v=(\S+).*/, " $1")}, ${oha}`,
    ],
  };
}

/** The commit that was built, where this is a repository. */
function commit() {
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
const milliseconds = (number) => `${number.toFixed(2)} ms`;
const mebibytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

/** One case: a row for each rival, with its rate in relation to nginx's and to the upstream's. */
export function caseTable(rivals, results) {
  const rateOf = (role) => results[rivals.findIndex((rival) => rival.role === role)].rate;
  const times = (rate, other) => `${(rate / other).toFixed(rate / other < 10 ? 2 : 0)}×`;
  const heads = ["server", "requests/s", "lowest–highest", "p50", "p99", "CPU per request", "over nginx", "over direct"];
  const rows = rivals.map(({ name }, index) => {
    const { rate, lowest, highest, p50, p99, cpu } = results[index];
    const ratios = [times(rate, rateOf("nginx")), times(rate, rateOf("direct"))];
    return [name, whole(rate), `${whole(lowest)}–${whole(highest)}`, milliseconds(p50), milliseconds(p99), `${cpu.toFixed(1)} µs`, ...ratios];
  });
  return table([heads, ...rows]);
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
export function writeDocument({ lines, load, seconds, turns }, tables, memory) {
  const sections = tables.map(({ title, note, table }) => `## ${title}\n\n${note ? `${note}\n\n` : ""}${table}\n`);
  const text = `# Benchmarks

Written by \`make bench\` on ${new Date().toISOString().slice(0, 10)}; run it to get your own.

${lines.join("\n")}
- Load average before the run: ${load.toFixed(2)}

Every server has one worker. oha asks over loopback with 32 connections kept alive, for ${seconds} s each, in turns;
the figures are medians of ${turns} turns. oha shares the machine's cores with the servers, so requests/s and
latencies hold in relation to each other, not by themselves; the processor time per request is the steadiest figure.
It is user and system time of the server's own processes, for PostgREST direct of PostgreSQL as well, for hits in Redis of Redis as well.
Requests carry \`apikey\` and an HS256 token as supabase-js sends them; answers are not compressed. nginx keys its
cache by URI and \`Authorization\` and checks no token; Sluice checks it, and keeps a user's entries to him.

${sections.join("\n")}
## Memory

A fresh Sluice with \`memory = "192MiB"\`, filled with answers of 1 KB (1,024 B), each under its own query.

${memory}
`;
  const file = path.join("docs", "benchmarks.md");
  writeFileSync(path.join(root, file), text);
  return file;
}
