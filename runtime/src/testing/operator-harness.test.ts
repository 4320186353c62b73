// The public operator harness, as users use it.

import { setImmediate as callbacks } from "node:timers/promises";

import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";

import {
  KeyedCoProcessFunction,
  KeyedProcessFunction,
  ListStateDescriptor,
  MapStateDescriptor,
  OutputTag,
  ProcessFunction,
  RichFunction,
  RichSinkFunction,
  Types,
  ValueStateDescriptor,
} from "../model/index.ts";
import type {
  BroadcastState,
  CheckpointedFunction,
  Collector,
  FunctionInitializationContext,
  KeyedContext,
  ListState,
  OnTimerContext,
  RuntimeContext,
  SideOutputContext,
  SinkContext,
  ValueState,
} from "../model/index.ts";
import { AsyncDataStream } from "../datastream/index.ts";
import type { DataStream } from "../datastream/index.ts";
import { oneInputTestHarness, ProcessFunctionTestHarnesses, twoInputTestHarness } from "./index.ts";
import type { OneInputTestHarness, OperatorSnapshot, TestHarnessOptions } from "./index.ts";

class Count extends KeyedProcessFunction<string, string, string> {
  #count!: ValueState<number>;

  override open(context: RuntimeContext): void {
    this.#count = context.getState(new ValueStateDescriptor("count", Types.LONG()));
  }

  override processElement(_word: string, ctx: KeyedContext<string>, out: Collector<string>): void {
    const count = (this.#count.value() ?? 0) + 1;
    this.#count.update(count);
    out.collect(`${ctx.getCurrentKey()} ${count}`);
  }
}

function counting(options?: TestHarnessOptions): Promise<OneInputTestHarness<string, string>> {
  return ProcessFunctionTestHarnesses.forKeyedProcessFunction(
    () => new Count(),
    (word) => word,
    Types.STRING(),
    options,
  );
}

describe("one function", () => {
  test("keyed: output in order, taken once; state survives a snapshot and what came after it is not in it", async () => {
    const harness = await counting();
    harness.processElements("a", "b", "a");
    expect(harness.output).toEqual(["a 1", "b 1", "a 2"]);
    expect(harness.takeOutput()).toHaveLength(3);
    const snapshot = await harness.snapshot();
    harness.processElement("a");
    expect(harness.output).toEqual(["a 3"]);
    const restored = await counting({ restore: snapshot });
    restored.processElements("a", "c");
    expect(restored.output).toEqual(["a 3", "c 1"]);
    expect((await restored.snapshot()).checkpointId).toBe(snapshot.checkpointId + 1);
  });

  test("HA2: timers fire when the test moves the time, restored and overdue ones too", async () => {
    class Remind extends KeyedProcessFunction<string, string, string> {
      override processElement(_word: string, ctx: KeyedContext<string>): void {
        const timers = ctx.timerService();
        timers.registerProcessingTimeTimer(timers.currentProcessingTime() + 10);
      }
      override onTimer(timestampMs: number, ctx: OnTimerContext<string>, out: Collector<string>): void {
        out.collect(`${ctx.getCurrentKey()} ${timestampMs}`);
      }
    }
    const reminding = (options?: TestHarnessOptions): Promise<OneInputTestHarness<string, string>> =>
      ProcessFunctionTestHarnesses.forKeyedProcessFunction(
        () => new Remind(),
        (word) => word,
        Types.STRING(),
        options,
      );
    const harness = await reminding({ processingTime: 100 });
    harness.processElement("a");
    harness.setProcessingTime(109);
    harness.processElement("b");
    expect(harness.takeOutput()).toEqual([]);
    const restored = await reminding({ restore: await harness.snapshot(), processingTime: 112 });
    harness.setProcessingTime(110);
    restored.setProcessingTime(112);
    expect([harness.output, restored.takeOutput()]).toEqual([["a 110"], ["a 110"]]);
    restored.setProcessingTime(1_000);
    expect(restored.output).toEqual(["b 119"]);
  });

  test("side outputs, two inputs, an exception as it is, and the end", async () => {
    const late = new OutputTag("late", Types.STRING());
    const told: string[] = [];
    class Split extends ProcessFunction<number, number> {
      override processElement(value: number, ctx: SideOutputContext, out: Collector<number>): void {
        if (value < 0) throw new RangeError("negative");
        if (value > 9) ctx.output(late, `late ${value}`);
        else out.collect(value);
      }
      override close(): void {
        told.push("closed");
      }
    }
    const split = await ProcessFunctionTestHarnesses.forProcessFunction(() => new Split());
    split.processElements(1, 10);
    expect([split.output, split.getSideOutput(late)]).toEqual([[1], ["late 10"]]);
    expect(() => split.processElement(-1)).toThrow(RangeError);
    await split.close();
    expect(told).toEqual(["closed"]);

    class Join extends KeyedCoProcessFunction<string, string, number, string> {
      #name!: ValueState<string>;
      override open(context: RuntimeContext): void {
        this.#name = context.getState(new ValueStateDescriptor("name", Types.STRING()));
      }
      override processElement1(name: string): void {
        this.#name.update(name);
      }
      override processElement2(value: number, _ctx: KeyedContext<string>, out: Collector<string>): void {
        out.collect(`${this.#name.value() ?? "?"} ${value}`);
      }
    }
    const join = await ProcessFunctionTestHarnesses.forKeyedCoProcessFunction(
      () => new Join(),
      [(name: string) => name.slice(0, 1), (value: number) => (value % 2 === 0 ? "e" : "o")],
      Types.STRING(),
    );
    join.processElement1("even");
    join.processElement2(4);
    join.processElement2(5);
    expect(join.output).toEqual(["even 4", "? 5"]);
  });
});

describe("HA1: any operator of a stream", () => {
  test("what the API builds is what runs: rolling sums, maps", async () => {
    const type = Types.TUPLE(Types.STRING(), Types.LONG());
    const sums = await oneInputTestHarness(type, (stream) => stream.keyBy(([key]) => key, Types.STRING()).sum(1));
    sums.processElements(["a", 1], ["b", 5], ["a", 2]);
    expect(sums.output).toEqual([
      ["a", 1],
      ["b", 5],
      ["a", 3],
    ]);
    const doubled = await oneInputTestHarness(Types.LONG(), (stream) => stream.map((n) => n * 2, Types.LONG()));
    doubled.processElement(4);
    expect(doubled.output).toEqual([8]);
  });

  test("async I/O: an answer is output once it has come; until then its input is in the snapshot", async () => {
    const answers: (() => void)[] = [];
    const ask = (n: number): Promise<string> => new Promise((answer) => void answers.push(() => answer(`${n}!`)));
    const build = (stream: DataStream<number>): DataStream<string> =>
      AsyncDataStream.unorderedWait(stream, ask, 1_000, 10, Types.STRING()).uid("ask");
    const harness = await oneInputTestHarness(Types.LONG(), build);
    harness.processElements(1, 2);
    answers[1]?.();
    await callbacks();
    expect(harness.takeOutput()).toEqual(["2!"]);
    const restored = await oneInputTestHarness(Types.LONG(), build, { restore: await harness.snapshot() });
    expect([answers.length, restored.output]).toEqual([3, []]);
    restored.setProcessingTime(1_000);
    expect(() => restored.output).toThrow("an input was not answered within 1000 ms");
  });

  test("it is one operator", async () => {
    const two = oneInputTestHarness(Types.LONG(), (stream) => stream.map((n) => n, Types.LONG()).filter((n) => n > 0));
    await expect(two).rejects.toThrow("a test harness runs one operator, and this is map and filter");
    const none = twoInputTestHarness([Types.LONG(), Types.LONG()], (first, second) => first.union(second));
    await expect(none).rejects.toThrow("this is none");
  });
});

class Buffer2 extends ProcessFunction<string, string> implements CheckpointedFunction {
  #held!: ListState<string>;

