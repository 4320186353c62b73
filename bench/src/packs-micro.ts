// One TaskManager's I/O alone: snapshots of many subtasks into packs and back, from its own copies and from the store.
//
//   npm run bench -- packs [--subtasks 64] [--parts 4] [--part-size 2 mb] [--rounds 5] [--store file:///dir]
//
// Shows the bound of objects per checkpoint, and that reading local copies is not slower than reading the store.
//
// Not here: encoding state (state-micro.ts), other processes.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

import { formatBytes, parseBytes, SeededRng } from "@sluice/kit";
import { NodeClock, NodeDisk, NodeHost, NodeLog, NodeTimers, openObjectStore } from "@sluice/kit/env/node";
import { cachedOpener } from "@sluice/runtime/internal/checkpoint";
import type {
  AttemptNumber,
  CheckpointAck,
  CheckpointId,
  Epoch,
  FetchedParts,
  PartHandle,
} from "@sluice/runtime/internal/model";
import { IoService, LINGER_MS, PACK_BYTES } from "@sluice/runtime/internal/taskmanager/io";

const { values } = parseArgs({
  options: {
    subtasks: { type: "string", default: "64" },
    parts: { type: "string", default: "4" },
    "part-size": { type: "string", default: "2 mb" },
    rounds: { type: "string", default: "5" },
    store: { type: "string" },
  },
});
const subtaskCount = Number(values.subtasks);
const partCount = Number(values.parts);
const partBytes = parseBytes(values["part-size"], "--part-size");
const totalBytes = subtaskCount * partCount * partBytes;
const EPOCH = 1 as Epoch;
const ORIGIN = { epoch: EPOCH, attempt: 0 as AttemptNumber };
const JOB_DIR = "bench/packs";

const folder = mkdtempSync(join(tmpdir(), "sluice-packs-"));
const store = await openObjectStore(values.store ?? pathToFileURL(join(folder, "store")).href);
const log = new NodeLog({ level: "warn", format: "pretty", fields: {} });
const acks: CheckpointAck[] = [];
let onAck = (): void => {};
let onCopies = (_count: number): void => {};

function service(readsFirst: boolean): IoService {
  return new IoService({
    env: { clock: new NodeClock(), timers: new NodeTimers(), rng: new SeededRng(1), log, host: new NodeHost({ log }) },
    store,
    openStore: cachedOpener((uri) => openObjectStore(uri)),
    localCopies: { disks: [new NodeDisk(join(folder, "local"))], bytesMax: 4 * totalBytes, readsFirst },
    send: (event) => {
      if (event.type === "declined") throw new Error(event.decline.message);
      if (event.type === "objects") onCopies(event.objects.length);
      if (event.type !== "acknowledged") return;
      acks.push(event.ack);
      onAck();
    },
  });
}

function start(io: IoService, restoredCheckpointId: CheckpointId | null): void {
  io.onCommand({
    type: "attemptStarted",
    ...ORIGIN,
    taskManagerId: "tm-1",
    jobDir: JOB_DIR,
    restoreDir: JOB_DIR,
    restoreStore: null,
    subtaskCount,
    restoredCheckpointId,
  });
}

/** Bytes that do not repeat, the same for every round. */
const content = new Uint8Array(partBytes).map((_, i) => (Math.imul(i, 2_654_435_761) >>> 13) & 0xff);

async function takeCheckpoint(io: IoService, id: CheckpointId): Promise<number> {
  acks.length = 0;
  const all = new Promise<void>((resolve) => {
    onAck = () => {
      if (acks.length === subtaskCount) resolve();
    };
  });
  const startedMs = performance.now();
  for (let subtaskIndex = 0; subtaskIndex < subtaskCount; subtaskIndex += 1) {
    const request = {
      type: "submit",
      submission: {
        checkpointId: id,
        ...ORIGIN,
        subtask: { vertexId: "v", subtaskIndex },
        parts: Array.from({ length: partCount }, (_, group) => ({
          uid: "state",
          stateName: `s${group}`,
          kind: "keyed" as const,
          keyGroups: [subtaskIndex, subtaskIndex] as const,
          chunks: [content],
        })),
        finished: false,
        stats: { startDelayMs: 0, alignmentMs: 0, syncMs: 0, asyncMs: 0, stateSizeBytes: partCount * partBytes },
      },
    } as const;
    io.onSlotRequest(ORIGIN, request, () => {});
  }
  await all;
  return performance.now() - startedMs;
}

