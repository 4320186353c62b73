// Formats, hashes, retries and texts of kit: laws as properties, fixed values as golden vectors.

import { describe, expect, test } from "@jest/globals";
import * as fc from "fast-check";

import { retry, SerialQueue, sleep, withTimeout } from "./async.ts";
import { Backoff } from "./backoff.ts";
import { ByteReader, ByteWriter } from "./bytes.ts";
import { crc32c } from "./crc32c.ts";
import type { Cancel, Clock, Timers } from "./env/index.ts";
import { Failure, isFailure } from "./failure.ts";
import * as hash from "./hash.ts";
import { didYouMean, nearestName } from "./nearest.ts";
import { formatBytes, formatDuration, parseBytes, parseDurationMs } from "./quantity.ts";
import { SeededRng } from "./rng.ts";

const utf8 = (value: string): Uint8Array => new TextEncoder().encode(value);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const safeInteger = (): fc.Arbitrary<number> => fc.maxSafeInteger();
/** Any UTF-16, lone surrogates included. */
const anyString = (): fc.Arbitrary<string> =>
  fc.string({ unit: fc.nat(0xffff).map((code) => String.fromCharCode(code)) });

/** Also computed by an independent implementation in another language. */
const GOLDEN = {
  int: [593689054, -68075478, 1982413648, -1653689534],
  long: [1669671676, 1392991556, 1651860712, 987256456, -19448363],
  double: [1669671676, 1669671676, -142385009, 1428788237, -2144416083],
  boolean: [1364076727, -463810133],
  string: [-1733225056, -472672705, -992347838, -1095487750, -1231247679],
};
const GOLDEN_DRAWS = [3662011688, 3482862755, 173086846];

