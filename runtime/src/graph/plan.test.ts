// Plans as golden tables: chains, edges, uids, ids, and a digest that changes with the meaning and with nothing else.

import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";

import { isFailure } from "@sluice/kit";
import { DiscardSink, GeneratorSource } from "../connectors/index.ts";
import { buildGraph, type DataStream, type StreamExecutionEnvironment } from "../datastream/index.ts";
import {
  BroadcastProcessFunction,
  type CheckpointedFunction,
  type Collector,
  type JobPlan,
  KeyedBroadcastProcessFunction,
  KeyedCoProcessFunction,
  type KeyedContext,
  KeyedProcessFunction,
  MapStateDescriptor,
  OutputTag,
  ProcessFunction,
  RichSinkFunction,
  Types,
} from "../model/index.ts";
import {
  buildPlan,
  canonicalJson,
  defaultMaxParallelism,
  enumerateSplits,
  taskOperators,
  vertexIdOf,
} from "./index.ts";

type Main = (env: StreamExecutionEnvironment) => void;

class Sum extends KeyedProcessFunction<number, number, number> {
  override processElement(value: number, _context: KeyedContext<number>, out: Collector<number>): void {
    out.collect(value);
  }
}

class Join extends KeyedCoProcessFunction<number, number, string, number> {
  override processElement1(): void {}
  override processElement2(): void {}
}

class Kept extends ProcessFunction<number, number> implements CheckpointedFunction {
  initializeState(): void {}
  override processElement(): void {}
  snapshotState(): void {}
}

class KeptSink extends RichSinkFunction<number> implements CheckpointedFunction {
  initializeState(): void {}
  override invoke(): void {}
  snapshotState(): void {}
}

const RULES = new MapStateDescriptor("rules", Types.LONG(), Types.LONG());

class Ruled extends BroadcastProcessFunction<number, number, number> {
  override processElement(): void {}
  override processBroadcastElement(): void {}
}

class RuledByKey extends KeyedBroadcastProcessFunction<number, string, number, number> {
  override processElement(): void {}
  override processBroadcastElement(): void {}
}

const numbers = (): GeneratorSource<number> =>
  new GeneratorSource({ count: 10, generate: (i) => i, type: Types.LONG() });
const texts = (): GeneratorSource<string> => new GeneratorSource({ count: 9, generate: String, type: Types.STRING() });
const self = (value: number): number => value;

interface Variant {
  readonly args?: readonly string[];
  readonly bundleHash?: string;
  readonly configuration?: Readonly<Record<string, string>>;
}

async function planOf(main: Main, variant: Variant = {}): Promise<JobPlan> {
  const { args = [], bundleHash = "", configuration = {} } = variant;
  const graph = await buildGraph({ job: main, arguments: args, configuration, jobName: "job" });
  return buildPlan(graph, { bundleHash, splits: await enumerateSplits(graph) });
}

/** One line per vertex: `name pP [inputs]`, an input as `PARTITIONING(key)@index from source: type`. */
function render(plan: JobPlan): string[] {
  const nameOf = new Map(plan.vertices.map(({ id, name }) => [id, name]));
  return plan.vertices.map((vertex) => {
    const inputs = vertex.inputs.map(
      (edge) =>
        `${edge.id}:${edge.partitioning}${edge.keyType === undefined ? "" : `(${edge.keyType.kind})`}@${edge.inputIndex}` +
        ` from ${nameOf.get(edge.sourceVertexId)}: ${edge.type.kind}`,
    );
    return `${vertex.name} p${vertex.parallelism}/${vertex.maxParallelism}${inputs.map((input) => ` | ${input}`).join("")}`;
  });
}

const keyedSum: Main = (env) => {
  env
    .fromSource(numbers(), "numbers")
    .uid("numbers")
    .map((n) => n + 1, Types.LONG())
    .filter((n) => n > 0)
    .keyBy(self, Types.LONG())
    .process(() => new Sum(), Types.LONG())
    .name("sum")
    .uid("sum")
    .sinkTo(new DiscardSink());
};

