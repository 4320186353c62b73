// What every implementation of a seam must do, as named cases: run against the real ones here, against the simulated ones in
// the sim workspace. Cases assert; they need no test framework: `for (const c of storeContract(...)) test(c.name, c.run)`.
//
// Invariants:
//   CT1. A case gets a store or a network of its own and does not care what else runs.
//   CT2. Cases wait for events, never for time, so they run in simulated time as well.

import { assert } from "../assert.ts";
import { deferred } from "../async.ts";
import { crc32c } from "../crc32c.ts";
import { isFailure } from "../failure.ts";
import type { FailureCode } from "../failure.ts";
import type { Conn, Listener, Net } from "./net.ts";
import type { ObjectStore, PutIfAbsentOutcome } from "./storage.ts";

/** One promise of a seam: rejects with an AssertionError when it is broken. */
export interface ContractCase {
  readonly name: string;
  readonly run: () => Promise<void>;
}

/** Bytes that differ at every place and by `seed`. */
export function patternBytes(lengthBytes: number, seed = 0): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  let x = (seed * 2654435761 + 1) >>> 0;
  for (let i = 0; i < lengthBytes; i += 1) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    bytes[i] = x >>> 24;
  }
  return bytes;
}

function sameBytes(a: Uint8Array | undefined, b: Uint8Array): boolean {
  return a !== undefined && a.length === b.length && a.every((byte, i) => byte === b[i]);
}

