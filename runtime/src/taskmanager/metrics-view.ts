// What /metrics shows of a TaskManager, out of its running attempt.

import type { HeapFigures } from "../metrics/index.ts";
import { TASK_COUNTERS } from "../task/index.ts";
import type { TaskCounterName } from "../task/index.ts";
import { operatorsOfChain } from "./metrics/taskmanager-page.ts";
import type { TaskManagerMetricsView, TaskMetricsView } from "./metrics/taskmanager-page.ts";
import type { TaskManager } from "./task-manager.ts";

export function metricsView(options: {
  readonly taskManager: TaskManager;
  readonly taskManagerId: string;
  readonly host: string;
  readonly slots: number;
  readonly nowMs: () => number;
  readonly slotHeaps: () => readonly HeapFigures[];
}): TaskManagerMetricsView {
  const { taskManager, taskManagerId, host, slots, nowMs, slotHeaps } = options;
  return {
    taskManagerId,
    host,
    slots,
    nowMs,
    slotHeaps,
    freeSlots: () => slots - (taskManager.snapshot().deployment?.slots.length ?? 0),
    job: () => {
      const { deployment } = taskManager.snapshot();
      return deployment === undefined ? undefined : { jid: deployment.jobId, name: deployment.plan.jobName };
    },
    tasks: () => {
      const { deployment, report, operatorMetrics } = taskManager.snapshot();
      if (deployment === undefined) return [];
      return report.tasks.flatMap(({ subtask, counters }): TaskMetricsView[] => {
        const vertex = deployment.plan.vertices.find(({ id }) => id === subtask.vertexId);
        if (vertex === undefined) return [];
        const figures = Object.fromEntries(TASK_COUNTERS.map((name) => [name, counters[name] ?? 0])) as Record<
          TaskCounterName,
          number
        >;
        return [
          {
            vertexId: vertex.id,
            taskName: vertex.name,
            subtaskIndex: subtask.subtaskIndex,
            attempt: deployment.attempt,
            operators: operatorsOfChain(vertex.chain, figures, operatorMetrics(subtask)),
            figures,
          },
        ];
      });
    },
  };
}
