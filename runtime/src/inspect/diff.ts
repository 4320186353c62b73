// Two snapshots beside each other: states that came, went or changed, and, if asked for, the keys that differ.
//
// Invariants:
//   DF1. What is counted is complete; what is listed is bounded.
//   DF2. Keys are compared key group by key group: no more than one group of one state of both is held in memory.
//
// Not here: finding and opening the snapshots.

import { Failure } from "@sluice/kit";
import { describeType } from "../model/index.ts";
import type { JsonValue } from "../model/index.ts";
import { cellsToJson, keyPlacer, rowReader } from "../state/index.ts";
import type { KeyedPartDescription, PartDescription, RowCell } from "../state/index.ts";
import { valueToJson } from "../model/index.ts";
import { describeState } from "./stored-snapshot.ts";
import type { StoredSnapshot, StoredState } from "./stored-snapshot.ts";
import type { InspectProgress } from "./verify.ts";

export interface KeyDifference {
  readonly key: JsonValue;
  readonly change: "added" | "removed" | "changed";
  readonly before: JsonValue | undefined;
  readonly after: JsonValue | undefined;
}

export interface KeyDifferences {
  readonly added: number;
  readonly removed: number;
  readonly changed: number;
  readonly same: number;
  /** At most as many as asked for (DF1). */
  readonly listed: readonly KeyDifference[];
}

/** One state in both snapshots. */
export interface StateDifference {
  readonly uid: string;
  readonly stateName: string;
  readonly change: "added" | "removed" | "both";
  readonly before: StateFigures | undefined;
  readonly after: StateFigures | undefined;
  /** Undefined: not asked for, or `keysNotCompared` says why not. */
  readonly keys: KeyDifferences | undefined;
  readonly keysNotCompared: string | undefined;
}

export interface StateFigures {
  readonly type: string;
  readonly parallelism: number;
  readonly maxParallelism: number;
  readonly sizeBytes: number;
  readonly itemCount: number | undefined;
}

/** `value LONG keyed by STRING`, `operator state (union) of JSON`. */
export function describePart(description: PartDescription): string {
  if (description.section === "operator-list") {
    const { mode, itemType } = description;
    return `operator state (${mode})${itemType === null ? "" : ` of ${describeType(itemType)}`}`;
  }
  const { stateKind, valueType, keyType, ttl } = description;
  const what = stateKind === "timers" ? "timers" : `${stateKind} ${describeType(valueType)}`;
  return `${what} keyed by ${describeType(keyType)}${ttl === null ? "" : `, ttl ${ttl.ttlMs} ms`}`;
}

/** Compares all states; keys only with `keysMax`, the number of differing ones to list per state. */
export async function diffSnapshots(options: {
  readonly before: StoredSnapshot;
  readonly after: StoredSnapshot;
  readonly keysMax: number | undefined;
  readonly onProgress: (progress: InspectProgress) => void;
}): Promise<readonly StateDifference[]> {
  const { before, after, keysMax, onProgress } = options;
  const nameOf = (state: StoredState): string => JSON.stringify([state.uid, state.kind, state.stateName]);
  const afterStates = new Map(after.states.map((state) => [nameOf(state), state]));
  const pairs: (readonly [StoredState | undefined, StoredState | undefined])[] = before.states.map((state) => {
    const other = afterStates.get(nameOf(state));
    afterStates.delete(nameOf(state));
    return [state, other];
  });
  for (const state of afterStates.values()) pairs.push([undefined, state]);
  const totalBytes = [...before.states, ...after.states].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const differences: StateDifference[] = [];
  let doneBytes = 0;
  for (const [a, b] of pairs) {
    differences.push(await diffState(a, b, keysMax));
    doneBytes += (a?.sizeBytes ?? 0) + (b?.sizeBytes ?? 0);
    onProgress({ doneBytes, totalBytes });
  }
  return differences;
}

