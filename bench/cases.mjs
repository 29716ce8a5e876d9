// What is compared with what. Each rival of a case is known as `case/rival`, in ONLY and in requirements.mjs.
import { ask } from "./measure.mjs";
import { startLimit, token } from "./servers.mjs";

/** What supabase-js sends for a user who has signed in. */
export const credentials = {
  apikey: token({ role: "anon" }),
  authorization: `Bearer ${token({ sub: "a11ce000-0000-4000-8000-000000000001", role: "authenticated", aud: "authenticated", aal: "aal1" })}`,
};

const row = (table) => `/rest/v1/${table}?id=eq.7&select=*`;
const list = "/rest/v1/items?select=*&id=lte.70&order=id";
const atOnce = "/functions/v1/small";
/** The fixed rate, in requests a second. */
export const pace = 20_000;

/** A request of a server: `cached` is what an answer from its cache says, `admin` where a Sluice counts hits. */
const rival = (id, name, server, target, more) => ({ id, name, url: server.url + target, headers: credentials, pids: [server.pid], ...more });
const hitOfNginx = { cached: ["x-cache-status", /^HIT$/] };
const hitOf = ({ admin }) => ({ admin, cached: ["cache-status", /^sluice; hit/] });

/** PostgREST without its `/rest/v1`; PostgreSQL's time is part of what its answers cost. */
const direct = ({ postgrest, postgres }, target) =>
  rival("direct", "PostgREST direct", postgrest, target.replace("/rest/v1", ""), { pids: [postgrest.pid, postgres.pid] });
const nginxHit = ({ nginx }, target, more) => rival("nginx", "nginx proxy_cache, hit", nginx, target, { ...hitOfNginx, ...more });
const sluiceHit = ({ sluice }, target, more) => rival("sluice", "Sluice, hit", sluice, target, { ...hitOf(sluice), ...more });
/** Over Redis a look-up that took too long is a forwarded request: a few need not be hits. */
const overRedis = ({ shared, fetching, redis }, target) => [
  rival("over-redis", "Sluice over Redis, hit in its own memory", shared, target, { ...hitOf(shared), leeway: 0.01 }),
  rival("in-redis", "Sluice over Redis, hit in Redis (memory = 0)", fetching, target, {
    ...hitOf(fetching),
    leeway: 0.01,
    pids: [fetching.pid, redis.pid],
  }),
];

/** The cases in the order in which they are measured. `over`: the rivals that the others' rates are related to. */
export async function cases(servers) {
  const one = row("items");
  return [
    {
      id: "row",
      title: "Cached read of one row, scope user, {bytes} B of JSON",
      rivals: [
        direct(servers, one),
        nginxHit(servers, one),
        sluiceHit(servers, one),
        ...(await besides(servers, one)),
        ...overRedis(servers, one),
      ],
      over: ["nginx", "direct"],
    },
    {
      id: "list",
      title: "Cached list, scope user, {bytes} B of JSON",
      rivals: [direct(servers, list), nginxHit(servers, list), sluiceHit(servers, list), ...overRedis(servers, list)],
      over: ["nginx", "direct"],
    },
    {
      id: "oha",
      title: "Cached read of one row, {bytes} B of JSON, asked for by oha",
      note: "oha takes more of the machine than wrk does.",
      rivals: [nginxHit(servers, one, { by: "oha" }), sluiceHit(servers, one, { by: "oha" })],
      over: ["nginx"],
    },
    {
      id: "pace",
      title: `Cached read of one row, {bytes} B of JSON, ${pace.toLocaleString("en")} requests/s (oha)`,
      rivals: [nginxHit(servers, one, { by: "oha", rate: pace }), sluiceHit(servers, one, { by: "oha", rate: pace })],
      over: ["nginx"],
    },
    {
      id: "postgrest",
      title: "Forwarded to PostgREST (no route), {bytes} B of JSON",
      note: "PostgREST is the bottleneck here. What tells the proxies apart is their own processor time.",
      rivals: [direct(servers, row("orders")), ...forwarded(servers, row("orders"))],
      over: ["nginx", "direct"],
    },
    {
      id: "forward",
      title: "Forwarded to an upstream that answers at once (no route), {bytes} B of JSON",
      note: "What forwarding itself costs.",
      rivals: [
        rival("direct", "the upstream itself (nginx)", servers.gateway, atOnce),
        ...forwarded(servers, atOnce),
        rival("bare", "bare Pingora proxy (benches/bare.rs)", servers.bare, atOnce),
      ],
      over: ["nginx", "direct"],
    },
  ];
}

const forwarded = ({ nginx, sluice }, target) => [
  rival("nginx", "nginx proxy_pass", nginx, target),
  rival("sluice", "Sluice, forwarded", sluice, target),
];

/** What else a hit is held against: the bare loop with the same bytes, a 304, two workers. */
async function besides({ sluice, two }, target) {
  const url = sluice.url + target;
  // The first one fills the cache.
  for (const _ of [1, 2]) await ask(url, credentials);
  const { raw, headers } = await ask(url, credentials);
  const limit = await startLimit(target, raw);
  const conditional = { ...credentials, "If-None-Match": headers.etag };
  return [
    rival("not-modified", "Sluice, hit answered with 304", sluice, target, { ...hitOf(sluice), headers: conditional, status: 304 }),
    rival("two", "Sluice with two workers, hit", two, target, hitOf(two)),
    rival("limit", "bare loop (benches/limit.rs), the same answer", limit, target),
  ];
}
