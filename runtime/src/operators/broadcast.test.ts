// The broadcast state pattern, one operator at a time.

import { describe, expect, test } from "@jest/globals";

import {
  AggregatingStateDescriptor,
  BroadcastProcessFunction,
  KeyedBroadcastProcessFunction,
  ListStateDescriptor,
  MapStateDescriptor,
  OutputTag,
  ReducingStateDescriptor,
  Types,
  ValueStateDescriptor,
  type BroadcastContext,
  type BroadcastState,
  type CheckpointId,
  type Collector,
  type KeyedBroadcastContext,
  type KeyedBroadcastOnTimerContext,
  type KeyedReadOnlyBroadcastContext,
  type OperatorFactory,
  type OperatorState,
  type ReadOnlyBroadcastContext,
  type RuntimeContext,
  type TwoInputOperator,
  type ValueState,
} from "../model/index.ts";
import { broadcastProcessFactory, keyedBroadcastProcessFactory, OperatorHarness, testSubtask } from "./index.ts";
import type { HarnessOptions } from "./index.ts";

const RULES = new MapStateDescriptor("rules", Types.STRING(), Types.LONG());
const OTHER = new MapStateDescriptor("other", Types.STRING(), Types.LONG());
const RESTATED = new OutputTag("restated", Types.STRING());

function open(
  factory: OperatorFactory,
  options: HarnessOptions = {},
  states?: OperatorState,
): Promise<OperatorHarness<TwoInputOperator>> {
  if (factory.kind !== "twoInput") throw new Error("two inputs");
  const restored =
    states === undefined ? {} : { restored: { checkpointId: 1 as CheckpointId, retractThrough: undefined, states } };
  return new OperatorHarness(factory.create(testSubtask()), { ...options, ...restored }).open();
}

/** Multiplies by the rule of the record's name. */
class ApplyRules extends BroadcastProcessFunction<[string, number], [string, number], number> {
  override processElement(
    [name, value]: [string, number],
    ctx: ReadOnlyBroadcastContext,
    out: Collector<number>,
  ): void {
    const rules = ctx.getBroadcastState(RULES);
    if (rules.contains(name)) out.collect(value * (rules.get(name) ?? 0));
    else ctx.output(RESTATED, `${name} is not among ${[...rules.immutableEntries()].length}`);
  }

  override processBroadcastElement([name, factor]: [string, number], ctx: BroadcastContext): void {
    if (factor === 0) ctx.getBroadcastState(RULES).remove(name);
    else ctx.getBroadcastState(RULES).put(name, factor);
  }
}

const applyRules = (): OperatorFactory =>
  broadcastProcessFactory(
    () => new ApplyRules() as BroadcastProcessFunction<unknown, unknown, unknown>,
    [RULES as MapStateDescriptor<unknown, unknown>],
  );

describe("BroadcastProcessFunction", () => {
  test("BF1: rules come by one side and are read on the other, also after a restore", async () => {
    const first = await open(applyRules());
    expect((await first.snapshot(1)).get("rules")).toMatchObject({ mode: "broadcast", items: [] }); // BO1
    first.process(["a", 1], 0);
    first.process(["a", 10], 1);
    first.process(["b", 100], 1);
    first.process(["a", 2], 0);
    first.process(["b", 0], 1);
    first.process(["b", 3], 0);
    expect(first.output).toEqual([20]);
    expect(first.sideOutputs.get("restated")).toEqual(["a is not among 0", "b is not among 1"]);
    const second = await open(applyRules(), {}, await first.snapshot(2));
    second.process(["a", 5], 0);
    expect(second.output).toEqual([50]);
  });

  test("BF1: on the reading side there is nothing to write with; a state that was not named is refused", async () => {
    class Writes extends ApplyRules {
      override processElement(_value: [string, number], ctx: ReadOnlyBroadcastContext): void {
        (ctx.getBroadcastState(RULES) as BroadcastState<string, number>).put("x", 1);
      }
      override processBroadcastElement(_value: [string, number], ctx: BroadcastContext): void {
        ctx.getBroadcastState(OTHER);
      }
    }
    const factory = broadcastProcessFactory(
      () => new Writes() as BroadcastProcessFunction<unknown, unknown, unknown>,
      [RULES as MapStateDescriptor<unknown, unknown>],
    );
    const harness = await open(factory);
    expect(() => harness.process(["a", 1], 0)).toThrow(/put is not a function/u);
    expect(() => harness.process(["a", 1], 1)).toThrow(
      expect.objectContaining({
        code: "STATE_ACCESS_INVALID",
        message: expect.stringMatching(/broadcast state "other", and its stream is broadcast with "rules"/u),
      }),
    );
  });
});

const SUM = new ValueStateDescriptor("sum", Types.LONG());

/** Sums by key; a broadcast record adds to all sums, says them and drops those of its parity. */
class Sums extends KeyedBroadcastProcessFunction<string, [string, number], number, string> {
  #sum!: ValueState<number>;

  override open(context: RuntimeContext): void {
    this.#sum = context.getState(SUM);
  }

