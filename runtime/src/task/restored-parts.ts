// What a task was given to restore, read: keyed parts as bytes, operator state as items by operator and name.
//
// Invariants:
//   RP1. Items of one state come in the order of the parts; a state of which this task was dealt nothing is there, empty.
//   RP2. Items of one state are all of one type: subtasks of which only some declared an evolved state have stored others, and reading
//        those as if they were the same could give wrong values instead of a failure.
//
// Not here: who gets which part (checkpoint/assign), what is inside a keyed part (state/).

import { assert, Failure } from "@sluice/kit";
import { describeType, sameType } from "../model/index.ts";
import type {
  OperatorStateContent,
  OperatorStateItem,
  PartsRead,
  RestorePart,
  SlotPort,
  TypeDescriptor,
} from "../model/index.ts";
import { decodeOperatorState, type RestoredPart } from "../state/index.ts";

export interface RestoredParts {
  readonly keyed: readonly RestoredPart[];
  /** By operator uid, then state name. */
  readonly operator: ReadonlyMap<string, ReadonlyMap<string, OperatorStateContent>>;
  /** Where they came from. */
  readonly read: PartsRead;
}

interface GrowingState extends OperatorStateContent {
  itemType?: TypeDescriptor;
  readonly items: OperatorStateItem[];
}

/** Rejects with the failures of the port, SNAPSHOT_DAMAGED, or FORMAT_UNSUPPORTED. */
export async function readRestoredParts(
  parts: readonly RestorePart[],
  port: Pick<SlotPort, "fetchParts">,
): Promise<RestoredParts> {
  const isWanted = ({ items }: RestorePart): boolean => items === undefined || items[0] < items[1];
  const fetched = await port.fetchParts(parts.filter(isWanted));
  const contents = fetched.contents.values();
  const keyed: RestoredPart[] = [];
  const operator = new Map<string, Map<string, GrowingState>>();
  for (const part of parts) {
    const bytes = isWanted(part) ? contents.next().value : undefined;
    assert(bytes !== undefined || !isWanted(part), "every requested part was fetched");
    const { uid, stateName, keyGroups } = part;
    if (part.kind === "keyed") {
      assert(keyGroups !== undefined && bytes !== undefined, "a keyed part names its key groups");
      keyed.push({ stateName, keyGroups, bytes });
      continue;
    }
    const states = operator.get(uid) ?? new Map<string, GrowingState>();
    operator.set(uid, states);
    const state: GrowingState = states.get(stateName) ?? { mode: part.mode ?? "split", items: [] };
    states.set(stateName, state); // RP1
    if (bytes === undefined) continue;
    const where = `operator state "${stateName}" of operator uid ${uid} in ${part.object}`;
    const { description, items } = decodeOperatorState(bytes, where);
    const [from, to] = part.items ?? [0, items.length];
    const dealt = items.slice(from, to);
    const itemType = description.itemType ?? undefined;
    if (state.items.length > 0) {
      if (dealt.length === 0) continue;
      if (!isSame(state.itemType, itemType)) throw severalTypes(where, state.itemType, itemType);
    }
    if (itemType === undefined) delete state.itemType;
    else state.itemType = itemType;
    for (const item of dealt) state.items.push(item);
  }
  return { keyed, operator, read: fetched.read };
}

function isSame(a: TypeDescriptor | undefined, b: TypeDescriptor | undefined): boolean {
  return a === undefined || b === undefined ? a === b : sameType(a, b);
}

/** RP2. */
function severalTypes(where: string, a: TypeDescriptor | undefined, b: TypeDescriptor | undefined): Failure {
  const name = (type: TypeDescriptor | undefined): string =>
    type === undefined ? "data of its own" : describeType(type);
  return new Failure("STATE_INCOMPATIBLE", {
    retry: "never",
    message: `${where}: some subtasks have stored ${name(a)}, this one ${name(b)}`,
    remedy: "run at the parallelism of the snapshot, and declare the state in every subtask, until the next checkpoint",
  });
}
