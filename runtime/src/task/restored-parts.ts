// What a task was given to restore, read: keyed parts as bytes, operator state as items by operator and name.
//
// Invariants:
//   RP1. Items of one state come in the order of the parts; a state of which this task was dealt nothing is there, empty.
//
// Not here: who gets which part (checkpoint/assign), what is inside a keyed part (state/).

import { assert } from "@sluice/kit";
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
    if (description.itemType !== null) state.itemType = description.itemType;
    const [from, to] = part.items ?? [0, items.length];
    for (const item of items.slice(from, to)) state.items.push(item);
  }
  return { keyed, operator, read: fetched.read };
}
