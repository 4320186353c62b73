// Operator state of user functions: what the handles promise, what a snapshot holds, what a restore refuses.

import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";

import {
  KeyedProcessFunction,
  ListStateDescriptor,
  MapStateDescriptor,
  ProcessFunction,
  RichMapFunction,
  Types,
  type BroadcastState,
  type CheckpointedFunction,
  type CheckpointId,
  type CheckpointListener,
  type FunctionInitializationContext,
  type FunctionSnapshotContext,
  type KeyedProcessFunction as AnyKeyed,
  type ListState,
  type OneInputOperator,
  type OperatorFactory,
  type OperatorState,
  type OperatorStateContent,
  type OperatorStateStore,
  type TypeInformation,
  type ValueState,
  ValueStateDescriptor,
} from "../model/index.ts";
import { keyedProcessFactory, mapFactory, OperatorHarness, processFactory, testSubtask } from "./index.ts";
import { HeapOperatorStateStore } from "./operator-state-store.ts";

const NUMBERS = new ListStateDescriptor("numbers", Types.LONG());
const RULES = new MapStateDescriptor("rules", Types.STRING(), Types.LONG());
const ROWS = Types.ROW({ id: Types.LONG(), tags: Types.LIST(Types.STRING()) });

function storeFrom(states?: OperatorState): HeapOperatorStateStore {
  const restored =
    states === undefined ? undefined : { checkpointId: 1 as CheckpointId, retractThrough: undefined, states };
  return new HeapOperatorStateStore({ subtask: testSubtask(), restored });
}

/** What a restored operator is given of two subtasks' snapshots, when it gets the items of both. */
function merged(...states: readonly OperatorState[]): OperatorState {
  const all = new Map<string, OperatorStateContent>();
  for (const state of states) {
    for (const [name, content] of state)
      all.set(name, { ...content, items: [...(all.get(name)?.items ?? []), ...content.items] });
  }
  return all;
}

describe("lists", () => {
  test("OB1: what a snapshot holds comes back in order, and later changes are not in it", () => {
    const store = storeFrom();
    const rows = store.getListState(new ListStateDescriptor("rows", ROWS));
    const row = { id: 1, tags: ["a"] };
    rows.add(row);
    rows.addAll([{ id: 2, tags: [] }]);
    const state = store.snapshot();
    row.tags.push("b");
    rows.clear();
    expect(state.get("rows")).toMatchObject({ mode: "split", itemType: ROWS.descriptor, items: { length: 2 } });
    const again = storeFrom(state).getListState(new ListStateDescriptor("rows", ROWS));
    expect([...again.get()]).toEqual([
      { id: 1, tags: ["a"] },
      { id: 2, tags: [] },
    ]);
    expect(store.snapshot().get("rows")).toMatchObject({ items: [] }); // a state that is there stays there
  });

  test("union: everybody's items; update replaces them", () => {
    const stores = [1, 2].map((n) => {
      const store = storeFrom();
      store.getUnionListState(NUMBERS).add(n);
      return store.snapshot();
    });
    const store = storeFrom(merged(...stores));
    const numbers = store.getUnionListState(NUMBERS);
    expect([...numbers.get()]).toEqual([1, 2]);
    numbers.update([3]);
    expect([...numbers.get()]).toEqual([3]);
    numbers.addAll(numbers.get()); // what it gave is not what it iterates over
    expect([...numbers.get()]).toEqual([3, 3]);
    expect(store.snapshot().get("numbers")).toMatchObject({ mode: "union", items: { length: 2 } });
  });
});

test("broadcast state is a map, by value also for keys that are rows, through any operations and restores", () => {
  const key = Types.ROW({ a: Types.LONG(), b: Types.STRING() });
  const descriptor = new MapStateDescriptor("m", key, Types.LONG());
  const keyOf = (n: number) => ({ a: n, b: `k${n}` });
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.constantFrom("put", "remove", "restore", "clear"), fc.nat(5), fc.nat(100)), {
        maxLength: 30,
      }),
      (steps) => {
        let store = storeFrom();
        let state = store.getBroadcastState(descriptor);
        const model = new Map<number, number>();
        for (const [step, k, value] of steps) {
          if (step === "put") {
            state.put(keyOf(k), value);
            model.set(k, value);
          } else if (step === "remove") {
            state.remove(keyOf(k));
            model.delete(k);
          } else if (step === "clear" && value < 20) {
            state.clear();
            model.clear();
          } else {
            store = storeFrom(store.snapshot());
            state = store.getBroadcastState(descriptor);
          }
          for (let i = 0; i <= 5; i += 1)
            expect([state.get(keyOf(i)), state.contains(keyOf(i))]).toEqual([model.get(i), model.has(i)]);
          expect(new Map([...state.entries()].map(([{ a }, v]) => [a, v]))).toEqual(model);
          expect([[...state.keys()].length, [...state.values()].length]).toEqual([model.size, model.size]);
          expect(state.isEmpty()).toBe(model.size === 0);
        }
      },
    ),
    { numRuns: 100 },
  );
});

