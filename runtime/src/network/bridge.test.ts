// The bridge between two TaskManagers: over an in-memory network with random delays, and once over real sockets.

import { afterEach, describe, expect, test } from "@jest/globals";
import * as fc from "fast-check";
import { Failure, SeededRng } from "@sluice/kit";
import type { Clock, Conn, Listener, Net, Rng, Timers } from "@sluice/kit/env";
import { NodeNet } from "@sluice/kit/env/node";
import type { AttemptNumber, CheckpointId, Epoch, TypeDescriptor } from "../model/index.ts";
import { AttemptBridge } from "./attempt-bridge.ts";
import { DATA_PROTOCOL, MESSAGE_BYE, MESSAGE_HELLO, MESSAGE_PROOF, messageType, writeJson } from "./bridge-messages.ts";
import type { IncomingChannel, OutgoingChannel } from "./contracts.ts";
import { DataServer } from "./data-server.ts";
import { Doorbell } from "./doorbell.ts";
import { InputGate } from "./input-gate.ts";
import { UNSENT_BYTES_MAX } from "./outgoing-bridge.ts";
import { RecordWriter } from "./record-writer.ts";
import { allocateRing, RingConsumer, RingProducer } from "./ring.ts";

const ROW: TypeDescriptor = { kind: "TUPLE", fields: [{ kind: "LONG" }, { kind: "STRING" }] };
const SLOT_BYTES = 512;
const SLOT_COUNT = 4;

/** One turn of the event loop. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await turn();
}

/** Connections inside this process; every frame takes a random number of turns, order per direction is kept. */
class MemoryNet implements Net {
  readonly #rng: Rng;
  readonly #listeners = new Map<string, (conn: Conn) => void>();
  readonly conns: MemoryConn[] = [];

  constructor(rng: Rng) {
    this.#rng = rng;
  }

  listen(address: string, onConn: (conn: Conn) => void): Promise<Listener> {
    this.#listeners.set(address, onConn);
    return Promise.resolve({ address, close: () => void this.#listeners.delete(address) });
  }

  async connect(address: string): Promise<Conn> {
    await turn();
    const onConn = this.#listeners.get(address);
    if (onConn === undefined)
      throw new Failure("PEER_LOST", { retry: "backoff", message: `${address}: nobody listens` });
    const [near, far] = [new MemoryConn(this.#rng), new MemoryConn(this.#rng)];
    near.other = far;
    far.other = near;
    this.conns.push(near, far);
    onConn(far);
    return near;
  }
}

class MemoryConn implements Conn {
  readonly peer = "memory";
  other: MemoryConn | undefined;
  onFrame: (frame: Uint8Array) => void = () => {};
  onDrain: () => void = () => {};
  onClose: (reason: string) => void = () => {};
  unsentBytes = 0;
  unsentBytesSeenMax = 0;
  readonly sentTypes: number[] = [];
  readonly #rng: Rng;
  #queue: Promise<void> = Promise.resolve();
  #isStalled = false;
  #isClosed = false;

  constructor(rng: Rng) {
    this.#rng = rng;
  }

  send(frame: Uint8Array): boolean {
    if (this.#isClosed) return true;
    const copy = new Uint8Array(frame);
    this.sentTypes.push(messageType(copy));
    this.unsentBytes += copy.length;
    this.unsentBytesSeenMax = Math.max(this.unsentBytesSeenMax, this.unsentBytes);
    this.#later(() => {
      this.unsentBytes -= copy.length;
      this.other?.receive(copy);
      if (this.#isStalled && this.unsentBytes === 0) {
        this.#isStalled = false;
        this.onDrain();
      }
    });
    // A smaller mark than the bridge's own, so that both ways of stopping occur.
    this.#isStalled ||= this.unsentBytes > 4096;
    return !this.#isStalled;
  }

  receive(frame: Uint8Array): void {
    if (!this.#isClosed) this.onFrame(frame);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#later(() => {
      this.other?.break("closed by the peer");
      this.break("closed by this side");
    });
  }

  /** The end of this side. */
  break(reason: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.onClose(reason);
  }

  #later(run: () => void): void {
    const turns = this.#rng.below(3);
    this.#queue = this.#queue.then(async () => {
      for (let i = 0; i < turns; i += 1) await turn();
      run();
    });
  }
}

