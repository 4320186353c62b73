// What an operator is given when it is opened.
//
// Invariants:
//   OC1. Counters of one name and operator are one counter.
//
// Not here: the operators (operators/, connectors/).

import { Failure } from "@sluice/kit";
import type { Clock, Log } from "@sluice/kit/env";
import { describeType, sameType } from "../model/index.ts";
import type {
  Collector,
  Counter,
  KeyedStateAccess,
  MetricGroup,
  OperatorContext,
  OutputTag,
  SubtaskInfo,
  TypeDescriptor,
} from "../model/index.ts";
import type { CountingCollector } from "./chain.ts";

class PlainCounter implements Counter {
  #count = 0;

  get count(): number {
    return this.#count;
  }

  inc(by = 1): void {
    this.#count += by;
  }
}

/** The counters of all operators of one task, by operator uid and name. */
export class TaskMetrics {
  readonly #counters = new Map<string, Map<string, PlainCounter>>();

  group(uid: string): MetricGroup {
    const counters = this.#counters.get(uid) ?? new Map<string, PlainCounter>();
    this.#counters.set(uid, counters);
    return {
      counter: (name) => {
        const counter = counters.get(name) ?? new PlainCounter(); // OC1
        counters.set(name, counter);
        return counter;
      },
    };
  }

  /** Sum over the operators of the task. */
  total(name: string): number {
    let sum = 0;
    for (const counters of this.#counters.values()) sum += counters.get(name)?.count ?? 0;
    return sum;
  }
}

/** A side output that the job reads. */
export interface SideOutput {
  readonly type: TypeDescriptor;
  readonly collector: CountingCollector;
}

function sideOutputOf(
  options: { readonly subtask: SubtaskInfo; readonly sideOutputs: ReadonlyMap<string, SideOutput> },
  tag: OutputTag<unknown>,
): Collector<unknown> {
  const { operatorName, uid } = options.subtask;
  const found = options.sideOutputs.get(tag.id);
  if (found === undefined) {
    throw new Failure("JOB_GRAPH_INVALID", {
      retry: "never",
      message: `operator "${operatorName}" (uid ${uid}) emitted into side output "${tag.id}", which the job does not read`,
      remedy:
        "read it with .getSideOutput(tag) on the operator's stream (new DiscardSink() if the records do not matter)",
    });
  }
  if (!sameType(found.type, tag.type.descriptor)) {
    throw new Failure("TYPE_MISMATCH", {
      retry: "never",
      message: `emitted into side output "${tag.id}" as ${describeType(tag.type.descriptor)}, but the job reads it as ${describeType(found.type)}`,
      remedy: "use one OutputTag, with one type, to emit and to read",
    });
  }
  return found.collector;
}

/** Assembles the context of one operator. */
export function operatorContext(options: {
  readonly subtask: SubtaskInfo;
  readonly output: Collector<unknown>;
  /** The side outputs that the job reads, by tag. */
  readonly sideOutputs: ReadonlyMap<string, SideOutput>;
  readonly metrics: TaskMetrics;
  readonly clock: Clock;
  readonly log: Log;
  readonly keyed: KeyedStateAccess | undefined;
  readonly checkpointingEnabled: boolean;
  readonly openUploads: OperatorContext["openUploads"];
  readonly wake: () => void;
}): OperatorContext {
  const { subtask } = options;
  return {
    subtask,
    output: options.output,
    sideOutput: (tag) => sideOutputOf(options, tag),
    metrics: options.metrics.group(subtask.uid),
    clock: options.clock,
    log: options.log.with({ operator: subtask.operatorName, subtask: subtask.subtaskIndex }),
    keyed: options.keyed,
    checkpointingEnabled: options.checkpointingEnabled,
    openUploads: options.openUploads,
    wake: options.wake,
  };
}
