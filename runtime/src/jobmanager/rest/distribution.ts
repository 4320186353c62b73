// Quantiles and sums of a few values, computed as Flink's histograms do. Pure.

/** Value at quantile q of ascending values: interpolates between neighbours at rank q (n + 1). */
export function quantileOf(sorted: readonly number[], q: number): number {
  const rank = q * (sorted.length + 1);
  const below = Math.min(Math.max(Math.floor(rank), 1), sorted.length);
  const above = Math.min(below + 1, sorted.length);
  const low = sorted[below - 1] as number;
  const high = sorted[above - 1] as number;
  return rank < 1 ? (sorted[0] as number) : low + (rank - below) * (high - low);
}

export function sumOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}

export function ascending(values: readonly number[]): readonly number[] {
  return values.toSorted((a, b) => a - b);
}