/** The copies are written beside the uploads; a disk that does not keep up has fewer of them. */
async function untilCopied(io: IoService, count: number): Promise<void> {
  let [held, unchangedCount] = [-1, 0];
  while (held < count && unchangedCount < 3) {
    const answer = new Promise<number>((resolve) => (onCopies = resolve)); // waits for copies that are under way
    io.onCommand({ type: "listLocalCopies", requestId: 1 });
    const now = await answer;
    unchangedCount = now === held ? unchangedCount + 1 : 0;
    held = now;
  }
}

function fetchParts(io: IoService, parts: readonly PartHandle[]): Promise<FetchedParts> {
  return new Promise((resolve, reject) => {
    io.onSlotRequest(ORIGIN, { type: "fetch", requestId: 1, parts }, (reply) => {
      if (reply.type === "fetched") resolve(reply.fetched);
      else reject(new Error(reply.failure.message));
    });
  });
}

/** Every subtask of half the parallelism reads what two had. */
async function restore(io: IoService, handles: readonly PartHandle[]): Promise<{ ms: number; localBytes: number }> {
  const startedMs = performance.now();
  const of = (reader: number): PartHandle[] =>
    handles.filter(({ keyGroups }) => Math.floor((keyGroups?.[0] ?? 0) / 2) === reader);
  const read = await Promise.all(
    Array.from({ length: Math.ceil(subtaskCount / 2) }, (_, reader) => fetchParts(io, of(reader))),
  );
  const localBytes = read.reduce((sum, fetched) => sum + fetched.read.localBytes, 0);
  return { ms: performance.now() - startedMs, localBytes };
}

function spread(times: readonly number[]): string {
  const sorted = times.toSorted((a, b) => a - b);
  const rate = (ms: number | undefined): string => `${Math.round(totalBytes / 2 ** 20 / ((ms ?? Number.NaN) / 1_000))}`;
  const middle = sorted[sorted.length >>> 1];
  return `${Math.round(middle ?? Number.NaN)} ms, ${rate(middle)} MiB/s (${rate(sorted.at(-1))} to ${rate(sorted[0])})`;
}

try {
  const stored: number[] = [];
  const local: number[] = [];
  const fromStore: number[] = [];
  const localShare: number[] = [];
  let objects = 0;
  const rounds = Number(values.rounds);
  console.log(
    `${subtaskCount} subtasks, ${formatBytes(totalBytes)} in ${subtaskCount * partCount} parts, ${store.uri}`,
  );
  for (let round = 1; round <= rounds; round += 1) {
    const id = round as CheckpointId;
    const io = service(true);
    start(io, null);
    stored.push(await takeCheckpoint(io, id));
    io.onCommand({ type: "checkpointCompleted", checkpointId: id });
    const handles = acks.flatMap(({ parts }) => parts);
    await untilCopied(io, new Set(handles.map(({ object }) => object)).size);
    objects = Math.max(objects, new Set(handles.map(({ object }) => object)).size);
    // Whoever is first pays for fresh memory: the order turns round with every round.
    const localFirst = round % 2 === 0;
    for (const readsFirst of [localFirst, !localFirst, !localFirst, localFirst]) {
      const times = readsFirst ? local : fromStore;
      const reader = service(readsFirst);
      start(reader, id);
      const { ms, localBytes } = await restore(reader, handles);
      if (localBytes > 0 !== readsFirst) throw new Error(`${localBytes} bytes were read locally`);
      if (readsFirst) localShare.push(localBytes / totalBytes);
      times.push(ms);
    }
  }
  const bound = Math.ceil(totalBytes / PACK_BYTES) + 2;
  console.log(
    `objects per checkpoint   ${objects}, bound ${bound} (packs of ${formatBytes(PACK_BYTES)}, linger ${LINGER_MS} ms)`,
  );
  console.log(`stored                   ${spread(stored)}`);
  const share = Math.round(Math.min(...localShare) * 100);
  console.log(`restored, local copies   ${spread(local)}; at least ${share} % of the bytes had one`);
  console.log(`restored, store          ${spread(fromStore)}`);
  if (objects > bound) process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit();
