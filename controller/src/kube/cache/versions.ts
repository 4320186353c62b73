// Comparing resourceVersions. They are numbers of one counter in every Kubernetes that stores in etcd, and comparable by
// contract since 1.35; where they are not numbers, nothing can be said, and callers fail open.

/** Negative, zero or positive as `a` is older, the same, newer; undefined when the two cannot be compared. */
export function compareVersions(a: string, b: string): number | undefined {
  if (a === b) return 0;
  if (!/^[0-9]+$/.test(a) || !/^[0-9]+$/.test(b)) return undefined;
  // They may exceed 2^53: longer is larger, then by digits.
  const [left, right] = [a.replace(/^0+/, ""), b.replace(/^0+/, "")];
  if (left.length !== right.length) return left.length - right.length;
  return left < right ? -1 : left > right ? 1 : 0;
}

/** False when `seen` is surely older than `wanted`; true also when nobody can tell. */
export function hasReached(seen: string, wanted: string): boolean {
  return (compareVersions(seen, wanted) ?? 0) >= 0;
}
