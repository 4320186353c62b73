// Asynchronous I/O, one operator in the harness: the test answers, moves time and decides when the task emits.

import { setImmediate as callbacks } from "node:timers/promises";

import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";

import {
  AsyncFunction,
  type AsyncRetryStrategy,
  type CheckpointId,
  type DeferringOperator,
  type OperatorState,
  type TypeDescriptor,
} from "../model/index.ts";
import { asyncWaitFactory, OperatorHarness, restoredStates, testSubtask, type AsyncWaitOptions } from "./index.ts";

const LONG: TypeDescriptor = { kind: "LONG" };

interface Call {
  readonly input: unknown;
  readonly answer: (result: unknown) => void;
  readonly fail: (error: unknown) => void;
}

/** An operator whose calls the test answers by hand. */
class Bench {
  readonly calls: Call[] = [];
  harness!: OperatorHarness<DeferringOperator>;

  async open(options: Partial<AsyncWaitOptions> = {}, restore?: OperatorState): Promise<this> {
    const factory = asyncWaitFactory({
      fn: (input) => new Promise((answer, fail) => void this.calls.push({ input, answer, fail })),
      isOrdered: false,
      timeoutMs: 1_000,
      capacity: 3,
      retry: undefined,
      inputType: LONG,
      outputType: LONG,
      ...options,
    });
    if (factory.kind !== "oneInput") throw new Error("one input");
    const operator = factory.create(testSubtask()) as DeferringOperator;
    const restored = { checkpointId: 1 as CheckpointId, retractThrough: undefined };
    this.harness = await new OperatorHarness<DeferringOperator>(
      operator,
      restore === undefined ? {} : { restored: { ...restored, states: restoredStates(restore) } },
    ).open();
    return this;
  }

  feed(...inputs: readonly unknown[]): void {
    for (const input of inputs) this.harness.process(input);
  }

  /** Answers the newest call for an input, and lets the callbacks run. */
  async answer(input: unknown, ...results: readonly unknown[]): Promise<void> {
    this.calls.findLast((call) => call.input === input)?.answer(results.length === 0 ? input : results[0]);
    await callbacks();
  }

  async fail(input: unknown): Promise<void> {
    this.calls.findLast((call) => call.input === input)?.fail(new Error(`no ${String(input)}`));
    await callbacks();
  }

  /** What a step of the task emits. */
  emit(inputsMax = 64): readonly unknown[] {
    const { output, operator } = this.harness;
    const before = output.length;
    operator.emitReady(inputsMax);
    return output.slice(before);
  }

  get asked(): readonly unknown[] {
    return this.calls.map(({ input }) => input);
  }
}

describe("answers", () => {
  test.each([
    [false, [[3, 1], [2]]],
    [true, [[], [1, 2, 3]]],
  ])("AW2, AW4: ordered %p: they leave when the task asks", async (isOrdered, expected) => {
    const bench = await new Bench().open({ isOrdered });
    bench.feed(1, 2, 3);
    await bench.answer(3);
    if (!isOrdered) await bench.answer(1);
    expect(bench.harness.output).toEqual([]);
    expect(bench.harness.wakeCount).toBeGreaterThan(0);
    const first = bench.emit();
    await bench.answer(2);
    if (isOrdered) await bench.answer(1);
    expect([first, bench.emit()]).toEqual(expected);
    expect(bench.harness.operator.isIdle).toBe(true);
  });

  test("a step emits the answers of so many inputs, each whole", async () => {
    const bench = await new Bench().open();
    bench.feed(1, 2);
    await bench.answer(1, [10, 11, 12]);
    await bench.answer(2, new Set([20]));
    expect([bench.emit(1), bench.emit(1), bench.emit(1)]).toEqual([[10, 11, 12], [20], []]);
  });

  test.each<readonly [TypeDescriptor, unknown, readonly unknown[]]>([
    [LONG, 7, [7]],
    [LONG, undefined, []],
    [LONG, [], []],
    [{ kind: "STRING" }, "text", ["text"]],
    [{ kind: "BYTES" }, Uint8Array.of(1), [Uint8Array.of(1)]],
    [{ kind: "MAP", key: LONG, value: LONG }, new Map([[1, 2]]), [new Map([[1, 2]])]],
    [{ kind: "GENERIC" }, null, [null]],
    [{ kind: "TUPLE", fields: [LONG, LONG] }, [[1, 2]], [[1, 2]]],
  ])("of %j: %p is %p", async (outputType, result, records) => {
    const bench = await new Bench().open({ outputType });
    bench.feed(1);
    await bench.answer(1, result);
    expect(bench.emit()).toEqual(records);
  });

  test("a tuple that was not put into an array is refused with what to write", async () => {
    const bench = await new Bench().open({ outputType: { kind: "TUPLE", fields: [LONG, LONG] } });
    bench.feed(1);
    await bench.answer(1, [1, 2]);
    expect(() => bench.emit()).toThrow("returned an array whose elements are no TUPLE(LONG, LONG)");
  });
});

