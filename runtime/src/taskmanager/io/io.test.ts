// Snapshots to the store and back, over a simulated store that fails, forgets and lies, and a disk that tears.

import { describe, expect, test } from "@jest/globals";
import { crc32c } from "@sluice/kit";
import { HEALTHY, World } from "@sluice/sim";
import { noOtherStore } from "../../checkpoint/memory-store.fixture.ts";
import type { FaultPlan } from "@sluice/sim";
import fc from "fast-check";

import type {
  AttemptNumber,
  CheckpointAck,
  CheckpointId,
  Epoch,
  PartHandle,
  SnapshotPart,
  SnapshotSubmission,
} from "../../model/index.ts";
import type { IoReply } from "../../task/index.ts";
import { IoService } from "./io-service.ts";
import type { IoCommand, IoEvent } from "./messages.ts";
import { OpenPack, PACK_BYTES, partBytes } from "./pack.ts";
import { planReads } from "./snapshot-reader.ts";
import { LINGER_MS } from "./uploads.ts";

const EPOCH = 3 as Epoch;
const ATTEMPT = 2 as AttemptNumber;
const LIMITS = { virtualMs: 2_000_000, events: 1_000_000 };
const id = (n: number): CheckpointId => n as CheckpointId;

/** A part whose bytes tell it apart. */
function part(name: string, lengthBytes: number, group?: number): SnapshotPart {
  const bytes = new Uint8Array(lengthBytes).map(
    (_, i) => (i * 31 + name.length * 7 + name.charCodeAt(0) + (group ?? 0)) & 0xff,
  );
  const half = lengthBytes >>> 1;
  return {
    uid: name,
    stateName: "s",
    kind: group === undefined ? "operator" : "keyed",
    ...(group === undefined ? {} : { keyGroups: [group, group] as const }),
    chunks: [bytes.subarray(0, half), bytes.subarray(half)],
  };
}

function bytesOf(of: SnapshotPart): Uint8Array {
  return Uint8Array.from(of.chunks.flatMap((chunk) => [...chunk]));
}

function submission(checkpoint: number, subtaskIndex: number, parts: readonly SnapshotPart[]): SnapshotSubmission {
  return {
    checkpointId: id(checkpoint),
    epoch: EPOCH,
    attempt: ATTEMPT,
    subtask: { vertexId: "v", subtaskIndex },
    parts,
    finished: false,
    stats: { startDelayMs: 0, alignmentMs: 0, syncMs: 0, asyncMs: 1, stateSizeBytes: 0 },
  };
}

/** An I/O service on a node of a world; the node can crash and start again with its disk. */
class Machine {
  readonly world: World;
  readonly #node;
  readonly #subtaskCount: number;
  localBytesMax: number;
  readonly #readsFirst: boolean;
  readonly #packBytes: number | undefined;
  readonly events: IoEvent[] = [];
  service: IoService | undefined;

  constructor(
    options: {
      readonly faults?: FaultPlan;
      readonly subtaskCount?: number;
      readonly seed?: number;
      readonly localBytesMax?: number;
      readonly readsFirst?: boolean;
      readonly packBytes?: number;
    } = {},
  ) {
    this.world = new World({ seed: options.seed ?? 5, faults: options.faults ?? HEALTHY, keepsTrace: true });
    this.#node = this.world.node("tm");
    this.#subtaskCount = options.subtaskCount ?? 2;
    this.localBytesMax = options.localBytesMax ?? 1_000_000;
    this.#readsFirst = options.readsFirst ?? true;
    this.#packBytes = options.packBytes;
  }

  async start(restored: number | null = null): Promise<this> {
    this.#node.start(async (env) => {
      this.service = new IoService({
        env,
        store: env.store,
        openStore: noOtherStore,
        localCopies: { disks: [env.disk], bytesMax: this.localBytesMax, readsFirst: this.#readsFirst },
        ...(this.#packBytes === undefined ? {} : { packBytes: this.#packBytes }),
        send: (event) => void this.events.push(event),
      });
      this.command({
        type: "attemptStarted",
        epoch: EPOCH,
        attempt: ATTEMPT,
        taskManagerId: "tm-1",
        jobDir: "ns/job",
        restoreDir: "ns/job",
        restoreStore: null,
        subtaskCount: this.#subtaskCount,
        restoredCheckpointId: restored === null ? null : id(restored),
      });
      await Promise.resolve();
    });
    await this.until(() => this.service !== undefined);
    return this;
  }