describe("bytes", () => {
  /** Each primitive: how to make a value, write it, read it. */
  const primitives = {
    u8: [fc.nat(0xff), (w: ByteWriter, v: number) => w.u8(v), (r: ByteReader) => r.u8()],
    bool: [fc.boolean(), (w: ByteWriter, v: boolean) => w.bool(v), (r: ByteReader) => r.bool()],
    u16: [fc.nat(0xffff), (w: ByteWriter, v: number) => w.u16(v), (r: ByteReader) => r.u16()],
    u32: [fc.nat(0xffffffff), (w: ByteWriter, v: number) => w.u32(v), (r: ByteReader) => r.u32()],
    i32: [fc.integer(), (w: ByteWriter, v: number) => w.i32(v), (r: ByteReader) => r.i32()],
    long: [safeInteger(), (w: ByteWriter, v: number) => w.long(v), (r: ByteReader) => r.long()],
    f64: [fc.double(), (w: ByteWriter, v: number) => w.f64(v), (r: ByteReader) => r.f64()],
    varint: [fc.maxSafeNat(), (w: ByteWriter, v: number) => w.varint(v), (r: ByteReader) => r.varint()],
    zigzag: [
      fc.integer({ min: -(2 ** 51), max: 2 ** 51 }),
      (w: ByteWriter, v: number) => w.zigzag(v),
      (r: ByteReader) => r.zigzag(),
    ],
    string: [
      fc.oneof(fc.string(), fc.string({ unit: "grapheme", minLength: 30, maxLength: 300 })),
      (w: ByteWriter, v: string) => w.string(v),
      (r: ByteReader) => r.string(),
    ],
    bytes: [fc.uint8Array(), (w: ByteWriter, v: Uint8Array) => w.bytes(v), (r: ByteReader) => r.bytes()],
  } as const;
  type Op = {
    readonly value: unknown;
    readonly write: (w: ByteWriter, v: never) => void;
    readonly read: (r: ByteReader) => unknown;
  };
  const op: fc.Arbitrary<Op> = fc.oneof(
    ...Object.values(primitives).map(([values, write, read]) =>
      (values as fc.Arbitrary<unknown>).map((value): Op => ({ value, write: write as Op["write"], read })),
    ),
  );
  const written = (ops: readonly Op[]): Uint8Array => {
    const writer = new ByteWriter(1);
    for (const { value, write } of ops) write(writer, value as never);
    return writer.toBytes();
  };

  test("B1: any sequence of values comes back, and nothing is left over", () => {
    fc.assert(
      fc.property(fc.array(op), (ops) => {
        const reader = new ByteReader(written(ops), { what: "test" });
        for (const { value, read } of ops) expect(read(reader)).toEqual(value);
        reader.expectEnd();
      }),
    );
  });

  test("B2: a truncated text is a Failure with the reader's code, never a RangeError", () => {
    fc.assert(
      fc.property(fc.array(op, { minLength: 1 }), fc.nat(), (ops, cut) => {
        const whole = written(ops);
        const reader = new ByteReader(whole.subarray(0, cut % whole.length), {
          what: "test",
          code: "SNAPSHOT_DAMAGED",
        });
        expect(() => {
          for (const { read } of ops) read(reader);
        }).toThrow(expect.objectContaining({ name: "Failure", code: "SNAPSHOT_DAMAGED" }));
      }),
    );
  });

  test("B2: any bytes read as anything give a value or a Failure", () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.array(op, { minLength: 1, maxLength: 8 }), (bytes, ops) => {
        const reader = new ByteReader(bytes, { what: "test" });
        try {
          for (const { read } of ops) read(reader);
        } catch (thrown) {
          expect(isFailure(thrown)).toBe(true);
        }
      }),
    );
  });

  test("golden bytes of every primitive", () => {
    const w = new ByteWriter();
    w.u8(1);
    w.bool(true);
    w.u16(0x0203);
    w.u32(0x04050607);
    w.i32(-2);
    w.long(-(2 ** 40) - 1);
    w.f64(1.5);
    w.varint(300);
    w.varint(Number.MAX_SAFE_INTEGER);
    w.zigzag(-3);
    w.string("aé");
    w.bytes(Uint8Array.of(9, 8));
    const at = w.reserveU32();
    w.patchU32(at, 7);
    expect(hex(w.view())).toBe(
      "01" +
        "01" +
        "0302" +
        "07060504" +
        "feffffff" +
        "fffffffffffeffff" +
        "000000000000f83f" +
        "ac02" +
        "ffffffffffffff0f" +
        "05" +
        "0361c3a9" +
        "020908" +
        "07000000",
    );
  });

  test.each<readonly [string, string, (r: ByteReader) => unknown]>([
    ["B3: overlong varint", "8000", (r) => r.varint()],
    ["B3: varint beyond 2^53", "ffffffffffffff1f", (r) => r.varint()],
    ["B3: endless varint", "8080808080808080808001", (r) => r.varint()],
    ["B3: a boolean 2", "02", (r) => r.bool()],
    ["B3: a string that is not UTF-8", "02c328", (r) => r.string()],
    ["a long beyond 2^53", "0000000000002000", (r) => r.long()],
    ["a length that lies", "ffffff7f00", (r) => r.bytes()],
    ["a count that lies", "ffff7f00", (r) => r.count()],
    ["bytes too many", "0000", (r) => [r.u8(), r.expectEnd()]],
  ])("%s is refused", (_name, bytes, read) => {
    const reader = new ByteReader(Buffer.from(bytes, "hex"), { what: "chk-7/_metadata" });
    expect(() => read(reader)).toThrow(
      expect.objectContaining({
        code: "FORMAT_UNSUPPORTED",
        message: expect.stringMatching(/^chk-7\/_metadata cannot be read: .*byte \d+ of/),
      }),
    );
  });
});

