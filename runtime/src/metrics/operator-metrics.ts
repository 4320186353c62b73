// The metrics that one operator and its functions register, and what they are at a moment.
//
// Invariants (tests cite them):
//   OM1. One name in one group is one metric of one kind (MT1); another kind is a failure of the function that asked.
//   OM2. At most METRICS_MAX metrics leave an operator; further ones work and are not seen, which is logged once.
//   OM3. Reading never fails: a gauge that throws is left out, and logged once.
//
// Not here: how samples travel (task/, taskmanager/), names on pages (taskmanager/metrics).

import { Failure } from "@sluice/kit";
import type {
  Counter,
  Histogram,
  HistogramFigure,
  HistogramStatistics,
  Meter,
  MetricGroup,
  MetricSample,
} from "../model/index.ts";

/** Metrics of one operator and subtask at most; every heartbeat carries them. */
const METRICS_MAX = 200;
const WINDOW_SIZE = 1_000;
const WINDOW_SIZE_MAX = 100_000;
/** A meter counts in buckets of this length over a minute (Flink: MeterView). */
const BUCKET_MS = 5_000;
const BUCKETS = 12;

class PlainCounter implements Counter {
  #count = 0;

  get count(): number {
    return this.#count;
  }

  inc(by = 1): void {
    this.#count += by;
  }

  dec(by = 1): void {
    this.#count -= by;
  }
}

