// The JobManager's /metrics: names and labels of Flink's Prometheus reporter.
//
// Not here: values of the job (job-values.ts), figures of the process (runtime/metrics).

import { addProcessFigures, MetricsPage } from "../../metrics/index.ts";
import type { ProcessFigures } from "../../metrics/index.ts";
import { isTerminal } from "../rest/source.ts";
import type { JobManagerView } from "../rest/source.ts";
import { jobMetricValues } from "./job-values.ts";

/** One scrape. Labels: `host`, and `job_id`, `job_name` for metrics of the job. */
export function jobManagerPage(view: JobManagerView, figures: ProcessFigures): MetricsPage {
  const page = new MetricsPage();
  const job = view.job();
  const labels = { host: view.host };
  const taskManagers = view.taskManagers();
  const cluster = (name: string, help: string, value: number): void =>
    page.add(`flink_jobmanager_${name}`, help, labels, value);
  cluster("numRegisteredTaskManagers", "TaskManagers that are registered.", taskManagers.length);
  cluster("numRunningJobs", "Jobs that have not ended.", isTerminal(job.state) ? 0 : 1);
  cluster(
    "taskSlotsTotal",
    "Slots of the registered TaskManagers.",
    taskManagers.reduce((sum, one) => sum + one.slots, 0),
  );
  cluster(
    "taskSlotsAvailable",
    "Slots without tasks.",
    taskManagers.reduce((sum, one) => sum + one.freeSlots, 0),
  );
  const jobLabels = { ...labels, job_id: job.jid, job_name: job.plan.jobName };
  for (const [name, { value, help }] of jobMetricValues(job, view.wallMs())) {
    page.add(`flink_jobmanager_job_${name}`, help, jobLabels, value);
  }
  addProcessFigures(page, "jobmanager", labels, figures);
  return page;
}