  /** What lies on the disk, by path in the store. */
  get copies(): readonly string[] {
    return this.#node.disk.pathsOf("localState/").map((path) => path.slice("localState/".length));
  }

  damageCopy(path: string, change: (bytes: Uint8Array) => Uint8Array | undefined): void {
    this.#node.disk.damage(`localState/${path}`, change);
  }

  async crash(): Promise<void> {
    this.#node.crash("test");
    this.service = undefined;
    await Promise.resolve();
  }

  command(command: IoCommand): void {
    this.service?.onCommand(command);
  }

  submit(of: SnapshotSubmission): void {
    this.service?.onSlotRequest({ epoch: EPOCH, attempt: ATTEMPT }, { type: "submit", submission: of }, () => {});
  }

  async fetch(parts: readonly PartHandle[]): Promise<IoReply> {
    let answer: IoReply | undefined;
    this.service?.onSlotRequest({ epoch: EPOCH, attempt: ATTEMPT }, { type: "fetch", requestId: 1, parts }, (reply) => {
      expect(answer).toBeUndefined(); // IO2
      answer = reply;
    });
    await this.until(() => answer !== undefined);
    return answer as unknown as IoReply;
  }

  async until(done: () => boolean): Promise<void> {
    const tick = (): void => this.world.after(5, "tick", tick); // promises alone are no events
    tick();
    expect(await this.world.runUntil(done, LIMITS)).toBe("done");
  }

  async pass(durationMs: number): Promise<void> {
    const endMs = this.world.loop.nowMs + durationMs;
    await this.until(() => this.world.loop.nowMs >= endMs);
  }

  get acks(): readonly CheckpointAck[] {
    return this.events.flatMap((event) => (event.type === "acknowledged" ? [event.ack] : []));
  }
}

