// Which transformations run in one task, and by which edges the tasks are connected.
//
// Invariants:
//   C1. A chain is linear: an operator joins its predecessor only over a FORWARD edge that is all of the predecessor's main
//       output and its own only input. Side outputs always are edges; they may leave any operator of a chain.
//   C2. Every transformation is in exactly one chain; chains are in topological order of their heads.
//   C3. The result depends on the graph and its configuration only, so plan process and workers agree.
//   C4. Edges are numbered in the order of (target chain, input), from 0.

import { assert, Failure } from "@sluice/kit";
import type { Partitioning, SideOutputRef, TypeDescriptor } from "../model/index.ts";
import {
  transformationOf,
  type Exchange,
  type KeyBy,
  type StreamGraph,
  type Transformation,
} from "./transformation.ts";

export interface ChainEdge {
  readonly id: number;
  /** Index of the sending and receiving chain. */
  readonly source: number;
  readonly target: number;
  readonly inputIndex: 0 | 1;
  readonly partitioning: Partitioning;
  readonly type: TypeDescriptor;
  readonly keyBy?: KeyBy;
  readonly exchange?: Exchange;
  readonly sideOutput?: SideOutputRef;
}

export interface Chain {
  readonly operators: readonly Transformation[];
  readonly parallelism: number;
  readonly maxParallelism: number;
  /** Nobody set maxParallelism: it follows from the parallelism. */
  readonly derivesMaxParallelism: boolean;
  readonly inputs: readonly ChainEdge[];
}

/** Smallest and largest default of the number of key groups (Flink: KeyGroupRangeAssignment). */
const MAX_PARALLELISM_DEFAULT_MIN = 128;
/** Upper bound of maxParallelism (Flink: 2^15). */
export const MAX_PARALLELISM_LIMIT = 32_768;

/** Flink's default: clamp(roundUpPow2(p + p/2), 128, 32768). */
export function defaultMaxParallelism(parallelism: number): number {
  let power = 1;
  while (power < parallelism + Math.floor(parallelism / 2)) power *= 2;
  return Math.min(Math.max(power, MAX_PARALLELISM_DEFAULT_MIN), MAX_PARALLELISM_LIMIT);
}

function positiveInt(configuration: StreamGraph["configuration"], key: string): number | undefined {
  const text = configuration[key];
  if (text === undefined) return undefined;
  const value = Number(text);
  if (key === "pipeline.max-parallelism" && value === -1) return undefined; // Flink: not set
  if (Number.isSafeInteger(value) && value >= 1) return value;
  throw new Failure("CONFIG_INVALID", {
    retry: "never",
    message: `${key} is "${text}"`,
    remedy: "give a whole number of at least 1",
  });
}

/** Parallelism of a transformation: its own, else `parallelism.default`, else 1. */
export function parallelismOf(graph: StreamGraph, transformation: Transformation): number {
  return transformation.parallelism ?? positiveInt(graph.configuration, "parallelism.default") ?? 1;
}

export function buildChains(graph: StreamGraph): readonly Chain[] {
  const { transformations, configuration } = graph;
  const chaining = configuration["pipeline.operator-chaining.enabled"] !== "false";
  const consumers = new Map<number, number>();
  for (const { inputs } of transformations) {
    for (const { transformationId, sideOutput } of inputs)
      if (sideOutput === undefined) consumers.set(transformationId, (consumers.get(transformationId) ?? 0) + 1);
  }
  const groups: Transformation[][] = [];
  const groupOf = new Map<number, number>();
  for (const transformation of transformations) {
    const input = transformation.inputs[0];
    const predecessor = input === undefined ? undefined : transformationOf(graph, input.transformationId);
    const joins =
      chaining &&
      predecessor !== undefined &&
      transformation.chaining === "ALWAYS" &&
      predecessor.chaining !== "NEVER" &&
      transformation.inputs.length === 1 &&
      input?.sideOutput === undefined &&
      input?.keyBy === undefined &&
      (input?.exchange === undefined || input.exchange.partitioning === "FORWARD") &&
      consumers.get(predecessor.id) === 1 &&
      parallelismOf(graph, predecessor) === parallelismOf(graph, transformation) &&
      (transformation.maxParallelism ?? predecessor.maxParallelism) === predecessor.maxParallelism;
    const group = joins ? groupOf.get(predecessor.id) : undefined;
    if (group === undefined) {
      groupOf.set(transformation.id, groups.length);
      groups.push([transformation]);
    } else {
      groupOf.set(transformation.id, group);
      groups[group]?.push(transformation);
    }
  }
  let edgeId = 0;
  return groups.map((operators, target): Chain => {
    const head = operators[0] as Transformation;
    const parallelism = parallelismOf(graph, head);
    const inputs = head.inputs.map((input): ChainEdge => {
      const source = transformationOf(graph, input.transformationId);
      const samePace = parallelismOf(graph, source) === parallelism;
      return {
        id: edgeId++,
        source: groupOf.get(source.id) as number,
        target,
        inputIndex: input.inputIndex,
        partitioning:
          input.keyBy === undefined ? (input.exchange?.partitioning ?? (samePace ? "FORWARD" : "REBALANCE")) : "HASH",
        type: typeOf(source, input.sideOutput),
        ...(input.keyBy === undefined ? {} : { keyBy: input.keyBy }),
        ...(input.exchange === undefined ? {} : { exchange: input.exchange }),
        ...(input.sideOutput === undefined
          ? {}
          : { sideOutput: { transformationId: source.id, tag: input.sideOutput } }),
      };
    });
    const maxParallelism = head.maxParallelism ?? positiveInt(configuration, "pipeline.max-parallelism");
    return {
      operators,
      parallelism,
      maxParallelism: maxParallelism ?? defaultMaxParallelism(parallelism),
      derivesMaxParallelism: maxParallelism === undefined,
      inputs,
    };
  });
}

function typeOf(source: Transformation, sideOutput: string | undefined): TypeDescriptor {
  const type = sideOutput === undefined ? source.outputType : source.sideOutputs.get(sideOutput);
  assert(type !== undefined, "a side output that is read has a type");
  return type;
}
