// What the turns of a rival come to.

/** The middle of these numbers, or the mean of the two in the middle. */
export function median(numbers) {
  const sorted = [...numbers].sort((one, other) => one - other);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** A rival's figures: medians of its turns, and the lowest and highest rate. */
export function summary(turns) {
  const of = (key) => turns.map((turn) => turn[key]);
  const medians = Object.fromEntries(["rate", "p50", "p99", "cpu"].map((key) => [key, median(of(key))]));
  return { ...medians, lowest: Math.min(...of("rate")), highest: Math.max(...of("rate")), turns };
}

/** Lets the rivals run in turns, the first at number 0: `run(rival, turn)` resolves to the figures of one. Resolves to their summaries. */
export async function inTurns(rivals, turns, run) {
  const runs = rivals.map(() => []);
  for (let turn = 0; turn < turns; turn += 1) {
    for (const [index, rival] of rivals.entries()) runs[index].push(await run(rival, turn));
  }
  return runs.map(summary);
}

/** How one rival's figure relates to another's: the median of the quotients of each turn, as the machine's pace changes. */
export function quotient(key, one, other) {
  return median(one.turns.map((turn, index) => turn[key] / other.turns[index][key]));
}