describe("capacity", () => {
  test("AW3: no more than so many are asked for; the rest waits and room says so", async () => {
    const bench = await new Bench().open({ isOrdered: true });
    expect(bench.harness.operator.room).toBe(3);
    bench.feed(1, 2, 3, 4, 5); // a flatMap before it emitted five
    expect([bench.asked, bench.harness.operator.room]).toEqual([[1, 2, 3], 0]);
    await bench.answer(2);
    bench.emit();
    expect(bench.asked).toEqual([1, 2, 3]); // in order, an answer that waits for its turn still takes its place
    await bench.answer(1);
    expect(bench.emit()).toEqual([1, 2]);
    expect([bench.asked, bench.harness.operator.room]).toEqual([[1, 2, 3, 4, 5], 0]);
    await bench.answer(3);
    bench.emit();
    expect(bench.harness.operator.room).toBe(1);
  });
});

describe("time", () => {
  test("AW6: an input without an answer fails the task, and says what to do", async () => {
    const bench = await new Bench().open();
    bench.feed(1);
    bench.harness.nowMs = 400;
    bench.feed(2);
    expect(bench.harness.operator.wakeAtMs).toBe(1_000);
    await bench.answer(1);
    expect(bench.harness.operator.wakeAtMs).toBe(1_400);
    bench.harness.nowMs = 1_400;
    expect(() => bench.emit()).toThrow(
      'operator "operator" (uid operator-uid): an input was not answered within 1000 ms',
    );
  });

  test("timeoutMs 0 waits for ever", async () => {
    const bench = await new Bench().open({ timeoutMs: 0 });
    bench.feed(1);
    bench.harness.nowMs = 1e12;
    expect([bench.emit(), bench.harness.operator.wakeAtMs]).toEqual([[], Infinity]);
  });

  test("AW5: timeout(input) answers instead, and the late answer is ignored", async () => {
    const calls: Call[] = [];
    class Slow extends AsyncFunction<unknown, unknown> {
      override asyncInvoke(input: unknown): Promise<unknown> {
        return new Promise((answer, fail) => void calls.push({ input, answer, fail }));
      }
      override timeout(input: unknown): unknown {
        return input === 1 ? [-1, -1] : Promise.resolve(-2);
      }
    }
    const bench = await new Bench().open({ fn: new Slow() });
    bench.feed(1, 2);
    bench.harness.nowMs = 1_000;
    bench.emit();
    calls[0]?.answer(1);
    calls[1]?.fail(new Error("late"));
    await callbacks();
    expect([bench.emit(), bench.emit(), bench.harness.operator.isIdle]).toEqual([[-1, -1, -2], [], true]);
  });
});

describe("failures and retries", () => {
  const strategy = (maxAttempts: number): AsyncRetryStrategy<unknown> => ({
    canRetry: (attempts) => attempts <= maxAttempts,
    getBackoffTimeMs: (attempts) => attempts * 100,
    retryPredicate: { exception: () => true, result: (records) => records.length === 0 },
  });

  test("an error fails the task in its next step, also one thrown at once", async () => {
    const bench = await new Bench().open();
    bench.feed(1, 2);
    await bench.fail(2);
    expect(bench.harness.operator.isIdle).toBe(false);
    expect(() => bench.emit()).toThrow("no 2");
    const throwing = await new Bench().open({
      fn: () => {
        throw new TypeError("at once");
      },
    });
    throwing.feed(1);
    await callbacks();
    expect(() => throwing.emit()).toThrow("at once");
  });

  test("errors and empty answers are asked again after their delay, so many times", async () => {
    const bench = await new Bench().open({ retry: strategy(2) });
    bench.feed(1);
    await bench.fail(1);
    expect([bench.emit(), bench.asked, bench.harness.operator.wakeAtMs]).toEqual([[], [1], 100]);
    bench.harness.nowMs = 100;
    bench.emit();
    expect(bench.asked).toEqual([1, 1]);
    bench.calls[0]?.answer("of the first call");
    await bench.answer(1, []);
    bench.harness.nowMs = 299;
    bench.emit();
    expect(bench.asked).toEqual([1, 1]);
    bench.harness.nowMs = 300;
    bench.emit();
    await bench.answer(1, []); // the last one is the answer, whatever it is
    expect([bench.emit(), bench.asked, bench.harness.operator.isIdle]).toEqual([[], [1, 1, 1], true]);
  });

  test("AW6: a delay does not reach beyond the timeout", async () => {
    const bench = await new Bench().open({ retry: strategy(100), timeoutMs: 150 });
    bench.feed(1);
    await bench.fail(1);
    bench.harness.nowMs = 100;
    bench.emit();
    await bench.fail(1);
    bench.harness.nowMs = 150;
    expect(() => bench.emit()).toThrow("not answered within 150 ms");
  });

  test("AF2, AW5: after close nothing is noted any more", async () => {
    const bench = await new Bench().open();
    bench.feed(1, 2);
    const before = bench.harness.wakeCount;
    await bench.harness.operator.close(false);
    await bench.answer(1);
    await bench.fail(2);
    expect([bench.emit(), bench.harness.wakeCount]).toEqual([[], before]);
  });
});

