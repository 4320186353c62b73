// The plan of the TaskManager's tests: two vertices, one HASH edge, parallelism 2.

import type { JobPlan } from "../model/index.ts";

export const PLAN: JobPlan = {
  formatVersion: 0,
  jobName: "j",
  digest: "d",
  arguments: [],
  configuration: {},
  vertices: [
    { id: "src", name: "numbers", parallelism: 2, maxParallelism: 128, chain: [], inputs: [], splits: [] },
    {
      id: "sum",
      name: "keyed sum",
      parallelism: 2,
      maxParallelism: 128,
      chain: [],
      inputs: [
        {
          id: 4,
          sourceVertexId: "src",
          targetVertexId: "sum",
          inputIndex: 0,
          partitioning: "HASH",
          type: { kind: "LONG" },
        },
      ],
      splits: [],
    },
  ],
};
