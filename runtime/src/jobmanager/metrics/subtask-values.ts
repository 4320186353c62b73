// A subtask's metrics under Flink's names, out of the figures of its newest heartbeat.
//
// Invariants:
//   SV1. What was not measured (yet) is absent: no figure is made up.
//
// Not here: aggregating over subtasks, messages (rest/metric-messages.ts).

import type { PlanVertex } from "../../model/index.ts";
import type { Figures } from "../rest/source.ts";

/** Flink's name of a metric of the task, and how it follows from a figure. */
const TASK_METRICS: readonly (readonly [name: string, figure: string, times?: number])[] = [
  ["numRecordsIn", "numRecordsIn"],
  ["numRecordsInPerSecond", "numRecordsInPerSecond"],
  ["numRecordsOut", "numRecordsOut"],
  ["numRecordsOutPerSecond", "numRecordsOutPerSecond"],
  ["numBytesIn", "numBytesIn"],
  ["numBytesInPerSecond", "numBytesInPerSecond"],
  ["numBytesOut", "numBytesOut"],
  ["numBytesOutPerSecond", "numBytesOutPerSecond"],
  ["busyTimeMsPerSecond", "busyTimeMsPerSecond"],
  ["idleTimeMsPerSecond", "idleTimeMsPerSecond"],
  ["backPressuredTimeMsPerSecond", "backPressuredTimeMsPerSecond"],
  ["hardBackPressuredTimeMsPerSecond", "backPressuredTimeMsPerSecond"], // all of it is hard
  ["softBackPressuredTimeMsPerSecond", "backPressuredTimeMsPerSecond", 0],
  ["accumulateBusyTimeMs", "busyTimeMs"],
  ["accumulateIdleTimeMs", "idleTimeMs"],
  ["accumulateBackPressuredTimeMs", "backPressuredTimeMs"],
  ["checkpointStartDelayNanos", "checkpointStartDelayMs", 1e6],
];

/** Only of tasks with inputs. */
const ALIGNMENT = ["checkpointAlignmentTime", "checkpointAlignmentMs", 1e6] as const;

/** Of one subtask: texts by name, as REST tells them. `INDEX.` is put in front by who lists several. */
export function subtaskMetricTexts(vertex: PlanVertex, figures: Figures): ReadonlyMap<string, string> {
  const texts = new Map<string, string>();
  for (const [name, figure, times = 1] of vertex.inputs.length === 0 ? TASK_METRICS : [...TASK_METRICS, ALIGNMENT]) {
    const value = figures[figure];
    if (value !== undefined) texts.set(name, String(times === 1 ? value : Math.round(value * times)));
  }
  const isBackPressured = figures["isBackPressured"];
  if (isBackPressured !== undefined) texts.set("isBackPressured", String(isBackPressured > 0));
  for (const [name, value] of registeredMetrics(vertex, figures)) texts.set(name, value);
  for (const [name, value] of operatorMetrics(vertex, figures)) texts.set(name, value);
  return texts;
}

/** Only the task as a whole is counted: records in at the head of its chain, out at the tail. */
function* operatorMetrics(vertex: PlanVertex, figures: Figures): Iterable<readonly [name: string, value: string]> {
  const [head, tail] = [vertex.chain[0], vertex.chain.at(-1)];
  for (const [operator, direction] of [
    [head, "In"],
    [tail, "Out"],
  ] as const) {
    if (operator === undefined) continue;
    for (const name of [`numRecords${direction}`, `numRecords${direction}PerSecond`]) {
      const value = figures[name];
      if (value !== undefined) yield [`${metricScope(operator.name)}.${name}`, String(value)];
    }
  }
}

/** What operators and users' functions registered: `operator/INDEX/NAME` in the figures (taskmanager/operator-metrics.ts MM2). */
function* registeredMetrics(vertex: PlanVertex, figures: Figures): Iterable<readonly [name: string, value: string]> {
  for (const [figure, value] of Object.entries(figures)) {
    const [, index, name] = /^operator\/(\d+)\/(.+)$/su.exec(figure) ?? [];
    const operator = vertex.chain[Number(index)];
    if (operator !== undefined) yield [`${metricScope(operator.name)}.${name}`, String(value)];
  }
}

/** An operator's name within a metric's, as Flink writes it: `Source: gen` becomes `Source__gen`. */
function metricScope(operatorName: string): string {
  return operatorName.replaceAll(/[ .:,]/gu, "_");
}