const clock: Clock = { nowMs: () => performance.now(), wallMs: () => 0 };
const timers: Timers = {
  after: (delayMs, _label, run) => {
    const timer = setTimeout(run, delayMs);
    return () => clearTimeout(timer);
  },
};

/** One channel with its slots on both sides. */
interface Channel {
  readonly writer: RecordWriter;
  readonly gate: InputGate;
  readonly outgoing: OutgoingChannel;
  readonly incoming: IncomingChannel;
}

interface Side {
  readonly id: string;
  readonly server: DataServer;
  readonly bell: Doorbell;
  readonly bridge: AttemptBridge;
  readonly broken: Failure[];
  readonly listen: () => Promise<void>;
  /** Listens unless it does, then starts the bridge. */
  readonly start: () => Promise<void>;
}

const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

function makeBell(): Doorbell {
  return new Doorbell(Doorbell.allocate());
}

/** Two TaskManagers "a" and "b" with channels in both directions. */
function makeWorld(options: {
  readonly net: Net;
  readonly rng: Rng;
  readonly addresses: { readonly a: string; readonly b: string };
  readonly channels: readonly { readonly from: "a" | "b"; readonly to: "a" | "b" }[];
  readonly secretOfB?: string;
  readonly attemptOfB?: number;
  readonly connectTimeoutMs?: number;
}): { readonly sides: { readonly a: Side; readonly b: Side }; readonly channels: readonly Channel[] } {
  const bells = { a: makeBell(), b: makeBell() };
  const channels = options.channels.map(({ from, to }, i): Channel & { readonly from: string; readonly to: string } => {
    const [sent, arrived] = [
      allocateRing({ slotCount: SLOT_COUNT, slotBytes: SLOT_BYTES }),
      allocateRing({ slotCount: SLOT_COUNT, slotBytes: SLOT_BYTES }),
    ];
    const slotBell = makeBell();
    const writer = new RecordWriter({
      channels: [new RingProducer(sent, bells[from])],
      partitioning: "FORWARD",
      type: ROW,
      maxParallelism: 1,
      subtaskIndex: 0,
      edge: `channel ${i}`,
    });
    const gate = new InputGate({
      channels: [
        { ring: new RingConsumer(arrived, bells[to]), inputIndex: 0, type: ROW, edge: "e", name: `channel ${i}` },
      ],
    });
    const channelKey = `0/${i}/0`;
    return {
      from,
      to,
      writer,
      gate,
      outgoing: { channelKey, ring: sent, slotBell, peer: to },
      incoming: { channelKey, ring: arrived, slotBell, peer: from },
    };
  });
  const peers = new Map<string, string>(Object.entries(options.addresses));
  const makeSide = (id: "a" | "b"): Side => {
    const broken: Failure[] = [];
    const server = new DataServer({
      net: options.net,
      listenAddress: options.addresses[id],
      taskManagerId: id,
      timers,
      rng: options.rng,
    });
    const bridge = new AttemptBridge({
      server,
      net: options.net,
      clock,
      timers,
      rng: options.rng,
      bell: bells[id],
      taskManagerId: id,
      epoch: 3 as Epoch,
      attempt: (id === "b" ? (options.attemptOfB ?? 1) : 1) as AttemptNumber,
      secret: new TextEncoder().encode(id === "b" ? (options.secretOfB ?? "secret") : "secret"),
      peers,
      outgoing: channels.filter((channel) => channel.from === id).map((channel) => channel.outgoing),
      incoming: channels.filter((channel) => channel.to === id).map((channel) => channel.incoming),
      connectTimeoutMs: options.connectTimeoutMs ?? 10_000,
      onBroken: (failure) => broken.push(failure),
    });
    stops.push(
      () => bridge.stop(),
      () => server.stop(),
    );
    let isListening = false;
    const listen = async (): Promise<void> => {
      isListening = true;
      peers.set(id, await server.start());
    };
    const start = async (): Promise<void> => {
      if (!isListening) await listen();
      bridge.start();
    };
    return { id, server, bell: bells[id], bridge, broken, listen, start };
  };
  return { sides: { a: makeSide("a"), b: makeSide("b") }, channels };
}