const SHAPES: readonly (readonly [about: string, main: Main, expected: readonly string[]])[] = [
  [
    "FORWARD edges of one parallelism are chained, HASH edges never",
    keyedSum,
    ["numbers -> map -> filter p1/128", "sum -> discard p1/128 | 0:HASH(LONG)@0 from numbers -> map -> filter: LONG"],
  ],
  [
    "another parallelism breaks the chain and rebalances",
    (env) => {
      env.setParallelism(100);
      const source = env.fromSource(numbers(), "numbers").uid("numbers").setParallelism(2);
      source.map((n) => n, Types.LONG()).sinkTo(new DiscardSink());
    },
    ["numbers p2/128", "map -> discard p100/256 | 0:REBALANCE@0 from numbers: LONG"],
  ],
  [
    "two consumers end a chain",
    (env) => {
      const source = env.fromSource(numbers(), "numbers").uid("numbers");
      source.map(String).name("a").sinkTo(new DiscardSink());
      source
        .filter((n) => n > 1)
        .name("b")
        .print();
    },
    [
      "numbers p1/128",
      "a -> discard p1/128 | 0:FORWARD@0 from numbers: LONG",
      "b -> print p1/128 | 1:FORWARD@0 from numbers: LONG",
    ],
  ],
  [
    "union is several edges into one operator",
    (env) => {
      const a = env.fromSource(numbers(), "a").uid("a");
      const b = env.fromSource(numbers(), "b").uid("b").setParallelism(3);
      a.union(b)
        .map((n) => n, Types.LONG())
        .sinkTo(new DiscardSink());
    },
    ["a p1/128", "b p3/128", "map -> discard p1/128 | 0:FORWARD@0 from a: LONG | 1:REBALANCE@0 from b: LONG"],
  ],
  [
    "a keyed stream connected to a broadcast one",
    (env) => {
      const rules = env.fromSource(numbers(), "rules").uid("rules").broadcast(RULES);
      const a = env.fromSource(texts(), "a").uid("a");
      a.keyBy(Number, Types.LONG())
        .connect(rules)
        .process(() => new RuledByKey())
        .name("apply")
        .uid("apply")
        .setParallelism(3)
        .sinkTo(new DiscardSink())
        .setParallelism(3);
    },
    [
      "rules p1/128",
      "a p1/128",
      "apply -> discard p3/128 | 0:HASH(LONG)@0 from a: STRING | 1:BROADCAST@1 from rules: LONG",
    ],
  ],
  [
    "connect feeds input 0 and 1 by one key space",
    (env) => {
      const a = env.fromSource(numbers(), "a").uid("a");
      const b = env.fromSource(texts(), "b").uid("b");
      a.connect(b)
        .keyBy(self, Number, Types.LONG())
        .process(() => new Join())
        .name("join")
        .uid("join")
        .sinkTo(new DiscardSink());
    },
    ["a p1/128", "b p1/128", "join -> discard p1/128 | 0:HASH(LONG)@0 from a: LONG | 1:HASH(LONG)@1 from b: STRING"],
  ],
  [
    "an explicit way to spread records ends a chain, forward() alone does not; the last word counts, and keyBy overrules",
    (env) => {
      const source = env.fromSource(numbers(), "n").uid("n");
      const sink = (stream: DataStream<number>): unknown => stream.sinkTo(new DiscardSink());
      const chained = source.forward().filter((n) => n > 0);
      sink(chained.rebalance());
      sink(chained.rescale());
      sink(chained.shuffle());
      sink(chained.global());
      sink(chained.rebalance().broadcast());
      sink(chained.partitionCustom((key) => key % 2, self));
      const sums = chained.broadcast().keyBy(self, Types.LONG());
      sink(sums.process(() => new Sum(), Types.LONG()).uid("sum"));
      sink(chained.broadcast().union(source.shuffle()));
    },
    [
      "n p1/128",
      "filter p1/128 | 0:FORWARD@0 from n: LONG",
      ...["REBALANCE", "RESCALE", "SHUFFLE", "GLOBAL", "BROADCAST", "CUSTOM"].map(
        (partitioning, i) => `discard p1/128 | ${i + 1}:${partitioning}@0 from filter: LONG`,
      ),
      "keyed process -> discard p1/128 | 7:HASH(LONG)@0 from filter: LONG",
      "discard p1/128 | 8:BROADCAST@0 from filter: LONG | 9:SHUFFLE@0 from n: LONG",
    ],
  ],
  [
    "startNewChain begins a task, disableChaining is alone, and so is what runs behind it",
    (env) => {
      const mapped = env
        .fromSource(numbers(), "n")
        .uid("n")
        .map((n) => n, Types.LONG())
        .name("a");
      const fresh = mapped
        .map((n) => n, Types.LONG())
        .name("b")
        .startNewChain();
      const alone = fresh
        .filter((n) => n > 0)
        .name("c")
        .filter((n) => n > 0)
        .name("d")
        .disableChaining();
      alone
        .map((n) => n, Types.LONG())
        .name("e")
        .sinkTo(new DiscardSink())
        .disableChaining();
    },
    [
      "n -> a p1/128",
      "b -> c p1/128 | 0:FORWARD@0 from n -> a: LONG",
      "d p1/128 | 1:FORWARD@0 from b -> c: LONG",
      "e p1/128 | 2:FORWARD@0 from d: LONG",
      "discard p1/128 | 3:FORWARD@0 from e: LONG",
    ],
  ],
  [
    "side outputs are edges of their own, from the operator that has them; the main output still chains",
    (env) => {
      const routed = env.fromSource(numbers(), "n").uid("n").process(new Route(), Types.LONG()).name("route");
      routed.filter((n) => n > 0).sinkTo(new DiscardSink());
      routed.getSideOutput(LATE).map(Number, Types.DOUBLE()).sinkTo(new DiscardSink());
      routed
        .getSideOutput(LATE)
        .keyBy((text) => text, Types.STRING())
        .process(() => new KeyedRoute())
        .uid("k")
        .sinkTo(new DiscardSink());
    },
    [
      "n -> route -> filter -> discard p1/128",
      "map -> discard p1/128 | 0:FORWARD@0 from n -> route -> filter -> discard: STRING",
      "keyed process -> discard p1/128 | 1:HASH(STRING)@0 from n -> route -> filter -> discard: STRING",
    ],
  ],
];

