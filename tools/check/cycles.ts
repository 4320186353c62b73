// Cycles of a directed graph of files: for each knot of files that reach each other, one shortest way round.
//
// Not here: where the graph comes from (layers.ts).

export interface Cycle {
  /** The file to start correcting, and the line of its import. */
  readonly file: string;
  readonly line: number;
  /** The way round, first file repeated at the end. */
  readonly path: readonly string[];
}

/** `graph` maps a file to what it imports and the line of that import. */
export function findCycles(graph: ReadonlyMap<string, ReadonlyMap<string, number>>): readonly Cycle[] {
  const cycles: Cycle[] = [];
  const reported = new Set<string>();
  for (const file of [...graph.keys()].toSorted()) {
    if (reported.has(file)) continue;
    const path = shortestWayRound(graph, file);
    if (path === undefined) continue;
    for (const member of path) reported.add(member);
    cycles.push({ file, line: graph.get(file)?.get(path[1] ?? file) ?? 1, path });
  }
  return cycles;
}

/** Breadth first from `start` back to `start`. */
function shortestWayRound(
  graph: ReadonlyMap<string, ReadonlyMap<string, number>>,
  start: string,
): readonly string[] | undefined {
  const cameFrom = new Map<string, string>();
  const queue = [start];
  for (const file of queue) {
    for (const next of graph.get(file)?.keys() ?? []) {
      if (next === start) {
        const path = [start];
        for (let at = file; at !== start; at = cameFrom.get(at) ?? start) path.unshift(at);
        return [start, ...path];
      }
      if (!cameFrom.has(next)) {
        cameFrom.set(next, file);
        queue.push(next);
      }
    }
  }
  return undefined;
}
