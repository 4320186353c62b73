// A job with every kind of state, stopped and started again at other parallelisms on the same store: nothing lost, nothing twice.
//
// Not here: the formulas (checkpoint/assign.test.ts), the same on real processes (runtime/test/rescale).

import { describe, expect, test } from "@jest/globals";

import { GeneratorSource } from "../connectors/index.ts";
import type { StreamExecutionEnvironment } from "../datastream/index.ts";
import {
  KeyedBroadcastProcessFunction,
  KeyedProcessFunction,
  ListStateDescriptor,
  MapStateDescriptor,
  ProcessFunction,
  Types,
  ValueStateDescriptor,
} from "../model/index.ts";
import type {
  BroadcastState,
  CheckpointedFunction,
  Collector,
  FunctionInitializationContext,
  FunctionSnapshotContext,
  KeyedBroadcastContext,
  KeyedContext,
  KeyedReadOnlyBroadcastContext,
  ListState,
  RuntimeContext,
  ValueState,
} from "../model/index.ts";
import { CollectSink, MemoryObjectStore, MiniCluster } from "./index.ts";

const COUNT = 3_000;
const KEYS = 37;
/** So many records are held back before they are passed on: there is always something in the list state. */
const HELD_MAX = 10;
const SPEED = new MapStateDescriptor("speed", Types.STRING(), Types.LONG());

/** What the functions said of themselves; the cluster runs in this thread. */
interface Witness {
  /** By checkpoint: what all subtasks held back at it. */
  readonly held: Map<number, number[]>;
  /** Union lists as subtasks were given them, by parallelism. */
  readonly unions: { readonly parallelism: number; readonly restored: readonly string[] }[];
  readonly broadcasts: (number | undefined)[];
}

class HoldBack extends ProcessFunction<number, number> implements CheckpointedFunction {
  readonly #witness: Witness;
  #held: number[] = [];
  #list!: ListState<number>;
  #union!: ListState<string>;
  #broadcast!: BroadcastState<string, number>;
  #restored: readonly string[] = [];
  #where = "";

  constructor(witness: Witness) {
    super();
    this.#witness = witness;
  }

  initializeState(context: FunctionInitializationContext): void {
    const store = context.getOperatorStateStore();
    this.#list = store.getListState(new ListStateDescriptor("held", Types.LONG()));
    this.#held = [...this.#list.get()];
    this.#union = store.getUnionListState(new ListStateDescriptor("where", Types.STRING()));
    this.#restored = [...this.#union.get()];
    this.#broadcast = store.getBroadcastState(SPEED);
    if (context.isRestored()) this.#witness.broadcasts.push(this.#broadcast.get("a"));
    else this.#broadcast.put("a", 1);
  }

  override open(context: RuntimeContext): void {
    const parallelism = context.numberOfParallelSubtasks;
    this.#where = `${context.indexOfThisSubtask}/${parallelism}`;
    this.#witness.unions.push({ parallelism, restored: this.#restored });
  }

