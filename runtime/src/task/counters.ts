// Counters that a slot shares with its TaskManager: what /metrics, heartbeats and the stuck-task watch read.
//
// Invariants:
//   CO1. Only the slot writes, anybody reads; a torn read shows an older value, never a wrong one (one Float64 per figure).
//   CO2. The step sequence grows whenever the slot starts a step, opens an operator or loads the job's module: unchanged and
//        not parked means that user code holds it.
//
// Layout, Float64 each: slot header [stepSequence, currentTask + 1, or 0 when parked, or -1 while the job's module is loaded],
// then one block of TASK_COUNTERS per task.
//
// Not here: names and labels of metrics (taskmanager/metrics).

const HEADER_FIELDS = 2;
const STEP_SEQUENCE = 0;
const CURRENT_TASK = 1;
const PARKED = 0;
const MODULE = -1;

/** One figure of a task; the order is the layout. */
export const TASK_COUNTERS = [
  "numRecordsIn",
  "numRecordsOut",
  "numBytesIn",
  "numBytesOut",
  "busyTimeMs",
  "backPressuredTimeMs",
  "idleTimeMs",
  "isBackPressured",
  "checkpointAlignmentMs",
  "checkpointStartDelayMs",
  "lastCheckpointSyncMs",
  "stateSizeBytes",
  "numRecordsSkipped",
  "restoreMs",
  "restoreReadMs",
  "restoredLocalParts",
  "restoredLocalBytes",
  "restoredStoreParts",
  "restoredStoreBytes",
] as const;

export type TaskCounterName = (typeof TASK_COUNTERS)[number];

const FIELD: Readonly<Record<TaskCounterName, number>> = Object.fromEntries(
  TASK_COUNTERS.map((name, index) => [name, index]),
) as Record<TaskCounterName, number>;

/** Bytes to allocate for the counters of a slot with this many tasks. */
export function slotCountersBytes(taskCount: number): number {
  return (HEADER_FIELDS + taskCount * TASK_COUNTERS.length) * 8;
}

/** The slot's side. */
export class SlotCounters {
  readonly #cells: Float64Array;

  constructor(shared: SharedArrayBuffer) {
    this.#cells = new Float64Array(shared);
  }

  /** A task's step, or the opening of one of its operators, begins (CO2). */
  enter(taskIndex: number): void {
    this.#cells[STEP_SEQUENCE] = (this.#cells[STEP_SEQUENCE] as number) + 1;
    this.#cells[CURRENT_TASK] = taskIndex + 1;
  }

  /** The job's module is loaded and its `main` runs (CO2). */
  enterModule(): void {
    this.#cells[STEP_SEQUENCE] = (this.#cells[STEP_SEQUENCE] as number) + 1;
    this.#cells[CURRENT_TASK] = MODULE;
  }

  /** The slot sleeps or waits for promises. */
  park(): void {
    this.#cells[CURRENT_TASK] = PARKED;
  }

  task(taskIndex: number): TaskCounters {
    return new TaskCounters(this.#cells, HEADER_FIELDS + taskIndex * TASK_COUNTERS.length);
  }
}

/** One task's figures. */
export class TaskCounters {
  readonly #cells: Float64Array;
  readonly #base: number;

  constructor(cells: Float64Array, base: number) {
    this.#cells = cells;
    this.#base = base;
  }

  add(name: TaskCounterName, by: number): void {
    const at = this.#base + FIELD[name];
    this.#cells[at] = (this.#cells[at] as number) + by;
  }

  set(name: TaskCounterName, value: number): void {
    this.#cells[this.#base + FIELD[name]] = value;
  }
}

/** What the TaskManager reads at one moment. */
export interface SlotCountersView {
  readonly stepSequence: number;
  /** Index of the task whose step is running, "module" while the job's module is loaded, undefined while the slot is parked. */
  readonly currentTask: number | "module" | undefined;
  readonly tasks: readonly Readonly<Record<TaskCounterName, number>>[];
}

/** Reads all counters of a slot. */
export function readSlotCounters(shared: SharedArrayBuffer, taskCount: number): SlotCountersView {
  const cells = new Float64Array(shared);
  const current = cells[CURRENT_TASK] as number;
  const tasks: Record<TaskCounterName, number>[] = [];
  for (let task = 0; task < taskCount; task += 1) {
    const base = HEADER_FIELDS + task * TASK_COUNTERS.length;
    tasks.push(
      Object.fromEntries(TASK_COUNTERS.map((name, i) => [name, cells[base + i] as number])) as Record<
        TaskCounterName,
        number
      >,
    );
  }
  const currentTask = current === PARKED ? undefined : current === MODULE ? "module" : current - 1;
  return { stepSequence: cells[STEP_SEQUENCE] as number, currentTask, tasks };
}
