// State as user functions see it: descriptors and handles (Flink's names).
//
// Invariants:
//   ST1. A handle speaks of the current key only; outside a key scope it throws Failure STATE_ACCESS_INVALID.
//
// Not here: where the values live (state/).

import type { TypeInformation } from "./types.ts";

/** Names one keyed value of type T; `name` is unique within an operator. */
export class ValueStateDescriptor<T> {
  readonly name: string;
  readonly type: TypeInformation<T>;

  constructor(name: string, type: TypeInformation<T>) {
    this.name = name;
    this.type = type;
  }
}

/** One value per key (Flink: ValueState). */
export interface ValueState<T> {
  /** The value of the current key, or undefined when none was set. */
  value(): T | undefined;
  update(value: T): void;
  clear(): void;
}
