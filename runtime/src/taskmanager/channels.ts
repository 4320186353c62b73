// Which channels an attempt has, and on which TaskManagers their ends lie. Pure.
//
// Invariants:
//   CH1. Subtask i of every vertex runs in slot i of the job (slot sharing), so a FORWARD channel never leaves its slot.
//   CH2. Both TaskManagers of a channel derive the same key for it.

import { assert } from "@sluice/kit";
import { connects } from "../model/index.ts";
import type { JobPlan, SubtaskId } from "../model/index.ts";

export interface ChannelRoute {
  readonly edgeId: number;
  readonly source: SubtaskId;
  readonly target: SubtaskId;
}

/** The same text on both sides: `edge/sourceSubtask/targetSubtask` (CH2). */
export function channelKey(route: ChannelRoute): string {
  return `${route.edgeId}/${route.source.subtaskIndex}/${route.target.subtaskIndex}`;
}

/** All channels of a plan, in the order of edges, sources, targets. */
export function channelRoutes(plan: JobPlan): readonly ChannelRoute[] {
  const parallelismOf = new Map(plan.vertices.map((vertex) => [vertex.id, vertex.parallelism]));
  const routes: ChannelRoute[] = [];
  for (const vertex of plan.vertices) {
    for (const edge of vertex.inputs) {
      const sources = parallelismOf.get(edge.sourceVertexId);
      assert(sources !== undefined, "an edge starts at a vertex of the plan");
      for (let source = 0; source < sources; source += 1) {
        for (let target = 0; target < vertex.parallelism; target += 1) {
          if (!connects({ partitioning: edge.partitioning, sources, targets: vertex.parallelism }, source, target))
            continue;
          routes.push({
            edgeId: edge.id,
            source: { vertexId: edge.sourceVertexId, subtaskIndex: source },
            target: { vertexId: vertex.id, subtaskIndex: target },
          });
        }
      }
    }
  }
  return routes;
}
