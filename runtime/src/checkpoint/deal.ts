// Deals the operator state of one operator to its subtasks after a restore (Flink: RoundRobinOperatorStateRepartitioner).
//
// Invariants (tests cite them):
//   DE1. split: every item goes to exactly one subtask; the items that a subtask gets lie together, in the order of the old subtasks.
//        With n items over p subtasks each gets floor(n / p), and n % p of them one more; where those begin rotates with the state's
//        name, so that many small states do not all land on subtask 0. An unchanged parallelism leaves every item where it is.
//   DE2. union: every subtask gets all items. broadcast: subtask i keeps its copy, or gets that of old i % (number of copies).
//   DE3. Every subtask is given at least one part of every state that existed, though it may be without items: to an operator the
//        absence of a state means that it is new, and a source would begin again.
//
// Not here: keyed state, which operators there are (assign.ts).

import { assert, Failure } from "@sluice/kit";
import type { OperatorStateMode, PartHandle, RestorePart } from "../model/index.ts";

/** Parts by the subtask that gets them. */
type Dealt = readonly RestorePart[][];

interface Holder {
  readonly subtaskIndex: number;
  readonly part: PartHandle;
}

export interface DealOptions {
  readonly uid: string;
  /** Operator parts of this uid by old subtask; their number is the old parallelism. */
  readonly before: readonly (readonly PartHandle[])[];
  readonly parallelism: number;
}

/** One list of parts per new subtask. Failure STATE_INCOMPATIBLE or SNAPSHOT_DAMAGED. */
export function dealOperatorState({ uid, before, parallelism }: DealOptions): Dealt {
  const dealt: RestorePart[][] = Array.from({ length: parallelism }, () => []);
  const byName = new Map<string, Holder[]>();
  before.forEach((parts, subtaskIndex) => {
    for (const part of parts) {
      const holders = byName.get(part.stateName) ?? [];
      holders.push({ subtaskIndex, part });
      byName.set(part.stateName, holders);
    }
  });
  let start = 0;
  // The rotation must not depend on the order in which states were registered.
  for (const [stateName, holders] of [...byName].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const mode = modeOf(uid, stateName, holders);
    if (mode === "union") {
      for (const parts of dealt) parts.push(...holders.map(({ part }) => part)); // DE2
    } else if (mode === "broadcast") {
      dealt.forEach((parts, i) => parts.push(copyFor(holders, i))); // DE2
    } else if (before.length === parallelism) {
      for (const { subtaskIndex, part } of holders) dealt[subtaskIndex]?.push(part);
    } else {
      start = dealSplit({ uid, stateName, holders, dealt, start, oldParallelism: before.length });
    }
    const [first] = holders;
    assert(first !== undefined, "a name stands for at least one part");
    for (const parts of dealt) {
      if (!parts.some((part) => part.stateName === stateName)) parts.push({ ...first.part, items: [0, 0] }); // DE3
    }
  }
  return dealt;
}

function modeOf(uid: string, stateName: string, holders: readonly Holder[]): OperatorStateMode {
  const modes = new Set(holders.map(({ part }) => part.mode ?? "split"));
  const [mode] = modes;
  if (modes.size === 1 && mode !== undefined) return mode;
  throw new Failure("SNAPSHOT_DAMAGED", {
    retry: "never",
    message: `operator state "${stateName}" of operator "${uid}" is ${[...modes].join(" and ")} at the same time`,
    remedy: "restore another checkpoint",
  });
}

function copyFor(holders: readonly Holder[], subtaskIndex: number): PartHandle {
  const copy = holders.find((holder) => holder.subtaskIndex === subtaskIndex) ?? holders[subtaskIndex % holders.length];
  assert(copy !== undefined, "there is at least one copy");
  return copy.part;
}

/** DE1; returns where the next state begins. */
function dealSplit(options: {
  readonly uid: string;
  readonly stateName: string;
  readonly holders: readonly Holder[];
  readonly dealt: Dealt;
  readonly start: number;
  readonly oldParallelism: number;
}): number {
  const { uid, stateName, holders, dealt, start, oldParallelism } = options;
  const parallelism = dealt.length;
  const counts = holders.map(({ part }) => {
    if (part.itemCount !== undefined) return part.itemCount;
    throw new Failure("STATE_INCOMPATIBLE", {
      retry: "never",
      message:
        `operator state "${stateName}" of operator "${uid}" was written by a release that did not count its items: ` +
        `it cannot be dealt from ${oldParallelism} to ${parallelism} subtasks`,
      remedy: `run with parallelism ${oldParallelism} until the next checkpoint, then change it`,
    });
  });
  const total = counts.reduce((sum, count) => sum + count, 0);
  const base = Math.floor(total / parallelism);
  const remainder = total % parallelism;
  let holder = 0;
  let item = 0;
  let dealtCount = 0;
  for (let i = 0; i < parallelism; i += 1) {
    const parts = dealt[(start + i) % parallelism];
    let wanted = base + (i < remainder ? 1 : 0);
    dealtCount += wanted;
    while (wanted > 0) {
      const count = counts[holder] ?? 0;
      const part = holders[holder]?.part;
      assert(part !== undefined && parts !== undefined, "DE1: there are as many items as were counted");
      const take = Math.min(wanted, count - item);
      if (take > 0) parts.push(take === count ? part : { ...part, items: [item, item + take] });
      wanted -= take;
      item += take;
      if (item === count) {
        holder += 1;
        item = 0;
      }
    }
  }
  assert(dealtCount === total, "DE1: every item is dealt once");
  return (start + remainder) % parallelism;
}