describe("crc32c", () => {
  test.each([
    ["", 0],
    ["123456789", 0xe3069283],
    ["\0".repeat(32), 0x8a9136aa],
    ["The quick brown fox jumps over the lazy dog", 0x22620404],
  ])("C2: golden value of %j", (input, expected) => expect(crc32c(utf8(input))).toBe(expected));

  test("C2: 32 bytes of 0xff (RFC 3720)", () => expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43));

  test("C1: any split at any alignment gives the sum of the whole", () => {
    const bitwise = (bytes: Uint8Array): number => {
      let crc = 0xffffffff;
      for (const byte of bytes) {
        crc ^= byte;
        for (let k = 0; k < 8; k += 1) crc = (crc & 1) === 0 ? crc >>> 1 : (crc >>> 1) ^ 0x82f63b78;
      }
      return ~crc >>> 0;
    };
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 700, size: "max" }), fc.nat(), fc.nat(9), (bytes, cut, shift) => {
        const moved = new Uint8Array(bytes.length + shift).subarray(shift);
        moved.set(bytes);
        const at = bytes.length === 0 ? 0 : cut % bytes.length;
        expect(crc32c(moved)).toBe(bitwise(bytes));
        expect(crc32c(moved.subarray(at), crc32c(moved.subarray(0, at)))).toBe(bitwise(bytes));
      }),
    );
  });
});

describe("hash: part of the snapshot format, never to change", () => {
  test.each([
    ["", 0],
    ["a", 0x3c2569b2],
    ["test", 0xba6bd213],
    ["Hello, world!", 0xc0363e43],
    ["The quick brown fox jumps over the lazy dog", 0x2e4ff723],
  ])("golden murmur3_32 of %j", (input, expected) => {
    expect(hash.hashString(input) >>> 0).toBe(expected);
    expect(hash.hashBytes(utf8(input)) >>> 0).toBe(expected);
  });

  test("golden key hashes per type", () => {
    expect({
      int: [0, 1, -1, 2 ** 31 - 1].map(hash.hashInt),
      long: [0, 1, -1, 2 ** 32, Number.MIN_SAFE_INTEGER].map(hash.hashLong),
      double: [0, -0, 1, Number.NaN, -1.5].map(hash.hashDouble),
      boolean: [false, true].map(hash.hashBoolean),
      string: ["key-1", "größe", "日本", "😀", "\ud800"].map(hash.hashString),
    }).toEqual(GOLDEN);
  });

  const view = (bytes: number, set: (v: DataView) => void): Uint8Array => {
    const buffer = new ArrayBuffer(bytes);
    set(new DataView(buffer));
    return new Uint8Array(buffer);
  };

  test("H1: the fast paths give the bits of the canonical encoding", () => {
    fc.assert(
      fc.property(
        fc.integer(),
        safeInteger(),
        fc.double(),
        anyString(),
        fc.string(),
        (int, long, double, wide, narrow) => {
          expect(hash.hashInt(int)).toBe(hash.hashBytes(view(4, (v) => v.setInt32(0, int, true))));
          expect(hash.hashLong(long)).toBe(hash.hashBytes(view(8, (v) => v.setBigInt64(0, BigInt(long), true))));
          expect(hash.hashLongWords(long | 0, Math.floor(long / 2 ** 32) | 0)).toBe(hash.hashLong(long));
          expect(hash.hashDouble(double)).toBe(
            hash.hashBytes(view(8, (v) => v.setFloat64(0, double === 0 ? 0 : double, true))),
          );
          for (const value of [wide, narrow, narrow + wide, narrow + narrow + wide]) {
            const bytes = utf8(value);
            expect(hash.hashString(value)).toBe(hash.hashBytes(bytes));
            const moved = new Uint8Array(bytes.length + 5);
            moved.set(bytes, 3);
            expect(hash.hashUtf8Bytes(moved, 3, bytes.length)).toBe(hash.hashBytes(bytes));
          }
        },
      ),
    );
    expect(hash.hashBoolean(true)).toBe(hash.hashBytes(Uint8Array.of(1)));
    expect(hash.hashBoolean(false)).toBe(hash.hashBytes(Uint8Array.of(0)));
  });

  test("H3: ranges are disjoint, ascending, cover all key groups and agree with subtaskOfKeyGroup", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 600 }), fc.nat(), (maxParallelism, p) => {
        const parallelism = 1 + (p % maxParallelism);
        let next = 0;
        for (let subtask = 0; subtask < parallelism; subtask += 1) {
          const { first, last } = hash.keyGroupRange(subtask, maxParallelism, parallelism);
          expect(first).toBe(next);
          for (let kg = first; kg <= last; kg += 1)
            expect(hash.subtaskOfKeyGroup(kg, maxParallelism, parallelism)).toBe(subtask);
          next = last + 1;
        }
        expect(next).toBe(maxParallelism);
      }),
    );
  });

  test("H2: a negative hash has a key group too, and sequential keys spread", () => {
    expect(hash.keyGroupOf(-1, 128)).toBe(0xffffffff % 128);
    const counts = new Uint32Array(128);
    for (let i = 0; i < 128_000; i += 1) counts[hash.keyGroupOf(hash.hashLong(i), 128)]! += 1;
    expect(Math.min(...counts)).toBeGreaterThan(850);
    expect(Math.max(...counts)).toBeLessThan(1150);
  });
});