  override processElement(
    [, value]: [string, number],
    ctx: KeyedReadOnlyBroadcastContext<string>,
    out: Collector<string>,
  ): void {
    const sum = (this.#sum.value() ?? 0) + value;
    this.#sum.update(sum);
    out.collect(`${ctx.getCurrentKey()}=${sum} by ${ctx.getBroadcastState(RULES).get("n") ?? 0}`);
  }

  override processBroadcastElement(value: number, ctx: KeyedBroadcastContext<string>, out: Collector<string>): void {
    const rules = ctx.getBroadcastState(RULES);
    rules.put("n", (rules.get("n") ?? 0) + 1);
    ctx.applyToKeyedState(SUM, (key, state) => {
      const sum = (state.value() ?? 0) + value;
      out.collect(`${key}:${sum}`);
      if (sum % 2 === 0) state.clear();
      else state.update(sum);
    });
    expect(() => this.#sum.value()).toThrow(/outside of a key/u);
  }
}

describe("KeyedBroadcastProcessFunction", () => {
  const keyed = { keyType: Types.STRING(), selectors: [([key]: [string, number]) => key] };

  test("BF2: keyed state on one side, all keys on the other", async () => {
    const factory = keyedBroadcastProcessFactory(
      () => new Sums() as KeyedBroadcastProcessFunction<unknown, unknown, unknown, unknown>,
      [RULES as MapStateDescriptor<unknown, unknown>],
    );
    const harness = await open(factory, { keyed });
    harness.process(["a", 1], 0);
    harness.process(["b", 2], 0);
    harness.process(1, 1);
    harness.process(["a", 5], 0);
    harness.process(["b", 5], 0);
    expect(harness.output.slice(0, 2)).toEqual(["a=1 by 0", "b=2 by 0"]);
    expect(harness.output.slice(2, 4).map(String).toSorted()).toEqual(["a:2", "b:3"]);
    expect(harness.output.slice(4)).toEqual(["a=5 by 1", "b=8 by 1"]);
    expect((await harness.snapshot(1)).get("rules")?.items).toHaveLength(1);
  });

  test("timers fire under their key and read the broadcast state", async () => {
    class Late extends Sums {
      override processElement(value: [string, number], ctx: KeyedReadOnlyBroadcastContext<string>): void {
        ctx.timerService().registerProcessingTimeTimer(ctx.timerService().currentProcessingTime() + value[1]);
      }
      override onTimer(timestampMs: number, ctx: KeyedBroadcastOnTimerContext<string>, out: Collector<string>): void {
        const known = ctx.getBroadcastState(RULES).get("n") ?? 0;
        out.collect(`${ctx.getCurrentKey()} at ${timestampMs} (${ctx.timeDomain()}) by ${known}`);
      }
    }
    const factory = keyedBroadcastProcessFactory(
      () => new Late() as KeyedBroadcastProcessFunction<unknown, unknown, unknown, unknown>,
      [RULES as MapStateDescriptor<unknown, unknown>],
    );
    const harness = await open(factory, { keyed });
    harness.process(["a", 10], 0);
    harness.process(["b", 5], 0);
    harness.process(1, 1);
    harness.advanceProcessingTime(20);
    expect(harness.output).toEqual(["b at 5 (PROCESSING_TIME) by 1", "a at 10 (PROCESSING_TIME) by 1"]);
  });

  test("applyToKeyedState takes every kind of state", async () => {
    const list = new ListStateDescriptor("list", Types.LONG());
    const map = new MapStateDescriptor("map", Types.STRING(), Types.LONG());
    const largest = new ReducingStateDescriptor("largest", (a: number, b: number) => Math.max(a, b), Types.LONG());
    const mean = new AggregatingStateDescriptor(
      "mean",
      {
        createAccumulator: () => [0, 0] as [number, number],
        add: (value: number, [sum, count]: [number, number]): [number, number] => [sum + value, count + 1],
        getResult: ([sum, count]: [number, number]) => sum / count,
        merge: (a: [number, number], b: [number, number]): [number, number] => [a[0] + b[0], a[1] + b[1]],
      },
      Types.TUPLE(Types.LONG(), Types.LONG()),
    );
    class All extends KeyedBroadcastProcessFunction<string, [string, number], number, unknown> {
      #context!: RuntimeContext;
      override open(context: RuntimeContext): void {
        this.#context = context;
      }
      override processElement([, value]: [string, number]): void {
        this.#context.getListState(list).add(value);
        this.#context.getMapState(map).put(`${value}`, value);
        this.#context.getReducingState(largest).add(value);
        this.#context.getAggregatingState(mean).add(value);
      }
      override processBroadcastElement(
        _value: number,
        ctx: KeyedBroadcastContext<string>,
        out: Collector<unknown>,
      ): void {
        ctx.applyToKeyedState(list, (key, state) => out.collect([key, ...state.get()]));
        ctx.applyToKeyedState(map, (key, state) => out.collect([key, ...state.keys()]));
        ctx.applyToKeyedState(largest, (key, state) => out.collect([key, state.get()]));
        ctx.applyToKeyedState(mean, (key, state) => out.collect([key, state.get()]));
      }
    }
    const factory = keyedBroadcastProcessFactory(
      () => new All() as KeyedBroadcastProcessFunction<unknown, unknown, unknown, unknown>,
      [],
    );
    const harness = await open(factory, { keyed });
    harness.process(["a", 1], 0);
    harness.process(["a", 4], 0);
    harness.process(0, 1);
    expect(harness.output).toEqual([
      ["a", 1, 4],
      ["a", "1", "4"],
      ["a", 4],
      ["a", 2.5],
    ]);
  });
});
