// Which channel of an edge a record goes to, compiled per edge.
//
// Invariants (tests cite them by name):
//   EM1. HASH: a record goes to the subtask that owns the key group of its key (kit/hash.ts H3); its hash travels with it.
//   EM2. REBALANCE and RESCALE take turns over the channels, starting at the sender's own place; FORWARD and GLOBAL know one channel.
//   EM3. BROADCAST: every channel gets every record, in the same order.
//   EM4. CUSTOM: a partitioner that names no channel is a failure of the user's function; the record is not sent.
//   EM5. Per record: no allocation, no lookup by name. Equal sources would share type feedback, so every instance is compiled from a text
//        of its own; where code generation is disallowed the same exists as closures.
//
// Not here: what a channel does with the record (output-channel.ts), barriers, which go to all channels (record-writer.ts).

import { assert, Failure, keyGroupOf, subtaskOfKeyGroup } from "@sluice/kit";
import type { KeyHasher, Partitioner } from "../model/index.ts";
import type { CodecMode } from "./codec/codec.ts";
import { edgeKeyHasher } from "./codec/key-hash.ts";
import type { RowWriter } from "./codec/row-codec.ts";
import type { RecordWriterOptions } from "./contracts.ts";

export type Emit = (record: unknown) => void;
/** Takes a record that the writer of channel `target` had no room for. */
export type Overflow = (target: number, record: unknown, hash: number) => void;

/** What every kind of edge needs. `writers` may be replaced in place while the edge lives. */
interface Parts {
  readonly writers: readonly RowWriter[];
  readonly overflow: Overflow;
  readonly mode: CodecMode;
}

type Routing = Pick<
  RecordWriterOptions,
  "partitioning" | "keySelector" | "keyType" | "partitioner" | "maxParallelism" | "subtaskIndex" | "edge"
>;

/** Makes the `emit` of one edge. */
export function makeEmit(routing: Routing, parts: Parts): Emit {
  const { partitioning, keySelector, keyType, partitioner, maxParallelism, subtaskIndex, edge } = routing;
  const count = parts.writers.length;
  switch (partitioning) {
    case "HASH": {
      assert(keySelector !== undefined && keyType !== undefined, "a HASH edge has a key selector and a key type");
      const targets = Int32Array.from({ length: maxParallelism }, (_, keyGroup) =>
        subtaskOfKeyGroup(keyGroup, maxParallelism, count),
      );
      return hashed(parts, { keySelector, hashOf: edgeKeyHasher(keyType, edge), targets, maxParallelism });
    }
    case "CUSTOM":
      assert(
        keySelector !== undefined && partitioner !== undefined,
        "a CUSTOM edge has a key selector and a partitioner",
      );
      return custom(parts, keySelector, checkedPartitioner(partitioner, count, edge));
    case "BROADCAST":
      return toAll(parts);
    case "SHUFFLE":
      return count === 1 ? inTurns(parts, 1, 0) : byChance(parts, subtaskIndex);
    case "GLOBAL":
      return inTurns(parts, 1, 0);
    case "FORWARD":
    case "REBALANCE":
    case "RESCALE":
      return inTurns(parts, count, subtaskIndex % count);
  }
}

let instances = 0;

/** `body` is the function's text, with `write(target, hash)` for the call; the bindings are its free variables. */
function compile(kind: string, bindings: Readonly<Record<string, unknown>>, setup: string, body: string): Emit {
  instances += 1;
  // oxlint-disable-next-line typescript/no-implied-eval -- one function per edge (EM5)
  const make = new Function(
    ...Object.keys(bindings),
    `"use strict"; // ${kind} emit ${instances}
${setup}
return function emit(record) {
  ${body}
};`,
  ) as (...values: readonly unknown[]) => Emit;
  return make(...Object.values(bindings));
}

interface Hashing {
  readonly keySelector: (record: unknown) => unknown;
  readonly hashOf: KeyHasher;
  readonly targets: Int32Array;
  readonly maxParallelism: number;
}