const LATE = new OutputTag("late", Types.STRING());

class Route extends ProcessFunction<number, number> {
  override processElement(): void {}
}

class KeyedRoute extends KeyedProcessFunction<string, string, string> {
  override processElement(): void {}
}

describe("chaining", () => {
  test.each(SHAPES)("%s", async (_about, main, expected) => {
    expect(render(await planOf(main))).toEqual(expected);
  });

  test("pipeline.operator-chaining.enabled: false gives every operator its vertex", async () => {
    const plan = await planOf(keyedSum, { configuration: { "pipeline.operator-chaining.enabled": "false" } });
    expect(plan.vertices.map(({ name }) => name)).toEqual(["numbers", "map", "filter", "sum", "discard"]);
  });

  test("disableOperatorChaining does the same", async () => {
    const plan = await planOf((env) => keyedSum(env.disableOperatorChaining()));
    expect(plan.vertices).toHaveLength(5);
  });

  test("a vertex keeps the shortest buffer timeout that its operators ask for, and descriptions; neither is in the digest", async () => {
    const plain = await planOf(keyedSum);
    const plan = await planOf((env) => {
      const source = env.fromSource(numbers(), "numbers").uid("numbers").setBufferTimeout(-1);
      const mapped = source.map((n) => n + 1, Types.LONG()).setBufferTimeout(20);
      const sums = mapped
        .filter((n) => n > 0)
        .setBufferTimeout(50)
        .keyBy(self, Types.LONG())
        .process(() => new Sum(), Types.LONG())
        .uid("sum")
        .setBufferTimeout(-1);
      sums.sinkTo(new DiscardSink()).setDescription("throws it all away");
    });
    expect(plan.vertices.map(({ bufferTimeoutMs }) => bufferTimeoutMs)).toEqual([20, -1]);
    expect(plain.vertices.map(({ bufferTimeoutMs }) => bufferTimeoutMs)).toEqual([undefined, undefined]);
    expect(plan.vertices[1]?.chain[1]?.description).toBe("throws it all away");
    expect(plan.digest).toBe(plain.digest);
  });

  test("C2: vertices are in topological order, every operator in exactly one, for any tree of operators", () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(), fc.integer({ min: 1, max: 3 }), fc.boolean()), { maxLength: 12 }),
        async (steps) => {
          let expected = 1;
          const plan = await planOf((env) => {
            const streams = [env.fromSource(numbers(), "s").uid("s")];
            for (const [from, parallelism, keyed] of steps) {
              const input = streams[from % streams.length];
              if (input === undefined) throw new Error("there is a first stream");
              const next = keyed
                ? input
                    .keyBy(self, Types.LONG())
                    .process(() => new Sum(), Types.LONG())
                    .uid(`k${streams.length}`)
                : input.map((n) => n, Types.LONG());
              streams.push(next.setParallelism(parallelism));
            }
            for (const stream of streams) stream.sinkTo(new DiscardSink());
            expected = streams.length * 2;
          });
          const seen = new Set<string>();
          const operators: number[] = [];
          for (const vertex of plan.vertices) {
            for (const edge of vertex.inputs) expect(seen).toContain(edge.sourceVertexId);
            seen.add(vertex.id);
            operators.push(...vertex.chain.map(({ transformationId }) => transformationId));
          }
          expect(operators.toSorted((a, b) => a - b)).toEqual(Array.from({ length: expected }, (_, i) => i));
          expect(plan.vertices.flatMap(({ inputs }) => inputs.map(({ id }) => id))).toEqual(
            plan.vertices.flatMap(({ inputs }) => inputs).map((_, i) => i),
          );
        },
      ),
      { numRuns: 60 },
    ));

  test("defaultMaxParallelism is Flink's", () => {
    const table = [1, 85, 86, 100, 171, 20_000, 30_000].map((p) => [p, defaultMaxParallelism(p)]);
    expect(table).toEqual([
      [1, 128],
      [85, 128],
      [86, 256],
      [100, 256],
      [171, 256],
      [20_000, 32_768],
      [30_000, 32_768],
    ]);
  });
});

