// What the turns of a rival come to.

/** The middle of these numbers, or the mean of the two in the middle. */
function median(numbers) {
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

/** How one rival's figure relates to another's: the median of the quotients of each turn, as the machine's pace changes. */
export function quotient(key, one, other) {
  return median(one.turns.map((turn, index) => turn[key] / other.turns[index][key]));
}