describe("rng", () => {
  test("R1: golden draws; R2: draws do not move forks, the same label twice gives two streams", () => {
    const draw = (rng: { u32(): number }): number[] => [rng.u32(), rng.u32(), rng.u32()];
    expect(draw(new SeededRng(42))).toEqual(draw(new SeededRng(42)));
    expect(draw(new SeededRng(42))).not.toEqual(draw(new SeededRng(43)));
    const used = new SeededRng(42);
    draw(used);
    expect(draw(used.fork("net"))).toEqual(draw(new SeededRng(42).fork("net")));
    expect(draw(used.fork("net"))).not.toEqual(draw(new SeededRng(42).fork("net")));
    expect(draw(new SeededRng(42).fork("disk"))).not.toEqual(draw(new SeededRng(42).fork("net")));
    expect(draw(new SeededRng(42))).toEqual(GOLDEN_DRAWS);
  });

  test("below and chance stay within their bounds and are about fair", () => {
    const rng = new SeededRng(7);
    const counts = new Uint32Array(10);
    let hits = 0;
    for (let i = 0; i < 100_000; i += 1) {
      counts[rng.below(10)]! += 1;
      if (rng.chance(0.2)) hits += 1;
    }
    expect(Math.min(...counts)).toBeGreaterThan(9_500);
    expect(Math.max(...counts)).toBeLessThan(10_500);
    expect(Math.abs(hits - 20_000)).toBeLessThan(1_000);
    expect([rng.chance(0), rng.chance(1)]).toEqual([false, true]);
    expect(rng.below(2 ** 50)).toBeLessThan(2 ** 50);
  });
});

describe("backoff", () => {
  const options = { initialMs: 1_000, maxMs: 60_000, multiplier: 1.5, jitter: 0.1, resetAfterMs: 3_600_000 };

  test("K1: delays grow to the maximum, within the jitter", () => {
    fc.assert(
      fc.property(fc.integer(), fc.nat(30), (seed, count) => {
        const backoff = new Backoff(options, new SeededRng(seed));
        let undisturbed = options.initialMs;
        for (let i = 0, nowMs = 0; i < count; i += 1) {
          const delayMs = backoff.nextDelayMs(nowMs);
          expect(Math.abs(delayMs - undisturbed)).toBeLessThanOrEqual(undisturbed * options.jitter + 1e-6);
          undisturbed = Math.min(undisturbed * options.multiplier, options.maxMs);
          nowMs += delayMs;
        }
        expect(backoff.attempts).toBe(count);
      }),
    );
  });

  test("K2: a long time without failure starts anew, the wait itself does not count", () => {
    const backoff = new Backoff({ ...options, jitter: 0 }, new SeededRng(1));
    expect([backoff.nextDelayMs(0), backoff.nextDelayMs(1_000), backoff.nextDelayMs(2_500)]).toEqual([
      1_000, 1_500, 2_250,
    ]);
    expect(backoff.nextDelayMs(4_750 + options.resetAfterMs - 1)).toBe(3_375);
    expect(backoff.nextDelayMs(10 * options.resetAfterMs)).toBe(1_000);
  });
});

