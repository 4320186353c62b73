// Public module of runtime/task: building and running the tasks of one slot.

export { readSlotCounters, SlotCounters, slotCountersBytes, TASK_COUNTERS } from "./counters.ts";
export type { SlotCountersView, TaskCounterName } from "./counters.ts";
export { declaredStates } from "./declared-states.ts";
export { buildSlot } from "./slot-builder.ts";
export type { SlotEnvironment, SlotSettings } from "./slot-builder.ts";
export { SlotRunner } from "./slot-runner.ts";
export { ThreadSlotPort } from "./thread-port.ts";
export type { IoReply, IoRequest, PostingPort, SlotWorkerData } from "./thread-port.ts";
