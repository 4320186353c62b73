// What an operator is given when it is opened.
//
// Invariants:
//   OC1. Counters of one name and operator are one counter.
//
// Not here: the operators (operators/, connectors/).

import { Failure } from "@sluice/kit";
import type { Clock, Log } from "@sluice/kit/env";
import { OperatorMetricRegistry } from "../metrics/index.ts";
import { describeType, sameType } from "../model/index.ts";
import type {
  Collector,
  JobContext,
  KeyedStateAccess,
  MetricGroup,
  OperatorContext,
  OperatorMetrics,
  OutputTag,
  SubtaskInfo,
  TypeDescriptor,
} from "../model/index.ts";
import type { CountingCollector } from "./chain.ts";

/** The metrics of all operators of one task, by operator uid. */
export class TaskMetrics {
  readonly #clock: Pick<Clock, "nowMs">;
  readonly #log: Pick<Log, "warn">;
  readonly #registries = new Map<string, OperatorMetricRegistry>();

  constructor(options: { readonly clock: Pick<Clock, "nowMs">; readonly log: Pick<Log, "warn"> }) {
    this.#clock = options.clock;
    this.#log = options.log;
  }

  group(uid: string): MetricGroup {
    let registry = this.#registries.get(uid); // OC1
    if (registry === undefined) {
      registry = new OperatorMetricRegistry({
        nowMs: () => this.#clock.nowMs(),
        warn: (message) => this.#log.warn(message, { uid }),
      });
      this.#registries.set(uid, registry);
    }
    return registry.root;
  }

  /** Sum over the operators of the task. */
  total(name: string): number {
    let sum = 0;
    for (const registry of this.#registries.values()) sum += registry.countOf(name);
    return sum;
  }

  /** Of every operator that has metrics. */
  sample(): readonly OperatorMetrics[] {
    return [...this.#registries]
      .filter(([, registry]) => !registry.isEmpty)
      .map(([uid, registry]) => ({ uid, samples: registry.sample() }));
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
  readonly job: JobContext;
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
    job: options.job,
    clock: options.clock,
    log: options.log.with({ job: subtask.jobName, operator: subtask.operatorName, subtask: subtask.subtaskIndex }),
    keyed: options.keyed,
    checkpointingEnabled: options.checkpointingEnabled,
    openUploads: options.openUploads,
    wake: options.wake,
  };
}
