// From a slot's specification and the rebuilt graph to tasks that can run.
//
// Invariants:
//   SB1. Every channel of the specification is used by exactly one writer or one gate of this slot, or by both when it is the slot's own.
//   SB2. Channels of a gate are ordered by (edge, source subtask), those of a writer by target subtask.
//
// Not here: loading the job's module (datastream/), the loop (slot-runner.ts).

import { assert, keyGroupRange, toFailure } from "@sluice/kit";
import type { Clock, Log, StagedUploads } from "@sluice/kit/env";
import { taskOperators, type StreamGraph, type TaskOperators, type TaskOutput } from "../graph/index.ts";
import type {
  ChannelSpec,
  JobContext,
  KeyedStateAccess,
  OneInputOperator,
  Operator,
  PlanOperator,
  PlanVertex,
  SlotPort,
  SlotSpec,
  SubtaskInfo,
  TaskSpec,
} from "../model/index.ts";
import { connects, subtaskKey } from "../model/index.ts";
import { Doorbell, InputGate, RecordWriter, RingConsumer, RingProducer, type GateChannel } from "../network/index.ts";
import { HeapKeyedStateBackend } from "../state/index.ts";
import { attributeTo, headLoop, linkTo, tailOf, type CountingCollector, type HeadLoop } from "./chain.ts";
import type { ChainedOperator } from "./chained-operator.ts";
import { SlotCounters, type TaskCounters } from "./counters.ts";
import { jobContext } from "./job-context.ts";
import { operatorContext, TaskMetrics, type SideOutput } from "./operator-context.ts";
import { SlotRunner, type SlotWaiting } from "./slot-runner.ts";
import { Task } from "./task.ts";

export interface SlotEnvironment {
  readonly clock: Clock;
  readonly log: Log;
  readonly port: SlotPort;
  /** Lets promises, timers and I/O of this thread run. */
  readonly yieldToEvents: () => Promise<void>;
  /** See OperatorContext. */
  readonly openUploads: (uri: string) => Promise<StagedUploads>;
  /** An environment variable of this process: secrets are read here. */
  readonly readEnvironment: (name: string) => string | undefined;
}

/** Settings of a slot, from the job's configuration. */
export interface SlotSettings {
  readonly mode: "EXACTLY_ONCE" | "AT_LEAST_ONCE";
  readonly checkpointingEnabled: boolean;
  readonly bufferTimeoutMs: number;
}

/** Builds all tasks of a slot. The caller has checked that `graph` is the graph of `spec.plan`. */
export function buildSlot(
  spec: SlotSpec,
  graph: StreamGraph,
  settings: SlotSettings,
  env: SlotEnvironment,
): SlotRunner {
  const bell = new Doorbell(spec.doorbell);
  const counters = new SlotCounters(spec.counters);
  const job = jobContext(spec.plan, env.readEnvironment);
  const tasks = spec.tasks.map((task, index) => {
    const taskCounters = counters.task(index);
    return {
      task: buildTask({
        spec,
        job,
        task,
        graph,
        settings,
        env,
        bell,
        counters: taskCounters,
        opening: (open) => {
          counters.enter(index);
          try {
            return open();
          } finally {
            counters.park(); // promises run between turns, when no task's step does
          }
        },
      }),
      counters: taskCounters,
    };
  });
  const waiting: SlotWaiting = {
    yieldToEvents: env.yieldToEvents,
    bellSequence: () => bell.sequence(),
    waitPast: (sequence, timeoutMs) => bell.waitPast(sequence, timeoutMs),
  };
  return new SlotRunner({ tasks, port: env.port, clock: env.clock, log: env.log, waiting, counters });
}

interface TaskContext {
  readonly spec: SlotSpec;
  readonly job: JobContext;
  readonly task: TaskSpec;
  readonly graph: StreamGraph;
  readonly settings: SlotSettings;
  readonly env: SlotEnvironment;
  readonly bell: Doorbell;
  readonly counters: TaskCounters;
  /** Runs the synchronous part of an operator's opening under the eyes of the stuck watch. */
  readonly opening: (open: () => void | Promise<void>) => void | Promise<void>;
}

