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
  ProcessFunction,
  type RuntimeContext,
  type SubtaskInfo,
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
