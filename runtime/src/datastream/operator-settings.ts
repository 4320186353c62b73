// What adding an operator takes, and what its user may set afterwards; streams and sinks share it.
//
// Invariants:
//   OS1. A value that cannot be right is refused where it is given, naming the operator.

import { Failure } from "@sluice/kit";
import type { Transformation, TransformationInput } from "../graph/index.ts";
import {
  describeType,
  sameType,
  type OperatorFactory,
  type OutputTag,
  type RichFunction,
  type TypeInformation,
} from "../model/index.ts";
import type { FunctionOrSupplier } from "../operators/index.ts";
import { checkInt } from "./checkpoint-config.ts";
import type { GraphBuilder } from "./graph-builder.ts";

export function invalid(message: string, remedy: string): Failure {
  return new Failure("JOB_GRAPH_INVALID", { retry: "never", message, remedy });
}

/** What a new transformation needs besides its inputs. */
export interface Added<O> {
  readonly name: string;
  readonly factory: OperatorFactory;
  readonly stateful: boolean;
  readonly type: TypeInformation<O>;
  readonly canRetract?: boolean;
}

export function addTransformation(
  builder: GraphBuilder,
  inputs: readonly TransformationInput[],
  added: Added<unknown>,
): Transformation {
  return builder.add({
    name: added.name,
    uid: undefined,
    factory: added.factory,
    stateful: added.stateful,
    canRetract: added.canRetract,
    parallelism: undefined,
    maxParallelism: undefined,
    inputs,
    outputType: added.type.descriptor,
  });
}

/** The name of the function's class, when there is an object to ask. */
export function nameOf(fn: FunctionOrSupplier<RichFunction>, fallback: string): string {
  const name = typeof fn === "function" ? "" : fn.constructor.name;
  return name === "" ? fallback : name;
}

export function setUid(transformation: Transformation, uid: string): void {
  if (uid === "")
    throw invalid(`operator "${transformation.name}" was given an empty uid`, "give it a name of its own");
  transformation.uid = uid;
}

export function setParallelism(transformation: Transformation, parallelism: number): void {
  checkInt(`parallelism of operator "${transformation.name}"`, parallelism, 1);
  transformation.parallelism = parallelism;
}

export function setMaxParallelism(transformation: Transformation, maxParallelism: number): void {
  checkInt(`maxParallelism of operator "${transformation.name}"`, maxParallelism, 1);
  transformation.maxParallelism = maxParallelism;
}

/** Milliseconds, or -1 for no limit. */
export function setBufferTimeout(transformation: Transformation, timeoutMs: number): void {
  checkInt(`bufferTimeout of operator "${transformation.name}"`, timeoutMs, -1);
  transformation.bufferTimeoutMs = timeoutMs;
}

/** Declares that the job reads a side output; a tag means one type within an operator. */
export function addSideOutput(transformation: Transformation, tag: OutputTag<unknown>): void {
  const { name, sideOutputs } = transformation;
  if (tag.id === "") throw invalid(`a side output of operator "${name}" has an empty id`, "give its OutputTag an id");
  const { descriptor } = tag.type;
  const before = sideOutputs.get(tag.id);
  if (before !== undefined && !sameType(before, descriptor)) {
    throw invalid(
      `side output "${tag.id}" of operator "${name}" is read as ${describeType(before)} and as ${describeType(descriptor)}`,
      "use one OutputTag, with one type, to emit and to read",
    );
  }
  sideOutputs.set(tag.id, descriptor);
}
