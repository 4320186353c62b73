// How the memory of a container is divided: V8 heaps, which V8 limits, and what lies outside of them, which the kernel counts too.
//
// Invariants:
//   ME1. The parts never add up to more than the container's limit.
//   ME2. A larger limit makes no part smaller; more slots make no slot larger.
//   ME3. What does not fit is refused with the numbers, before anything is started.
//
// The figures were measured (docs/operator/memory.md tells how, and has the table). Not here: what the parts are set with (pods.ts).

import type { PodMemory, StreamJobSpec } from "@sluice/api";

const MIB = 2 ** 20;

/** Of every container: what no part may use, because V8, malloc and the kernel round and keep more than they are asked for. */
const RESERVE_SHARE = 0.1;
const RESERVE_BYTES_MIN = 32 * MIB;

/** Of a Node process, outside of its heap: program, code that was compiled, libraries, buffers of connections. */
const PROCESS_BYTES = 72 * MIB;
/** Of a further thread with its own V8, outside of its heap. */
const THREAD_BYTES = 12 * MIB;
/** Rings and staging of one slot's channels. */
const RINGS_BYTES_PER_SLOT = 4 * MIB;

const JOB_MANAGER_HEAP_BYTES_MIN = 64 * MIB;
const PLAN_HEAP_BYTES_MIN = 48 * MIB;
const PLAN_SHARE = 0.4;

const MAIN_HEAP_BYTES_MIN = 48 * MIB;
const MAIN_HEAP_BYTES_MAX = 256 * MIB;
const MAIN_SHARE = 0.1;
const IO_HEAP_BYTES_MIN = 32 * MIB;
const IO_HEAP_BYTES_MAX = 128 * MIB;
const IO_SHARE = 0.06;

const SLOT_HEAP_BYTES_MIN = 24 * MIB;
const SLOT_TABLES_BYTES_MIN = 16 * MIB;
/** Of what is left for a slot: objects of user code; the rest is tables of keyed state, which lie outside of heaps. */
const SLOT_HEAP_SHARE = 0.5;

/** A TaskManager's container in parts. */
export interface TaskManagerMemory {
  readonly limitBytes: number;
  readonly reserveBytes: number;
  readonly processBytes: number;
  readonly mainHeapBytes: number;
  readonly ioHeapBytes: number;
  readonly slots: number;
  readonly slotHeapBytes: number;
  readonly slotTablesBytes: number;
  readonly slotRingsBytes: number;
  /** V8 of a slot or of the I/O thread. */
  readonly threadBytes: number;
}

/** A JobManager's container in parts. The plan process runs the user's `main`, for a moment, beside it. */
export interface JobManagerMemory {
  readonly limitBytes: number;
  readonly reserveBytes: number;
  readonly processBytes: number;
  readonly heapBytes: number;
  readonly planProcessBytes: number;
  readonly planHeapBytes: number;
}

function reserveOf(limitBytes: number): number {
  return Math.max(RESERVE_BYTES_MIN, Math.ceil(limitBytes * RESERVE_SHARE));
}

function within(value: number, least: number, most: number): number {
  return Math.floor(Math.min(Math.max(value, least), most));
}

/** The division, or the least limit that would do. */
export function taskManagerMemory(
  limitBytes: number,
  slots: number,
): { readonly fits: true; readonly memory: TaskManagerMemory } | { readonly fits: false; readonly leastBytes: number } {
  const memory = divideTaskManager(limitBytes, slots);
  const fits = memory.slotHeapBytes >= SLOT_HEAP_BYTES_MIN && memory.slotTablesBytes >= SLOT_TABLES_BYTES_MIN;
  return fits ? { fits, memory } : { fits, leastBytes: leastThat((bytes) => slotHeapOf(bytes, slots)) };
}

function slotHeapOf(limitBytes: number, slots: number): boolean {
  const { slotHeapBytes, slotTablesBytes } = divideTaskManager(limitBytes, slots);
  return slotHeapBytes >= SLOT_HEAP_BYTES_MIN && slotTablesBytes >= SLOT_TABLES_BYTES_MIN;
}

function divideTaskManager(limitBytes: number, slots: number): TaskManagerMemory {
  const reserveBytes = reserveOf(limitBytes);
  const mainHeapBytes = within(limitBytes * MAIN_SHARE, MAIN_HEAP_BYTES_MIN, MAIN_HEAP_BYTES_MAX);
  const ioHeapBytes = within(limitBytes * IO_SHARE, IO_HEAP_BYTES_MIN, IO_HEAP_BYTES_MAX);
  const fixed = reserveBytes + PROCESS_BYTES + mainHeapBytes + THREAD_BYTES + ioHeapBytes;
  const perSlot = Math.floor((limitBytes - fixed) / slots) - THREAD_BYTES - RINGS_BYTES_PER_SLOT;
  const slotHeapBytes = Math.max(0, Math.floor(perSlot * SLOT_HEAP_SHARE));
  return {
    limitBytes,
    reserveBytes,
    processBytes: PROCESS_BYTES,
    mainHeapBytes,
    ioHeapBytes,
    slots,
    slotHeapBytes,
    slotTablesBytes: Math.max(0, perSlot - slotHeapBytes),
    slotRingsBytes: RINGS_BYTES_PER_SLOT,
    threadBytes: THREAD_BYTES,
  };
}