describe("uploads", () => {
  test("UP1, UP4: subtasks of one checkpoint share a pack, and are acknowledged with verifiable addresses", async () => {
    const machine = await new Machine().start();
    const parts = [part("b", 100), part("a", 50, 7), part("a", 60, 2)];
    machine.submit(submission(1, 0, parts));
    machine.submit(submission(1, 1, [part("c", 10)]));
    await machine.until(() => machine.acks.length === 2);
    const objects = machine.world.storage.pathsOf("ns/job/chk-1/");
    expect(objects).toEqual([expect.stringMatching(/^ns\/job\/chk-1\/x-3\.2\.tm-1\.[0-9a-f]{8}-0$/u)]); // UP2: the name says who
    const stored = machine.world.storage.objects.get(objects[0] as string)?.bytes ?? new Uint8Array();
    for (const handle of machine.acks.flatMap((ack) => ack.parts)) {
      expect(crc32c(stored.subarray(handle.offset, handle.offset + handle.lengthBytes))).toBe(handle.crc32c);
    }
    expect(machine.acks[0]?.parts.map(({ uid, keyGroups }) => `${uid}${keyGroups?.[0] ?? ""}`)).toEqual([
      "a2",
      "a7",
      "b",
    ]); // PK2
    expect(machine.acks[0]?.stats.asyncMs).toBeGreaterThan(1);
  });

  test("UP4: a pack does not wait for a subtask that does not come", async () => {
    const machine = await new Machine().start();
    machine.submit(submission(1, 0, [part("a", 10)]));
    await machine.pass(400);
    expect(machine.acks).toHaveLength(0);
    await machine.until(() => machine.acks.length === 1);
    expect(machine.world.loop.nowMs).toBeLessThan(700);
  });

  test("UP4: subtasks that have finished are not waited for, also when they finish meanwhile", async () => {
    const machine = await new Machine({ subtaskCount: 3 }).start();
    const finish = (subtaskIndex: number): void =>
      machine.command({
        type: "subtaskFinished",
        epoch: EPOCH,
        attempt: ATTEMPT,
        subtask: { vertexId: "v", subtaskIndex },
      });
    finish(2);
    machine.submit(submission(1, 0, [part("a", 10)]));
    machine.submit(submission(1, 1, [part("b", 10)]));
    await machine.until(() => machine.acks.length === 2);
    machine.submit(submission(2, 0, [part("a", 10)]));
    finish(1);
    await machine.until(() => machine.acks.length === 3);
    expect(machine.world.loop.nowMs).toBeLessThan(LINGER_MS);
    expect(machine.world.storage.pathsOf("ns/job/")).toHaveLength(2);
  });

  test("UP4: at most ceil(bytes / PACK_BYTES) + 2 objects, whatever the parts and however late they come", async () => {
    const packBytes = 1_000;
    const plans = (size: fc.Arbitrary<number>, delayMaxMs: number, partsMax = 6) =>
      fc.array(
        fc.record({ sizes: fc.array(size, { minLength: 1, maxLength: partsMax }), delayMs: fc.nat(delayMaxMs) }),
        {
          minLength: 1,
          maxLength: 16,
        },
      );
    const subtasks = fc.oneof(
      plans(fc.nat(5), 1_500), // little, and late
      plans(fc.integer({ min: 501, max: 650 }), 0, 1), // no two fit into one
      plans(fc.oneof(fc.nat(300), fc.integer({ min: 400, max: 2_500 })), 700),
    );
    let most = 0;
    await fc.assert(
      fc.asyncProperty(subtasks, fc.nat(1_000), async (plan, seed) => {
        const machine = await new Machine({ subtaskCount: plan.length, packBytes, seed }).start();
        for (const [index, { sizes: own, delayMs }] of plan.entries()) {
          machine.submit(
            submission(
              1,
              index,
              own.map((size, i) => part("p", size, i)),
            ),
          );
          await machine.pass(delayMs);
        }
        await machine.until(() => machine.acks.length === plan.length);
        const totalBytes = plan.flatMap((one) => one.sizes).reduce((sum, size) => sum + size, 0);
        const objects = machine.world.storage.pathsOf("ns/job/chk-1/");
        expect(objects.length).toBeLessThanOrEqual(Math.ceil(totalBytes / packBytes) + 2);
        most = Math.max(most, objects.length);
        for (const handle of machine.acks.flatMap((ack) => ack.parts)) {
          const bytes = machine.world.storage.objects.get(`ns/job/${handle.object}`)?.bytes ?? new Uint8Array();
          expect(crc32c(bytes.subarray(handle.offset, handle.offset + handle.lengthBytes))).toBe(handle.crc32c);
        }
      }),
      { numRuns: 40 },
    );
    expect(most).toBeGreaterThan(10);
  });

  test("a subtask without state is acknowledged without an object", async () => {
    const machine = await new Machine().start();
    machine.submit(submission(1, 0, []));
    expect(machine.acks).toMatchObject([{ parts: [], subtask: { subtaskIndex: 0 } }]);
  });

  test("UP3: an aborted checkpoint is not stored any more, nor acknowledged; what comes late for it is dropped", async () => {
    const faults = { ...HEALTHY, store: { ...HEALTHY.store, failProbability: 1 } };
    const machine = await new Machine({ faults }).start();
    machine.submit(submission(1, 0, [part("a", 10)]));
    await machine.pass(20_000);
    machine.command({ type: "checkpointAborted", checkpointId: id(1) });
    machine.submit(submission(1, 1, [part("b", 10)]));
    machine.world.heal();
    await machine.pass(20_000);
    expect([machine.acks, machine.world.storage.pathsOf("ns/job/chk-1/")]).toEqual([[], []]);
  });

  test("UP1, UP2: over a store that fails and forgets, every acknowledged part is there, and each name has one content", async () => {
    for (let seed = 1; seed <= 30; seed += 1) {
      const faults: FaultPlan = {
        ...HEALTHY,
        store: { ...HEALTHY.store, failProbability: 0.3, unknownProbability: 0.3 },
        disk: { ...HEALTHY.disk, fullProbability: 0.3 },
      };
      const machine = await new Machine({ faults, seed, subtaskCount: 3 }).start();
      for (let checkpoint = 1; checkpoint <= 3; checkpoint += 1) {
        for (let subtask = 0; subtask < 3; subtask += 1)
          machine.submit(submission(checkpoint, subtask, [part("a", 40 + seed), part("k", 9, subtask)]));
      }
      await machine.until(() => machine.acks.length === 9); // the world itself checks S1: one content per name
      expect(new Set(machine.acks.map((ack) => `${ack.checkpointId}/${ack.subtask.subtaskIndex}`)).size).toBe(9);
      for (const handle of machine.acks.flatMap((ack) => ack.parts)) {
        const bytes = machine.world.storage.objects.get(`ns/job/${handle.object}`)?.bytes ?? new Uint8Array();
        expect(crc32c(bytes.subarray(handle.offset, handle.offset + handle.lengthBytes))).toBe(handle.crc32c);
      }
    }
  });
});