  initializeState(context: FunctionInitializationContext): void {
    this.#held = context.getOperatorStateStore().getListState(new ListStateDescriptor("held", Types.STRING()));
  }

  snapshotState(): void {}

  override processElement(value: string, _ctx: SideOutputContext, out: Collector<string>): void {
    if (value !== "?") this.#held.add(value);
    else for (const held of this.#held.get()) out.collect(held);
  }
}

describe("HA3: rescaling", () => {
  test("keyed state follows its key, whatever the parallelism", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.string({ minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 30 }),
        fc.integer({ min: 1, max: 5 }),
        async (words, parallelism) => {
          const one = await counting();
          one.processElements(...words);
          const snapshot = await one.snapshot();
          const subtasks = await Promise.all(
            Array.from({ length: parallelism }, (_, subtaskIndex) =>
              counting({ restore: snapshot, parallelism, subtaskIndex }),
            ),
          );
          const snapshots = await Promise.all(subtasks.map((subtask) => subtask.snapshot()));
          const again = await counting({ restore: snapshots });
          for (const word of new Set(words)) again.processElement(word);
          const expected = [...new Set(words)].map((w) => `${w} ${words.filter((v) => v === w).length + 1}`);
          expect(again.output).toEqual(expected);
        },
      ),
      { numRuns: 30 },
    );
  });