async function diffState(
  a: StoredState | undefined,
  b: StoredState | undefined,
  keysMax: number | undefined,
): Promise<StateDifference> {
  const state = a ?? b;
  if (state === undefined) throw new Failure("INTERNAL", { retry: "never", message: "a state of neither snapshot" });
  const { uid, stateName } = state;
  const before = a === undefined ? undefined : await figuresOf(a);
  const after = b === undefined ? undefined : await figuresOf(b);
  const change = before === undefined ? "added" : after === undefined ? "removed" : "both";
  const difference = { uid, stateName, change, before, after } as const;
  if (keysMax === undefined || a === undefined || b === undefined)
    return { ...difference, keys: undefined, keysNotCompared: undefined };
  const reason = await incomparable(a, b);
  if (reason !== undefined) return { ...difference, keys: undefined, keysNotCompared: reason };
  return { ...difference, keys: await diffKeys(a, b, keysMax), keysNotCompared: undefined };
}

async function figuresOf(state: StoredState): Promise<StateFigures> {
  const { parallelism, maxParallelism, sizeBytes, itemCount } = state;
  return { type: describePart(await describeState(state)), parallelism, maxParallelism, sizeBytes, itemCount };
}

async function incomparable(a: StoredState, b: StoredState): Promise<string | undefined> {
  const [x, y] = [await describeState(a), await describeState(b)];
  if (x.section === "operator-list" || y.section === "operator-list") return "it has no keys";
  if (describeType(x.keyType) !== describeType(y.keyType)) return "the key types differ";
  return a.maxParallelism === b.maxParallelism ? undefined : "the max parallelisms differ";
}

async function diffKeys(a: StoredState, b: StoredState, listedMax: number): Promise<KeyDifferences> {
  const counts = { added: 0, removed: 0, changed: 0, same: 0 };
  const listed: KeyDifference[] = [];
  for (let group = 0; group < a.maxParallelism; group += 1) {
    const [before, after] = [await contentsOf(a, group), await contentsOf(b, group)];
    for (const [name, old] of before) {
      const now = after.get(name);
      const change = now === undefined ? "removed" : now.text === old.text ? "same" : "changed";
      counts[change] += 1;
      if (change !== "same" && listed.length < listedMax)
        listed.push({ key: old.key, change, before: old.value, after: now?.value });
    }
    for (const [name, now] of after) {
      if (before.has(name)) continue;
      counts.added += 1;
      if (listed.length < listedMax)
        listed.push({ key: now.key, change: "added", before: undefined, after: now.value });
    }
  }
  return { ...counts, listed };
}

interface KeyValue {
  readonly key: JsonValue;
  readonly value: JsonValue;
  /** The value as text, times included. */
  readonly text: string;
}

/** Everything in one key group of a state, by the bytes of the keys (DF2). */
async function contentsOf(state: StoredState, group: number): Promise<ReadonlyMap<string, KeyValue>> {
  const cells = new Map<string, { readonly key: unknown; readonly cells: RowCell[] }>();
  let of: KeyedPartDescription | undefined;
  for (const part of state.parts) {
    const [first = 0, last = -1] = part.handle.keyGroups ?? [];
    if (group < first || group > last) continue;
    const { description, blocks } = await part.header();
    if (description.section === "operator-list") throw part.damaged("the part found there is no keyed state");
    of = description;
    const read = rowReader(description);
    const placer = keyPlacer(description);
    for (const row of blocks) {
      if (row.keyGroup !== group) continue;
      const block = await part.block(row);
      while (block.remaining > 0) {
        const found = read(block);
        const name = Buffer.from(placer(found.key).bytes).toString("latin1");
        const entry = cells.get(name) ?? { key: found.key, cells: [] };
        cells.set(name, entry);
        entry.cells.push(...found.cells);
      }
    }
  }
  const contents = new Map<string, KeyValue>();
  if (of === undefined) return contents;
  for (const [name, entry] of cells) {
    const value = cellsToJson(of, entry.cells);
    const times = entry.cells.map(({ timeMs }) => timeMs);
    contents.set(name, { key: valueToJson(of.keyType, entry.key), value, text: JSON.stringify([value, times]) });
  }
  return contents;
}