function buildTask(context: TaskContext): Task {
  const { spec, task, graph, settings, env, bell } = context;
  const operators = taskOperators(graph, spec.plan, task.subtask.vertexId);
  const { vertex } = operators;
  const { subtaskIndex } = task.subtask;
  const own = subtaskKey(task.subtask);
  const head = vertex.chain[0];
  assert(head !== undefined, "a vertex has a head");

  const keyGroups = keyGroupRange(subtaskIndex, vertex.maxParallelism, vertex.parallelism);
  const keyedState =
    operators.keyType === undefined
      ? undefined
      : new HeapKeyedStateBackend({
          keyType: operators.keyType,
          keyGroups: [keyGroups.first, keyGroups.last],
          maxParallelism: vertex.maxParallelism,
          uid: head.uid,
          clock: env.clock,
        });
  const edges = buildEdges(context, operators);
  const main = edges.filter(({ output }) => output.sideOutput === undefined);
  const metrics = new TaskMetrics(env);
  // Set once the task exists: operators may wake it from promises.
  const built: { task?: Task } = {};
  const wake = (): void => {
    built.task?.sourceReady();
    bell.ring();
  };
  const chain = buildChain({
    context,
    operators,
    metrics,
    keyedState,
    edges,
    output: tailOf(main.map(({ writer }) => writer)),
    wake,
  });
  const channels = spec.channels
    .filter((channel) => subtaskKey(channel.target) === own)
    .toSorted((a, b) => a.edgeId - b.edgeId || a.source.subtaskIndex - b.source.subtaskIndex); // SB2
  const loops = buildLoops({ operators, operator: chain[0]?.operator, uid: head.uid, name: head.name, keyedState });
  const gate =
    channels.length === 0
      ? undefined
      : new InputGate({ channels: channels.map((channel) => gateChannel(channel, operators)) });
  built.task = new Task({
    subtask: task.subtask,
    epoch: spec.epoch,
    attempt: spec.attempt,
    restore: task.restore,
    mode: settings.mode,
    checkpointingEnabled: settings.checkpointingEnabled,
    endsAtOnce: spec.endsAtOnce,
    bufferTimeoutMs: bufferTimeoutOf(vertex, settings),
    chain,
    gate,
    headLoops: channels.map(({ edgeId }) => {
      const loop = loops.get(edgeId);
      assert(loop !== undefined, "every input edge has its loop");
      return loop;
    }),
    writers: edges.map(({ writer }) => writer),
    keyedState,
    metrics,
    counters: context.counters,
    port: env.port,
    clock: env.clock,
    log: env.log.with({ vertex: vertex.name, subtask: subtaskIndex }),
    wake,
  });
  return built.task;
}

function bufferTimeoutOf(vertex: PlanVertex, settings: SlotSettings): number {
  const { bufferTimeoutMs = settings.bufferTimeoutMs } = vertex;
  return bufferTimeoutMs < 0 ? Number.POSITIVE_INFINITY : bufferTimeoutMs;
}

function gateChannel(channel: ChannelSpec, operators: TaskOperators): GateChannel {
  const input = operators.inputs.find(({ edgeId }) => edgeId === channel.edgeId);
  assert(input !== undefined, "SB1: a channel belongs to an input edge of its target");
  return {
    ring: new RingConsumer(channel.ring, new Doorbell(channel.peerDoorbell)),
    inputIndex: input.inputIndex,
    type: input.type,
    edge: String(channel.edgeId),
    name: `edge ${channel.edgeId} from ${subtaskKey(channel.source)} to ${subtaskKey(channel.target)}`,
  };
}

/** A writer and what it carries: a side output, or the main output. */
interface OutputEdge {
  readonly writer: RecordWriter;
  readonly output: TaskOutput;
}

function buildEdges(context: TaskContext, operators: TaskOperators): OutputEdge[] {
  const { spec, task } = context;
  const own = subtaskKey(task.subtask);
  return operators.outputs.map((output) => {
    const channels = spec.channels
      .filter((channel) => channel.edgeId === output.edgeId && subtaskKey(channel.source) === own)
      .toSorted((a, b) => a.target.subtaskIndex - b.target.subtaskIndex); // SB2
    const ends = { ...output, sources: output.sourceParallelism, targets: output.targetParallelism };
    let expected = 0;
    for (let target = 0; target < ends.targets; target += 1)
      if (connects(ends, task.subtask.subtaskIndex, target)) expected += 1;
    assert(channels.length === expected, "SB1: an output edge has one channel per subtask it reaches");
    const writer = new RecordWriter({
      channels: channels.map((channel) => new RingProducer(channel.ring, new Doorbell(channel.peerDoorbell))),
      partitioning: output.partitioning,
      type: output.type,
      ...(output.keySelector === undefined ? {} : { keySelector: output.keySelector }),
      ...(output.keyType === undefined ? {} : { keyType: output.keyType }),
      ...(output.partitioner === undefined ? {} : { partitioner: output.partitioner }),
      maxParallelism: output.targetMaxParallelism,
      subtaskIndex: task.subtask.subtaskIndex,
      edge: `"${operators.vertex.name}" -> ${output.targetVertexId}`,
    });
    return { writer, output };
  });
}