const OPEN = new Uint8Array(1);

/** Sends `rowsMax` numbered rows with barriers between, receives at a random pace; returns what arrived per channel. */
async function exchange(channels: readonly Channel[], rng: Rng, rowsMax: number): Promise<unknown[][]> {
  const received: unknown[][] = channels.map(() => []);
  const sent = channels.map(() => 0);
  const isDone = channels.map(() => false);
  while (isDone.includes(false)) {
    channels.forEach((channel, i) => {
      const { writer, gate } = channel;
      if (writer.available || writer.drain()) {
        for (let k = rng.below(30); k > 0 && (sent[i] as number) < rowsMax; k -= 1) {
          const n = (sent[i] as number) + 1;
          sent[i] = n;
          writer.emit([n, n % 97 === 0 ? "large ".repeat(300) : `row ${n}`]);
          if (n % 50 === 0)
            writer.broadcastBarrier({ checkpointId: n as CheckpointId, timestampMs: 0, isFinal: false });
          if (n === rowsMax) writer.broadcastEndOfData();
        }
        if (rng.chance(0.2)) writer.flush();
      }
      for (let k = rng.below(3); k > 0 && gate.nextReady(OPEN) >= 0; k -= 1) {
        const head = gate.head(0);
        if (head.kind === "BARRIER") (received[i] as unknown[]).push(`barrier ${head.barrier?.checkpointId}`);
        if (head.kind === "END_OF_DATA") isDone[i] = true;
        for (; head.cursor < head.rowCount; head.cursor += 1)
          (received[i] as unknown[]).push((head.reader.read(head.cursor) as [number, string])[0]);
        gate.consume(0);
      }
    });
    await turn();
  }
  return received;
}

function expectedRows(rowsMax: number): unknown[] {
  const rows: unknown[] = [];
  for (let n = 1; n <= rowsMax; n += 1) {
    rows.push(n);
    if (n % 50 === 0) rows.push(`barrier ${n}`);
  }
  return rows;
}

const BOTH_WAYS = [
  { from: "a", to: "b" },
  { from: "a", to: "b" },
  { from: "b", to: "a" },
  { from: "a", to: "b" },
  { from: "b", to: "a" },
] as const;
const ONE = [{ from: "a", to: "b" }] as const;
const ADDRESSES = { a: "a:1", b: "b:1" };

