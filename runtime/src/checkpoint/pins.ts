// Pins by which a start keeps what it continued from, until whoever started it says that the new version is good. Pure.
//
// Invariants:
//   SP1. A submission pins once, with its first claim: restarts add nothing.
//   SP2. They are bounded: the oldest (the last version that was good) and the newest stay.
//   SP3. What a pin that goes has kept, and nothing else keeps, is condemned with the same record.
//
// Not here: pins of people (store-admin.ts), of replaced lineages (commit-log.ts), of other jobs (origin.ts).

import type { CheckpointId } from "../model/index.ts";
import type { CheckpointPin, CommitRecord } from "./types.ts";

export const START_PINS_MAX = 16;
const HOLDER_PREFIX = "start:";

/** Holder of the pin of a submission. */
export function startHolder(submission: string): string {
  return `${HOLDER_PREFIX}${submission}`;
}

export function isStartPin(pin: Pick<CheckpointPin, "holder">): boolean {
  return pin.holder.startsWith(HOLDER_PREFIX);
}

/** What a claim that continues `previous` makes of pins (SP1, SP2). */
export function pinnedForStart(previous: CommitRecord, submission: string): Pick<CommitRecord, "pins" | "condemned"> {
  const { head, pins, condemned } = previous;
  if (head === null || previous.submission === submission) return { pins, condemned };
  const pin: CheckpointPin = { ref: head, holder: startHolder(submission), expiresAtMs: null };
  const own = [...pins.filter(isStartPin), pin];
  const dropped = new Set(own.slice(1, -(START_PINS_MAX - 1)));
  return kept({ ...previous, pins: [...pins, pin] }, (one) => !dropped.has(one));
}

/** Takes pins of starts back: those of `holder`, or all of them (SP3). */
export function withoutStartPins(
  previous: CommitRecord,
  holder: string | null,
): Pick<CommitRecord, "pins" | "condemned"> {
  return kept(previous, (pin) => !isStartPin(pin) || (holder !== null && pin.holder !== holder));
}

function kept(record: CommitRecord, stays: (pin: CheckpointPin) => boolean): Pick<CommitRecord, "pins" | "condemned"> {
  const pins = record.pins.filter(stays);
  const needed = new Set<CheckpointId>([...record.retained, ...pins.map(({ ref }) => ref)].map(({ id }) => id));
  if (record.head !== null) needed.add(record.head.id);
  const freed = record.pins
    .filter((pin) => !stays(pin) && pin.ref.kind === "checkpoint") // a savepoint is its owner's (CL7)
    .map(({ ref }) => ref.id)
    .filter((id) => !needed.has(id));
  const condemned = [...new Set([...record.condemned, ...freed])].sort((a, b) => a - b);
  return { pins, condemned };
}
