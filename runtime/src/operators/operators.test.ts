// Operators around user functions, one at a time in the harness.

import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";

import {
  type Collector,
  type KeyedContext,
  KeyedCoProcessFunction,
  KeyedProcessFunction,
  type OneInputOperator,
  type Operator,
  type OperatorFactory,
  type OnTimerContext,
  ProcessFunction,
  type ReducingState,
  ReducingStateDescriptor,
  type RuntimeContext,
  type SubtaskInfo,
  type TimerService,
  type TwoInputOperator,
  Types,
  type ValueState,
  ValueStateDescriptor,
} from "../model/index.ts";
import {
  filterFactory,
  keyedCoProcessFactory,
  keyedProcessFactory,
  mapFactory,
  OperatorHarness,
  processFactory,
  RateLimit,
  testSubtask,
  type HarnessOptions,
} from "./index.ts";

function create(factory: OperatorFactory, subtask: SubtaskInfo = testSubtask()): OneInputOperator | TwoInputOperator {
  if (factory.kind === "source") throw new Error("not a source");
  return factory.create(subtask);
}

function open(factory: OperatorFactory, options: HarnessOptions = {}): Promise<OperatorHarness<Operator>> {
  return new OperatorHarness<Operator>(create(factory), options).open();
}

class KeyedSum extends KeyedProcessFunction<string, [string, number], string> {
  #sum!: ValueState<number>;

  override open(context: RuntimeContext): void {
    this.#sum = context.getState(new ValueStateDescriptor("sum", Types.LONG()));
  }