test("OB3: elements and map values evolve, keys of broadcast state do not", () => {
  const before = storeFrom();
  before.getListState(new ListStateDescriptor("rows", Types.ROW({ id: Types.INT(), gone: Types.STRING() }))).add({
    id: 1,
    gone: "x",
  });
  before.getBroadcastState(new MapStateDescriptor("rules", Types.INT(), Types.INT())).put(5, 6);
  const after = storeFrom(before.snapshot());
  const rows = Types.ROW({ id: Types.LONG(), tags: Types.LIST(Types.STRING()) }, { defaults: { tags: ["new"] } });
  expect([...after.getListState(new ListStateDescriptor("rows", rows)).get()]).toEqual([{ id: 1, tags: ["new"] }]);
  const rules = after.getBroadcastState(new MapStateDescriptor("rules", Types.INT(), Types.LONG()));
  expect([...rules.entries()]).toEqual([[5, 6]]);
  rules.put(5, 2 ** 40);
  expect(after.snapshot().get("rules")).toMatchObject({ itemType: Types.TUPLE(Types.INT(), Types.LONG()).descriptor });
  expect(() =>
    storeFrom(before.snapshot()).getBroadcastState(new MapStateDescriptor("rules", Types.LONG(), Types.INT())),
  ).toThrow(/\(uid .*\), operator state "rules": the snapshot has map keys of INT, the job declares LONG; keys never/u);
});

describe("what is refused", () => {
  const asked = (call: (store: OperatorStateStore) => unknown, states?: OperatorState): unknown => {
    try {
      call(storeFrom(states));
    } catch (thrown) {
      return thrown;
    }
    return undefined;
  };
  const stored = (): OperatorState => {
    const store = storeFrom();
    store.getListState(NUMBERS).add(1);
    return store.snapshot();
  };

  test.each<readonly [about: string, call: (store: OperatorStateStore) => unknown, code: string, message: RegExp]>([
    [
      "one name, two kinds",
      (store) => [store.getListState(NUMBERS), store.getUnionListState(NUMBERS)],
      "STATE_ACCESS_INVALID",
      /"numbers" by getUnionListState as LONG, and before by getListState/u,
    ],
    [
      "one name, two types",
      (store) => [store.getListState(NUMBERS), store.getListState(new ListStateDescriptor("numbers", Types.STRING()))],
      "STATE_ACCESS_INVALID",
      /as STRING, and before by getListState as LONG/u,
    ],
    [
      "a type without an encoding",
      (store) => store.getListState(new ListStateDescriptor("g", Types.GENERIC() as TypeInformation<unknown>)),
      "STATE_ACCESS_INVALID",
      /GENERIC/u,
    ],
    [
      "a time to live",
      (store) => store.getListState(new ListStateDescriptor("t", Types.LONG(), { ttl: { ttlMs: 1 } })),
      "STATE_ACCESS_INVALID",
      /time to live/u,
    ],
    [
      "a value of another type",
      (store) => store.getListState(NUMBERS).addAll([1, "x" as unknown as number]),
      "TYPE_MISMATCH",
      /"numbers": /u,
    ],
  ])("%s", (_about, call, code, message) => {
    expect(asked(call)).toMatchObject({ code, message: expect.stringMatching(message), remedy: expect.any(String) });
  });

  test.each<readonly [about: string, call: (store: OperatorStateStore) => unknown, message: RegExp]>([
    [
      "another type",
      (store) => store.getListState(new ListStateDescriptor("numbers", Types.STRING())),
      /"numbers": the snapshot holds LONG, the job declares STRING/u,
    ],
    [
      "another kind",
      (store) => store.getUnionListState(NUMBERS),
      /"numbers" was stored by getListState, the job asks for it by getUnionListState/u,
    ],
  ])("OB3: stored state as %s", (_about, call, message) => {
    expect(asked(call, stored())).toMatchObject({
      code: "STATE_INCOMPATIBLE",
      message: expect.stringMatching(message),
    });
    // Without items nothing is lost: a subtask that was dealt none may not know the type.
    const empty = new Map([["numbers", { mode: "split", items: [] } as const]]);
    expect(asked((store) => store.getListState(NUMBERS), empty)).toBeUndefined();
  });

  test("data that no user function wrote", () => {
    const json = new Map([["numbers", { mode: "split", items: [{ json: 1 }] } as const]]);
    expect(asked((store) => store.getListState(NUMBERS), json)).toMatchObject({ code: "STATE_INCOMPATIBLE" });
  });
});

