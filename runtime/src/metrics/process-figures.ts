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

/** Adds `flink_<scope>_Status_JVM_*` and Prometheus' own `process_*`. `otherHeaps` are those of worker threads. */
export function addProcessFigures(
  page: MetricsPage,
  scope: "jobmanager" | "taskmanager",
  labels: Labels,
  figures: ProcessFigures,
  otherHeaps: readonly HeapFigures[] = [],
): void {
  const heaps = [figures.heap, ...otherHeaps];
  const sum = (value: (heap: HeapFigures) => number): number => heaps.reduce((total, heap) => total + value(heap), 0);
  const add = (name: string, help: string, value: number): void =>
    page.add(`flink_${scope}_Status_JVM_${name}`, help, labels, value);
  add(
    "Memory_Heap_Used",
    "Bytes used in the heaps of all V8 isolates.",
    sum((heap) => heap.usedBytes),
  );
  add(
    "Memory_Heap_Committed",
    "Bytes that the heaps of all V8 isolates hold.",
    sum((heap) => heap.committedBytes),
  );
  add(
    "Memory_Heap_Max",
    "Bytes that the heaps of all V8 isolates may hold.",
    sum((heap) => heap.limitBytes),
  );
  add(
    "Memory_NonHeap_Used",
    "Resident bytes outside of the V8 heaps.",
    Math.max(0, figures.residentBytes - sum((heap) => heap.committedBytes)),
  );
  add("Memory_Direct_MemoryUsed", "Bytes of array buffers: tables, rings, network buffers.", figures.externalBytes);
  add("Memory_Direct_TotalCapacity", "Bytes of array buffers: tables, rings, network buffers.", figures.externalBytes);
  add("CPU_Load", "Share of the machine's processors in use by this process, 0 to 1.", figures.cpuLoad);
  add("CPU_Time", "Processor time of this process, nanoseconds.", Math.round(figures.cpuTimeMs * 1e6));
  add("Threads_Count", "Threads of this process.", figures.threadCount);
  add("FileDescriptor_Open", "Open file descriptors.", figures.openFileCount);
  for (const [name, collections] of [
    ["G1_Young_Generation", figures.youngCollections],
    ["G1_Old_Generation", figures.oldCollections],
    ["All", addUp(figures.youngCollections, figures.oldCollections)],
  ] as const) {
    add(`GarbageCollector_${name}_Count`, "Garbage collections of the main thread.", collections.count);
    add(
      `GarbageCollector_${name}_Time`,
      "Milliseconds in garbage collections of the main thread.",
      Math.round(collections.timeMs),
    );
  }
  add(
    "GarbageCollector_All_TimeMsPerSecond",
    "Milliseconds per second in garbage collections of the main thread.",
    figures.collectionMsPerSecond,
  );
  page.add("process_resident_memory_bytes", "Resident memory of the process.", labels, figures.residentBytes);
}

function addUp(a: CollectionFigures, b: CollectionFigures): CollectionFigures {
  return { count: a.count + b.count, timeMs: a.timeMs + b.timeMs };
}