  override processElement(value: number, _context: object, out: Collector<number>): void {
    this.#held.push(value);
    if (this.#held.length <= HELD_MAX) return;
    for (const one of this.#held) out.collect(one);
    this.#held = [];
  }

  snapshotState(context: FunctionSnapshotContext): void {
    this.#list.update(this.#held);
    this.#union.update([this.#where]);
    const all = this.#witness.held.get(context.getCheckpointId()) ?? [];
    this.#witness.held.set(context.getCheckpointId(), [...all, ...this.#held]);
  }
}

class Count extends KeyedProcessFunction<number, number, string> {
  #count!: ValueState<number>;

  override open(context: RuntimeContext): void {
    this.#count = context.getState(new ValueStateDescriptor("count", Types.LONG()));
  }

  override processElement(value: number, ctx: KeyedContext<number>, out: Collector<string>): void {
    const count = (this.#count.value() ?? 0) + 1;
    this.#count.update(count);
    out.collect(`${value} ${ctx.getCurrentKey()} ${count}`);
  }
}

const RULES = new MapStateDescriptor("rules", Types.LONG(), Types.LONG());

/** Emits the record, its key, the key's count, and the rules that are known. */
class CountWithRules extends KeyedBroadcastProcessFunction<number, number, number, string> {
  #count!: ValueState<number>;

  override open(context: RuntimeContext): void {
    this.#count = context.getState(new ValueStateDescriptor("count", Types.LONG()));
  }

  override processElement(value: number, ctx: KeyedReadOnlyBroadcastContext<number>, out: Collector<string>): void {
    const count = (this.#count.value() ?? 0) + 1;
    this.#count.update(count);
    const rules = Array.from(ctx.getBroadcastState(RULES).immutableEntries(), ([rule]) => rule);
    out.collect(`${value} ${ctx.getCurrentKey()} ${count} ${rules.toSorted((a, b) => a - b).join()}`);
  }

  override processBroadcastElement(rule: number, ctx: KeyedBroadcastContext<number>): void {
    ctx.getBroadcastState(RULES).put(rule, rule);
  }
}

interface Job {
  readonly sink: CollectSink<string>;
  readonly witness: Witness;
  readonly uid?: string;
  readonly maxParallelism?: number;
  /** Of everything but the keyed operator and the sink. */
  readonly sourceParallelism?: number;
  readonly ratePerSecond?: number;
}

function job(options: Job): (env: StreamExecutionEnvironment) => void {
  const { sink, witness, uid = "hold", maxParallelism, sourceParallelism, ratePerSecond = 2_500 } = options;
  return (env) => {
    env.enableCheckpointing(30);
    if (maxParallelism !== undefined) env.setMaxParallelism(maxParallelism);
    const source = new GeneratorSource({ count: COUNT, ratePerSecond, generate: (i) => i, type: Types.LONG() });
    const numbers = env.fromSource(source).uid("numbers");
    const held = numbers.process(() => new HoldBack(witness), Types.LONG()).uid(uid);
    if (sourceParallelism !== undefined) for (const one of [numbers, held]) one.setParallelism(sourceParallelism);
    held
      .keyBy((n) => n % KEYS, Types.LONG())
      .process(() => new Count(), Types.STRING())
      .uid("count")
      .sinkTo(sink)
      .uid("out");
  };
}

/** Every record was counted once, or is held back in the final checkpoint. */
function audit(sink: CollectSink<string>, witness: Witness): void {
  const finalId = Math.max(...witness.held.keys());
  const held = witness.held.get(finalId) ?? [];
  const emitted = sink.values().map((line) => line.split(" ").map(Number) as [number, number, number]);
  const numbers = [...emitted.map(([value]) => value), ...held].toSorted((a, b) => a - b);
  expect(numbers).toEqual(Array.from({ length: COUNT }, (_, i) => i));
  for (const [key, lines] of Map.groupBy(emitted, ([, k]) => k)) {
    const counts = lines.map(([, , count]) => count).toSorted((a, b) => a - b);
    expect([key, counts]).toEqual([key, Array.from({ length: lines.length }, (_, i) => i + 1)]);
  }
}

const newWitness = (): Witness => ({ held: new Map(), unions: [], broadcasts: [] });

describe("rescaling", () => {
  test("2 -> 3 -> 1 -> 5 -> 2: every record counted once, what is held back too", async () => {
    const store = new MemoryObjectStore();
    const sink = new CollectSink<string>();
    const witness = newWitness();
    let id = 0;
    for (const parallelism of [2, 3, 1, 5]) {
      await using cluster = await MiniCluster.start(job({ sink, witness, ratePerSecond: 800 }), { parallelism, store });
      await cluster.waitUntilRunning();
      if (id > 0) expect(cluster.status().restoredCheckpointId).toBeGreaterThanOrEqual(id);
      const before = sink.values().length;
      await cluster.waitUntil("more output", () => sink.values().length >= before + 200);
      id = await cluster.triggerCheckpoint();
    }
    await using last = await MiniCluster.start(job({ sink, witness, ratePerSecond: 100_000 }), {
      parallelism: 2,
      store,
    });
    expect(await last.waitForEnd()).toBe("FINISHED");

    audit(sink, witness);

    // Every subtask of an attempt was given the union of all subtasks before it.
    const runs = [2, 3, 1, 5, 2];
    expect(new Set(witness.unions.map(({ restored }) => restored.length))).toEqual(new Set([0, ...runs]));
    for (const { restored } of witness.unions) {
      const [, of] = restored[0]?.split("/") ?? [];
      expect([...restored].toSorted()).toEqual(Array.from({ length: Number(of ?? 0) }, (_, i) => `${i}/${of}`));
    }
    expect(new Set(witness.broadcasts)).toEqual(new Set([1]));
  });

  test("in place: 2 -> 4 -> 1 -> 3, the JobManager and a TaskManager killed at the new parallelism; another start has its own", async () => {
    const store = new MemoryObjectStore();
    const sink = new CollectSink<string>();
    const witness = newWitness();
    const options = { parallelism: 2, store, taskManagers: 2, slotsPerTaskManager: 2 };
    // Its input lasts longer than all that is done to it.
    const cluster = await MiniCluster.start(job({ sink, witness, ratePerSecond: 250 }), options);
    const moreOutput = async (): Promise<void> => {
      const before = sink.values().length;
      await cluster.waitUntil("more output", () => sink.values().length >= before + 30);
    };
    await moreOutput();
    await cluster.rescale(4);
    expect(cluster.status()).toMatchObject({ rescales: 1, restarts: 0, failures: [] });
    await moreOutput();
    cluster.killJobManager();
    await cluster.waitUntil("the next JobManager", ({ isRunning }) => isRunning);
    expect(cluster.status()).toMatchObject({ parallelism: 4, rescales: 0 }); // as the log says
    await moreOutput();
    await cluster.rescale(1);
    await moreOutput();
    await cluster.rescale(3);
    cluster.killTaskManager(1);
    await cluster.waitUntil("a restart", ({ restarts, isRunning }) => restarts === 1 && isRunning);
    expect(cluster.status().parallelism).toBe(3);
    await expect(cluster.rescale(5)).rejects.toMatchObject({
      code: "OPERATION_CONFLICT",
      message: expect.stringContaining("needs at least 5, the registered TaskManagers have 4"),
    });
    expect(cluster.status()).toMatchObject({ parallelism: 3, rescales: 2, restarts: 1 });
    await moreOutput();
    await cluster.stop();

    await using another = await MiniCluster.start(job({ sink, witness, ratePerSecond: 100_000 }), options);
    await another.waitUntilRunning();
    expect(another.status().parallelism).toBe(2);
    expect(await another.waitForEnd()).toBe("FINISHED");
    audit(sink, witness);
    expect(new Set(witness.unions.map(({ parallelism }) => parallelism))).toEqual(new Set([2, 4, 1, 3]));
  });

  test("broadcast state: whatever was broadcast before is known to all subtasks of another parallelism", async () => {
    const store = new MemoryObjectStore();
    const sink = new CollectSink<string>();
    const rulesCount = 5;
    const main = (env: StreamExecutionEnvironment): void => {
      env.enableCheckpointing(30);
      const numbers = { count: COUNT, ratePerSecond: 2_500, generate: (i: number) => i, type: Types.LONG() };
      const rules = env
        .fromSource(new GeneratorSource({ count: rulesCount, generate: (i) => i + 1, type: Types.LONG() }))
        .uid("rules")
        .broadcast(RULES);
      env
        .fromSource(new GeneratorSource(numbers))
        .uid("numbers")
        .keyBy((n) => n % KEYS, Types.LONG())
        .connect(rules)
        .process(() => new CountWithRules(), Types.STRING())
        .uid("count")
        .sinkTo(sink)
        .uid("out");
    };
    const knows = (line: string): boolean => line.endsWith(" 1,2,3,4,5");
    for (const parallelism of [2, 5]) {
      await using cluster = await MiniCluster.start(main, { parallelism, store });
      await cluster.waitUntil("output by all rules", () => sink.values().filter(knows).length >= 200);
      await cluster.triggerCheckpoint();
    }
    const before = sink.values().length;
    await using last = await MiniCluster.start(main, { parallelism: 3, store });
    expect(await last.waitForEnd()).toBe("FINISHED");
    expect(sink.values().slice(before).every(knows)).toBe(true);
    const counted = sink.values().map((line) => line.replace(/ [^ ]*$/u, ""));
    const expected = Array.from({ length: COUNT }, (_, i) => `${i} ${i % KEYS} ${Math.floor(i / KEYS) + 1}`);
    expect(new Set(counted.map((line) => line.split(" ")[0])).size).toBe(COUNT);
    expect(counted.map((line) => line.replace(/^\d+ /u, "")).toSorted()).toEqual(
      expected.map((line) => line.replace(/^\d+ /u, "")).toSorted(),
    );
  });

  test("a max parallelism that another parallelism would derive is not taken; one that is set is refused", async () => {
    const store = new MemoryObjectStore();
    const sink = new CollectSink<string>();
    const narrow = { sink, witness: newWitness(), sourceParallelism: 1 };
    const first = await MiniCluster.start(job(narrow), { parallelism: 2, store });
    await first.triggerCheckpoint();
    await first.stop();
    const other = await MiniCluster.start(job({ ...narrow, maxParallelism: 256 }), { parallelism: 2, store });
    await expect(other.waitForEnd()).rejects.toMatchObject({
      code: "STATE_INCOMPATIBLE",
      message: expect.stringMatching(/"count" has keyed state in 128 key groups.*max parallelism 256/su),
    });
    const many = await MiniCluster.start(job(narrow), { parallelism: 129, store });
    await expect(many.waitForEnd()).rejects.toMatchObject({
      code: "STATE_INCOMPATIBLE",
      message: expect.stringMatching(/128 key groups.*parallelism 129/su),
    });
    // 86 subtasks would derive 256 key groups.
    await using crossing = await MiniCluster.start(job(narrow), { parallelism: 86, store });
    expect(await crossing.waitForEnd()).toBe("FINISHED");
  });

  test("a renamed operator is refused by its uid, and runs without that state when that is allowed", async () => {
    const store = new MemoryObjectStore();
    const sink = new CollectSink<string>();
    const witness = newWitness();
    const first = await MiniCluster.start(job({ sink, witness }), { parallelism: 2, store });
    await first.triggerCheckpoint();
    await first.stop();
    const renamed = job({ sink, witness, uid: "hold-back" });
    const refused = await MiniCluster.start(renamed, { parallelism: 2, store });
    await expect(refused.waitForEnd()).rejects.toMatchObject({
      code: "STATE_INCOMPATIBLE",
      message: expect.stringMatching(/state of operator "hold".*\.uid\("hold"\).*--allow-non-restored-state/su),
    });
    await using allowed = await MiniCluster.start(renamed, {
      parallelism: 2,
      store,
      configuration: { "execution.state-recovery.ignore-unclaimed-state": "true" },
    });
    expect(await allowed.waitForEnd()).toBe("FINISHED");
  });
});
