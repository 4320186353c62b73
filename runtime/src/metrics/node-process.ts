// Measures this process: V8's heap, processor time, threads, open files.

import { readdirSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { getHeapCodeStatistics, getHeapStatistics } from "node:v8";

import type { HeapFigures, ProcessFigures, ReadProcess } from "./process-figures.ts";

/**
 * Every call of the result reads the figures of this process as they are, rates since the call before. `collections` gives what threads
 * count of their heaps' collections, each [young count, young ms, old count, old ms]; sums of them never fall.
 */
export function observeProcess(collections: () => readonly Float64Array[] = () => []): ReadProcess {
  const sum = (at: number): number => collections().reduce((total, cells) => total + (cells[at] ?? 0), 0);
  const collectionMs = (): number => sum(1) + sum(3);
  let before = { atMs: performance.now(), cpuMs: cpuTimeMs(), collectionMs: collectionMs() };
  return (): ProcessFigures => {
    const now = { atMs: performance.now(), cpuMs: cpuTimeMs(), collectionMs: collectionMs() };
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
      youngCollections: { count: sum(0), timeMs: sum(1) },
      oldCollections: { count: sum(2), timeMs: sum(3) },
      collectionMsPerSecond: (Math.max(0, now.collectionMs - before.collectionMs) * 1_000) / elapsedMs,
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