/** The failure of planning, as `CODE: message`. */
async function refusal(main: Main, configuration: Readonly<Record<string, string>> = {}): Promise<string> {
  try {
    await planOf(main, { configuration });
  } catch (thrown) {
    if (!isFailure(thrown)) throw thrown;
    expect(thrown.remedy).not.toBe("");
    return `${thrown.code}: ${thrown.message}`;
  }
  return "planned";
}

const REFUSALS: readonly (readonly [main: Main, expected: string, configuration?: Readonly<Record<string, string>>])[] =
  [
    [() => {}, "JOB_GRAPH_INVALID: the job has no source"],
    [(env) => void env.fromSource(numbers()).uid("a"), "JOB_GRAPH_INVALID: the job has no sink"],
    [
      (env) => {
        const source = env.fromSource(numbers()).uid("a");
        source.map((n) => n).name("lost");
        source.sinkTo(new DiscardSink());
      },
      'JOB_GRAPH_INVALID: nothing reads what operator "lost" emits',
    ],
    [
      (env) => void env.fromSource(numbers(), "n").print(),
      'JOB_GRAPH_INVALID: operator "n" keeps state but has no uid',
    ],
    [(env) => void env.fromSource(numbers(), "n").print(), "planned", { "pipeline.auto-generate-uids": "true" }],
    [
      (env) => {
        env.fromSource(numbers(), "first").uid("same").print();
        env.fromSource(numbers(), "second").uid("same").print();
      },
      'JOB_GRAPH_INVALID: operators "first" and "second" both have the uid "same"',
    ],
    [
      (env) => void env.fromSource(numbers(), "n").uid("n").setParallelism(5).setMaxParallelism(4).print(),
      'JOB_GRAPH_INVALID: operator "n" has parallelism 5, above its maxParallelism 4',
    ],
    [
      (env) => void env.setMaxParallelism(40_000).fromSource(numbers(), "n").uid("n").print(),
      'JOB_GRAPH_INVALID: operator "n" has maxParallelism 40000',
    ],
    [
      (env) =>
        void env
          .fromSource(numbers())
          .uid("a")
          .process(() => new Kept())
          .print(),
      'JOB_GRAPH_INVALID: operator "process" keeps state but has no uid',
    ],
    [
      (env) => void env.fromSource(numbers()).uid("a").addSink(new KeptSink()),
      'JOB_GRAPH_INVALID: operator "KeptSink" keeps state but has no uid',
    ],
    [
      (env) => {
        const a = env.fromSource(numbers()).uid("a");
        a.connect(env.fromSource(numbers()).uid("b").broadcast(RULES))
          .process(() => new Ruled())
          .print();
      },
      'JOB_GRAPH_INVALID: operator "broadcast process" keeps state but has no uid',
    ],
    [
      (env) => void env.fromSource(numbers()).uid("a").broadcast(RULES, RULES),
      'JOB_GRAPH_INVALID: two broadcast states of one stream are called "rules"',
    ],
    [
      (env) =>
        void env
          .fromSource(numbers())
          .uid("a")
          .broadcast(new MapStateDescriptor("rules", Types.STRING(), Types.GENERIC<object>())),
      'JOB_GRAPH_INVALID: broadcast state "rules" is declared with GENERIC',
    ],
    [
      keyedSum,
      "CONFIG_NOT_IMPLEMENTED: state.backend.type: rocksdb is not implemented yet",
      { "state.backend.type": "rocksdb" },
    ],
    [
      (env) =>
        void env
          .fromSource(numbers(), "n")
          .uid("n")
          .forward()
          .map((n) => n)
          .setParallelism(2)
          .print(),
      'JOB_GRAPH_INVALID: forward() from operator "n" with parallelism 1 to "map" with parallelism 2',
    ],
    [
      (env) => {
        const routed = env.fromSource(numbers(), "n").uid("n").process(new Route());
        routed.sinkTo(new DiscardSink());
        routed.getSideOutput(LATE).map((text) => text);
        routed.getSideOutput(new OutputTag("other", Types.LONG()));
      },
      'JOB_GRAPH_INVALID: getSideOutput("other") of operator "Route" was called, but nothing reads the stream',
    ],
    [
      (env) => {
        const routed = env.fromSource(numbers(), "n").uid("n").process(new Route());
        routed.getSideOutput(LATE).print();
      },
      'JOB_GRAPH_INVALID: nothing reads what operator "Route" emits',
    ],
    [
      (env) => {
        const routed = env.fromSource(numbers(), "n").uid("n").process(new Route());
        routed.getSideOutput(LATE);
        routed.getSideOutput(new OutputTag("late", Types.LONG()));
      },
      'JOB_GRAPH_INVALID: side output "late" of operator "Route" is read as STRING and as LONG',
    ],
    [
      (env) => void env.fromSource(numbers(), "n").uid("n").setBufferTimeout(-2).print(),
      'CONFIG_INVALID: bufferTimeout of operator "n" was set to -2',
    ],
    [keyedSum, 'CONFIG_INVALID: state.backend.type is "floppy"', { "state.backend.type": "floppy" }],
    [keyedSum, 'CONFIG_INVALID: parallelism.default is "two"', { "parallelism.default": "two" }],
    [
      (env) =>
        void env
          .fromSource(numbers())
          .uid("a")
          .keyBy((n) => [n], Types.GENERIC<number[]>()),
      "JOB_GRAPH_INVALID: keyBy with a key of type GENERIC",
    ],
    [
      (env) => {
        const a = env.fromSource(numbers()).uid("a");
        a.union(env.fromSource(texts()).uid("b").map(Number, Types.DOUBLE()));
      },
      "JOB_GRAPH_INVALID: union of streams of LONG and DOUBLE",
    ],
    [
      (env) => {
        const sum = new Sum();
        const keyed = env.fromSource(numbers()).uid("a").keyBy(self, Types.LONG());
        keyed.process(sum);
        keyed.process(sum);
      },
      'JOB_GRAPH_INVALID: operators "Sum" and "Sum" were given the same function object',
    ],
  ];

