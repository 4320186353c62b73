// Metrics that the slots' operators registered, on their way to Prometheus and, flat, to the JobManager.
//
// Invariants:
//   MM1. Whatever a thread posted is checked: user code shares it, and a page must render whatever was posted.
//   MM2. A flat name is `operator/INDEX/NAME`: INDEX is the operator's place in its chain, NAME as Flink's REST tells it.
//
// Not here: registering and reading metrics (metrics/operator-metrics.ts), names on the page (metrics/taskmanager-page.ts).

import { HISTOGRAM_FIGURES } from "../model/index.ts";
import type { MetricSample, OperatorMetrics, PlanVertex } from "../model/index.ts";

const KINDS: readonly unknown[] = ["counter", "gauge", "meter", "histogram"] satisfies MetricSample["kind"][];
/** Of one task; an operator gives fewer. */
const SAMPLES_MAX = 10_000;

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isSample(value: unknown): value is MetricSample {
  if (!isRecord(value)) return false;
  const { path, labels, kind, value: figure, statistics } = value;
  return (
    Array.isArray(path) &&
    path.length > 0 &&
    path.every((name) => typeof name === "string") &&
    isRecord(labels) &&
    Object.values(labels).every((label) => typeof label === "string") &&
    KINDS.includes(kind) &&
    typeof figure === "number" &&
    (statistics === undefined ||
      (isRecord(statistics) && HISTOGRAM_FIGURES.every((name) => typeof statistics[name] === "number")))
  );
}

/** MM1; undefined: not metrics of operators. */
export function readOperatorMetrics(value: unknown): readonly OperatorMetrics[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const operators: OperatorMetrics[] = [];
  let count = 0;
  for (const operator of value as readonly unknown[]) {
    if (!isRecord(operator)) return undefined;
    const { uid, samples } = operator;
    if (typeof uid !== "string" || !Array.isArray(samples)) return undefined;
    if (!(samples as readonly unknown[]).every(isSample)) return undefined;
    count += samples.length;
    if (count > SAMPLES_MAX) return undefined;
    operators.push({ uid, samples: samples as readonly MetricSample[] });
  }
  return operators;
}

/** MM2. */
export function flatMetrics(
  vertex: PlanVertex,
  operators: readonly OperatorMetrics[],
): Readonly<Record<string, number>> {
  const flat: Record<string, number> = {};
  for (const { uid, samples } of operators) {
    const index = vertex.chain.findIndex((operator) => operator.uid === uid);
    if (index < 0) continue;
    for (const { path, value, kind, statistics } of samples) {
      const name = `operator/${index}/${path.join(".")}`;
      if (kind === "histogram") {
        flat[`${name}_count`] = value;
        for (const figure of HISTOGRAM_FIGURES)
          if (statistics !== undefined) flat[`${name}_${figure}`] = statistics[figure];
      } else {
        flat[name] = value;
      }
    }
  }
  return flat;
}
