// Collections, sequences and sockets as sources.

import { createServer, type Server, type Socket } from "node:net";
import type { AddressInfo } from "node:net";

import { afterEach, describe, expect, test } from "@jest/globals";
import { isFailure } from "@sluice/kit";
import { Types, type CheckpointId, type SourceOperator } from "../model/index.ts";
import { OperatorHarness, restoredStates, testSubtask, type Source } from "../operators/index.ts";
import { CollectionSource, NumberSequenceSource, SocketTextSource } from "./index.ts";
import type { TextSocketHandlers } from "./text-socket.ts";

type Harness = OperatorHarness<SourceOperator>;

async function openSource(source: Source<unknown>, subtaskIndex = 0, parallelism = 1): Promise<Harness> {
  const subtask = testSubtask({ subtaskIndex, parallelism });
  const splits = await source.enumerateSplits({ parallelism });
  return await new OperatorHarness(source.createOperator({ splits, subtask }), { subtask }).open();
}

async function drain(harness: Harness): Promise<readonly unknown[]> {
  while ((await harness.poll(7)) !== "finished");
  return harness.output;
}

const codeOf = (run: () => unknown): string => {
  try {
    run();
    return "none";
  } catch (thrown) {
    return isFailure(thrown) ? thrown.code : String(thrown);
  }
};

const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

describe("collections and sequences", () => {
  const list = ["a", "b", "a", ""];

  test("GS1: every record once, in order with one subtask, at any parallelism", async () => {
    expect(await drain(await openSource(new CollectionSource(new Set(list), Types.STRING())))).toEqual(["a", "b", ""]);
    expect(await drain(await openSource(new NumberSequenceSource(-3, 12)))).toEqual(
      Array.from({ length: 16 }, (_, i) => i - 3),
    );
    const parts = await Promise.all([0, 1, 2].map((i) => openSource(new CollectionSource(list, Types.STRING()), i, 3)));
    const all = await Promise.all(parts.map(drain));
    expect(all.flat().map(String).toSorted(byText)).toEqual(list.toSorted(byText));
  });

  test("GS2: a restored one goes on at the next record", async () => {
    const source = new NumberSequenceSource(1, 9);
    const first = await openSource(source);
    await first.poll(4);
    const states = restoredStates(await first.snapshot(1));
    const splits = await source.enumerateSplits({ parallelism: 1 });
    const subtask = testSubtask({});
    const restored = { checkpointId: 1 as CheckpointId, retractThrough: undefined, states };
    const second = new OperatorHarness(source.createOperator({ splits, subtask }), { subtask, restored });
    expect(await drain(await second.open())).toEqual([5, 6, 7, 8, 9]);
  });

  test.each([
    [1.5, 2],
    [3, 2],
    [0, Infinity],
  ])("a sequence from %d to %d is refused", (from, to) => {
    expect(codeOf(() => new NumberSequenceSource(from, to))).toBe("CONFIG_INVALID");
  });
});

describe("sockets", () => {
  let server: Server | undefined;
  afterEach(() => void server?.close());

  async function serve(onSocket: (socket: Socket, count: number) => void): Promise<number> {
    let count = 0;
    const listening = createServer((socket) => onSocket(socket, (count += 1)));
    server = listening;
    await new Promise<void>((resolve) => listening.listen(0, "127.0.0.1", resolve));
    return (listening.address() as AddressInfo).port;
  }

  test("SO1: lines in order, cut anywhere, the last one without a line end; then the input has ended", async () => {
    const bytes = Buffer.from("ein\r\nz\u00f6lf\n\nlast");
    const port = await serve((socket) => {
      for (const byte of bytes) socket.write(Uint8Array.of(byte)); // also inside of a character
      socket.end();
    });
    expect(await drain(await openSource(new SocketTextSource({ host: "127.0.0.1", port })))).toEqual([
      "ein",
      "z\u00f6lf",
      "",
      "last",
    ]);
  });

  test("it connects again as often as it is told; other subtasks have nothing to read", async () => {
    const port = await serve((socket, count) => socket.end(`${count};`));
    const source = new SocketTextSource({ host: "127.0.0.1", port, delimiter: ";", retriesMax: 1, retryDelayMs: 5 });
    const harness = await openSource(source);
    while (harness.output.length < 3) {
      await harness.poll(1);
      harness.nowMs += 10;
    }
    expect(harness.output).toEqual(["1", "2", "3"]); // a connection that was made counts from 0 again
    await harness.operator.close(false);
    expect(await drain(await openSource(source, 1, 2))).toEqual([]);
  });

  test("nobody there: a failure that names address and remedy", async () => {
    const port = await serve(() => {});
    await new Promise((resolve) => server?.close(resolve));
    const harness = await openSource(new SocketTextSource({ host: "127.0.0.1", port }));
    await expect(harness.poll(1)).rejects.toMatchObject({
      code: "INPUT_NOT_FOUND",
      message: expect.stringContaining(`127.0.0.1:${port}`),
    });
  });

  test("SO2: a slow job pauses the connection and goes on later", async () => {
    let handlers: TextSocketHandlers | undefined;
    const calls: string[] = [];
    const source = new SocketTextSource({ host: "h", port: 1 }, (_address, given) => {
      handlers = given;
      return {
        pause: () => void calls.push("pause"),
        resume: () => void calls.push("resume"),
        close: () => void calls.push("close"),
      };
    });
    const harness = await openSource(source);
    const line = Buffer.from(`${"x".repeat(1_023)}\n`);
    for (let i = 0; i < 1_100; i += 1) handlers?.onBytes(line);
    expect(calls).toEqual(["pause"]);
    await harness.poll(1_099);
    expect(calls).toEqual(["pause"]);
    expect(harness.operator.poll(5)).toBe("idle");
    expect([calls, harness.output.length]).toEqual([["pause", "resume"], 1_100]);
    await harness.operator.close(false);
    expect(calls.at(-1)).toBe("close");
  });

  test.each([
    { host: "", port: 1 },
    { host: "h", port: 0 },
    { host: "h", port: 1, delimiter: "" },
    { host: "h", port: 1, retriesMax: -2 },
  ])("%j is refused", (options) => {
    expect(codeOf(() => new SocketTextSource(options))).toBe("CONFIG_INVALID");
  });
});
