// What a process uses, under the names that Flink gives its JVM: dashboards made for Flink show Sluice's processes.
//
// Heap: V8's heaps. Direct: memory outside of them (typed tables, rings, buffers). Young and old generation: V8's scavenges and
// its major collections.
//
// Not here: measuring (node-process.ts).

import type { Labels, MetricsPage } from "./page.ts";

export interface HeapFigures {
  readonly usedBytes: number;
  readonly committedBytes: number;
  readonly limitBytes: number;
}

export interface CollectionFigures {
  readonly count: number;
  readonly timeMs: number;
}

export interface ProcessFigures {
  /** Of the main thread's heap; those of other threads are added by who owns them. */
  readonly heap: HeapFigures;
  /** Array buffers and other memory that V8 knows of outside its heaps. */
  readonly externalBytes: number;
  readonly residentBytes: number;
  /** Code and its metadata in the main thread's heap: what Flink calls metaspace. */
  readonly codeBytes: number;
  /** Share of the whole machine, 0 to 1, since the last reading. */
  readonly cpuLoad: number;
  readonly cpuTimeMs: number;
  readonly threadCount: number;
  readonly openFileCount: number;
  readonly youngCollections: CollectionFigures;
  readonly oldCollections: CollectionFigures;
  /** Milliseconds of collections per second, since the last reading. */
  readonly collectionMsPerSecond: number;
}

/** Reads the figures of this process. */
export type ReadProcess = () => ProcessFigures;

/** One figure under Flink's name, `Status.JVM.Memory.Heap.Used`. */
export interface ProcessMetric {
  readonly name: string;
  readonly help: string;
  readonly value: number;
}

/** The figures under Flink's names. `otherHeaps` are those of worker threads. */
export function processMetrics(
  figures: ProcessFigures,
  otherHeaps: readonly HeapFigures[] = [],
): readonly ProcessMetric[] {
  const heaps = [figures.heap, ...otherHeaps];
  const sum = (value: (heap: HeapFigures) => number): number => heaps.reduce((total, heap) => total + value(heap), 0);
  const metrics: ProcessMetric[] = [];
  const add = (name: string, help: string, value: number): void => {
    metrics.push({ name: `Status.JVM.${name}`, help, value });
  };
  const committed = sum((heap) => heap.committedBytes);
  add(
    "Memory.Heap.Used",
    "Bytes used in the heaps of all V8 isolates.",
    sum((heap) => heap.usedBytes),
  );
  add("Memory.Heap.Committed", "Bytes that the heaps of all V8 isolates hold.", committed);
  add(
    "Memory.Heap.Max",
    "Bytes that the heaps of all V8 isolates may hold.",
    sum((heap) => heap.limitBytes),
  );
  const outside = Math.max(0, figures.residentBytes - committed);
  add("Memory.NonHeap.Used", "Resident bytes outside of the V8 heaps.", outside);
  add("Memory.NonHeap.Committed", "Resident bytes outside of the V8 heaps.", outside);
  add("Memory.NonHeap.Max", "There is no limit: -1.", -1);
  add("Memory.Metaspace.Used", "Bytes of code and its metadata in the main thread.", figures.codeBytes);
  add("Memory.Metaspace.Committed", "Bytes of code and its metadata in the main thread.", figures.codeBytes);
  add("Memory.Direct.MemoryUsed", "Bytes of array buffers: tables, rings, network buffers.", figures.externalBytes);
  add("Memory.Direct.TotalCapacity", "Bytes of array buffers: tables, rings, network buffers.", figures.externalBytes);
  add("CPU.Load", "Share of the machine's processors in use by this process, 0 to 1.", figures.cpuLoad);
  add("CPU.Time", "Processor time of this process, nanoseconds.", Math.round(figures.cpuTimeMs * 1e6));
  add("Threads.Count", "Threads of this process.", figures.threadCount);
  add("FileDescriptor.Open", "Open file descriptors.", figures.openFileCount);
  for (const [name, collections] of [
    ["G1_Young_Generation", figures.youngCollections],
    ["G1_Old_Generation", figures.oldCollections],
    ["All", addUp(figures.youngCollections, figures.oldCollections)],
  ] as const) {
    add(
      `GarbageCollector.${name}.Count`,
      "Garbage collections of the main thread and of the slots.",
      collections.count,
    );
    add(
      `GarbageCollector.${name}.Time`,
      "Milliseconds in garbage collections of the main thread and of the slots.",
      Math.round(collections.timeMs),
    );
  }
  add(
    "GarbageCollector.All.TimeMsPerSecond",
    "Milliseconds per second in garbage collections of the main thread and of the slots.",
    figures.collectionMsPerSecond,
  );
  const managed = "There is no managed memory: tables count as direct memory.";
  metrics.push({ name: "Status.Flink.Memory.Managed.Used", help: managed, value: 0 });
  metrics.push({ name: "Status.Flink.Memory.Managed.Total", help: managed, value: 0 });
  return metrics;
}

/** The same by name. */
export function processMetricValues(
  figures: ProcessFigures,
  otherHeaps: readonly HeapFigures[] = [],
): Readonly<Record<string, number>> {
  return Object.fromEntries(processMetrics(figures, otherHeaps).map(({ name, value }) => [name, value]));
}

/** Adds `flink_<scope>_Status_*` and Prometheus' own `process_*`. */
export function addProcessFigures(
  page: MetricsPage,
  scope: "jobmanager" | "taskmanager",
  labels: Labels,
  figures: ProcessFigures,
  otherHeaps: readonly HeapFigures[] = [],
): void {
  for (const { name, help, value } of processMetrics(figures, otherHeaps))
    page.add(`flink_${scope}_${name.replaceAll(".", "_")}`, help, labels, value);
  page.add("process_resident_memory_bytes", "Resident memory of the process.", labels, figures.residentBytes);
}

function addUp(a: CollectionFigures, b: CollectionFigures): CollectionFigures {
  return { count: a.count + b.count, timeMs: a.timeMs + b.timeMs };
}
