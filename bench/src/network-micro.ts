// What a row costs between two operators: writer -> ring -> gate in one thread, rows per CPU-second for writing plus reading.
//
//   node bench/src/network-micro.ts [seconds per case]
//
// Every case sends records over a HASH edge to two channels and reads each row as a fresh value, as a task does. The inner loop
// alternates: fill the rings, empty them. One line per case and one JSON line at the end.
//
// Not here: threads, user code, state (the keyed-sum benchmark).

import type { TypeDescriptor, TypeInformation } from "@sluice/runtime/internal/model";
import { Types } from "@sluice/runtime/internal/model";
import {
  allocateRing,
  Doorbell,
  InputGate,
  RecordWriter,
  RingConsumer,
  RingProducer,
} from "@sluice/runtime/internal/network";

interface Case {
  readonly name: string;
  readonly type: TypeDescriptor;
  readonly keyType: TypeDescriptor;
  readonly keySelector: (record: unknown) => unknown;
  readonly records: readonly unknown[];
  /** Uses the fields of a row, so that reading it cannot be optimised away. */
  readonly consume: (record: unknown) => number;
}

const RECORDS = 4096;

function descriptor(type: TypeInformation<unknown>): TypeDescriptor {
  return type.descriptor;
}

function makeRecords(make: (i: number) => unknown): readonly unknown[] {
  return Array.from({ length: RECORDS }, (_, i) => make(i));
}

const cases: readonly Case[] = [
  {
    name: "TUPLE(LONG, LONG), LONG key",
    type: descriptor(Types.TUPLE(Types.LONG(), Types.LONG())),
    keyType: descriptor(Types.LONG()),
    keySelector: (record) => (record as number[])[0],
    records: makeRecords((i) => [(i * 7919) % 1000, i]),
    consume: (record) => {
      const pair = record as [number, number]; // indexed: destructuring an array goes through its iterator
      return pair[0] + pair[1];
    },
  },
  {
    name: "TUPLE(STRING, LONG), 1 k keys",
    type: descriptor(Types.TUPLE(Types.STRING(), Types.LONG())),
    keyType: descriptor(Types.STRING()),
    keySelector: (record) => (record as [string, number])[0],
    records: makeRecords((i) => [`customer-${String((i * 7919) % 1000).padStart(7, "0")}`, i]),
    consume: (record) => {
      const pair = record as [string, number];
      return pair[0].length + pair[1];
    },
  },
  {
    name: "TUPLE(STRING, LONG), 300 airports",
    type: descriptor(Types.TUPLE(Types.STRING(), Types.LONG())),
    keyType: descriptor(Types.STRING()),
    keySelector: (record) => (record as [string, number])[0],
    records: makeRecords((i) => [String.fromCharCode(65 + (i % 26), 65 + (i % 11), 65 + (i % 3)), i]),
    consume: (record) => {
      const pair = record as [string, number];
      return pair[0].length + pair[1];
    },
  },
  {
    name: "ROW of 6 fields",
    type: descriptor(
      Types.ROW({
        id: Types.LONG(),
        at: Types.INSTANT(),
        price: Types.DOUBLE(),
        count: Types.INT(),
        ok: Types.BOOLEAN(),
        origin: Types.STRING(),
      }),
    ),
    keyType: descriptor(Types.LONG()),
    keySelector: (record) => (record as { id: number }).id,
    records: makeRecords((i) => ({
      id: i,
      at: 1_700_000_000_000 + i,
      price: i / 7,
      count: i,
      ok: i % 2 === 0,
      origin: `A${i % 300}`,
    })),
    consume: (record) => {
      const row = record as { id: number; at: number; price: number; count: number; ok: boolean; origin: string };
      return row.id + row.at + row.price + row.count + row.origin.length + (row.ok ? 1 : 0);
    },
  },
  {
    name: "GENERIC, flat object",
    type: descriptor(Types.GENERIC()),
    keyType: descriptor(Types.LONG()),
    keySelector: (record) => (record as { key: number }).key,
    records: makeRecords((i) => ({ key: i % 1000, value: i, name: `n${i % 100}` })),
    consume: (record) => {
      const row = record as { key: number; value: number; name: string };
      return row.key + row.value + row.name.length;
    },
  },
];

/** Runs one case for about `seconds` of CPU after a warm-up. */
function run(test: Case, seconds: number): { readonly rowsPerCpuSecond: number; readonly checksum: number } {
  const bell = new Doorbell(Doorbell.allocate());
  const rings = [allocateRing(), allocateRing()];
  const writer = new RecordWriter({
    channels: rings.map((ring) => new RingProducer(ring, bell)),
    partitioning: "HASH",
    type: test.type,
    keySelector: test.keySelector,
    keyType: test.keyType,
    maxParallelism: 128,
    subtaskIndex: 0,
    edge: test.name,
  });
  const gate = new InputGate({
    channels: rings.map((ring, i) => ({
      ring: new RingConsumer(ring, bell),
      inputIndex: 0 as const,
      type: test.type,
      edge: test.name,
      name: `channel ${i}`,
    })),
  });
  const blocked = new Uint8Array(2);
  const { consume, records } = test;
  let checksum = 0;

  function turn(): void {
    for (let round = 0; round < 4 && writer.available; round += 1) for (const record of records) writer.emit(record);
    writer.flush();
    let sum = 0; // a local: adding to a captured variable would allocate per row
    for (let channel = gate.nextReady(blocked); channel >= 0; channel = gate.nextReady(blocked)) {
      const head = gate.head(channel);
      const { reader, rowCount } = head;
      for (let row = 0; row < rowCount; row += 1) sum += consume(reader.read(row));
      head.cursor = rowCount;
      gate.consume(channel);
    }
    checksum += sum;
    writer.drain();
  }

  const warmUpUntil = process.cpuUsage().user + 500_000;
  while (process.cpuUsage().user < warmUpUntil) turn();
  const rowsBefore = gate.rowsRead;
  const before = process.cpuUsage();
  let used = 0;
  do {
    for (let i = 0; i < 50; i += 1) turn();
    const now = process.cpuUsage(before);
    used = (now.user + now.system) / 1e6;
  } while (used < seconds);
  return { rowsPerCpuSecond: (gate.rowsRead - rowsBefore) / used, checksum };
}

const seconds = Number(process.argv[2] ?? 2);
const results: Record<string, number> = {};
for (const test of cases) {
  const { rowsPerCpuSecond, checksum } = run(test, seconds);
  results[test.name] = Math.round(rowsPerCpuSecond);
  console.log(
    `${test.name.padEnd(36)} ${(rowsPerCpuSecond / 1e6).toFixed(1).padStart(7)} M rows per CPU-second   (checksum ${checksum})`,
  );
}
console.log(JSON.stringify({ rowsPerCpuSecond: results }));
