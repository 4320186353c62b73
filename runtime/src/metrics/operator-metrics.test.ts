// Metrics that operators register: kinds, groups, limits, and what a sample of them holds.

import { describe, expect, test } from "@jest/globals";

import { OperatorMetricRegistry } from "./index.ts";

function registry(): {
  readonly registry: OperatorMetricRegistry;
  readonly warnings: string[];
  readonly time: { nowMs: number };
} {
  const warnings: string[] = [];
  const time = { nowMs: 0 };
  const warn = (message: string): void => void warnings.push(message);
  return { registry: new OperatorMetricRegistry({ nowMs: () => time.nowMs, warn }), warnings, time };
}

describe("OperatorMetricRegistry", () => {
  test("counters, gauges and groups, of which those with a value are labels too", () => {
    const { registry: of } = registry();
    const hits = of.root.addGroup("cache").counter("hits");
    hits.inc();
    hits.inc(4);
    hits.dec();
    of.root.addGroup("shard", "eu").counter("rows").inc(7);
    of.root.gauge("open", () => true);
    of.root.gauge("depth", () => 2.5);
    expect(of.sample()).toEqual([
      { path: ["cache", "hits"], labels: {}, kind: "counter", value: 4 },
      { path: ["shard", "rows"], labels: { shard: "eu" }, kind: "counter", value: 7 },
      { path: ["open"], labels: {}, kind: "gauge", value: 1 },
      { path: ["depth"], labels: {}, kind: "gauge", value: 2.5 },
    ]);
  });

  test("OM1: a name is one metric, of one kind", () => {
    const { registry: of } = registry();
    expect(of.root.counter("n")).toBe(of.root.counter("n"));
    expect(of.root.addGroup("g").counter("n")).not.toBe(of.root.counter("n"));
    expect(() => of.root.meter("n")).toThrow("metric n is a counter and was registered as a meter");
    expect(() => of.root.counter("")).toThrow("without a name");
    expect(() => of.root.histogram("h", { windowSize: 0 })).toThrow("histogram h has windowSize 0");
  });

  test("OM2: what is too much is not shown, and said once", () => {
    const { registry: of, warnings } = registry();
    for (let i = 0; i < 300; i += 1) of.root.counter(`c${i}`).inc();
    expect([of.sample().length, of.sample().length, of.root.counter("c299").count]).toEqual([200, 200, 1]);
    expect(warnings).toEqual(["more than 200 metrics: the others are not shown"]);
  });

  test("OM3: a gauge that throws or has no number is left out", () => {
    const { registry: of, warnings } = registry();
    of.root.gauge("broken", () => {
      throw new Error("no");
    });
    of.root.gauge("undefined", () => undefined as unknown as number);
    expect([of.sample(), of.sample()]).toEqual([[], []]);
    expect(warnings).toEqual(["gauge broken threw: Error: no"]);
  });

  test("a meter is events per second over the last minute, or its age", () => {
    const { registry: of, time } = registry();
    const meter = of.root.meter("events");
    expect(meter.rate).toBe(0);
    for (time.nowMs = 0; time.nowMs < 30_000; time.nowMs += 100) meter.markEvent(2);
    expect([meter.rate, meter.count]).toEqual([20, 600]);
    time.nowMs = 59_999;
    expect(meter.rate).toBeCloseTo(10, 1);
    time.nowMs = 90_000;
    expect([meter.rate, meter.count]).toEqual([0, 600]);
    meter.markEvent();
    expect(meter.count).toBe(601);
  });

  test("a histogram tells of its last values", () => {
    const { registry: of } = registry();
    const histogram = of.root.histogram("latency", { windowSize: 100 });
    expect(of.sample()).toEqual([{ path: ["latency"], labels: {}, kind: "histogram", value: 0 }]);
    for (let i = 1; i <= 1_000; i += 1) histogram.update(i);
    const [sample] = of.sample();
    expect(sample?.value).toBe(1_000);
    expect(sample?.statistics).toMatchObject({ min: 901, max: 1_000, mean: 950.5, median: 951, p99: 1_000, p75: 976 });
    expect(sample?.statistics?.stddev).toBeCloseTo(29.01, 2);
  });
});
