// Measures this process: V8's heap, collections, processor time, threads, open files.

import { readdirSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { constants, PerformanceObserver } from "node:perf_hooks";
import { getHeapCodeStatistics, getHeapStatistics } from "node:v8";

import type { HeapFigures, ProcessFigures, ReadProcess } from "./process-figures.ts";

/** Starts to observe collections; every call of the result reads the figures as they are, rates since the call before. */
export function observeProcess(): ReadProcess {
  const young = { count: 0, timeMs: 0 };
  const old = { count: 0, timeMs: 0 };
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const { kind } = (entry as { readonly detail?: { readonly kind?: number } }).detail ?? {};
      const generation = kind === constants.NODE_PERFORMANCE_GC_MINOR ? young : old;
      generation.count += 1;
      generation.timeMs += entry.duration;
    }
  });
  observer.observe({ entryTypes: ["gc"] });
  let before = { atMs: performance.now(), cpuMs: cpuTimeMs(), collectionMs: 0 };
  return (): ProcessFigures => {
    const now = { atMs: performance.now(), cpuMs: cpuTimeMs(), collectionMs: young.timeMs + old.timeMs };
    const elapsedMs = Math.max(1, now.atMs - before.atMs);
    const { external, rss, arrayBuffers } = process.memoryUsage();
    const figures: ProcessFigures = {
      heap: heapFigures(getHeapStatistics()),
      externalBytes: Math.max(external, arrayBuffers),
      residentBytes: rss,
      codeBytes: codeBytes(),
      cpuLoad: (now.cpuMs - before.cpuMs) / elapsedMs / availableParallelism(),
      cpuTimeMs: now.cpuMs,
      threadCount: threadCount(),
      openFileCount: openFileCount(),
      youngCollections: { ...young },
      oldCollections: { ...old },
      collectionMsPerSecond: ((now.collectionMs - before.collectionMs) * 1_000) / elapsedMs,
    };
    before = now;
    return figures;
  };
}

/** Of V8's own statistics, also those of a worker (`Worker.getHeapStatistics`). */
export function heapFigures(statistics: {
  readonly used_heap_size: number;
  readonly total_heap_size: number;
  readonly heap_size_limit: number;
}): HeapFigures {
  return {
    usedBytes: statistics.used_heap_size,
    committedBytes: statistics.total_heap_size,
    limitBytes: statistics.heap_size_limit,
  };
}

function codeBytes(): number {
  const { code_and_metadata_size: code, bytecode_and_metadata_size: bytecode } = getHeapCodeStatistics();
  return code + bytecode;
}

function cpuTimeMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}

/** Linux only; elsewhere 0. */
function threadCount(): number {
  try {
    return Number(/^Threads:\s*(\d+)/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? 0);
  } catch {
    return 0; // no such file: not Linux
  }
}

/** Linux only; elsewhere 0. */
function openFileCount(): number {
  try {
    return readdirSync("/proc/self/fd").length;
  } catch {
    return 0; // no such directory: not Linux
  }
}