describe("PL3: what cannot run is refused with a remedy", () => {
  test.each(REFUSALS.map((entry) => ({ entry })))("$entry.1", async ({ entry: [main, expected, configuration] }) => {
    expect(await refusal(main, configuration)).toBe(expected);
  });
});

describe("ids and digest", () => {
  test("a vertex id depends on the head's uid only", async () => {
    const [first, second] = (await planOf(keyedSum)).vertices;
    expect(first?.id).toBe(vertexIdOf("numbers"));
    expect(second?.id).toBe(vertexIdOf("sum"));
    expect(first?.id).toMatch(/^[0-9a-f]{32}$/);
    // Golden: snapshots find their operators by it for ever.
    expect(vertexIdOf("sum")).toBe("91d887fbefbf96c3aa90bd060fcdc244");
  });

  const rename: Main = (env) => {
    keyedSum(env);
    void env.execute("another name");
    env.enableCheckpointing(10_000).setBufferTimeout(5);
  };
  const renamedOperator: Main = (env) => {
    const mapped = env
      .fromSource(numbers(), "other")
      .uid("numbers")
      .map((n) => n + 1, Types.LONG());
    const sums = mapped
      .filter((n) => n > 0)
      .keyBy(self, Types.LONG())
      .process(() => new Sum(), Types.LONG())
      .uid("sum");
    sums.sinkTo(new DiscardSink());
  };
  const variation = (change: { uid?: string; type?: boolean; parallelism?: number; filter?: boolean }): Main => {
    return (env) => {
      const mapped = env
        .fromSource(numbers(), "numbers")
        .uid("numbers")
        .map((n) => n + 1, change.type === true ? Types.DOUBLE() : Types.LONG());
      const filtered = change.filter === false ? mapped : mapped.filter((n) => n > 0);
      const sums = filtered
        .keyBy(self, Types.LONG())
        .process(() => new Sum(), Types.LONG())
        .uid(change.uid ?? "sum");
      sums
        .setParallelism(change.parallelism ?? 1)
        .sinkTo(new DiscardSink())
        .setParallelism(change.parallelism ?? 1);
    };
  };

  const spread = (how: (stream: DataStream<number>) => DataStream<number>): Main => {
    return (env) => {
      const source = env.fromSource(numbers(), "numbers").uid("numbers");
      const filtered = how(source.map((n) => n + 1, Types.LONG())).filter((n) => n > 0);
      filtered
        .keyBy(self, Types.LONG())
        .process(() => new Sum(), Types.LONG())
        .uid("sum")
        .sinkTo(new DiscardSink());
    };
  };

  const sideRead = (tag: OutputTag<string>): Main => {
    return (env) => {
      keyedSum(env);
      const routed = env.fromSource(numbers()).uid("more").process(new Route());
      routed.sinkTo(new DiscardSink());
      routed.getSideOutput(tag).sinkTo(new DiscardSink());
    };
  };

  test.each<readonly [same: boolean, about: string, main: Main, variant: Variant]>([
    [true, "the same again", keyedSum, {}],
    [true, "job name and configuration", rename, {}],
    [true, "operator names", renamedOperator, {}],
    [true, "written otherwise", variation({}), {}],
    [true, "written with other words", spread((stream) => stream), {}],
    [false, "a uid", variation({ uid: "total" }), {}],
    [false, "a type", variation({ type: true }), {}],
    [false, "a parallelism", variation({ parallelism: 2 }), {}],
    [false, "an operator less", variation({ filter: false }), {}],
    [false, "a way to spread records", spread((s) => s.rebalance()), {}],
    [false, "a side output that is read", sideRead(LATE), {}],
    [false, "an argument", keyedSum, { args: ["x"] }],
    [false, "the code", keyedSum, { bundleHash: "abc" }],
    [false, "maxParallelism", keyedSum, { configuration: { "pipeline.max-parallelism": "64" } }],
  ])("P1: same is %p for %s", async (same, _about, main, variant) => {
    expect((await planOf(main, variant)).digest === (await planOf(keyedSum)).digest).toBe(same);
  });

  test("D1: canonical JSON does not depend on the order of members", () => {
    expect(canonicalJson({ b: [1, { d: null, c: "x" }], a: undefined, A: true })).toBe(
      '{"A":true,"b":[1,{"c":"x","d":null}]}',
    );
  });
});

test("taskOperators finds factories, selectors and edges of every vertex", async () => {
  const graph = await buildGraph({ job: keyedSum, arguments: [], configuration: {}, jobName: "job" });
  const plan = buildPlan(graph, { bundleHash: "" });
  const [head, sum] = plan.vertices;
  const first = taskOperators(graph, plan, head?.id ?? "");
  expect(first.chain.map(({ factory }) => factory.kind)).toEqual(["source", "oneInput", "oneInput"]);
  expect(first.inputs).toEqual([]);
  expect(first.outputs).toMatchObject([
    { edgeId: 0, targetVertexId: sum?.id, partitioning: "HASH", targetParallelism: 1, targetMaxParallelism: 128 },
  ]);
  expect(first.outputs[0]?.keySelector?.(7)).toBe(7);
  const second = taskOperators(graph, plan, sum?.id ?? "");
  expect(second.keyType).toEqual({ kind: "LONG" });
  expect(second.inputs).toMatchObject([
    { edgeId: 0, sourceVertexId: head?.id, sourceParallelism: 1, keyType: { kind: "LONG" } },
  ]);
  expect(second.outputs).toEqual([]);
});
