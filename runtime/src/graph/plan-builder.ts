// From the graph to the plan, and from the plan back to the functions on a worker.
//
// Invariants:
//   PL1. A stateful operator has a uid of the user's own, unless `pipeline.auto-generate-uids` is true.
//   PL2. uids are unique in a job; vertex ids derive from the head's uid and nothing else.
//   PL3. What cannot run is refused here, before anything is deployed, naming the operator and the remedy.
//
// Not here: reading configuration values other than those that shape the graph.

import { assert, Failure } from "@sluice/kit";
import type {
  JobPlan,
  KeySelector,
  OperatorFactory,
  Partitioner,
  Partitioning,
  PlanEdge,
  PlanOperator,
  PlanVertex,
  SideOutputRef,
  TypeDescriptor,
} from "../model/index.ts";
import { containsGeneric, describeType, sameType } from "../model/index.ts";
import { buildChains, MAX_PARALLELISM_LIMIT, parallelismOf, type Chain } from "./chaining.ts";
import { planDigest, vertexIdOf } from "./digest.ts";
import { transformationOf, type StreamGraph, type Transformation } from "./transformation.ts";

export interface PlanOptions {
  /** Of `enumerateSplits`; workers that only compare digests leave it out (P2 in model/plan.ts). */
  readonly splits?: ReadonlyMap<number, readonly unknown[]>;
  /** Identifies the job's code; "" when it is not known. */
  readonly bundleHash: string;
}

function invalid(message: string, remedy: string): Failure {
  return new Failure("JOB_GRAPH_INVALID", { retry: "never", message, remedy });
}

/** Builds the plan. Failures: JOB_GRAPH_INVALID, CONFIG_INVALID, CONFIG_NOT_IMPLEMENTED. */
export function buildPlan(graph: StreamGraph, options: PlanOptions): JobPlan {
  checkBackend(graph);
  checkShape(graph);
  const uids = assignUids(graph);
  const chains = buildChains(graph);
  const vertices = chains.map((chain): PlanVertex => {
    checkParallelism(chain);
    checkForward(chain, chains);
    const head = chain.operators[0] as Transformation;
    const keyType = checkKeyTypes(chain);
    return {
      id: vertexIdOf(uidOf(uids, head)),
      name: chain.operators.map(({ name }) => name).join(" -> "),
      parallelism: chain.parallelism,
      maxParallelism: chain.maxParallelism,
      ...(chain.derivesMaxParallelism ? { derivesMaxParallelism: true } : {}),
      chain: chain.operators.map((operator) => planOperator(operator, uidOf(uids, operator))),
      inputs: chain.inputs.map((edge): PlanEdge => {
        const source = chains[edge.source]?.operators[0];
        assert(source !== undefined, "an edge starts at a chain");
        return {
          id: edge.id,
          sourceVertexId: vertexIdOf(uidOf(uids, source)),
          targetVertexId: vertexIdOf(uidOf(uids, head)),
          inputIndex: edge.inputIndex,
          partitioning: edge.partitioning,
          type: edge.type,
          ...(edge.keyBy === undefined ? {} : { keyType: edge.keyBy.type }),
          ...(edge.sideOutput === undefined ? {} : { sideOutput: edge.sideOutput }),
        };
      }),
      splits: options.splits?.get(head.id) ?? [],
      ...(keyType === undefined ? {} : { keyType }),
      ...bufferTimeoutOf(chain),
    };
  });
  return {
    formatVersion: 0,
    jobName: graph.jobName,
    digest: planDigest({
      vertices,
      arguments: graph.arguments,
      environment: graph.environment,
      bundleHash: options.bundleHash,
    }),
    arguments: graph.arguments,
    ...(graph.parameters === undefined ? {} : { parameters: graph.parameters }),
    ...(graph.environment === undefined ? {} : { environment: graph.environment }),
    configuration: graph.configuration,
    vertices,
  };
}

/** Asks every source for its splits; only the plan process does that. */
export async function enumerateSplits(graph: StreamGraph): Promise<ReadonlyMap<number, readonly unknown[]>> {
  const splits = new Map<number, readonly unknown[]>();
  for (const transformation of graph.transformations) {
    if (transformation.enumerateSplits === undefined) continue;
    const parallelism = parallelismOf(graph, transformation);
    splits.set(transformation.id, await transformation.enumerateSplits({ parallelism }));
  }
  return splits;
}

/** An output edge as a slot needs it to build a record writer. */
export interface TaskOutput {
  readonly edgeId: number;
  readonly targetVertexId: string;
  readonly partitioning: Partitioning;
  readonly type: TypeDescriptor;
  /** Of HASH and CUSTOM edges. */
  readonly keySelector: KeySelector<unknown, unknown> | undefined;
  /** Of a HASH edge. */
  readonly keyType: TypeDescriptor | undefined;
  /** Of a CUSTOM edge. */
  readonly partitioner: Partitioner<unknown> | undefined;
  /** Undefined: the main output of the chain. */
  readonly sideOutput: SideOutputRef | undefined;
  readonly sourceParallelism: number;
  readonly targetParallelism: number;
  /** Key groups of the consumer: HASH edges spread by them. */
  readonly targetMaxParallelism: number;
}