describe("restores", () => {
  const parts = [part("a", 5_000, 1), part("a", 3_000, 2), part("b", 40)];
  const LOCAL = { localParts: 3, localBytes: 8_040, storeParts: 0, storeBytes: 0 };
  const STORE = { localParts: 0, localBytes: 0, storeParts: 3, storeBytes: 8_040 };

  /** Checkpoint 1 stored and confirmed; the handles of its parts, in the order of `parts`. */
  async function stored(options: ConstructorParameters<typeof Machine>[0] = {}): Promise<{
    readonly machine: Machine;
    readonly handles: readonly PartHandle[];
    readonly path: string;
  }> {
    const machine = await new Machine({ subtaskCount: 1, ...options }).start();
    machine.submit(submission(1, 0, parts));
    await machine.until(() => machine.acks.length === 1);
    machine.command({ type: "checkpointCompleted", checkpointId: id(1) });
    await machine.pass(100);
    const handles = machine.acks[0]?.parts ?? [];
    return { machine, handles, path: `ns/job/${handles[0]?.object}` };
  }

  function expectContents(reply: IoReply, read: object): void {
    expect(reply.type === "fetched" ? reply.fetched.contents.map((bytes) => [...bytes]) : reply).toEqual(
      parts.map((of) => [...bytesOf(of)]),
    );
    expect(reply).toMatchObject({ fetched: { read } });
  }

  /** Counts reads of parts from the store by failing them. */
  function storeIsDown(machine: Machine): void {
    machine.world.storage.faults = { ...HEALTHY, store: { ...HEALTHY.store, failProbability: 1 } };
  }

  test("SR1, SR4: what was stored comes back from the local copy; the store is not asked", async () => {
    const { machine, handles } = await stored();
    storeIsDown(machine);
    expectContents(await machine.fetch(handles), LOCAL);
  });

  test("SR1: without local copies, or with from-local switched off, it comes from the store", async () => {
    for (const options of [{ localBytesMax: 10 }, { readsFirst: false }]) {
      const { machine, handles } = await stored(options);
      expectContents(await machine.fetch(handles), STORE);
    }
  });

  test.each([
    ["missing", () => undefined, STORE],
    ["cut behind the first part", (bytes: Uint8Array) => bytes.slice(0, 5_000), { localParts: 1, localBytes: 5_000 }],
    [
      "changed in one part",
      (bytes: Uint8Array) => bytes.map((byte, i) => (i === 2_000 ? byte ^ 1 : byte)),
      { localParts: 2, localBytes: 3_040, storeParts: 1, storeBytes: 5_000 },
    ],
    ["of foreign bytes", () => new Uint8Array(9_000), STORE],
  ])("LC1, SR4: a local copy that is %s: the store has the rest, part by part", async (_, damage, read) => {
    const { machine, handles, path } = await stored();
    machine.damageCopy(path, damage);
    expectContents(await machine.fetch(handles), read);
  });

  test("LC3: a disk that fails every call costs nothing but the local copy", async () => {
    const { machine, handles } = await stored({
      faults: { ...HEALTHY, disk: { ...HEALTHY.disk, failProbability: 1 } },
    });
    expectContents(await machine.fetch(handles), STORE);
    expect(machine.events.map(({ type }) => type)).toEqual(["acknowledged"]);
  });

  test.each([
    ["cut", (bytes: Uint8Array) => bytes.slice(0, 100)],
    ["changed", (bytes: Uint8Array) => bytes.map((byte, i) => (i === 2_000 ? byte ^ 1 : byte))],
    ["missing", () => undefined],
  ])(
    "an object of the store that is %s is healed by the local copy, and can be repaired from it",
    async (_, damage) => {
      const { machine, handles, path } = await stored({ readsFirst: false });
      const whole = machine.world.storage.objects.get(path)?.bytes ?? new Uint8Array();
      machine.world.storage.damage(path, damage(whole));
      expectContents(await machine.fetch(handles), LOCAL);
      const object = handles[0]?.object ?? "";
      machine.command({ type: "findLocalCopies", requestId: 1, jobDir: "ns/job", objects: [object, "chk-1/other"] });
      machine.command({ type: "repairObjects", requestId: 2, jobDir: "ns/job", objects: [object] });
      const replies = (): readonly IoEvent[] => machine.events.filter(({ type }) => type === "objects");
      await machine.until(() => replies().length === 2);
      expect(replies()).toEqual([
        { type: "objects", requestId: 1, objects: [object] },
        { type: "objects", requestId: 2, objects: [object] },
      ]);
      expect(machine.world.storage.objects.get(path)?.bytes).toEqual(whole);
    },
  );

  test("LC1: after a crash of the process its copies are still good, and listed; without any the damage is named", async () => {
    const { machine, handles, path } = await stored();
    machine.world.storage.damage(path, undefined);
    await machine.crash();
    await machine.start(1);
    machine.command({ type: "listLocalCopies", requestId: 7 });
    expectContents(await machine.fetch(handles), LOCAL);
    expect(machine.events).toContainEqual({ type: "objects", requestId: 7, objects: [path] });
    await machine.crash();
    await machine.start(2); // LC2: another checkpoint is restored, copies of 1 are useless
    await machine.pass(100);
    const reply = await machine.fetch(handles);
    expect(reply).toMatchObject({
      type: "fetchFailed",
      failure: { code: "SNAPSHOT_DAMAGED", message: expect.stringContaining(path) },
    });
    expect(machine.events).toContainEqual({
      type: "objectDamaged",
      object: handles[0]?.object,
      reason: "it is missing",
    });
  });

  test("LC4: within the limit older copies give way to newer ones; a pack that does not fit has none", async () => {
    const { machine, path } = await stored({ localBytesMax: 9_000 });
    expect(machine.copies).toEqual([path]);
    machine.submit(submission(2, 0, [part("z", 500)]));
    await machine.until(() => machine.acks.length === 2);
    await machine.pass(100);
    expect(machine.copies.map((copy) => copy.slice(0, 12))).toEqual(["ns/job/chk-1", "ns/job/chk-2"]);
    machine.submit(submission(3, 0, [part("z", 600)])); // 1 is confirmed, 2 is pending: the oldest goes
    await machine.until(() => machine.acks.length === 3);
    await machine.pass(100);
    expect(machine.copies.map((copy) => copy.slice(0, 12))).toEqual(["ns/job/chk-2", "ns/job/chk-3"]);
    machine.submit(submission(4, 0, [part("z", 9_000)]));
    await machine.until(() => machine.acks.length === 4); // LC3: nevertheless
    await machine.pass(100);
    expect(machine.copies.filter((copy) => copy.includes("chk-4"))).toEqual([]);
  });

  test("LC4: a limit that was lowered holds from the next start on", async () => {
    const { machine } = await stored();
    await machine.crash();
    machine.localBytesMax = 100;
    await machine.start(1);
    await machine.pass(100);
    expect(machine.copies).toEqual([]);
  });

  test("SR2: a store that does not answer is no damage", async () => {
    const { machine, handles } = await stored({ readsFirst: false });
    storeIsDown(machine);
    expect(await machine.fetch(handles)).toMatchObject({
      type: "fetchFailed",
      failure: { code: "STORAGE_UNAVAILABLE" },
    });
  });

  test("LC2: copies of older checkpoints are deleted, the confirmed one stays", async () => {
    const { machine, handles } = await stored();
    machine.submit(submission(2, 0, [part("z", 10)]));
    await machine.until(() => machine.acks.length === 2);
    const held = async (): Promise<readonly string[]> => {
      const before = machine.events.length;
      const objects = machine.acks.flatMap((ack) => ack.parts.slice(0, 1).map(({ object }) => object));
      machine.command({ type: "findLocalCopies", requestId: 9, jobDir: "ns/job", objects });
      await machine.until(() => machine.events.length > before);
      const reply = machine.events.at(-1);
      return reply?.type === "objects" ? reply.objects.map((object) => object.slice(0, 5)) : [];
    };
    expect(await held()).toEqual(["chk-1", "chk-2"]);
    machine.command({ type: "checkpointCompleted", checkpointId: id(2) });
    await machine.pass(100);
    expect(await held()).toEqual(["chk-2"]);
    expect(handles).not.toHaveLength(0);
  });

  test("IO1: a fetch of a slot of another attempt is refused", async () => {
    const { machine, handles } = await stored();
    let answer: IoReply | undefined;
    machine.service?.onSlotRequest(
      { epoch: EPOCH, attempt: 9 as AttemptNumber },
      { type: "fetch", requestId: 4, parts: handles },
      (reply) => (answer = reply),
    );
    await machine.until(() => answer !== undefined);
    expect(answer).toMatchObject({ type: "fetchFailed", requestId: 4, failure: { code: "CANCELED" } });
  });
});