class BucketMeter implements Meter {
  readonly #nowMs: () => number;
  readonly #startedMs: number;
  readonly #buckets = new Float64Array(BUCKETS);
  #bucket = 0;
  #count = 0;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
    this.#startedMs = nowMs();
  }

  get count(): number {
    return this.#count;
  }

  markEvent(count = 1): void {
    this.#advance();
    this.#count += count;
    this.#buckets[this.#bucket % BUCKETS] = (this.#buckets[this.#bucket % BUCKETS] as number) + count;
  }

  /** A meter younger than a minute is divided by its age. */
  get rate(): number {
    const ageMs = this.#advance();
    const spanMs = Math.min(ageMs, BUCKETS * BUCKET_MS - (BUCKET_MS - (ageMs % BUCKET_MS)));
    return spanMs < 1 ? 0 : (this.#buckets.reduce((sum, count) => sum + count, 0) * 1_000) / spanMs;
  }

  #advance(): number {
    const ageMs = this.#nowMs() - this.#startedMs;
    const bucket = Math.floor(ageMs / BUCKET_MS);
    if (bucket - this.#bucket >= BUCKETS) this.#buckets.fill(0);
    else for (let next = this.#bucket + 1; next <= bucket; next += 1) this.#buckets[next % BUCKETS] = 0;
    this.#bucket = bucket;
    return ageMs;
  }
}

class WindowHistogram implements Histogram {
  readonly #window: Float64Array;
  #count = 0;

  constructor(windowSize: number) {
    this.#window = new Float64Array(windowSize);
  }

  get count(): number {
    return this.#count;
  }

  update(value: number): void {
    this.#window[this.#count % this.#window.length] = value;
    this.#count += 1;
  }

  getStatistics(): HistogramStatistics {
    const sorted = this.#window.slice(0, Math.min(this.#count, this.#window.length)).sort();
    const { length } = sorted;
    const mean = sorted.reduce((sum, value) => sum + value, 0) / length;
    const variance = sorted.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(1, length - 1);
    return {
      min: sorted[0] ?? Number.NaN,
      max: sorted.at(-1) ?? Number.NaN,
      mean,
      stdDev: Math.sqrt(variance),
      getQuantile: (quantile) => sorted[Math.min(length - 1, Math.floor(quantile * length))] ?? Number.NaN,
    };
  }
}

type Metric =
  | { readonly kind: "counter"; readonly counter: Counter }
  | { readonly kind: "gauge"; readonly read: () => number | boolean }
  | { readonly kind: "meter"; readonly meter: Meter }
  | { readonly kind: "histogram"; readonly histogram: Histogram };

interface Registered {
  readonly path: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly metric: Metric;
}

/** All metrics of one operator of one subtask. */
export class OperatorMetricRegistry {
  readonly #nowMs: () => number;
  readonly #warn: (message: string) => void;
  readonly #metrics = new Map<string, Registered>();
  readonly #warned = new Set<string>();
  readonly root: MetricGroup = this.#group([], {});

  constructor(options: { readonly nowMs: () => number; readonly warn: (message: string) => void }) {
    this.#nowMs = options.nowMs;
    this.#warn = options.warn;
  }

  get isEmpty(): boolean {
    return this.#metrics.size === 0;
  }

  /** The count of a counter of the root group; 0 when there is none. */
  countOf(name: string): number {
    const metric = this.#metrics.get(keyOf([name], {}))?.metric;
    return metric?.kind === "counter" ? metric.counter.count : 0;
  }

  /** OM2, OM3. */
  sample(): readonly MetricSample[] {
    const samples: MetricSample[] = [];
    for (const { path, labels, metric } of this.#metrics.values()) {
      if (samples.length === METRICS_MAX) {
        this.#warnOnce("", `more than ${METRICS_MAX} metrics: the others are not shown`);
        break;
      }
      const { kind } = metric;
      if (kind === "counter") samples.push({ path, labels, kind, value: metric.counter.count });
      else if (kind === "meter") samples.push({ path, labels, kind, value: metric.meter.rate });
      else if (kind === "gauge") this.#sampleGauge(samples, { path, labels }, metric.read);
      else samples.push({ path, labels, kind, value: metric.histogram.count, ...figuresOf(metric.histogram) });
    }
    return samples;
  }

  #sampleGauge(into: MetricSample[], of: Pick<MetricSample, "path" | "labels">, read: () => number | boolean): void {
    try {
      const value = Number(read());
      if (Number.isFinite(value)) into.push({ ...of, kind: "gauge", value });
    } catch (thrown) {
      this.#warnOnce(keyOf(of.path, of.labels), `gauge ${of.path.join(".")} threw: ${String(thrown)}`);
    }
  }

  #warnOnce(what: string, message: string): void {
    if (this.#warned.has(what)) return;
    this.#warned.add(what);
    this.#warn(message);
  }

  #group(path: readonly string[], labels: Readonly<Record<string, string>>): MetricGroup {
    const take = <K extends Metric["kind"]>(
      name: string,
      kind: K,
      make: () => Extract<Metric, { readonly kind: K }>,
    ): Extract<Metric, { readonly kind: K }> => {
      const own = [...path, name];
      const key = keyOf(own, labels);
      const known = this.#metrics.get(key);
      if (known?.metric.kind === kind) return known.metric as Extract<Metric, { readonly kind: K }>;
      if (known !== undefined || name === "") {
        throw new Failure("USER_FUNCTION_FAILED", {
          retry: "never",
          message:
            known === undefined
              ? "a metric was registered without a name"
              : `metric ${own.join(".")} is a ${known.metric.kind} and was registered as a ${kind}`,
          remedy: "give every metric of a group a name of its own",
        });
      }
      const metric = make();
      this.#metrics.set(key, { path: own, labels, metric });
      return metric;
    };
    return {
      counter: (name) => take(name, "counter", () => ({ kind: "counter", counter: new PlainCounter() })).counter,
      gauge: (name, read) => void take(name, "gauge", () => ({ kind: "gauge", read })),
      meter: (name) => take(name, "meter", () => ({ kind: "meter", meter: new BucketMeter(this.#nowMs) })).meter,
      histogram: (name, { windowSize = WINDOW_SIZE } = {}) => {
        if (!(Number.isSafeInteger(windowSize) && windowSize >= 1 && windowSize <= WINDOW_SIZE_MAX)) {
          throw new Failure("USER_FUNCTION_FAILED", {
            retry: "never",
            message: `histogram ${[...path, name].join(".")} has windowSize ${windowSize}`,
            remedy: `give a whole number from 1 to ${WINDOW_SIZE_MAX}`,
          });
        }
        const make = (): Extract<Metric, { readonly kind: "histogram" }> => ({
          kind: "histogram",
          histogram: new WindowHistogram(windowSize),
        });
        return take(name, "histogram", make).histogram;
      },
      addGroup: (name, value) =>
        this.#group([...path, name], value === undefined ? labels : { ...labels, [name]: value }),
    };
  }
}

function keyOf(path: readonly string[], labels: Readonly<Record<string, string>>): string {
  return JSON.stringify([path, labels]);
}

function figuresOf(histogram: Histogram): Pick<MetricSample, "statistics"> {
  if (histogram.count === 0) return {};
  const statistics = histogram.getStatistics();
  const { min, max, mean, stdDev } = statistics;
  const quantile = (of: number): number => statistics.getQuantile(of);
  const figures: Record<HistogramFigure, number> = {
    min,
    max,
    mean,
    median: quantile(0.5),
    stddev: stdDev,
    p75: quantile(0.75),
    p90: quantile(0.9),
    p95: quantile(0.95),
    p98: quantile(0.98),
    p99: quantile(0.99),
    p999: quantile(0.999),
  };
  return { statistics: figures };
}
