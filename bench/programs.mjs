// The programs that are measured: Sluice, and the two small ones of benches/ that it is held against.
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";

const root = path.dirname(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname));
const names = ["sluice", "limit", "bare"];

let found;

/** Where each is: in the folder that PROGRAMS names, else where cargo has just built it. */
export function programs() {
  found ??= process.env.PROGRAMS ? inFolder(process.env.PROGRAMS) : built();
  return found;
}

function inFolder(folder) {
  const files = Object.fromEntries(names.map((name) => [name, path.resolve(folder, name)]));
  const missing = names.filter((name) => !existsSync(files[name]));
  if (missing.length > 0) throw new Error(`${folder} (from PROGRAMS) has no ${missing.join(", ")}`);
  return files;
}

function built() {
  const targets = ["--bin", "sluice", "--bench", "limit", "--bench", "bare"];
  const build = ["build", "--locked", "--release", ...targets, "--message-format=json-render-diagnostics"];
  const printed = execFileSync("cargo", build, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], maxBuffer: 1 << 28 });
  const artifacts = printed.split("\n").filter(Boolean).map((line) => JSON.parse(line)).filter(({ executable }) => executable);
  const files = Object.fromEntries(artifacts.map(({ target, executable }) => [target.name, executable]));
  const missing = names.filter((name) => !files[name]);
  if (missing.length > 0) throw new Error(`cargo built no ${missing.join(", ")}`);
  return files;
}