describe("packs", () => {
  test("PK1: a pack is full with so many bytes, and no sooner", () => {
    const entry = (lengthBytes: number) => ({ owner: 1, part: part("p", 0), lengthBytes });
    const pack = new OpenPack<number>();
    pack.add(entry(1));
    pack.add(entry(PACK_BYTES - 2));
    expect(pack.isFull).toBe(false);
    pack.add(entry(PACK_BYTES - 1));
    expect(pack.isFull).toBe(true);
  });

  test("PK2, PK3: whatever goes in comes out at its address", () => {
    const anyPart = fc.record({
      name: fc.constantFrom("a", "b", "c"),
      length: fc.nat(200),
      group: fc.option(fc.nat(9), { nil: undefined }),
    });
    fc.assert(
      fc.property(fc.array(anyPart, { minLength: 1, maxLength: 20 }), (specs) => {
        const pack = new OpenPack<SnapshotPart>();
        for (const { name, length, group } of specs) {
          const one = part(name, length, group);
          pack.add({ owner: one, part: one, lengthBytes: partBytes(one) });
        }
        const { bytes, placed } = pack.close("o");
        expect(placed).toHaveLength(specs.length);
        for (const { owner, handle } of placed) {
          const content = bytes.subarray(handle.offset, handle.offset + handle.lengthBytes);
          expect([...content]).toEqual([...bytesOf(owner)]);
          expect(handle.crc32c).toBe(crc32c(content));
        }
        const order = placed.map(({ handle }) => `${handle.uid}${String(handle.keyGroups?.[0] ?? 0).padStart(3, "0")}`);
        expect(order).toEqual(order.toSorted());
      }),
    );
  });
});