  override processElement([, value]: [string, number], context: KeyedContext<string>, out: Collector<string>): void {
    const sum = (this.#sum.value() ?? 0) + value;
    this.#sum.update(sum);
    out.collect(`${context.getCurrentKey()}=${sum}`);
  }
}

describe("functions", () => {
  test("map emits one record for one, filter keeps what is true", async () => {
    const map = await open(mapFactory((n) => (n as number) * 2));
    const filter = await open(filterFactory((n) => (n as number) > 1));
    for (const n of [1, 2]) {
      map.process(n);
      filter.process(n);
    }
    expect([map.output, filter.output]).toEqual([[2, 4], [2]]);
  });

  test("process emits any number and learns where it runs", async () => {
    class Repeat extends ProcessFunction<number, string> {
      #where = "";
      override open(context: RuntimeContext): void {
        this.#where = `${context.operatorUid} ${context.indexOfThisSubtask}/${context.numberOfParallelSubtasks}`;
      }
      override processElement(value: number, _context: object, out: Collector<string>): void {
        for (let i = 0; i < value; i += 1) out.collect(this.#where);
      }
    }
    const harness = await open(processFactory(new Repeat()));
    harness.process(2);
    harness.process(0);
    expect(harness.output).toEqual(["operator-uid 0/1", "operator-uid 0/1"]);
  });

  test("A3: keyed sum, a key sees only its own state", async () => {
    const harness = await open(
      keyedProcessFactory(() => new KeyedSum() as KeyedProcessFunction<unknown, unknown, unknown>),
      {
        keyed: { keyType: Types.STRING(), selectors: [(record: [string, number]) => record[0]] },
      },
    );
    for (const record of [
      ["a", 1],
      ["b", 10],
      ["a", 2],
    ])
      harness.process(record);
    expect(harness.output).toEqual(["a=1", "b=10", "a=3"]);
  });

  test("a co-process function sees both inputs under one key", async () => {
    class Last extends KeyedCoProcessFunction<unknown, unknown, unknown, unknown> {
      #last!: ValueState<string>;
      override open(context: RuntimeContext): void {
        this.#last = context.getState(new ValueStateDescriptor("last", Types.STRING()));
      }
      override processElement1(value: unknown): void {
        this.#last.update(String(value));
      }
      override processElement2(value: unknown, context: KeyedContext<unknown>, out: Collector<unknown>): void {
        out.collect([context.getCurrentKey(), this.#last.value(), value]);
      }
    }
    const first = (value: string): string => value.slice(0, 1);
    const harness = await open(
      keyedCoProcessFactory(() => new Last()),
      { keyed: { keyType: Types.STRING(), selectors: [first, first] } },
    );
    harness.process("a1", 0);
    harness.process("b1", 0);
    harness.process("a2", 1);
    harness.process("c2", 1);
    expect(harness.output).toEqual([
      ["a", "a1", "a2"],
      ["c", undefined, "c2"],
    ]);
  });
});

const LATER = Promise.resolve() as unknown as undefined;

class Promising extends ProcessFunction<unknown, unknown> {
  override processElement(): void {
    return LATER; // void lets it through
  }
}
class OpensLate extends ProcessFunction<unknown, unknown> {
  override open(): void {
    return LATER;
  }
  override processElement(): void {}
}

/** Emits how many records a key had when nothing came for 10 ms, and what it thinks of the time; a co-process function as well. */
class Sessions extends KeyedCoProcessFunction<string, string, string, string> {
  #count!: ReducingState<number>;
  #endMs!: ValueState<number>;

  override open(context: RuntimeContext): void {
    this.#count = context.getReducingState(new ReducingStateDescriptor("count", (a, b) => a + b, Types.LONG()));
    this.#endMs = context.getState(new ValueStateDescriptor("end", Types.INSTANT()));
  }

  override processElement1(_value: string, context: KeyedContext<string>): void {
    const timers = context.timerService();
    const before = this.#endMs.value();
    if (before !== undefined) timers.deleteProcessingTimeTimer(before);
    const endMs = timers.currentProcessingTime() + 10;
    timers.registerProcessingTimeTimer(endMs);
    timers.registerProcessingTimeTimer(endMs);
    this.#endMs.update(endMs);
    this.#count.add(1);
  }

  override processElement2(value: string, context: KeyedContext<string>): void {
    this.processElement1(value, context);
  }

  override onTimer(timestampMs: number, context: OnTimerContext<string>, out: Collector<string>): void {
    out.collect(`${context.getCurrentKey()} ${this.#count.get()} @${timestampMs} ${context.timeDomain()}`);
    this.#count.clear();
    this.#endMs.clear();
  }
}

describe("timers", () => {
  const first = (value: string): string => value.slice(0, 1);
  const keyed = { keyType: Types.STRING(), selectors: [first, first] };
  const sessions = keyedCoProcessFactory(
    () => new Sessions() as KeyedCoProcessFunction<unknown, unknown, unknown, unknown>,
  );

  test("fire in the order of time under the key that registered them, once per timestamp, not when deleted", async () => {
    const harness = await open(sessions, { keyed });
    harness.process("b1", 0);
    harness.advanceProcessingTime(3);
    harness.process("a1", 0);
    harness.process("c1", 1);
    harness.advanceProcessingTime(9);
    harness.process("b2", 1);
    harness.advanceProcessingTime(12);
    expect(harness.output).toEqual([]);
    harness.advanceProcessingTime(100);
    expect(harness.output).toEqual(["a 1 @13 PROCESSING_TIME", "c 1 @13 PROCESSING_TIME", "b 2 @19 PROCESSING_TIME"]);
  });

  test("a timer may register others, also for a time that has passed", async () => {
    class Chain extends KeyedProcessFunction<unknown, unknown, unknown> {
      override processElement(_value: unknown, context: KeyedContext<unknown>): void {
        context.timerService().registerProcessingTimeTimer(10);
      }
      override onTimer(timestampMs: number, context: OnTimerContext<unknown>, out: Collector<unknown>): void {
        out.collect(timestampMs);
        if (timestampMs > 7) context.timerService().registerProcessingTimeTimer(timestampMs - 1);
      }
    }
    const harness = await open(
      keyedProcessFactory(() => new Chain()),
      { keyed },
    );
    harness.process("x");
    harness.advanceProcessingTime(10);
    expect(harness.output).toEqual([10, 9, 8, 7]);
    expect(() => {
      harness.process("x");
      harness.advanceProcessingTime(9);
    }).toThrow("time only moves forward");
  });

  test("are restored with their keys at another parallelism, and overdue ones fire at once", async () => {
    const before = await open(sessions, { keyed });
    const keys = "abcdefghij".split("");
    for (const key of keys) before.process(key, 0);
    const restored = before.snapshotKeyed(1);
    before.advanceProcessingTime(50); // after the cut: of no concern to it
    const output: unknown[] = [];
    for (const subtaskIndex of [0, 1, 2]) {
      const subtask = testSubtask({ subtaskIndex, parallelism: 3 });
      const after = new OperatorHarness<Operator>(create(sessions, subtask), {
        subtask,
        keyed: { ...keyed, restored },
      });
      after.nowMs = 1_000;
      await after.open();
      after.advanceProcessingTime(1_000);
      output.push(...after.output);
      expect(after.output.length).toBeLessThan(keys.length);
    }
    expect(output.map(String).toSorted((a, b) => (a < b ? -1 : 1))).toEqual(
      keys.map((key) => `${key} 1 @10 PROCESSING_TIME`),
    );
  });

  test("refuse a timestamp that is no whole number, and to work without a key", async () => {
    class Wrong extends KeyedProcessFunction<unknown, unknown, unknown> {
      #timers: TimerService | undefined;
      override processElement(value: unknown, context: KeyedContext<unknown>): void {
        this.#timers = context.timerService();
        this.#timers.registerProcessingTimeTimer(value as number);
      }
      override close(): void {
        this.#timers?.registerProcessingTimeTimer(1);
      }
    }
    const harness = await open(
      keyedProcessFactory(() => new Wrong()),
      { keyed: { keyType: Types.STRING(), selectors: [() => "k"] } },
    );
    expect(() => harness.process(0.5)).toThrow(/uid operator-uid: a timer at 0.5, which is not a whole number/);
    harness.process(1);
    harness.advanceProcessingTime(1);
    expect(() => harness.operator.close(true)).toThrow(/registerProcessingTimeTimer\(\) outside of a key/);
  });
});

describe("UF1: a promise is refused and names the operator", () => {
  const message =
    /operator "operator" \(uid operator-uid\) returned a promise: functions are synchronous; async I\/O is an operator/;
  test.each<readonly [string, OperatorFactory]>([
    ["map", mapFactory(async (value) => value)],
    ["filter", filterFactory((() => Promise.reject(new Error("late"))) as unknown as (value: unknown) => boolean)],
    ["process", processFactory(new Promising())],
  ])("%s", async (_name, factory) => {
    const harness = await open(factory);
    expect(() => harness.process(1)).toThrow(message);
    expect(harness.output).toEqual([]);
  });

  test("open", async () => {
    await expect(open(processFactory(new OpensLate()))).rejects.toThrow(message);
  });
});

describe("instances", () => {
  test("UF2: one object serves one subtask, a supplier makes as many as needed", () => {
    const given = keyedProcessFactory(new KeyedSum() as KeyedProcessFunction<unknown, unknown, unknown>);
    create(given);
    expect(() => create(given, testSubtask({ subtaskIndex: 1 }))).toThrow(/already used by another subtask/);
    const supplied = keyedProcessFactory(() => new KeyedSum() as KeyedProcessFunction<unknown, unknown, unknown>);
    create(supplied);
    create(supplied);
  });

  test("keyed state without a key is refused", async () => {
    class Asks extends ProcessFunction<unknown, unknown> {
      override open(context: RuntimeContext): void {
        context.getState(new ValueStateDescriptor("sum", Types.LONG()));
      }
      override processElement(): void {}
    }
    await expect(open(processFactory(new Asks()))).rejects.toMatchObject({ code: "STATE_ACCESS_INVALID" });
  });
});

test("RL1: over any stretch at most the rate and one burst passes, and a steady reader gets the whole rate", () =>
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 100_000 }),
      fc.array(fc.tuple(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 1, max: 500 })), { maxLength: 50 }),
      (ratePerSecond, polls) => {
        let nowMs = 0;
        const rate = new RateLimit({ ratePerSecond, nowMs });
        const burst = Math.max(1, ratePerSecond / 10);
        let taken = 0;
        for (const [pauseMs, wanted] of polls) {
          nowMs += pauseMs;
          const available = rate.available(nowMs, wanted);
          expect(available).toBeLessThanOrEqual(wanted);
          rate.take(available);
          taken += available;
          expect(taken).toBeLessThanOrEqual((nowMs * ratePerSecond) / 1_000 + burst + 0.001);
          if (available < wanted) {
            expect(rate.nextMs()).toBeGreaterThan(nowMs);
            const later = rate.nextMs();
            expect(rate.available(later, 1)).toBe(1);
            nowMs = later;
          }
        }
      },
    ),
  ));
