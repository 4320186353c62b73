// What a job's operators declare as their state, without running: for comparing a job with a snapshot.
//
// Invariants:
//   JS1. Plain JSON: it crosses process borders.
//
// Not here: finding it out (task/declared-states.ts), comparing it (checkpoint/compatibility.ts).

import type { OperatorStateMode } from "./checkpoint.ts";
import type { StateTtlConfig, StoredStateKind } from "./state.ts";
import type { TypeDescriptor } from "./type-descriptor.ts";

/** One state of an operator: as its function declares it, or as a snapshot holds it. */
export type StateSchema =
  | {
      readonly name: string;
      readonly kind: StoredStateKind;
      /** Of the whole: LIST and MAP for lists and maps, the accumulator, INSTANT for timers. */
      readonly valueType: TypeDescriptor;
      /** Of a snapshot: what it is keyed by. */
      readonly keyType?: TypeDescriptor;
      /** Null: kept until it is cleared. */
      readonly ttl: StateTtlConfig | null;
    }
  | {
      readonly name: string;
      readonly kind: "operator-list";
      readonly mode: OperatorStateMode;
      /** null: JSON or bytes as the operator likes. */
      readonly itemType: TypeDescriptor | null;
    };

/** What one operator of a job declares. */
export interface OperatorSchema {
  readonly uid: string;
  readonly name: string;
  /** Of keyed operators. */
  readonly keyType: TypeDescriptor | null;
  /**
   * opened: `states` are all that it declares in open(). connector: a source or a sink, which is not opened, since that could touch its
   * input or output. failed: open() threw; `problem` says what.
   */
  readonly asked: "opened" | "connector" | "failed";
  readonly problem: string | null;
  readonly states: readonly StateSchema[];
}