test("SR3: reads cover every part, join near ones and keep far ones apart", () => {
  const handle = (object: string, offset: number, lengthBytes: number): PartHandle => ({
    uid: "u",
    stateName: "s",
    kind: "keyed",
    object,
    offset,
    lengthBytes,
    crc32c: 0,
  });
  const near = planReads([handle("o", 5_000, 10), handle("o", 0, 10), handle("p", 0, 10), handle("o", 9_000_000, 10)]);
  expect(near.map(({ object, offset, lengthBytes, parts }) => [object, offset, lengthBytes, parts])).toEqual([
    ["o", 0, 5_010, [1, 0]],
    ["o", 9_000_000, 10, [3]],
    ["p", 0, 10, [2]],
  ]);
  const anyHandle = fc.record({
    object: fc.constantFrom("o", "p"),
    offset: fc.nat(200_000_000),
    length: fc.nat(5_000_000),
  });
  fc.assert(
    fc.property(fc.array(anyHandle, { maxLength: 30 }), (specs) => {
      const handles = specs.map(({ object, offset, length }) => handle(object, offset, length));
      const seen = new Set<number>();
      for (const range of planReads(handles)) {
        for (const i of range.parts) {
          const of = handles[i] as PartHandle;
          expect(of.object).toBe(range.object);
          expect(of.offset).toBeGreaterThanOrEqual(range.offset);
          expect(of.offset + of.lengthBytes).toBeLessThanOrEqual(range.offset + range.lengthBytes);
          expect(seen.has(i)).toBe(false);
          seen.add(i);
        }
      }
      expect(seen.size).toBe(handles.length);
    }),
  );
});