export interface TaskInput {
  readonly edgeId: number;
  readonly sourceVertexId: string;
  readonly inputIndex: 0 | 1;
  readonly partitioning: Partitioning;
  readonly type: TypeDescriptor;
  readonly keySelector: KeySelector<unknown, unknown> | undefined;
  readonly keyType: TypeDescriptor | undefined;
  readonly sourceParallelism: number;
}

/** The running parts of one vertex. */
export interface TaskOperators {
  readonly vertex: PlanVertex;
  /** Head first. */
  readonly chain: readonly { readonly operator: PlanOperator; readonly factory: OperatorFactory }[];
  readonly inputs: readonly TaskInput[];
  readonly outputs: readonly TaskOutput[];
  /** Of a keyed head, by input index; inputs of one index share the selector's type but not the selector: see `inputs`. */
  readonly keyType: TypeDescriptor | undefined;
}

/**
 * Finds a vertex's factories, selectors and edges in a rebuilt graph. The caller has compared digests; a plan that does
 * not fit the graph is a broken assertion here.
 */
export function taskOperators(graph: StreamGraph, plan: JobPlan, vertexId: string): TaskOperators {
  const vertex = plan.vertices.find(({ id }) => id === vertexId);
  assert(vertex !== undefined, "the plan has the vertex");
  const chains = buildChains(graph);
  assert(chains.length === plan.vertices.length, "the graph has as many chains as the plan has vertices");
  const index = plan.vertices.indexOf(vertex);
  const own = chains[index] as Chain;
  const vertexAt = (chain: number): PlanVertex => {
    const found = plan.vertices[chain];
    assert(found !== undefined, "every chain has its vertex");
    return found;
  };
  return {
    vertex,
    chain: vertex.chain.map((operator, i) => {
      assert(own.operators[i]?.id === operator.transformationId, "the chain of the graph is the chain of the plan");
      return { operator, factory: transformationOf(graph, operator.transformationId).factory };
    }),
    inputs: own.inputs.map((edge) => ({
      edgeId: edge.id,
      sourceVertexId: vertexAt(edge.source).id,
      inputIndex: edge.inputIndex,
      partitioning: edge.partitioning,
      type: edge.type,
      keySelector: edge.keyBy?.selector,
      keyType: edge.keyBy?.type,
      sourceParallelism: vertexAt(edge.source).parallelism,
    })),
    outputs: chains.flatMap((chain) =>
      chain.inputs
        .filter((edge) => edge.source === index)
        .map((edge) => ({
          edgeId: edge.id,
          targetVertexId: vertexAt(edge.target).id,
          partitioning: edge.partitioning,
          type: edge.type,
          keySelector: edge.exchange?.partitioning === "CUSTOM" ? edge.exchange.selector : edge.keyBy?.selector,
          keyType: edge.keyBy?.type,
          partitioner: edge.exchange?.partitioning === "CUSTOM" ? edge.exchange.partitioner : undefined,
          sideOutput: edge.sideOutput,
          sourceParallelism: vertex.parallelism,
          targetParallelism: vertexAt(edge.target).parallelism,
          targetMaxParallelism: vertexAt(edge.target).maxParallelism,
        })),
    ),
    keyType: vertex.keyType,
  };
}

function planOperator(operator: Transformation, uid: string): PlanOperator {
  return {
    transformationId: operator.id,
    name: operator.name,
    ...(operator.description === undefined ? {} : { description: operator.description }),
    uid,
    kind: operator.factory.kind,
    stateful: operator.stateful,
    ...(operator.canRetract === undefined ? {} : { canRetract: operator.canRetract }),
  };
}

/** The shortest that an operator of the chain asks for; -1, no limit, is the longest. */
function bufferTimeoutOf(chain: Chain): Pick<PlanVertex, "bufferTimeoutMs"> {
  const asked = chain.operators.flatMap(({ bufferTimeoutMs }) =>
    bufferTimeoutMs === undefined ? [] : [bufferTimeoutMs],
  );
  const limited = asked.filter((timeoutMs) => timeoutMs >= 0);
  if (asked.length === 0) return {};
  return { bufferTimeoutMs: limited.length === 0 ? -1 : Math.min(...limited) };
}

function uidOf(uids: ReadonlyMap<number, string>, transformation: Transformation): string {
  const uid = uids.get(transformation.id);
  assert(uid !== undefined, "every transformation has a uid");
  return uid;
}