  test("a list is dealt over the subtasks, each item once", async () => {
    const buffering = (options?: TestHarnessOptions): Promise<OneInputTestHarness<string, string>> =>
      ProcessFunctionTestHarnesses.forProcessFunction(() => new Buffer2(), options);
    const one = await buffering();
    one.processElements("a", "b", "c", "d", "e");
    const snapshot = await one.snapshot();
    const parts: (readonly string[])[] = [];
    const snapshots: OperatorSnapshot[] = [];
    for (let subtaskIndex = 0; subtaskIndex < 3; subtaskIndex += 1) {
      const part = await buffering({ restore: snapshot, parallelism: 3, subtaskIndex });
      part.processElement("?");
      parts.push(part.takeOutput());
      snapshots.push(await part.snapshot());
    }
    expect(parts.map((part) => part.length)).toEqual([2, 2, 1]);
    expect(parts.flat().toSorted()).toEqual(["a", "b", "c", "d", "e"]);
    const whole = await buffering({ restore: snapshots });
    whole.processElement("?");
    expect(whole.output.toSorted()).toEqual(["a", "b", "c", "d", "e"]);
  });

  test("state that the next version does not ask for stays in its snapshots; a ROW that has a field more takes it up", async () => {
    class Idle extends KeyedProcessFunction<string, string, string> {
      override processElement(): void {}
    }
    const row = Types.ROW({ count: Types.LONG() });
    const wider = Types.ROW({ count: Types.LONG(), seen: Types.STRING() }, { defaults: { seen: "never" } });
    class Rows extends KeyedProcessFunction<string, string, object> {
      readonly #type: typeof row;
      #state!: ValueState<{ count: number }>;
      constructor(type: typeof row) {
        super();
        this.#type = type;
      }
      override open(context: RuntimeContext): void {
        this.#state = context.getState(new ValueStateDescriptor("row", this.#type));
      }
      override processElement(_word: string, _ctx: KeyedContext<string>, out: Collector<object>): void {
        const before = this.#state.value();
        if (before === undefined) this.#state.update({ count: 1 });
        else out.collect({ ...before });
      }
    }
    const key = (word: string): string => word;
    const one = await ProcessFunctionTestHarnesses.forKeyedProcessFunction(() => new Rows(row), key, Types.STRING());
    one.processElement("a");
    const restore = await one.snapshot();
    const idle = await ProcessFunctionTestHarnesses.forKeyedProcessFunction(() => new Idle(), key, Types.STRING(), {
      restore,
    });
    const next = await ProcessFunctionTestHarnesses.forKeyedProcessFunction(
      () => new Rows(wider),
      key,
      Types.STRING(),
      {
        restore: await idle.snapshot(),
      },
    );
    next.processElement("a");
    expect(next.output).toEqual([{ count: 1, seen: "never" }]);
  });

  test("a function object is one subtask's", async () => {
    const fn = new Count();
    const key = (word: string): string => word;
    expect(fn).toBeInstanceOf(RichFunction);
    await ProcessFunctionTestHarnesses.forKeyedProcessFunction(fn, key, Types.STRING());
    await expect(ProcessFunctionTestHarnesses.forKeyedProcessFunction(fn, key, Types.STRING())).rejects.toThrow(
      "already used by another subtask",
    );
  });
});

interface SinkSeen {
  readonly list: readonly string[];
  readonly union: readonly string[];
  readonly broadcast: readonly (readonly [string, number])[];
}

/** A sink with operator state of every mode; what it was given is told in `seen`. */
class StatefulSink extends RichSinkFunction<string> implements CheckpointedFunction {
  readonly #seen: (seen: SinkSeen) => void;
  readonly #log: string[];
  #list!: ListState<string>;
  #union!: ListState<string>;
  #broadcast!: BroadcastState<string, number>;

  constructor(seen: (seen: SinkSeen) => void, log: string[] = []) {
    super();
    this.#seen = seen;
    this.#log = log;
  }