describe("snapshots", () => {
  test("AW1: all inputs whose answers were not emitted, in order of arrival; they are asked for again", async () => {
    const bench = await new Bench().open({ isOrdered: true });
    bench.feed(1, 2, 3, 4, 5);
    await bench.answer(1);
    bench.emit();
    await bench.answer(3);
    const state = await bench.harness.snapshot(1);
    const [[name, content] = []] = [...state];
    expect([name, content?.mode, content?.itemType, content?.items.length]).toEqual([
      "_async_wait_operator_state_",
      "split",
      LONG,
      4,
    ]);
    const restored = await new Bench().open({ isOrdered: true }, state);
    expect(restored.asked).toEqual([2, 3, 4]);
    expect(restored.harness.output).toEqual([]);
  });

  test("inputs of another type are refused", async () => {
    const bench = await new Bench().open();
    bench.feed(1);
    const state = await bench.harness.snapshot(1);
    await expect(new Bench().open({ inputType: { kind: "STRING" } }, state)).rejects.toMatchObject({
      code: "STATE_INCOMPATIBLE",
      message: expect.stringContaining('operator state "_async_wait_operator_state_"'),
    });
  });

  test("inputs of no declared type cannot be state", async () => {
    await expect(() => new Bench().open({ inputType: { kind: "GENERIC" } })).rejects.toThrow(
      "asynchronous I/O over a stream of GENERIC",
    );
  });

  const script = fc.array(
    fc.oneof(
      { weight: 4, arbitrary: fc.constant("feed" as const) },
      { weight: 4, arbitrary: fc.record({ answer: fc.nat(20) }) },
      { weight: 2, arbitrary: fc.record({ emit: fc.integer({ min: 1, max: 3 }) }) },
      { weight: 1, arbitrary: fc.constant("snapshot" as const) },
      { weight: 1, arbitrary: fc.constant("crash" as const) },
    ),
    { maxLength: 60 },
  );

  test("AW1: with any order of answers, snapshots and crashes every input is answered exactly once", () =>
    fc.assert(
      fc.asyncProperty(script, fc.boolean(), async (steps, isOrdered) => {
        let bench = await new Bench().open({ isOrdered });
        let fed = 0;
        const published: unknown[] = [];
        let last = { state: await bench.harness.snapshot(0), fed: 0 };
        let emitted: unknown[] = [];
        for (const step of [...steps, "finish" as const]) {
          if (step === "feed") bench.feed(fed++);
          else if (step === "snapshot") {
            published.push(...emitted.splice(0));
            last = { state: await bench.harness.snapshot(1), fed };
          } else if (step === "crash") {
            await bench.harness.operator.close(false);
            emitted = [];
            fed = last.fed; // the source goes back as well
            bench = await new Bench().open({ isOrdered }, last.state);
          } else if (step === "finish") {
            while (!bench.harness.operator.isIdle) {
              for (const input of bench.asked) await bench.answer(input);
              emitted.push(...bench.emit());
            }
            published.push(...emitted);
          } else if ("emit" in step) emitted.push(...bench.emit(step.emit));
          else {
            const input = bench.asked[step.answer % Math.max(1, bench.asked.length)];
            if (input !== undefined) await bench.answer(input);
          }
        }
        const all = Array.from({ length: fed }, (_, i) => i);
        const byNumber = (a: unknown, b: unknown): number => (a as number) - (b as number);
        expect(isOrdered ? published : published.toSorted(byNumber)).toEqual(all);
      }),
      { numRuns: 100 },
    ));
});
