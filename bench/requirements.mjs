// What is promised of the figures, and whether they keep it.
import { pace } from "./cases.mjs";
import { quotient } from "./figures.mjs";

/** A rival's figure over another's of the same case. `least` and `most`: what the quotient must keep. */
const over = (row, what, measured, reference, bounds = {}) => ({ row, what, measured, reference, ...bounds });

/** The rows, in the order in which they are shown. Those without a bound are only reported. */
function promises({ entries, drained, queued }) {
  const [many, drain, queue] = [entries, drained, queued].map((number) => number.toLocaleString("en"));
  return [
    over("Hit of one row, 150 B: requests/s over nginx proxy_cache", "rate", "row/sluice", "row/nginx", { least: 1.5 }),
    over("Hit of a list, 10 KB: requests/s over nginx proxy_cache", "rate", "list/sluice", "list/nginx", { least: 1.2 }),
    over("Hit of one row: CPU per request over the bare loop's", "cpu", "row/sluice", "row/limit", { most: 1.25 }),
    over(`Hit of one row at ${pace.toLocaleString("en")} requests/s: p99 over nginx's`, "p99", "pace/sluice", "pace/nginx", { most: 1, pace }),
    over("304: requests/s over nginx's hit", "rate", "row/not-modified", "row/nginx", { least: 1.5 }),
    over("Hit of one row: requests/s of two workers over one's", "rate", "row/two", "row/sluice"),
    over(`Hits, any of ${many} entries: requests/s over any of 1,000`, "rate", "entries/many", "entries/few", { least: 0.85 }),
    over("Forwarded: CPU per request over a bare Pingora proxy's", "cpu", "forward/sluice", "forward/bare", { most: 1.1 }),
    over("Forwarded: CPU per request over nginx proxy_pass", "cpu", "forward/sluice", "forward/nginx"),
    { row: `Resident memory per entry beyond its body, over ${many} entries`, what: "overhead", measured: "entries/many", most: 600 },
    over("Hit in Redis (memory = 0): requests/s over PostgREST", "rate", "row/in-redis", "row/direct", { least: 8 }),
    over("Hit in memory over Redis: requests/s over the embedded store's", "rate", "row/over-redis", "row/sluice", { least: 0.95 }),
    over("Deferred PATCH, one client: p50 over PostgREST's", "p50", "ack-1/sluice", "ack-1/direct", { most: 1 / 10 }),
    over("Deferred PATCH, one client, 40 ms added upstream: p50 over PostgREST's", "p50", "far-1/sluice", "far-1/direct", { most: 1 / 60 }),
    { row: "Deferred PATCHes, 64 clients: durable acknowledgements", what: "rate", measured: "ack-64/sluice", least: 8000 },
    over("Deferred PATCHes, 64 clients: acknowledgements over PostgREST's", "rate", "ack-64/sluice", "ack-64/direct"),
    over(`${drain} queued writes, each to another row: writes/s over a client's own`, "rate", "drain/sluice", "drain/plain", { least: 0.9 }),
    over(`${drain} queued writes, ten to each row: writes/s over a client's own`, "rate", "drain/ten", "drain/plain", { least: 5 }),
    over(`Acknowledgements with ${queue} writes queued over those with 1,000`, "rate", "queued/many", "queued/few", { least: 0.8 }),
    { row: `Resident memory per queued write, over ${queue}`, what: "perWrite", measured: "queued/many", most: 1024 },
  ];
}

const forms = {
  rate: (number) => `${Math.round(number).toLocaleString("en")}/s`,
  cpu: (number) => `${number.toFixed(1)} µs`,
  p50: (number) => `${number.toFixed(2)} ms`,
  p99: (number) => `${number.toFixed(2)} ms`,
  overhead: (number) => `${Math.round(number)} B`,
  perWrite: (number) => `${Math.round(number)} B`,
};

/** The rows as cells: what it is about, wanted, measured, verdict. `figures`: by `case/rival`. */
export function judge(figures, amounts) {
  return promises(amounts).map((promise) => {
    const { row, what, measured, reference } = promise;
    const [own, other] = [figures.get(measured), figures.get(reference)];
    if (!own || (reference && !other)) return [row, wanted(promise), "-", "not measured"];
    const form = forms[what];
    if (!reference) return [row, wanted(promise), form(own[what]), verdict(promise, own[what])];
    const value = quotient(what, own, other);
    const shown = `${value.toFixed(value < 0.2 ? 3 : 2)}× (${form(own[what])}, ${form(other[what])})`;
    return [row, wanted(promise), shown, outOfPace(promise, own, other) ?? verdict(promise, value)];
  });
}

/** Latencies at a fixed rate tell nothing where the rate wasn't kept. */
function outOfPace({ pace }, own, other) {
  if (!pace) return undefined;
  const kept = ({ rate }) => rate >= 0.95 * pace;
  if (!kept(other)) return `not measured: ${forms.rate(other.rate)} were reached`;
  return kept(own) ? undefined : `falls short: ${forms.rate(own.rate)} were reached`;
}

function wanted({ what, least, most, reference }) {
  const bound = (number) => {
    if (!reference) return forms[what](number);
    return number < 0.2 ? `1/${Math.round(1 / number)}` : `${number}×`;
  };
  if (least !== undefined) return `at least ${bound(least)}`;
  return most === undefined ? "-" : `at most ${bound(most)}`;
}

function verdict({ least, most }, value) {
  if (least === undefined && most === undefined) return "reported";
  return value >= (least ?? -Infinity) && value <= (most ?? Infinity) ? "pass" : "falls short";
}