describe("quantities", () => {
  test.each([
    ["10 min", 600_000],
    ["5s", 5_000],
    ["500 ms", 500],
    ["1500", 1_500],
    ["1 d", 86_400_000],
    ["0.1 s", 100],
    ["1.5h", 5_400_000],
    ["PT10S", 10_000],
    ["pt1h30m", 5_400_000],
    ["P1DT0.25S", 86_400_250],
    ["0", 0],
    ["2 Minutes", 120_000],
  ])("duration %j is %d ms", (input, expected) => expect(parseDurationMs(input, "x")).toBe(expected));

  test.each([
    ["32mb", 32 * 1024 ** 2],
    ["20 kb", 20_480],
    ["4096", 4_096],
    ["1g", 1024 ** 3],
    ["1.5 kib", 1_536],
    ["0", 0],
    ["1 TiB", 1024 ** 4],
  ])("size %j is %d bytes", (input, expected) => expect(parseBytes(input, "x")).toBe(expected));

  test.each([
    "",
    "ten",
    "-5 s",
    "5 parsecs",
    "1.5",
    "0.0001 s",
    "10 ns",
    "P",
    "PT",
    "P1Y",
    "1e3",
    "99999999999999999 d",
    "5 mb",
  ])("Q2: duration %j is refused with the option's name and examples", (input) => {
    expect(() => parseDurationMs(input, "checkpoint.interval")).toThrow(
      expect.objectContaining({
        code: "CONFIG_INVALID",
        message: expect.stringContaining("checkpoint.interval"),
        remedy: expect.stringContaining("PT10S"),
      }),
    );
  });

  test.each(["", "mb", "-1 kb", "1 xb", "0.3 b", "5 min"])("Q2: size %j is refused", (input) => {
    expect(() => parseBytes(input, "memory")).toThrow(
      expect.objectContaining({ code: "CONFIG_INVALID", remedy: expect.stringContaining("32 mb") }),
    );
  });

  test("Q1: whole units that are printed are read back", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 999 }), fc.integer({ min: 1, max: 59 }), (ms, count) => {
        for (const durationMs of [ms, count * 1_000, count * 60_000])
          expect(parseDurationMs(formatDuration(durationMs), "x")).toBe(durationMs);
        for (const sizeBytes of [ms, count * 1024, count * 1024 ** 2])
          expect(parseBytes(formatBytes(sizeBytes), "x")).toBe(sizeBytes);
      }),
    );
  });

  test.each([
    [0, "0 ms"],
    [1_500, "1.5 s"],
    [59_999, "60 s"],
    [125_000, "2 min 5 s"],
    [3_600_000, "1 h"],
    [187_200_000, "2 d 4 h"],
    [Infinity, "unlimited"],
    [-20, "-20 ms"],
  ])("%d ms prints as %s", (durationMs, expected) => expect(formatDuration(durationMs)).toBe(expected));
});

test.each([
  ["paralelism", "parallelism"],
  ["checkpoint.intervall", "checkpoint.interval"],
  ["Parallelism", "parallelism"],
  ["zzz", undefined],
  ["", undefined],
])("the name nearest to %j is %j", (name, expected) => {
  expect(nearestName(name, ["parallelism", "checkpoint.interval", "x"])).toBe(expected);
  expect(didYouMean(name, ["parallelism", "checkpoint.interval"])).toBe(
    expected === undefined ? "" : `; did you mean "${expected}"?`,
  );
});