async function rejection(promise: Promise<unknown>): Promise<FailureCode | "it did not reject" | "no Failure"> {
  try {
    await promise;
    return "it did not reject";
  } catch (thrown) {
    return isFailure(thrown) ? thrown.code : "no Failure";
  }
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

export interface StoreContractOptions {
  /** Objects in the listing case; above 1,000 it crosses a page of S3. Default 40. */
  readonly listedCount?: number;
  /** Creators that race for one name. Default 20. */
  readonly creatorCount?: number;
}

/** Cases of {@link ObjectStore}. `makeStore` gives an empty store for each case. */
export function storeContract(
  makeStore: () => Promise<ObjectStore>,
  options: StoreContractOptions = {},
): readonly ContractCase[] {
  const listedCount = options.listedCount ?? 40;
  const creatorCount = options.creatorCount ?? 20;
  const cases: readonly (readonly [string, (store: ObjectStore) => Promise<void>])[] = [
    [
      "absent objects are undefined, and removing them succeeds",
      async (store) => {
        assert((await store.get("a/b")) === undefined, "get of an absent object");
        assert(
          (await store.getRange("a/b", { offset: 3, lengthBytes: 5 })) === undefined,
          "getRange of an absent object",
        );
        assert(
          (await store.getRange("a/b", { offset: 0, lengthBytes: 0 })) === undefined,
          "empty getRange of an absent object",
        );
        assert((await store.stat("a/b")) === undefined, "stat of an absent object");
        assert((await store.list("")).length === 0, "an empty store lists nothing");
        await store.remove("a/b");
        await store.put("a/b/c", text("x"));
        assert((await store.get("a/b")) === undefined, "a folder is no object");
        assert((await store.stat("a/b")) === undefined, "a folder has no size");
        await store.remove("a/b");
        assert((await store.get("a/b/c")) !== undefined, "removing a folder's name leaves its objects");
      },
    ],
    [
      "S3: a write is seen by get, getRange, stat and list",
      async (store) => {
        for (const [i, length] of [0, 1, 65_537, 1 << 20].entries()) {
          const path = `dir/object-${i}`;
          const bytes = patternBytes(length, i);
          const given = bytes.slice();
          assert((await store.put(path, given)) === "stored", "a write to a healthy store is stored");
          given.fill(0);
          const read = await store.get(path);
          assert(sameBytes(read, bytes), "get gives the bytes as they were when put was called");
          const info = await store.stat(path);
          assert(info?.sizeBytes === length, "stat gives the size");
          assert(info.path === path, "stat gives the path");
          assert(
            (await store.list(path)).some((o) => o.path === path && o.sizeBytes === length),
            "list shows the new object",
          );
        }
      },
    ],
    [
      "S1: the same bytes may be put again",
      async (store) => {
        const bytes = patternBytes(1000);
        assert((await store.put("x/y", bytes)) === "stored", "first put");
        assert((await store.put("x/y", bytes)) === "stored", "second put");
        assert(sameBytes(await store.get("x/y"), bytes), "unchanged");
      },
    ],
    [
      "ranges: inside, across the end, beyond it, empty",
      async (store) => {
        const bytes = patternBytes(5000, 7);
        await store.put("ranges/o", bytes);
        for (const [offset, lengthBytes] of [
          [0, 1],
          [0, 5000],
          [1234, 777],
          [4999, 1],
          [4990, 100],
          [0, 9000],
          [5000, 10],
          [7000, 1],
          [17, 0],
          [5000, 0],
        ] as const) {
          const part = await store.getRange("ranges/o", { offset, lengthBytes });
          assert(sameBytes(part, bytes.subarray(offset, offset + lengthBytes)), `range ${offset}+${lengthBytes}`);
        }
      },
    ],
    [
      "putIfAbsent creates once and never overwrites",
      async (store) => {
        assert((await store.putIfAbsent("log/000001", text("first"))) === "created", "the first creates");
        assert((await store.putIfAbsent("log/000001", text("second"))) === "exists", "the second finds it");
        assert((await store.putIfAbsent("log/000001", text("first"))) === "exists", "also with the same bytes");
        assert(sameBytes(await store.get("log/000001"), text("first")), "the content is the first one's");
        await store.put("log/000002", text("put"));
        assert(
          (await store.putIfAbsent("log/000002", text("created"))) === "exists",
          "an object made by put exists as well",
        );
      },
    ],
    [
      `${creatorCount} racing creators: exactly one wins, and the content is the winner's`,
      async (store) => {
        for (let round = 0; round < 3; round += 1) {
          const racers = Array.from({ length: creatorCount }, (_, i) =>
            store.putIfAbsent(`race/${round}`, patternBytes(3000, i)),
          );
          const outcomes: readonly PutIfAbsentOutcome[] = await Promise.all(racers);
          const winner = outcomes.indexOf("created");
          assert(winner >= 0, "somebody creates");
          assert(
            outcomes.every((outcome, i) => i === winner || outcome !== "created"),
            "nobody else creates",
          );
          assert(sameBytes(await store.get(`race/${round}`), patternBytes(3000, winner)), "the winner's bytes stand");
        }
      },
    ],
    [
      `list: ${listedCount} objects, by string prefix, ascending`,
      async (store) => {
        const paths = Array.from({ length: listedCount }, (_, i) => `jobs/j${i % 3}/chk-${String(i).padStart(5, "0")}`);
        for (let i = 0; i < paths.length; i += 16) {
          await Promise.all(paths.slice(i, i + 16).map((path) => store.put(path, text(path))));
        }
        await store.put("jobs-other/a", text("1"));
        await store.put("numbers/12", text("2"));
        const listed = async (prefix: string): Promise<string> =>
          (await store.list(prefix)).map((o) => o.path).join(" ");
        const expected = (prefix: string): string =>
          [...paths, "jobs-other/a", "numbers/12"]
            .filter((path) => path.startsWith(prefix))
            .sort()
            .join(" ");
        for (const prefix of [
          "",
          "j",
          "jobs",
          "jobs/",
          "jobs/j1",
          "jobs/j1/",
          "jobs/j2/chk-0000",
          "numbers/1",
          "nothing",
          "jobs/nothing/",
        ]) {
          assert((await listed(prefix)) === expected(prefix), `list of "${prefix}"`);
        }
      },
    ],
    [
      "remove: gone from get, stat and list; others stay",
      async (store) => {
        await store.put("r/a", text("a"));
        await store.put("r/b", text("b"));
        await store.remove("r/a");
        await store.remove("r/a");
        assert((await store.get("r/a")) === undefined, "gone");
        assert((await store.stat("r/a")) === undefined, "gone from stat");
        assert((await store.list("r/")).map((o) => o.path).join() === "r/b", "gone from list");
        await store.remove("r/b");
        assert((await store.put("r/c/d", text("d"))) === "stored", "an emptied folder takes objects again");
      },
    ],
    [
      "paths that leave the store or are none are refused",
      async (store) => {
        for (const path of [
          "",
          "/a",
          "a/",
          "a//b",
          ".",
          "..",
          "a/../b",
          "a/./b",
          "a\\b",
          "a\u0000b",
          "x".repeat(2000),
        ]) {
          assert(
            (await rejection(store.put(path, text("x")))) === "CONFIG_INVALID",
            `put of ${JSON.stringify(path.slice(0, 20))}`,
          );
          assert(
            (await rejection(store.get(path))) === "CONFIG_INVALID",
            `get of ${JSON.stringify(path.slice(0, 20))}`,
          );
        }
      },
    ],
    [
      "names with blanks, signs and other scripts are plain names",
      async (store) => {
        for (const path of [
          "odd/with blank",
          "odd/plus+and&more=1",
          "odd/größe-日本-😀",
          "odd/100%",
          "odd/a:b;c,d@e!f'(g)*~$",
        ]) {
          assert((await store.putIfAbsent(path, text(path))) === "created", `create ${path}`);
          assert(sameBytes(await store.get(path), text(path)), `get ${path}`);
          assert((await store.list(path)).map((o) => o.path).join() === path, `list ${path}`);
          await store.remove(path);
          assert((await store.stat(path)) === undefined, `remove ${path}`);
        }
      },
    ],
    [
      "an aborted signal ends a call with CANCELED",
      async (store) => {
        const signal = AbortSignal.abort();
        assert((await rejection(store.get("a/b", signal))) === "CANCELED", "get");
        assert((await rejection(store.put("a/b", text("x"), signal))) === "CANCELED", "put");
        assert((await rejection(store.putIfAbsent("a/b", text("x"), signal))) === "CANCELED", "putIfAbsent");
        assert((await rejection(store.list("a", signal))) === "CANCELED", "list");
        assert((await store.get("a/b")) === undefined, "nothing was written");
      },
    ],
  ];
  return cases.map(([name, run]) => ({ name, run: async () => run(await makeStore()) }));
}

interface Pair {
  readonly client: Conn;
  readonly server: Conn;
  readonly listener: Listener;
}

interface Received {
  /** Length and checksum of each frame. */
  readonly frames: string[];
  readonly closed: Promise<string>;
  readonly closeCount: () => number;
  /** Resolves when `count` frames have come, or the connection closed. */
  readonly until: (count: number) => Promise<void>;
}

function fingerprint(frame: Uint8Array): string {
  return `${frame.length}:${crc32c(frame)}`;
}

function record(conn: Conn): Received {
  const frames: string[] = [];
  const closed = deferred<string>();
  let closeCount = 0;
  let wanted = 0;
  let arrived = deferred<void>();
  conn.onFrame = (frame) => {
    frames.push(fingerprint(frame));
    if (frames.length >= wanted) arrived.resolve();
  };
  conn.onClose = (reason) => {
    closeCount += 1;
    closed.resolve(reason);
    arrived.resolve();
  };
  return {
    frames,
    closed: closed.promise,
    closeCount: () => closeCount,
    until: async (count) => {
      if (frames.length >= count) return;
      wanted = count;
      arrived = deferred<void>();
      await arrived.promise;
      assert(frames.length >= count, `N1: ${count} frames arrive`);
    },
  };
}

const NEVER = new AbortController().signal;

export interface NetContractOptions {
  /** Where to listen, with a port that may be 0. */
  readonly listenAddress: string;
  /** An address where nobody listens. */
  readonly deadAddress: string;
}

/** Cases of {@link Net}. */
export function netContract(makeNet: () => Promise<Net>, options: NetContractOptions): readonly ContractCase[] {
  const open = async (net: Net): Promise<Pair> => {
    const accepted = deferred<Conn>();
    const listener = await net.listen(options.listenAddress, (conn) => accepted.resolve(conn));
    const client = await net.connect(listener.address, NEVER);
    return { client, server: await accepted.promise, listener };
  };
  const withPair =
    (run: (pair: Pair, client: Received, server: Received) => Promise<void>) =>
    async (net: Net): Promise<void> => {
      // Handlers are set in the turn in which the connection came, as the contract asks of owners.
      const accepted = deferred<readonly [Conn, Received]>();
      const listener = await net.listen(options.listenAddress, (conn) => accepted.resolve([conn, record(conn)]));
      const client = await net.connect(listener.address, NEVER);
      const received = record(client);
      const [server, serverReceived] = await accepted.promise;
      try {
        await run({ client, server, listener }, received, serverReceived);
      } finally {
        client.close();
        server.close();
        listener.close();
      }
    };
  const cases: readonly (readonly [string, (net: Net) => Promise<void>])[] = [
    [
      "N1: frames of all sizes arrive whole and in order, both ways",
      withPair(async ({ client, server }, fromServer, fromClient) => {
        const sizes = [0, 1, 3, 4, 5, 100, 4095, 16_384, 16_385, 65_536, 70_001, 300_000];
        const sent: string[] = [];
        for (let i = 0; i < 600; i += 1) {
          const frame = patternBytes(i % 50 === 0 ? sizes[(i / 50) % sizes.length]! : sizes[i % 8]!, i);
          sent.push(fingerprint(frame));
          client.send(frame);
          server.send(frame);
          if (i % 97 === 0) await Promise.resolve();
        }
        await Promise.all([fromClient.until(sent.length), fromServer.until(sent.length)]);
        assert(fromClient.frames.join() === sent.join(), "N1: what the client sent");
        assert(fromServer.frames.join() === sent.join(), "N1: what the server sent");
      }),
    ],
    [
      "the sender may reuse its buffer after send",
      withPair(async ({ client }, _fromServer, fromClient) => {
        const sent: string[] = [];
        for (const size of [10, 20_000]) {
          const buffer = new Uint8Array(size);
          for (let i = 0; i < 20; i += 1) {
            buffer.fill(i);
            sent.push(fingerprint(buffer));
            client.send(buffer);
          }
        }
        await fromClient.until(sent.length);
        assert(fromClient.frames.join() === sent.join(), "frames are as they were when sent");
      }),
    ],
    [
      "backpressure: send says stop, onDrain says go on, nothing is lost",
      withPair(async ({ client }, _fromServer, fromClient) => {
        const frame = patternBytes(64 * 1024, 3);
        let sentCount = 0;
        for (let round = 0; round < 3; round += 1) {
          const drained = deferred<void>();
          client.onDrain = () => drained.resolve();
          let more = true;
          while (more) {
            assert(sentCount < 100_000, "a sender that nobody reads from is told to stop");
            more = client.send(frame);
            sentCount += 1;
          }
          assert(client.unsentBytes > 0, "stopped with bytes unsent");
          await drained.promise;
        }
        await fromClient.until(sentCount);
        assert(fromClient.frames.length === sentCount, "N1: every frame, once");
      }),
    ],
    [
      "N2: close: what was sent arrives, then onClose once on both ends",
      withPair(async ({ client }, fromServer, fromClient) => {
        for (let i = 0; i < 50; i += 1) client.send(patternBytes(5000, i));
        client.close();
        assert(fromServer.closeCount() === 0, "onClose does not come inside of close()");
        client.send(patternBytes(10, 99));
        await Promise.all([fromServer.closed, fromClient.closed]);
        assert(fromClient.frames.length === 50, "N1: frames sent before close arrive, none sent after");
        client.close();
        await Promise.resolve();
        assert(fromServer.closeCount() === 1, "N2: once at the closing end");
        assert(fromClient.closeCount() === 1, "N2: once at the other end");
      }),
    ],
    [
      "after close nothing is delivered, also within one read",
      withPair(async ({ client, server }, fromServer, fromClient) => {
        let seen = 0;
        server.onFrame = () => {
          seen += 1;
          if (seen === 3) server.close();
        };
        for (let i = 0; i < 10; i += 1) client.send(patternBytes(100, i));
        await Promise.all([fromServer.closed, fromClient.closed]);
        assert(seen === 3, "no frame after close");
      }),
    ],
    [
      "connecting where nobody listens is PEER_LOST",
      async (net) => {
        assert((await rejection(net.connect(options.deadAddress, NEVER))) === "PEER_LOST", "refused");
        assert((await rejection(net.connect(options.deadAddress, AbortSignal.abort()))) === "PEER_LOST", "given up");
      },
    ],
    [
      "an address in use is ADDRESS_IN_USE; a closed listener frees it and keeps its connections",
      async (net) => {
        const pair = await open(net);
        const fromClient = record(pair.server);
        const fromServer = record(pair.client);
        assert((await rejection(net.listen(pair.listener.address, () => {}))) === "ADDRESS_IN_USE", "listening twice");
        pair.listener.close();
        pair.client.send(patternBytes(10));
        await fromClient.until(1);
        assert((await rejection(net.connect(pair.listener.address, NEVER))) === "PEER_LOST", "no new connections");
        pair.server.close();
        await Promise.all([fromServer.closed, fromClient.closed]);
      },
    ],
  ];
  return cases.map(([name, run]) => ({ name, run: async () => run(await makeNet()) }));
}
