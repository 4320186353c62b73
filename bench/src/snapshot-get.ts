// How much of a large snapshot is read to get one key of it. Writes a snapshot of keyed state with the runtime's own code to a file store,
// then opens it anew for every key, and counts bytes and requests at the store's seam. The last line is JSON.
//
//   node bench/src/snapshot-get.ts [--mb 1000] [--parallelism 4] [--value-bytes 1000] [--keys 50]
//
// The snapshot lies in a temporary directory, which is removed.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

import { crc32c, hashLong, keyGroupOf, keyGroupRange, SeededRng } from "@sluice/kit";
import type { ObjectStore } from "@sluice/kit/env";
import { openObjectStore } from "@sluice/kit/env/node";
import { writeCheckpointMetadata } from "@sluice/runtime/internal/checkpoint";
import { findState, keyedDescription, openSnapshot, readKey } from "@sluice/runtime/internal/inspect";
import { Types, ValueStateDescriptor } from "@sluice/runtime/internal/model";
import type { CheckpointId, CheckpointMetadata, PartHandle } from "@sluice/runtime/internal/model";
import { HeapKeyedStateBackend } from "@sluice/runtime/internal/state";

const MAX_PARALLELISM = 128;

interface Options {
  readonly mb: number;
  readonly parallelism: number;
  readonly valueBytes: number;
  readonly keys: number;
}

function optionsOf(args: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      mb: { type: "string", default: "1000" },
      parallelism: { type: "string", default: "4" },
      "value-bytes": { type: "string", default: "1000" },
      keys: { type: "string", default: "50" },
    },
  });
  const { mb, parallelism, "value-bytes": valueBytes, keys } = values;
  return { mb: Number(mb), parallelism: Number(parallelism), valueBytes: Number(valueBytes), keys: Number(keys) };
}

/** The value of a key: its number, repeated. */
function valueOf(key: number, valueBytes: number): Uint8Array {
  return new Uint8Array(valueBytes).fill(key & 0xff);
}

/** One part per subtask, each an object of its own. */
async function writeSnapshot(store: ObjectStore, options: Options, keyCount: number): Promise<number> {
  const { parallelism, valueBytes } = options;
  const subtasks: { readonly subtaskIndex: number; readonly finished: boolean; readonly parts: PartHandle[] }[] = [];
  let sizeBytes = 0;
  for (let subtaskIndex = 0; subtaskIndex < parallelism; subtaskIndex += 1) {
    const { first, last } = keyGroupRange(subtaskIndex, MAX_PARALLELISM, parallelism);
    const backend = new HeapKeyedStateBackend({
      keyType: { kind: "LONG" },
      keyGroups: [first, last],
      maxParallelism: MAX_PARALLELISM,
      uid: "bench",
      clock: { nowMs: () => performance.now(), wallMs: () => 0 },
    });
    const state = backend.getState(new ValueStateDescriptor("value", Types.BYTES()));
    for (let key = 0; key < keyCount; key += 1) {
      const group = keyGroupOf(hashLong(key), MAX_PARALLELISM);
      if (group < first || group > last) continue;
      backend.setCurrentKey(key, hashLong(key));
      state.update(valueOf(key, valueBytes));
    }
    const snapshot = backend.snapshot(1 as CheckpointId);
    while (!snapshot.step(1_000));
    const [part] = snapshot.parts();
    if (part === undefined) throw new Error("the state has a part");
    const bytes = Buffer.concat(part.chunks);
    const object = `chk-1/x-${subtaskIndex}`;
    await store.put(`job/${object}`, bytes);
    const { uid, stateName, kind, keyGroups, itemCount } = part;
    const place = { object, offset: 0, lengthBytes: bytes.length, crc32c: crc32c(bytes) };
    const range = {
      ...(keyGroups === undefined ? {} : { keyGroups }),
      ...(itemCount === undefined ? {} : { itemCount }),
    };
    subtasks.push({ subtaskIndex, finished: false, parts: [{ uid, stateName, kind, ...range, ...place }] });
    sizeBytes += bytes.length;
  }
  const metadata: CheckpointMetadata = {
    checkpointId: 1 as CheckpointId,
    kind: "checkpoint",
    base: "job",
    lineage: "bench",
    epoch: 1 as CheckpointMetadata["epoch"],
    attempt: 0 as CheckpointMetadata["attempt"],
    planDigest: "bench",
    timestampMs: 0,
    isFinal: false,
    vertices: [{ vertexId: "v", parallelism, maxParallelism: MAX_PARALLELISM, uids: ["bench"], subtasks }],
  };
  const bytes = writeCheckpointMetadata(metadata);
  await store.put("job/chk-1/_metadata", bytes);
  return sizeBytes + bytes.length;
}

/** Counts what is read through it. */
function counting(store: ObjectStore): {
  readonly store: ObjectStore;
  readonly read: { bytes: number; requests: number };
} {
  const read = { bytes: 0, requests: 0 };
  const count = (bytes: Uint8Array | undefined): Uint8Array | undefined => {
    read.bytes += bytes?.length ?? 0;
    read.requests += 1;
    return bytes;
  };
  const counted: ObjectStore = {
    uri: store.uri,
    get: async (path, signal) => count(await store.get(path, signal)),
    getRange: async (path, range, signal) => count(await store.getRange(path, range, signal)),
    put: (path, bytes, signal) => store.put(path, bytes, signal),
    putIfAbsent: (path, bytes, signal) => store.putIfAbsent(path, bytes, signal),
    stat: (path, signal) => store.stat(path, signal),
    list: (prefix, signal) => store.list(prefix, signal),
    remove: (path, signal) => store.remove(path, signal),
  };
  return { store: counted, read };
}

async function main(): Promise<void> {
  const options = optionsOf(process.argv.slice(2));
  const keyCount = Math.round((options.mb * 1e6) / (options.valueBytes + 10));
  const folder = mkdtempSync(join(tmpdir(), "sluice-bench-"));
  try {
    const store = await openObjectStore(pathToFileURL(folder).href);
    const sizeBytes = await writeSnapshot(store, options, keyCount);
    const rng = new SeededRng(7);
    const bytes: number[] = [];
    const millis: number[] = [];
    let requests = 0;
    for (let i = 0; i < options.keys; i += 1) {
      const { store: counted, read } = counting(store);
      const key = rng.below(keyCount);
      const startedMs = performance.now();
      const state = findState(await openSnapshot(counted, "job/chk-1"), { uid: "bench", stateName: "value" });
      const { found } = await readKey(state, await keyedDescription(state), key);
      millis.push(performance.now() - startedMs);
      const expected = Buffer.from(valueOf(key, options.valueBytes)).toString("base64");
      if (found?.value !== expected) throw new Error(`key ${key} was not found`);
      bytes.push(read.bytes);
      requests = Math.max(requests, read.requests);
    }
    const sorted = bytes.toSorted((a, b) => a - b);
    const result = {
      snapshotBytes: sizeBytes,
      parallelism: options.parallelism,
      entryCount: keyCount,
      readBytesMedian: sorted[sorted.length >> 1],
      readBytesMax: sorted.at(-1),
      requestsMax: requests,
      millisMedian: millis.toSorted((a, b) => a - b)[millis.length >> 1],
    };
    for (const [name, value] of Object.entries(result)) process.stdout.write(`${name.padEnd(18)} ${value}\n`);
    process.stdout.write(`${JSON.stringify(result)}\n`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

await main();