describe("bridge between TaskManagers", () => {
  test("OB1-OB3, IB1, IB2: all channels keep order and lose nothing; neither credit nor the cap on unsent bytes is exceeded", async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer(), fc.constantFrom(BOTH_WAYS, ONE), async (seed, ways) => {
        const rng = new SeededRng(seed);
        const net = new MemoryNet(rng);
        const { sides, channels } = makeWorld({ net, rng, addresses: ADDRESSES, channels: ways });
        await Promise.all([sides.a.start(), sides.b.start()]);
        const received = await exchange(channels, rng, 300);
        expect(received).toEqual(ways.map(() => expectedRows(300)));
        // Exceeded credit would have been reported as a violation.
        expect([...sides.a.broken, ...sides.b.broken]).toEqual([]);
        for (const conn of net.conns) expect(conn.unsentBytesSeenMax).toBeLessThan(UNSENT_BYTES_MAX + SLOT_BYTES);
        await until(() => sides.a.bridge.isDrained && sides.b.bridge.isDrained);
        sides.a.bridge.stop();
        await until(() => net.conns.some((conn) => conn.sentTypes.includes(MESSAGE_BYE)));
        sides.b.bridge.stop();
        await turn();
        expect([...sides.a.broken, ...sides.b.broken]).toEqual([]);
      }),
      { numRuns: 8 },
    );
  });

  test("over real sockets: order kept, nothing lost", async () => {
    const rng = new SeededRng(1);
    const net = new NodeNet({ highWaterBytes: UNSENT_BYTES_MAX });
    const { sides, channels } = makeWorld({
      net,
      rng,
      addresses: { a: "127.0.0.1:0", b: "127.0.0.1:0" },
      channels: BOTH_WAYS,
    });
    await Promise.all([sides.a.listen(), sides.b.listen()]); // now the ports are known
    await Promise.all([sides.a.start(), sides.b.start()]);
    expect(await exchange(channels, rng, 2000)).toEqual(BOTH_WAYS.map(() => expectedRows(2000)));
    expect([...sides.a.broken, ...sides.b.broken]).toEqual([]);
  });

  test("AB2: a broken connection is reported once on either side, as PEER_LOST naming the peer", async () => {
    const rng = new SeededRng(2);
    const net = new MemoryNet(rng);
    const { sides, channels } = makeWorld({ net, rng, addresses: ADDRESSES, channels: BOTH_WAYS });
    await Promise.all([sides.a.start(), sides.b.start()]);
    const channel = channels[0] as Channel;
    channel.writer.emit([1, "x"]);
    channel.writer.flush();
    await until(() => channel.gate.nextReady(OPEN) >= 0);
    for (const conn of net.conns) conn.break("cable pulled");
    await until(() => sides.a.broken.length > 0 && sides.b.broken.length > 0);
    await turn();
    expect([sides.a, sides.b].map((side) => side.broken.map((failure) => failure.code))).toEqual([
      ["PEER_LOST"],
      ["PEER_LOST"],
    ]);
    expect(sides.a.broken[0]?.message).toMatch(/TaskManager b broke|from b broke/);
  });

  test("BM1: a peer that does not know the secret learns nothing and is refused", async () => {
    const rng = new SeededRng(3);
    const net = new MemoryNet(rng);
    const { sides } = makeWorld({ net, rng, addresses: ADDRESSES, channels: ONE, secretOfB: "another" });
    await Promise.all([sides.a.start(), sides.b.start()]);
    await until(() => sides.a.broken.length > 0);
    expect(sides.a.broken[0]?.code).toBe("PEER_REJECTED");
    expect(sides.a.broken[0]?.message).toContain("does not know the secret");
    expect(net.conns.some((conn) => conn.sentTypes.includes(MESSAGE_PROOF))).toBe(false);
  });

  test("DS1: a sender without the secret is refused before it reaches a bridge", async () => {
    const rng = new SeededRng(4);
    const net = new MemoryNet(rng);
    const { sides } = makeWorld({ net, rng, addresses: ADDRESSES, channels: ONE });
    await sides.b.start();
    const conn = await net.connect(ADDRESSES.b);
    const answers: string[] = [];
    let isClosed = false;
    conn.onFrame = (frame) => {
      answers.push(Buffer.from(frame.subarray(4)).toString());
      if (answers.length === 1) conn.send(writeJson(MESSAGE_PROOF, { proof: "0".repeat(64), channels: ["0/0/0"] }));
    };
    conn.onClose = () => (isClosed = true);
    const hello = {
      protocol: DATA_PROTOCOL,
      version: 0,
      epoch: 3 as Epoch,
      attempt: 1 as AttemptNumber,
      from: "a",
      to: "b",
      nonce: "n".repeat(32),
    };
    conn.send(writeJson(MESSAGE_HELLO, hello));
    await until(() => isClosed);
    expect(answers[1]).toContain("the proof of the attempt's secret is wrong");
    expect(sides.b.broken).toEqual([]);
  });

  test("OB4, DS3: the sender waits for a peer that starts later", async () => {
    const rng = new SeededRng(5);
    const net = new MemoryNet(rng);
    const { sides, channels } = makeWorld({ net, rng, addresses: ADDRESSES, channels: ONE });
    await sides.a.start();
    const channel = channels[0] as Channel;
    channel.writer.emit([7, "early"]);
    channel.writer.flush();
    for (let i = 0; i < 20; i += 1) await turn();
    await sides.b.listen(); // listens, but does not know the attempt yet
    await until(() => net.conns.length > 0);
    await sides.b.start();
    await until(() => channel.gate.nextReady(OPEN) >= 0);
    expect(channel.gate.head(0).reader.read(0)).toEqual([7, "early"]);
    expect(sides.a.broken).toEqual([]);
  });

  test("OB4: a peer that never comes is a loss after the deadline", async () => {
    const rng = new SeededRng(6);
    const { sides } = makeWorld({
      net: new MemoryNet(rng),
      rng,
      addresses: ADDRESSES,
      channels: ONE,
      connectTimeoutMs: 150,
    });
    await sides.a.start();
    await until(() => sides.a.broken.length > 0);
    expect([sides.a.broken[0]?.code, sides.a.broken[0]?.message]).toEqual([
      "PEER_LOST",
      expect.stringContaining("was not there within 150 ms"),
    ]);
  });

  test("DS3: an attempt that was superseded is fenced", async () => {
    const rng = new SeededRng(7);
    const { sides } = makeWorld({ net: new MemoryNet(rng), rng, addresses: ADDRESSES, channels: ONE, attemptOfB: 2 });
    await sides.b.start();
    await sides.a.start();
    await until(() => sides.a.broken.length > 0);
    expect([sides.a.broken[0]?.code, sides.a.broken[0]?.message]).toEqual([
      "FENCED",
      expect.stringContaining("superseded by 3.2"),
    ]);
  });

  test.each([
    ["a repeated frame", (frame: Uint8Array) => [frame, frame], "where 1 is due"],
    [
      "a frame that lies about its length",
      (frame: Uint8Array) => [frame.subarray(0, frame.length - 4)],
      "that says it has",
    ],
    ["an unknown channel", (frame: Uint8Array) => [withWord(frame, 1, 9)], "channel 9, which does not exist"],
    ["nonsense", () => [Uint8Array.of(1, 2)], "unexpected message of type 0"],
  ])("IB3: %s breaks the attempt, not the process", async (_, corrupt, text) => {
    const rng = new SeededRng(8);
    const net = new MemoryNet(rng);
    const { sides, channels } = makeWorld({ net, rng, addresses: ADDRESSES, channels: ONE });
    await Promise.all([sides.a.start(), sides.b.start()]);
    await until(() => net.conns[0]?.sentTypes.includes(MESSAGE_PROOF) === true);
    const far = net.conns[1] as MemoryConn;
    const receive = far.receive.bind(far);
    far.receive = (frame) => {
      if (messageType(frame) === 16) for (const bad of corrupt(frame)) receive(bad);
      else receive(frame);
    };
    const channel = channels[0] as Channel;
    channel.writer.emit([1, "x"]);
    channel.writer.flush();
    await until(() => sides.b.broken.length > 0);
    expect([sides.b.broken[0]?.code, sides.b.broken[0]?.message]).toEqual([
      "PROTOCOL_VIOLATION",
      expect.stringContaining(text),
    ]);
  });

  test("AB1: a bell that rings in every turn does not starve the event loop", async () => {
    const rng = new SeededRng(9);
    const { sides } = makeWorld({ net: new MemoryNet(rng), rng, addresses: ADDRESSES, channels: ONE });
    const { bell } = sides.a;
    const sequence = bell.sequence.bind(bell);
    let asked = 0;
    bell.sequence = () => {
      asked += 1;
      bell.ring();
      return sequence();
    };
    await sides.a.start();
    const before = asked;
    await until(() => asked > before + 20); // both the bridge and this loop get their turns
    expect(sides.a.broken).toEqual([]);
  });
});

function withWord(frame: Uint8Array, word: number, value: number): Uint8Array {
  const copy = new Uint8Array(frame);
  new DataView(copy.buffer).setUint32(word * 4, value, true);
  return copy;
}