/** Time that stands still until a test moves it. */
class ManualTime implements Clock, Timers {
  #nowMs = 0;
  #due: { atMs: number; run: () => void }[] = [];
  nowMs = (): number => this.#nowMs;
  wallMs = (): number => this.#nowMs;
  get pending(): number {
    return this.#due.length;
  }
  after(delayMs: number, _label: string, run: () => void): Cancel {
    const timer = { atMs: this.#nowMs + delayMs, run };
    this.#due.push(timer);
    return () => void (this.#due = this.#due.filter((t) => t !== timer));
  }
  /** Runs timers one by one, with the promises they wake, until none is left. */
  async runAll(): Promise<void> {
    for (;;) {
      for (let i = 0; i < 20; i += 1) await Promise.resolve();
      const next = this.#due.sort((a, b) => a.atMs - b.atMs).shift();
      if (next === undefined) return;
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.run();
    }
  }
}

describe("async", () => {
  const backoff = { initialMs: 100, maxMs: 1_000, multiplier: 2, jitter: 0, resetAfterMs: Infinity };
  const unavailable = (retryKind: "now" | "backoff" | "never"): Failure =>
    new Failure("STORAGE_UNAVAILABLE", { retry: retryKind, message: "down" });

  test.each<readonly [string, readonly ("now" | "backoff" | "never")[], number, string]>([
    ["succeeds after two failures", ["backoff", "backoff"], Infinity, "done after 3 tries at 300"],
    ["never means never", ["never"], Infinity, "down after 1 tries at 0"],
    ["now goes at once, but only once", ["now", "now"], Infinity, "done after 3 tries at 100"],
    ["stops before the deadline", ["backoff", "backoff", "backoff", "backoff"], 700, "down after 3 tries at 300"],
  ])("A3: retry %s", async (_name, failures, deadlineMs, expected) => {
    const time = new ManualTime();
    let tries = 0;
    const running = retry(
      async (attempt) => {
        tries = attempt;
        const kind = failures[attempt - 1];
        if (kind !== undefined) throw unavailable(kind);
        return "done";
      },
      { backoff, clock: time, timers: time, rng: new SeededRng(1), deadlineMs },
    ).catch((failure: Failure) => failure.message);
    await time.runAll();
    expect(`${await running} after ${tries} tries at ${time.nowMs()}`).toBe(expected);
  });

  test("A1: an abort ends the wait and takes the timer back", async () => {
    const time = new ManualTime();
    const controller = new AbortController();
    const sleeping = sleep(time, 1_000, controller.signal);
    expect(time.pending).toBe(1);
    controller.abort();
    await expect(sleeping).rejects.toMatchObject({ code: "CANCELED" });
    expect(time.pending).toBe(0);
    await expect(sleep(time, 1_000, controller.signal)).rejects.toMatchObject({ code: "CANCELED" });
  });

  test("A1: withTimeout gives the result, or what the timeout gives, and leaves no timer", async () => {
    const time = new ManualTime();
    expect(await withTimeout(Promise.resolve(1), time, 10, () => 2)).toBe(1);
    expect(time.pending).toBe(0);
    const late = withTimeout(new Promise<number>(() => {}), time, 10, () => 2);
    await time.runAll();
    expect(await late).toBe(2);
    const thrown = withTimeout(Promise.withResolvers<number>().promise, time, 10, () => {
      throw unavailable("backoff");
    });
    thrown.catch(() => {});
    await time.runAll();
    await expect(thrown).rejects.toMatchObject({ code: "STORAGE_UNAVAILABLE" });
  });

  test("A2: SerialQueue keeps the order per key, runs keys side by side, survives failures and refuses beyond its limit", async () => {
    const queue = new SerialQueue({ countMax: 4 });
    const log: string[] = [];
    const gates = new Map<string, () => void>();
    const job = (name: string) => async (): Promise<string> => {
      log.push(`+${name}`);
      await new Promise<void>((resolve) => gates.set(name, resolve));
      log.push(`-${name}`);
      if (name === "a1") throw new Error("a1 failed");
      return name;
    };
    const turn = async (): Promise<void> => {
      for (let i = 0; i < 10; i += 1) await Promise.resolve();
    };
    const a1 = queue.offer("a", job("a1"))!;
    a1.catch(() => {});
    const a2 = queue.offer("a", job("a2"))!;
    const b1 = queue.offer("b", job("b1"))!;
    const a3 = queue.offer("a", job("a3"))!;
    expect(queue.offer("c", job("c1"))).toBeUndefined();
    expect(log).toEqual(["+a1", "+b1"]);
    for (const name of ["a1", "a2", "b1", "a3"]) {
      await turn();
      gates.get(name)!();
    }
    await expect(a1).rejects.toThrow("a1 failed");
    expect(await Promise.all([a2, b1, a3])).toEqual(["a2", "b1", "a3"]);
    expect(log.filter((entry) => entry.includes("a"))).toEqual(["+a1", "-a1", "+a2", "-a2", "+a3", "-a3"]);
    await queue.idle("a");
    expect(queue.count).toBe(0);
  });
});