/** The side outputs of one operator of the chain, by tag: each may have several readers. */
function sideOutputsOf(edges: readonly OutputEdge[], transformationId: number): ReadonlyMap<string, SideOutput> {
  const own = edges.filter(({ output }) => output.sideOutput?.transformationId === transformationId);
  const byTag = Map.groupBy(own, ({ output }) => output.sideOutput?.tag ?? "");
  return new Map(
    [...byTag].map(([tag, of]) => {
      const [first] = of;
      assert(first !== undefined, "a group has a member");
      return [tag, { type: first.output.type, collector: tailOf(of.map(({ writer }) => writer)) }];
    }),
  );
}

/** Instances of the chain, tail first, so that each finds its output. */
function buildChain(options: {
  readonly context: TaskContext;
  readonly operators: TaskOperators;
  readonly metrics: TaskMetrics;
  readonly keyedState: HeapKeyedStateBackend | undefined;
  readonly edges: readonly OutputEdge[];
  readonly output: CountingCollector;
  readonly wake: () => void;
}): ChainedOperator[] {
  const { context, operators, metrics, keyedState, wake } = options;
  const { spec, task, env, settings } = context;
  const { vertex } = operators;
  const links: ChainedOperator[] = [];
  let output = options.output;
  for (const [index, { operator: plan, factory }] of [...operators.chain.entries()].toReversed()) {
    const subtask: SubtaskInfo = {
      jobName: spec.plan.jobName,
      lineage: spec.lineage,
      epoch: spec.epoch,
      attempt: spec.attempt,
      operatorName: plan.name,
      uid: plan.uid,
      subtaskIndex: task.subtask.subtaskIndex,
      parallelism: vertex.parallelism,
      maxParallelism: vertex.maxParallelism,
    };
    const attribute = attributeTo({ name: plan.name, uid: plan.uid });
    const operator: Operator =
      factory.kind === "source" ? factory.create({ splits: vertex.splits, subtask }) : factory.create(subtask);
    const keyed: KeyedStateAccess | undefined = index === 0 ? keyedState : undefined;
    const ownOutput = output;
    const sideOutputs = sideOutputsOf(options.edges, plan.transformationId);
    links.unshift({
      uid: plan.uid,
      name: plan.name,
      operator,
      attribute,
      output: ownOutput,
      sideOutputs: [...sideOutputs.values()].map(({ collector }) => collector),
      open: async (restored) => {
        try {
          const own = operatorContext({
            subtask,
            output: ownOutput,
            sideOutputs,
            metrics,
            job: context.job,
            clock: env.clock,
            log: env.log,
            keyed,
            checkpointingEnabled: settings.checkpointingEnabled,
            openUploads: env.openUploads,
            wake,
          });
          await context.opening(() => operator.open(own, restored));
        } catch (thrown) {
          throw toFailure(attribute(thrown));
        }
      },
    });
    if (index > 0) output = linkTo(operator as OneInputOperator, attribute);
  }
  return links;
}

/** One loop per input edge: edges of a union may select keys differently. */
function buildLoops(options: {
  readonly operators: TaskOperators;
  readonly operator: Operator | undefined;
  readonly uid: PlanOperator["uid"];
  readonly name: string;
  readonly keyedState: HeapKeyedStateBackend | undefined;
}): ReadonlyMap<number, HeadLoop> {
  const { operators, operator, keyedState } = options;
  assert(operator !== undefined, "a chain has a head");
  const two = operators.chain[0]?.factory.kind === "twoInput";
  return new Map(
    operators.inputs.map((input) => [
      input.edgeId,
      headLoop({
        operator,
        method: two ? (input.inputIndex === 0 ? "processElement1" : "processElement2") : "processElement",
        attribute: attributeTo({ name: options.name, uid: options.uid }),
        keySelector: keyedState === undefined ? undefined : input.keySelector,
        scope: keyedState,
      }),
    ]),
  );
}
