// What an operator is given when it is opened.
//
// Invariants:
//   OC1. Counters of one name and operator are one counter.
//
// Not here: the operators (operators/, connectors/).

import type { Clock, Log } from "@sluice/kit/env";
import type {
  Collector,
  Counter,
  KeyedStateAccess,
  MetricGroup,
  OperatorContext,
  SubtaskInfo,
} from "../model/index.ts";

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

/** Assembles the context of one operator. */
export function operatorContext(options: {
  readonly subtask: SubtaskInfo;
  readonly output: Collector<unknown>;
  readonly metrics: TaskMetrics;
  readonly clock: Clock;
  readonly log: Log;
  readonly keyed: KeyedStateAccess | undefined;
  readonly checkpointingEnabled: boolean;
  readonly wake: () => void;
}): OperatorContext {
  const { subtask } = options;
  return {
    subtask,
    output: options.output,
    metrics: options.metrics.group(subtask.uid),
    clock: options.clock,
    log: options.log.with({ operator: subtask.operatorName, subtask: subtask.subtaskIndex }),
    keyed: options.keyed,
    checkpointingEnabled: options.checkpointingEnabled,
    wake: options.wake,
  };
}