/** The division, or the least limit that would do. */
export function jobManagerMemory(
  limitBytes: number,
): { readonly fits: true; readonly memory: JobManagerMemory } | { readonly fits: false; readonly leastBytes: number } {
  const memory = divideJobManager(limitBytes);
  const fits = jobManagerFits(limitBytes);
  return fits ? { fits, memory } : { fits, leastBytes: leastThat(jobManagerFits) };
}

function jobManagerFits(limitBytes: number): boolean {
  const { heapBytes, planHeapBytes } = divideJobManager(limitBytes);
  return heapBytes >= JOB_MANAGER_HEAP_BYTES_MIN && planHeapBytes >= PLAN_HEAP_BYTES_MIN;
}

function divideJobManager(limitBytes: number): JobManagerMemory {
  const reserveBytes = reserveOf(limitBytes);
  const left = Math.max(0, limitBytes - reserveBytes - 2 * PROCESS_BYTES);
  const planHeapBytes = Math.floor(left * PLAN_SHARE);
  return {
    limitBytes,
    reserveBytes,
    processBytes: PROCESS_BYTES,
    heapBytes: left - planHeapBytes,
    planProcessBytes: PROCESS_BYTES,
    planHeapBytes,
  };
}

/** The least whole number of MiB that fits (ME2: from there on, all do). */
function leastThat(fits: (limitBytes: number) => boolean): number {
  let low = 1;
  let high = 2 ** 24;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (fits(middle * MIB)) high = middle;
    else low = middle + 1;
  }
  return low * MIB;
}

/** What PodConfig says of it. Throws nothing: {@link problemsOfMemory} comes first, and what does not fit gets the least parts. */
export function podMemory(spec: StreamJobSpec): PodMemory {
  const jobManagerLimitBytes = quantityBytes(spec.jobManager.resources.memory) ?? 0;
  const taskManagerLimitBytes = quantityBytes(spec.taskManager.resources.memory) ?? 0;
  const jobManager = divideJobManager(jobManagerLimitBytes);
  const taskManager = divideTaskManager(taskManagerLimitBytes, spec.taskManager.slots);
  return {
    jobManagerHeapBytes: Math.max(JOB_MANAGER_HEAP_BYTES_MIN, jobManager.heapBytes),
    planHeapBytes: Math.max(PLAN_HEAP_BYTES_MIN, jobManager.planHeapBytes),
    taskManagerHeapBytes: taskManager.mainHeapBytes,
    ioHeapBytes: taskManager.ioHeapBytes,
    slotHeapBytes: Math.max(SLOT_HEAP_BYTES_MIN, taskManager.slotHeapBytes),
    ...(jobManagerLimitBytes > 0 && { jobManagerLimitBytes }),
    ...(taskManagerLimitBytes > 0 && { taskManagerLimitBytes }),
  };
}

/** Why the pods of a spec could not live in their limits (ME3); empty: they can. */
export function problemsOfMemory(spec: StreamJobSpec): readonly string[] {
  const problems: string[] = [];
  const { memory: jobManager } = spec.jobManager.resources;
  const { memory: taskManager } = spec.taskManager.resources;
  const jobManagerBytes = quantityBytes(jobManager);
  const taskManagerBytes = quantityBytes(taskManager);
  if (jobManagerBytes === undefined) problems.push(`jobManager.resources.memory is no quantity: ${jobManager}`);
  else {
    const divided = jobManagerMemory(jobManagerBytes);
    if (!divided.fits)
      problems.push(
        `jobManager.resources.memory of ${jobManager} cannot hold a JobManager and the process that runs main: at least ${mib(divided.leastBytes)} (two processes of ${mib(PROCESS_BYTES)}, heaps of ${mib(JOB_MANAGER_HEAP_BYTES_MIN)} and ${mib(PLAN_HEAP_BYTES_MIN)}, a reserve)`,
      );
  }
  if (taskManagerBytes === undefined) problems.push(`taskManager.resources.memory is no quantity: ${taskManager}`);
  else {
    const { slots } = spec.taskManager;
    const divided = taskManagerMemory(taskManagerBytes, slots);
    if (!divided.fits)
      problems.push(
        `taskManager.resources.memory of ${taskManager} cannot hold ${slots} slots: at least ${mib(divided.leastBytes)} (every slot needs a heap of ${mib(SLOT_HEAP_BYTES_MIN)}, tables of ${mib(SLOT_TABLES_BYTES_MIN)} and ${mib(THREAD_BYTES + RINGS_BYTES_PER_SLOT)} besides); raise it, or lower taskManager.slots`,
      );
  }
  return problems;
}

function mib(bytes: number): string {
  return `${Math.ceil(bytes / MIB)}Mi`;
}

const SUFFIXES: Readonly<Record<string, number>> = {
  "": 1,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

/** Bytes of a Kubernetes quantity; undefined for what is none. */
export function quantityBytes(quantity: string | number): number | undefined {
  const match = /^([0-9]+(?:[.][0-9]*)?|[.][0-9]+)(?:[eE]([-+]?[0-9]+))?([a-zA-Z]*)$/u.exec(String(quantity).trim());
  const factor = match === null ? undefined : SUFFIXES[match[3] ?? ""];
  if (match === null || factor === undefined) return undefined;
  const bytes = Number(match[1]) * 10 ** Number(match[2] ?? 0) * factor;
  return Number.isFinite(bytes) ? Math.floor(bytes) : undefined;
}