test("OB2: a state that the function does not ask for is stored again as it was", () => {
  const store = storeFrom();
  store.getListState(NUMBERS).addAll([1, 2]);
  store.getBroadcastState(RULES).put("a", 1);
  const state = store.snapshot();
  const other = storeFrom(state);
  other.getListState(new ListStateDescriptor("new", Types.STRING())).add("x");
  const next = other.snapshot();
  expect([...next.keys()].toSorted()).toEqual(["new", "numbers", "rules"]);
  expect([...storeFrom(next).getListState(NUMBERS).get()]).toEqual([1, 2]);
});

// ---- functions

/** Emits every second record it has seen, in pairs; the odd one out is its state. */
class Pairs extends ProcessFunction<number, string> implements CheckpointedFunction, CheckpointListener {
  readonly log: string[];
  #held!: ListState<number>;
  #one: number | undefined;

  constructor(log: string[]) {
    super();
    this.log = log;
  }

  initializeState(context: FunctionInitializationContext): void {
    this.log.push(`initialize ${context.isRestored()} ${String(context.getRestoredCheckpointId())}`);
    this.#held = context.getOperatorStateStore().getListState(new ListStateDescriptor("held", Types.LONG()));
    [this.#one] = this.#held.get();
  }

  override open(): void {
    this.log.push("open");
  }

  override processElement(value: number, _context: object, out: { collect(record: string): void }): void {
    if (this.#one === undefined) {
      this.#one = value;
      return;
    }
    out.collect(`${this.#one}+${value}`);
    this.#one = undefined;
  }

  snapshotState(context: FunctionSnapshotContext): void {
    this.log.push(`snapshot ${context.getCheckpointId()} at ${context.getCheckpointTimestamp()}`);
    this.#held.update(this.#one === undefined ? [] : [this.#one]);
  }

  notifyCheckpointComplete(checkpointId: number): void {
    this.log.push(`complete ${checkpointId}`);
  }

  notifyCheckpointAborted(checkpointId: number): void {
    this.log.push(`aborted ${checkpointId}`);
  }

  override close(): void {
    this.log.push("close");
  }
}

function open(factory: OperatorFactory, states?: OperatorState): Promise<OperatorHarness<OneInputOperator>> {
  if (factory.kind !== "oneInput") throw new Error("a function of one input");
  const restored =
    states === undefined ? {} : { restored: { checkpointId: 7 as CheckpointId, retractThrough: undefined, states } };
  return new OperatorHarness(factory.create(testSubtask()), restored).open();
}

describe("CheckpointedFunction", () => {
  test("FO1, CP1, CP2: initialize, open, records, snapshot, notifications, close", async () => {
    const log: string[] = [];
    const pairs = processFactory(() => new Pairs(log) as ProcessFunction<unknown, unknown>);
    const first = await open(pairs);
    for (const n of [1, 2, 3]) first.process(n);
    first.nowMs = 50;
    const state = await first.snapshot(7);
    first.process(4);
    first.operator.notifyCheckpointAborted?.(6 as CheckpointId);
    await first.operator.notifyCheckpointComplete?.(7 as CheckpointId);
    await first.operator.close(false);
    const second = await open(pairs, state);
    second.process(4);
    expect([first.output, second.output]).toEqual([["1+2", "3+4"], ["3+4"]]);
    expect(log).toEqual([
      "initialize false undefined",
      "open",
      "snapshot 7 at 50",
      "aborted 6",
      "complete 7",
      "close",
      "initialize true 7",
      "open",
    ]);
  });

  test("a rich map function may have it, and a keyed one too", async () => {
    class Numbering extends RichMapFunction<string, string> implements CheckpointedFunction {
      #next!: BroadcastState<string, number>;
      initializeState(context: FunctionInitializationContext): void {
        this.#next = context.getOperatorStateStore().getBroadcastState(RULES);
      }
      override map(value: string): string {
        const n = this.#next.get("n") ?? 0;
        this.#next.put("n", n + 1);
        return `${n} ${value}`;
      }
      snapshotState(): void {}
    }
    const mapped = await open(mapFactory(new Numbering() as RichMapFunction<unknown, unknown>));
    mapped.process("a");
    const again = await open(
      mapFactory(new Numbering() as RichMapFunction<unknown, unknown>),
      await mapped.snapshot(1),
    );
    again.process("b");
    expect([mapped.output, again.output]).toEqual([["0 a"], ["1 b"]]);

    class Keyed extends KeyedProcessFunction<string, string, string> implements CheckpointedFunction {
      #count!: ListState<number>;
      #last!: ValueState<number>;
      initializeState(context: FunctionInitializationContext): void {
        this.#count = context.getOperatorStateStore().getListState(NUMBERS);
        this.#last = context.getKeyedStateStore().getState(new ValueStateDescriptor("last", Types.LONG()));
      }
      override processElement(): void {
        this.#count.add(1);
        this.#last.update((this.#last.value() ?? 0) + 1);
      }
      snapshotState(): void {}
    }
    const factory = keyedProcessFactory(() => new Keyed() as AnyKeyed<unknown, unknown, unknown>);
    if (factory.kind !== "oneInput") throw new Error("one input");
    const keyed = await new OperatorHarness(factory.create(testSubtask()), {
      keyed: { keyType: Types.STRING(), selectors: [(value: string) => value] },
    }).open();
    keyed.process("a");
    keyed.process("b");
    expect((await keyed.snapshot(1)).get("numbers")?.items).toHaveLength(2);
    expect(keyed.snapshotKeyed(1)).toMatchObject([{ stateName: "last" }]);
    class Asks extends ProcessFunction<unknown, unknown> implements CheckpointedFunction {
      initializeState(context: FunctionInitializationContext): void {
        context.getKeyedStateStore().getState(new ValueStateDescriptor("last", Types.LONG()));
      }
      override processElement(): void {}
      snapshotState(): void {}
    }
    await expect(open(processFactory(() => new Asks()))).rejects.toMatchObject({ code: "STATE_ACCESS_INVALID" });
  });

  test("FO2: restored operator state for a function that keeps none is refused, unless it is empty", async () => {
    class Plain extends ProcessFunction<unknown, unknown> {
      override processElement(): void {}
    }
    const plain = processFactory(() => new Plain());
    const store = storeFrom();
    const numbers = store.getListState(NUMBERS);
    await open(plain, store.snapshot());
    numbers.add(1);
    await expect(open(plain, store.snapshot())).rejects.toMatchObject({
      code: "STATE_INCOMPATIBLE",
      message: expect.stringContaining('"numbers"'),
    });
    expect(await (await open(plain)).snapshot(1)).toEqual(new Map());
  });

  test("UF1: promises are refused in every method", async () => {
    const late = Promise.resolve() as unknown as undefined;
    class Late extends ProcessFunction<unknown, unknown> implements CheckpointedFunction, CheckpointListener {
      readonly #in: string;
      constructor(where: string) {
        super();
        this.#in = where;
      }
      initializeState(): void {
        return this.#in === "initializeState" ? late : undefined;
      }
      override processElement(): void {}
      snapshotState(): void {
        return this.#in === "snapshotState" ? late : undefined;
      }
      notifyCheckpointComplete(): void {
        return this.#in === "notifyCheckpointComplete" ? late : undefined;
      }
    }
    const factory = (where: string): OperatorFactory => processFactory(() => new Late(where));
    const message = /returned a promise/u;
    await expect(open(factory("initializeState"))).rejects.toThrow(message);
    await expect((await open(factory("snapshotState"))).snapshot(1)).rejects.toThrow(message);
    const told = await open(factory("notifyCheckpointComplete"));
    expect(() => told.operator.notifyCheckpointComplete?.(1 as CheckpointId)).toThrow(message);
  });
});