function hashed({ writers, overflow, mode }: Parts, hashing: Hashing): Emit {
  const { keySelector, hashOf, targets, maxParallelism: m } = hashing;
  if (mode === "interpreted") {
    return (record) => {
      const hash = hashOf(keySelector(record));
      const target = targets[keyGroupOf(hash, m)] as number;
      if (!(writers[target] as RowWriter).tryWrite(record, hash)) overflow(target, record, hash);
    };
  }
  const keyGroup = (m & (m - 1)) === 0 ? `hash & ${m - 1}` : `(hash >>> 0) % ${m}`;
  return compile(
    "HASH",
    { writers, keySelector, hashOf, targets, overflow },
    "",
    `const hash = hashOf(keySelector(record));
  const target = targets[${keyGroup}];
  if (!writers[target].tryWrite(record, hash)) overflow(target, record, hash);`,
  );
}

/** EM2. */
function inTurns({ writers, overflow, mode }: Parts, count: number, first: number): Emit {
  let next = first;
  if (mode === "interpreted") {
    return (record) => {
      const target = next;
      next = target === count - 1 ? 0 : target + 1;
      if (!(writers[target] as RowWriter).tryWrite(record, 0)) overflow(target, record, 0);
    };
  }
  const turn = `const target = next; next = target === ${count - 1} ? 0 : target + 1;`;
  return compile(
    "REBALANCE",
    { writers, overflow },
    `let next = ${first};`,
    `${count === 1 ? "const target = 0;" : turn}
  if (!writers[target].tryWrite(record, 0)) overflow(target, record, 0);`,
  );
}

/** A xorshift of 32 bits: chance here means an even spread without a pattern, and the same one in every run. */
function byChance({ writers, overflow, mode }: Parts, subtaskIndex: number): Emit {
  const count = writers.length;
  let state = Math.imul(subtaskIndex + 1, 0x9e3779b1) | 1;
  if (mode === "interpreted") {
    return (record) => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      const target = (state >>> 0) % count;
      if (!(writers[target] as RowWriter).tryWrite(record, 0)) overflow(target, record, 0);
    };
  }
  return compile(
    "SHUFFLE",
    { writers, overflow },
    `let state = ${state};`,
    `state ^= state << 13; state ^= state >>> 17; state ^= state << 5;
  const target = (state >>> 0) % ${count};
  if (!writers[target].tryWrite(record, 0)) overflow(target, record, 0);`,
  );
}

/** EM3. The channels of an edge have one codec state: a record that one refuses is refused by the first, before any got it. */
function toAll({ writers, overflow, mode }: Parts): Emit {
  const count = writers.length;
  if (mode === "interpreted") {
    return (record) => {
      for (let target = 0; target < count; target += 1)
        if (!(writers[target] as RowWriter).tryWrite(record, 0)) overflow(target, record, 0);
    };
  }
  return compile(
    "BROADCAST",
    { writers, overflow },
    "",
    `for (let target = 0; target < ${count}; target += 1)
    if (!writers[target].tryWrite(record, 0)) overflow(target, record, 0);`,
  );
}

function custom({ writers, overflow, mode }: Parts, select: (record: unknown) => unknown, place: Place): Emit {
  if (mode === "interpreted") {
    return (record) => {
      const target = place(select(record));
      if (!(writers[target] as RowWriter).tryWrite(record, 0)) overflow(target, record, 0);
    };
  }
  return compile(
    "CUSTOM",
    { writers, overflow, select, place },
    "",
    `const target = place(select(record));
  if (!writers[target].tryWrite(record, 0)) overflow(target, record, 0);`,
  );
}

type Place = (key: unknown) => number;

/** EM4. */
function checkedPartitioner(partitioner: Partitioner<unknown>, count: number, edge: string): Place {
  return (key) => {
    const target = partitioner(key, count);
    if (Number.isInteger(target) && target >= 0 && target < count) return target;
    throw new Failure("USER_FUNCTION_FAILED", {
      retry: "never",
      message: `the partitioner of ${edge} returned ${String(target)} for ${count} partitions`,
      remedy: "return a whole number from 0 to numPartitions - 1",
    });
  };
}