  initializeState(context: FunctionInitializationContext): void {
    const store = context.getOperatorStateStore();
    this.#list = store.getListState(new ListStateDescriptor("list", Types.STRING()));
    this.#union = store.getUnionListState(new ListStateDescriptor("union", Types.STRING()));
    this.#broadcast = store.getBroadcastState(new MapStateDescriptor("broadcast", Types.STRING(), Types.LONG()));
    const [list, union] = [[...this.#list.get()], [...this.#union.get()]];
    if (context.isRestored()) this.#seen({ list, union, broadcast: [...this.#broadcast.entries()] });
    this.#union.clear();
    this.#log.push("initializeState");
  }

  override open(): void {
    this.#log.push("open");
  }

  override invoke(value: string, ctx: SinkContext): void {
    this.#list.add(value);
    this.#broadcast.put("all", 1);
    this.#log.push(`invoke at ${ctx.currentProcessingTime()}`);
  }

  snapshotState(): void {
    this.#union.add("one of each subtask");
    this.#log.push("snapshotState");
  }

  override finish(): void {
    this.#log.push("finish");
  }

  override close(): void {
    this.#log.push("close");
  }
}

describe("sinks of users", () => {
  test("CP1: list state is dealt out, union and broadcast state go to everyone, at another parallelism", async () => {
    const open = (seen: SinkSeen[], options: TestHarnessOptions) =>
      oneInputTestHarness(
        Types.STRING(),
        (words) => words.addSink(new StatefulSink((one) => seen.push(one))).uid("sink"),
        options,
      );
    const words = Array.from({ length: 11 }, (_, i) => `w${i}`);
    const two = [
      await open([], { parallelism: 2, subtaskIndex: 0 }),
      await open([], { parallelism: 2, subtaskIndex: 1 }),
    ];
    for (const [i, word] of words.entries()) two[i % 2]?.processElement(word);
    let restore = await Promise.all(two.map((subtask) => subtask.snapshot()));
    for (const [parallelism, unionCount] of [
      [3, 2],
      [1, 3],
      [4, 1],
    ] as const) {
      const seen: SinkSeen[] = [];
      const subtasks = [];
      for (let subtaskIndex = 0; subtaskIndex < parallelism; subtaskIndex += 1)
        subtasks.push(await open(seen, { restore, parallelism, subtaskIndex }));
      expect(seen).toHaveLength(parallelism);
      expect(seen.flatMap(({ list }) => list).toSorted()).toEqual(words.toSorted());
      expect(Math.max(...seen.map(({ list }) => list.length))).toBeLessThan(words.length + (parallelism === 1 ? 1 : 0));
      for (const { union, broadcast } of seen) expect([union.length, broadcast]).toEqual([unionCount, [["all", 1]]]);
      restore = await Promise.all(subtasks.map((subtask) => subtask.snapshot()));
    }
  });

  test("FO1: the order of a life, and the time that a record is told", async () => {
    const log: string[] = [];
    const harness = await oneInputTestHarness(
      Types.STRING(),
      (words) => words.addSink(new StatefulSink(() => {}, log)).uid("sink"),
      { processingTime: 7 },
    );
    harness.processElement("a");
    await harness.snapshot();
    await harness.close();
    expect(log).toEqual(["initializeState", "open", "invoke at 7", "snapshotState", "finish", "close"]);
  });

  test("keyed state after keyBy; plain functions", async () => {
    class Counts extends RichSinkFunction<string> {
      readonly told: string[] = [];
      #count!: ValueState<number>;
      override open(context: RuntimeContext): void {
        this.#count = context.getState(new ValueStateDescriptor("count", Types.LONG()));
      }
      override invoke(word: string): void {
        const count = (this.#count.value() ?? 0) + 1;
        this.#count.update(count);
        this.told.push(`${word} ${count}`);
      }
    }
    const open = (sink: Counts, options?: TestHarnessOptions) =>
      oneInputTestHarness(
        Types.STRING(),
        (words) =>
          words
            .keyBy((word) => word, Types.STRING())
            .addSink(sink)
            .uid("counts"),
        options,
      );
    const [before, after] = [new Counts(), new Counts()];
    const harness = await open(before);
    for (const word of ["a", "b", "a"]) harness.processElement(word);
    (await open(after, { restore: await harness.snapshot() })).processElement("a");
    expect([before.told, after.told]).toEqual([["a 1", "b 1", "a 2"], ["a 3"]]);

    const plain: string[] = [];
    const one = await oneInputTestHarness(Types.STRING(), (words) =>
      words.addSink((word, ctx) => void plain.push(`${word} ${ctx.currentProcessingTime()}`)),
    );
    one.processElement("a");
    expect([plain, one.output]).toEqual([["a 0"], []]);
  });

  test("UF1, SU1: promises, and functions that make sinks, are refused; so is a record of another type", async () => {
    const asynchronous = await oneInputTestHarness(Types.STRING(), (words) =>
      words.addSink(() => Promise.resolve() as unknown),
    );
    expect(() => asynchronous.processElement("a")).toThrow("returned a promise");
    const supplied = await oneInputTestHarness(Types.STRING(), (words) =>
      words.addSink(() => new StatefulSink(() => {})),
    );
    expect(() => supplied.processElement("a")).toThrow("returns a sink function");
    // @ts-expect-error a sink of texts is not one of numbers
    await oneInputTestHarness(Types.LONG(), (numbers) => numbers.addSink(new StatefulSink(() => {})));
    // @ts-expect-error nor is a function of texts
    await oneInputTestHarness(Types.LONG(), (numbers) => numbers.addSink((word: string) => void word.length));
  });
});
