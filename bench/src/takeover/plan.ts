// A plan of many tasks that nobody runs: what a JobManager reads, schedules and deploys.

import type { JobPlan, PlanVertex } from "@sluice/runtime/internal/model";

const LONG = { kind: "LONG" } as const;

/** `vertexCount` vertices in a row, exchanged by key, `parallelism` tasks each. */
export function chainPlan(vertexCount: number, parallelism: number): JobPlan {
  return {
    formatVersion: 0,
    jobName: "takeover",
    digest: "d".repeat(64),
    arguments: [],
    configuration: {},
    vertices: Array.from({ length: vertexCount }, (_, i) => vertex(i, parallelism)),
  };
}

function vertex(index: number, parallelism: number): PlanVertex {
  const id = (n: number): string => n.toString(16).padStart(32, "0");
  const name = index === 0 ? "Source: numbers" : `stage ${index}`;
  return {
    id: id(index),
    name,
    parallelism,
    maxParallelism: 32_768,
    chain: [
      {
        transformationId: index,
        name,
        uid: `uid-${index}`,
        kind: index === 0 ? "source" : "oneInput",
        stateful: true,
      },
    ],
    inputs:
      index === 0
        ? []
        : [
            {
              id: index,
              sourceVertexId: id(index - 1),
              targetVertexId: id(index),
              inputIndex: 0,
              partitioning: "HASH",
              type: LONG,
              keyType: LONG,
            },
          ],
    splits: [],
    ...(index === 0 ? {} : { keyType: LONG }),
  };
}
