// Fault points: the numbered steps of the commit protocol, where a test harness may end the process for good.
//
// Invariants:
//   FP1. Without a harness that asked for it at process start a fault point does nothing.
//   FP2. Fault points stand on control paths only (per append, per checkpoint), never per record.
//
// Not here: how a process ends (runtime/bin/fault-switch.ts), the steps themselves (docs/internals/commit-log.md).

/** `before`: what the step does has not been asked for; `after`: it is known to have happened, and nothing was made of it. */
export const FAULT_POINTS = [
  "P0-before-append",
  "P0-after-append",
  "P1-before-append",
  "P1-after-append",
  "P2-triggered",
  "P2-first-ack",
  "P3-before-put",
  "P3-after-put",
  "P4-before-append",
  "P4-after-append",
  "P5-before-notify",
  "P5-after-notify",
  "P6-before-delete",
  "P6-during-delete",
  "P6-after-delete",
] as const;

export type FaultPoint = (typeof FAULT_POINTS)[number];

let onReached: ((point: FaultPoint) => void) | undefined;

/** Called by process shells only. */
export function watchFaultPoints(reached: (point: FaultPoint) => void): void {
  onReached = reached;
}

/** The process is at this step now. */
export function faultPoint(point: FaultPoint): void {
  onReached?.(point);
}
