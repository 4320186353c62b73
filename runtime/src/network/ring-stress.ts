// Two real threads on one channel: does what a producer wrote before `publish` arrive whole on another core, and does nobody sleep
// through a wake-up? A program of its own (`node ring-stress.ts <rows>`), run by ring.test.ts; prints one JSON line.
//
// The producer writes rows [i, i * 3, text of i] through a RecordWriter into a small ring, flushing at odd moments and parking on its
// bell without credit; the consumer checks every row, pauses now and then, and parks on its bell when there is nothing. A lost wake-up
// shows as a hang, which the test's timeout finds: all waits are without time limit.

import { isMainThread, Worker, workerData, parentPort } from "node:worker_threads";
import type { TypeDescriptor } from "../model/index.ts";
import { Doorbell } from "./doorbell.ts";
import { InputGate } from "./input-gate.ts";
import { RecordWriter } from "./record-writer.ts";
import { allocateRing, RingConsumer, RingProducer } from "./ring.ts";

interface Shared {
  readonly role: "producer" | "consumer";
  readonly ring: SharedArrayBuffer;
  readonly producerBell: SharedArrayBuffer;
  readonly consumerBell: SharedArrayBuffer;
  readonly rowsMin: number;
}

interface Result {
  readonly rows: number;
  readonly waits: number;
  readonly mismatches: number;
}

const ROW: TypeDescriptor = { kind: "TUPLE", fields: [{ kind: "LONG" }, { kind: "DOUBLE" }, { kind: "STRING" }] };

async function produce(shared: Shared): Promise<Result> {
  const own = new Doorbell(shared.producerBell);
  const writer = new RecordWriter({
    channels: [new RingProducer(shared.ring, new Doorbell(shared.consumerBell))],
    partitioning: "FORWARD",
    type: ROW,
    maxParallelism: 1,
    subtaskIndex: 0,
    edge: "stress",
  });
  let rows = 0;
  let waits = 0;
  const drained = async (): Promise<void> => {
    for (;;) {
      const seen = own.sequence();
      if (writer.drain()) return;
      waits += 1;
      await own.waitPast(seen, Infinity);
    }
  };
  while (rows < shared.rowsMin) {
    for (let i = 0; i < 50; i += 1) {
      writer.emit([rows, rows * 3, rows % 5 === 0 ? `ünïcode ☃ ${rows}` : `row ${rows}`]);
      rows += 1;
      if (rows % 7919 === 0) writer.broadcastBarrier({ checkpointId: rows as never, timestampMs: 0, isFinal: false });
      if (rows % 61 === 0) writer.flush();
    }
    if (!writer.available) await drained();
  }
  writer.broadcastEndOfData();
  await drained();
  return { rows, waits, mismatches: 0 };
}

async function consume(shared: Shared): Promise<Result> {
  const own = new Doorbell(shared.consumerBell);
  const gate = new InputGate({
    channels: [
      {
        ring: new RingConsumer(shared.ring, new Doorbell(shared.producerBell)),
        inputIndex: 0,
        type: ROW,
        edge: "stress",
        name: "stress",
      },
    ],
  });
  const blocked = new Uint8Array(1);
  let rows = 0;
  let waits = 0;
  let mismatches = 0;
  for (;;) {
    const seen = own.sequence();
    const channel = gate.nextReady(blocked);
    if (channel < 0) {
      waits += 1;
      await own.waitPast(seen, Infinity);
      continue;
    }
    const head = gate.head(channel);
    if (head.kind === "END_OF_DATA") return { rows, waits, mismatches };
    if (head.kind === "BARRIER" && (head.barrier?.checkpointId as number) !== rows) mismatches += 1;
    for (; head.cursor < head.rowCount; head.cursor += 1) {
      const [n, triple, text] = head.reader.read(head.cursor) as [number, number, string];
      if (n !== rows || triple !== n * 3 || text !== (n % 5 === 0 ? `ünïcode ☃ ${n}` : `row ${n}`)) mismatches += 1;
      rows += 1;
    }
    gate.consume(channel);
    // Every now and then the consumer is slow, so that the producer runs out of credit.
    if (rows % 16 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
}

if (isMainThread) {
  const common = {
    ring: allocateRing({ slotCount: 4, slotBytes: 1024 }),
    producerBell: Doorbell.allocate(),
    consumerBell: Doorbell.allocate(),
    rowsMin: Number(process.argv[2] ?? 1_000_000),
  };
  const run = (role: Shared["role"]): Promise<Result> =>
    new Promise((resolve, reject) => {
      const shared: Shared = { ...common, role };
      const worker = new Worker(new URL(import.meta.url), { workerData: shared });
      worker.on("message", resolve);
      worker.on("error", reject);
    });
  const [produced, consumed] = await Promise.all([run("producer"), run("consumer")]);
  const mismatches = consumed.mismatches + (produced.rows === consumed.rows ? 0 : 1);
  process.stdout.write(
    `${JSON.stringify({ rows: consumed.rows, waits: produced.waits + consumed.waits, mismatches })}\n`,
  );
} else {
  const shared = workerData as Shared;
  const port = parentPort;
  if (port === null) throw new Error("a worker has a port");
  // Holds the loop while waitAsync, which does not, is all there is to wait for.
  port.on("message", () => {});
  port.postMessage(await (shared.role === "producer" ? produce(shared) : consume(shared)));
  port.close();
}
