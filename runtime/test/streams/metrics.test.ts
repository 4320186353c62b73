// Metrics and logs of users' functions in a whole job: what reaches the TaskManager, its page and REST.

import { expect, test } from "@jest/globals";

import {
  type Counter,
  GeneratorSource,
  type Histogram,
  type Meter,
  RichMapFunction,
  type RuntimeContext,
  Types,
} from "../../src/index.ts";
import { subtaskMetricTexts } from "../../src/jobmanager/metrics/subtask-values.ts";
import type { ProcessFigures } from "../../src/metrics/index.ts";
import type { PlanVertex, SlotEvent } from "../../src/model/index.ts";
import { flatMetrics, readOperatorMetrics } from "../../src/taskmanager/operator-metrics.ts";
import { TaskManagerPages, operatorsOfChain } from "../../src/taskmanager/metrics/taskmanager-page.ts";
import { TASK_COUNTERS } from "../../src/task/index.ts";
import { ArraySink, Slots } from "../support/slots.ts";

const PROCESS: ProcessFigures = {
  heap: { usedBytes: 1, committedBytes: 2, limitBytes: 4 },
  externalBytes: 0,
  residentBytes: 0,
  codeBytes: 0,
  cpuLoad: 0,
  cpuTimeMs: 0,
  threadCount: 1,
  openFileCount: 1,
  youngCollections: { count: 0, timeMs: 0 },
  oldCollections: { count: 0, timeMs: 0 },
  collectionMsPerSecond: 0,
};

class Measured extends RichMapFunction<number, number> {
  #even!: Counter;
  #all!: Meter;
  #values!: Histogram;
  #last = 0;

  override open(context: RuntimeContext): void {
    const group = context.getMetricGroup();
    this.#even = group.addGroup("parity", "even").counter("numbers");
    this.#all = group.meter("all");
    this.#values = group.histogram("values");
    group.gauge("last", () => this.#last);
    group.counter("numRecordsIn").inc(7); // a name of ours
  }

  override map(n: number): number {
    if (n % 2 === 0) this.#even.inc();
    this.#all.markEvent();
    this.#values.update(n);
    this.#last = n;
    return n;
  }
}

test("what a function registered is on the TaskManager's page and among the vertex's metrics", async () => {
  const slots = await Slots.start((env) => {
    env
      .fromSource(new GeneratorSource({ count: 100, generate: (i) => i, type: Types.LONG() }), "numbers")
      .uid("n")
      .map(new Measured(), Types.LONG())
      .name("my map")
      .uid("m")
      .sinkTo(new ArraySink());
  });
  await slots.finish();
  const event = slots.events.findLast(({ type }) => type === "metrics") as Extract<SlotEvent, { type: "metrics" }>;
  const operators = readOperatorMetrics(structuredClone(event.operators)) ?? [];
  expect(operators.map(({ uid }) => uid)).toEqual(["m"]);

  const vertex = slots.plan.vertices[0] as PlanVertex;
  const texts = subtaskMetricTexts(vertex, flatMetrics(vertex, operators));
  expect(Object.fromEntries(texts)).toMatchObject({
    "my_map.parity.numbers": "50",
    "my_map.last": "99",
    "my_map.values_count": "100",
    "my_map.values_min": "0",
    "my_map.values_p95": "95",
  });

  const zeros = Object.fromEntries(TASK_COUNTERS.map((name) => [name, 0])) as Record<
    (typeof TASK_COUNTERS)[number],
    number
  >;
  const pages = new TaskManagerPages({
    taskManagerId: "tm",
    host: "h",
    nowMs: () => 0,
    job: () => ({ jid: "j", name: "job" }),
    tasks: () => [
      {
        vertexId: vertex.id,
        taskName: vertex.name,
        subtaskIndex: 0,
        attempt: 0,
        operators: operatorsOfChain(vertex.chain, zeros, operators),
        figures: zeros,
      },
    ],
    slotHeaps: () => [],
    slots: 1,
    freeSlots: () => 0,
  });
  const text = await pages.page(PROCESS).render();
  const prefix = "flink_taskmanager_job_task_operator";
  const lines = text.split("\n").filter((line) => line.includes('operator_name="my map"'));
  expect(lines).toContainEqual(
    expect.stringMatching(new RegExp(`^${prefix}_parity_numbers{parity="even",host="h".*} 50$`)),
  );
  expect(lines).toContainEqual(expect.stringMatching(new RegExp(`^${prefix}_last{.*operator_id="m".*} 99$`)));
  expect(lines).toContainEqual(expect.stringMatching(new RegExp(`^${prefix}_values{.*quantile="0.95"} 95$`)));
  expect(lines).toContainEqual(expect.stringMatching(new RegExp(`^${prefix}_values_count{.*} 100$`)));
  expect(lines.filter((line) => line.startsWith(`${prefix}_numRecordsIn{`))).toEqual([]);
});

test.each([
  undefined,
  {},
  [1],
  [{ uid: 1, samples: [] }],
  [{ uid: "u", samples: [{ path: [], labels: {}, kind: "gauge", value: 1 }] }],
  [{ uid: "u", samples: [{ path: ["a"], labels: { a: 1 }, kind: "gauge", value: 1 }] }],
  [{ uid: "u", samples: [{ path: ["a"], labels: {}, kind: "thing", value: 1 }] }],
  [{ uid: "u", samples: [{ path: ["a"], labels: {}, kind: "histogram", value: 1, statistics: {} }] }],
])("MM1: %j is not taken for metrics", (value) => {
  expect(readOperatorMetrics(value)).toBeUndefined();
});
