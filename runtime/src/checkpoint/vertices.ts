// The slice of a plan that checkpointing needs.

import type { JobPlan } from "../model/index.ts";
import type { CheckpointVertex } from "./types.ts";

/** The vertices of a plan as the coordinator and assignState take them. */
export function checkpointVertices(plan: Pick<JobPlan, "vertices">): readonly CheckpointVertex[] {
  return plan.vertices.map((vertex) => ({
    vertexId: vertex.id,
    parallelism: vertex.parallelism,
    maxParallelism: vertex.maxParallelism,
    derivesMaxParallelism: vertex.derivesMaxParallelism ?? false,
    isKeyed: vertex.keyType !== undefined,
    uids: vertex.chain.map((operator) => operator.uid),
    inputVertexIds: [...new Set(vertex.inputs.map((edge) => edge.sourceVertexId))],
  }));
}
