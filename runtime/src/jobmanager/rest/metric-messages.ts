// Metrics as REST messages: of one thing by name, or over several things. Pure.
//
// Not here: the metrics themselves (../metrics).

import type { AggregatedMetricsMessage, MetricsMessage } from "@sluice/api";
import { sumOf } from "./distribution.ts";
import { Refusal } from "./refusal.ts";

type Query = Readonly<Record<string, string>>;
type Texts = ReadonlyMap<string, string>;

const AGGREGATIONS = ["min", "max", "avg", "sum", "skew"] as const;
type Aggregation = (typeof AGGREGATIONS)[number];

/** `?get=a,b`: values of those that there are; without it the names. */
export function metricsMessage(texts: Texts, query: Query): MetricsMessage {
  const wanted = namesOf(query, "get");
  if (wanted === undefined) return [...texts.keys()].map((id) => ({ id }));
  return wanted.flatMap((id) => {
    const value = texts.get(id);
    return value === undefined ? [] : [{ id, value }];
  });
}

/** Flink: AbstractAggregatingMetricsHandler. A metric that nobody has, or that is no number, is left out. */
export function aggregatedMetrics(all: readonly Texts[], query: Query): AggregatedMetricsMessage {
  const wanted = namesOf(query, "get");
  if (wanted === undefined) return [...new Set(all.flatMap((texts) => [...texts.keys()]))].map((id) => ({ id }));
  const aggregations = aggregationsOf(query);
  return wanted.flatMap((id) => {
    const values = all.flatMap((texts) => {
      const text = texts.get(id);
      return text === undefined ? [] : [Number(text)];
    });
    if (values.length === 0 || values.some(Number.isNaN)) return [];
    return [{ id, ...Object.fromEntries(aggregations.map((name) => [name, aggregate(name, values)])) }];
  });
}

/** The names that a parameter lists; undefined when it is absent or empty. */
export function namesOf(query: Query, parameter: string): readonly string[] | undefined {
  const text = query[parameter];
  return text === undefined || text === "" ? undefined : text.split(",");
}

function aggregationsOf(query: Query): readonly Aggregation[] {
  const names = namesOf(query, "agg") ?? AGGREGATIONS;
  return names.map((text) => {
    const name = AGGREGATIONS.find((candidate) => candidate === text.toLowerCase());
    if (name === undefined) throw Refusal.query("agg", text);
    return name;
  });
}

function aggregate(name: Aggregation, values: readonly number[]): number {
  const mean = sumOf(values) / values.length;
  switch (name) {
    case "min":
      return Math.min(...values);
    case "max":
      return Math.max(...values);
    case "avg":
      return mean;
    case "sum":
      return sumOf(values);
    case "skew": // mean absolute deviation, in percent of the mean
      return mean === 0 ? 0 : (sumOf(values.map((value) => Math.abs(value - mean))) / values.length / mean) * 100;
  }
}

/** `0,2-4` as indices below `count`. Flink: SubtasksFilterQueryParameter. */
export function indicesOf(query: Query, parameter: string, count: number): readonly number[] {
  const ranges = namesOf(query, parameter);
  if (ranges === undefined) return Array.from({ length: count }, (_, i) => i);
  const indices = new Set<number>();
  for (const range of ranges) {
    const match = /^(\d{1,9})(?:-(\d{1,9}))?$/u.exec(range.trim());
    if (match === null) throw Refusal.query(parameter, range);
    const from = Number(match[1]);
    const to = Math.min(Number(match[2] ?? from), count - 1);
    for (let i = from; i <= to; i += 1) indices.add(i);
  }
  return [...indices];
}
