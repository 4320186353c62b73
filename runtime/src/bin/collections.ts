// Counts what V8 collects in a thread, for the metrics of its process. Loaded by every thread, so it loads nothing else.

import { constants, PerformanceObserver } from "node:perf_hooks";

/** Float64 each: young count, young milliseconds, old count, old milliseconds. */
const FIELDS = 4;

/** Cells that one thread fills and others read. */
export function allocateCollections(): Float64Array {
  return new Float64Array(new SharedArrayBuffer(FIELDS * Float64Array.BYTES_PER_ELEMENT));
}

/** Counts the collections of this thread's heap into `cells` for as long as it lives. */
export function countCollections(cells: Float64Array): Float64Array {
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const { kind } = (entry as { readonly detail?: { readonly kind?: number } }).detail ?? {};
      const at = kind === constants.NODE_PERFORMANCE_GC_MINOR ? 0 : 2;
      cells[at] = (cells[at] ?? 0) + 1;
      cells[at + 1] = (cells[at + 1] ?? 0) + entry.duration;
    }
  });
  observer.observe({ entryTypes: ["gc"] });
  return cells;
}
