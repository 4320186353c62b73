// The job's graph as the user's `main` built it: transformations that name their inputs.
//
// Invariants:
//   G1. Ids count from 0 in the order of creation; an input refers to a lower id only, so a graph has no cycles.
//   G2. The same module with the same arguments builds the same graph in every process.
//   G3. Functions and operators are made by the factory on the worker; the graph itself holds no running thing.
//
// Not here: chaining and the plan (plan-builder.ts), the API that users call (datastream/).

import { assert } from "@sluice/kit";
import type {
  JobPlan,
  KeySelector,
  OperatorFactory,
  Partitioner,
  Partitioning,
  TypeDescriptor,
} from "../model/index.ts";

/** Key of a hash-partitioned input. */
export interface KeyBy {
  readonly selector: KeySelector<unknown, unknown>;
  readonly type: TypeDescriptor;
}

/** A way of spreading records that the user asked for. */
export type Exchange =
  | { readonly partitioning: Exclude<Partitioning, "HASH" | "CUSTOM"> }
  | {
      readonly partitioning: "CUSTOM";
      readonly selector: KeySelector<unknown, unknown>;
      readonly partitioner: Partitioner<unknown>;
    };

/**
 * One input: the output of another transformation. `keyBy` set: HASH; `exchange` set: as it says; otherwise FORWARD or REBALANCE by
 * parallelism. Never both.
 */
export interface TransformationInput {
  readonly transformationId: number;
  readonly inputIndex: 0 | 1;
  readonly keyBy?: KeyBy;
  readonly exchange?: Exchange;
  /** Id of the tag whose side output this is; undefined: the main output. */
  readonly sideOutput?: string;
}

/** Whether an operator may share a task: with what is before and behind it, only with what is behind it, with nothing (Flink's names). */
export type ChainingStrategy = "ALWAYS" | "HEAD" | "NEVER";

export interface Transformation {
  /** G1. */
  readonly id: number;
  name: string;
  /** A longer text for people; undefined: the name. */
  description: string | undefined;
  /** Given by the user; undefined: none. */
  uid: string | undefined;
  readonly factory: OperatorFactory;
  /** Has operator state or keyed state: needs a uid. */
  readonly stateful: boolean;
  /** Sinks only: can hide published output of checkpoints above a given id. */
  readonly canRetract: boolean | undefined;
  /** Undefined: `parallelism.default`. */
  parallelism: number | undefined;
  /** Undefined: `pipeline.max-parallelism`, else derived from the parallelism. */
  maxParallelism: number | undefined;
  readonly inputs: readonly TransformationInput[];
  /** Type of what it emits; GENERIC when undeclared; of no meaning for sinks. */
  readonly outputType: TypeDescriptor;
  chaining: ChainingStrategy;
  /** Milliseconds; -1: until a batch is full; undefined: the job's. */
  bufferTimeoutMs: number | undefined;
  /** The side outputs that the job reads, by tag: types of their records. */
  readonly sideOutputs: Map<string, TypeDescriptor>;
  /** Sources only: lists the splits, in the plan process. */
  readonly enumerateSplits?: (options: { readonly parallelism: number }) => Promise<readonly unknown[]>;
}

export interface StreamGraph {
  readonly jobName: string;
  readonly arguments: readonly string[];
  /** Declared parameters and variables, if any. */
  readonly parameters?: JobPlan["parameters"];
  readonly environment?: JobPlan["environment"];
  /** Flink-named keys, everything that is not a default. */
  readonly configuration: Readonly<Record<string, string>>;
  readonly transformations: readonly Transformation[];
}

/** The transformation with this id. */
export function transformationOf(graph: StreamGraph, id: number): Transformation {
  const found = graph.transformations[id];
  assert(found !== undefined && found.id === id, "G1: transformations are listed by id");
  return found;
}