/** PL1, PL2. Generated uids count transformations: they move when the graph changes, which is why state needs real ones. */
function assignUids(graph: StreamGraph): ReadonlyMap<number, string> {
  const generate = graph.configuration["pipeline.auto-generate-uids"] === "true";
  const uids = new Map<number, string>();
  const owners = new Map<string, Transformation>();
  for (const transformation of graph.transformations) {
    const { id, name, uid } = transformation;
    if (uid === undefined && transformation.stateful && !generate) {
      throw invalid(
        `operator "${name}" keeps state but has no uid`,
        `call .uid("...") on it, with a name that stays the same for the life of the job; its state is found by it ` +
          `(or set pipeline.auto-generate-uids: true and give up changing the graph later)`,
      );
    }
    const effective = uid ?? `auto-${id}-${transformation.factory.kind}`;
    const other = owners.get(effective);
    if (other !== undefined) {
      throw invalid(
        `operators "${other.name}" and "${name}" both have the uid "${effective}"`,
        "give every operator its own uid",
      );
    }
    owners.set(effective, transformation);
    uids.set(id, effective);
  }
  return uids;
}

function checkShape(graph: StreamGraph): void {
  const { transformations } = graph;
  if (!transformations.some(({ factory }) => factory.kind === "source")) {
    throw invalid("the job has no source", "start with env.fromSource(...) in main");
  }
  const consumed = new Set(
    transformations.flatMap(({ inputs }) =>
      inputs.map(({ transformationId, sideOutput }) => outputKey(transformationId, sideOutput)),
    ),
  );
  if (!transformations.some(({ factory }) => factory.kind === "sink")) {
    throw invalid("the job has no sink", "end every stream with .sinkTo(...) or .print()");
  }
  for (const { id, name, factory, sideOutputs } of transformations) {
    for (const tag of sideOutputs.keys()) {
      if (consumed.has(outputKey(id, tag))) continue;
      throw invalid(
        `getSideOutput("${tag}") of operator "${name}" was called, but nothing reads the stream`,
        "end it with .sinkTo(...) (new DiscardSink() if the records do not matter), or remove the call",
      );
    }
    if (factory.kind !== "sink" && !consumed.has(outputKey(id, undefined))) {
      throw invalid(
        `nothing reads what operator "${name}" emits`,
        "end every stream with .sinkTo(...) (new DiscardSink() if the results do not matter)",
      );
    }
  }
}

function outputKey(transformationId: number, sideOutput: string | undefined): string {
  return sideOutput === undefined ? String(transformationId) : `${transformationId}/${sideOutput}`;
}

function checkParallelism(chain: Chain): void {
  const { parallelism, maxParallelism } = chain;
  const name = chain.operators[0]?.name ?? "";
  if (maxParallelism > MAX_PARALLELISM_LIMIT) {
    throw invalid(`operator "${name}" has maxParallelism ${maxParallelism}`, `use at most ${MAX_PARALLELISM_LIMIT}`);
  }
  if (parallelism > maxParallelism) {
    throw invalid(
      `operator "${name}" has parallelism ${parallelism}, above its maxParallelism ${maxParallelism}`,
      "lower the parallelism or raise pipeline.max-parallelism (only for a job without state)",
    );
  }
}

/** `forward()` is a promise that subtask i feeds subtask i; without it, another parallelism means REBALANCE. */
function checkForward(chain: Chain, chains: readonly Chain[]): void {
  for (const edge of chain.inputs) {
    const source = chains[edge.source];
    if (edge.partitioning !== "FORWARD" || source === undefined || source.parallelism === chain.parallelism) continue;
    throw invalid(
      `forward() from operator "${source.operators.at(-1)?.name ?? ""}" with parallelism ${source.parallelism} to ` +
        `"${chain.operators[0]?.name ?? ""}" with parallelism ${chain.parallelism}`,
      "give both the same parallelism, or use rescale(), rebalance(), shuffle(), global() or broadcast()",
    );
  }
}

/** The key type of a keyed head (T3); both inputs of a two-input head share one key space. */
function checkKeyTypes(chain: Chain): TypeDescriptor | undefined {
  const name = chain.operators[0]?.name ?? "";
  let keyType: TypeDescriptor | undefined;
  for (const { keyBy } of chain.inputs) {
    if (keyBy === undefined) continue;
    if (containsGeneric(keyBy.type)) {
      throw invalid(
        `the key of operator "${name}" is of type ${describeType(keyBy.type)}`,
        "declare a key type without GENERIC, for example Types.STRING() or Types.LONG()",
      );
    }
    if (keyType !== undefined && !sameType(keyType, keyBy.type)) {
      throw invalid(
        `the inputs of operator "${name}" are keyed by ${describeType(keyType)} and ${describeType(keyBy.type)}`,
        "key both inputs by the same type",
      );
    }
    keyType = keyBy.type;
  }
  return keyType;
}

function checkBackend(graph: StreamGraph): void {
  const backend = graph.configuration["state.backend.type"];
  if (backend === undefined || backend === "hashmap") return;
  if (backend === "rocksdb" || backend === "forst") {
    throw new Failure("CONFIG_NOT_IMPLEMENTED", {
      retry: "never",
      message: `state.backend.type: ${backend} is not implemented yet`,
      remedy: "use new HashMapStateBackend() or state.backend.type: hashmap",
    });
  }
  throw new Failure("CONFIG_INVALID", {
    retry: "never",
    message: `state.backend.type is "${backend}"`,
    remedy: "use hashmap",
  });
}
