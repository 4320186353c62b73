// The JobManager's /metrics: names and labels of Flink's Prometheus reporter.
//
// Not here: values of the job (job-values.ts), figures of the process (runtime/metrics).

import { addProcessFigures, MetricsPage } from "../../metrics/index.ts";
import type { ProcessFigures } from "../../metrics/index.ts";
import { clusterMetrics } from "../rest/cluster-messages.ts";
import type { JobManagerView } from "../rest/source.ts";
import { jobMetricValues } from "./job-values.ts";

const CLUSTER_HELP: Readonly<Record<string, string>> = {
  numRegisteredTaskManagers: "TaskManagers that are registered.",
  numRunningJobs: "Jobs that have not ended.",
  taskSlotsTotal: "Slots of the registered TaskManagers.",
  taskSlotsAvailable: "Slots without tasks.",
};

/** One scrape. Labels: `host`, and `job_id`, `job_name` for metrics of the job. */
export function jobManagerPage(view: JobManagerView, figures: ProcessFigures): MetricsPage {
  const page = new MetricsPage();
  const job = view.job();
  const labels = { host: view.host };
  for (const [name, value] of clusterMetrics(view)) {
    page.add(`flink_jobmanager_${name}`, CLUSTER_HELP[name] ?? "", labels, value);
  }
  const jobLabels = { ...labels, job_id: job.jid, job_name: job.plan.jobName };
  for (const [name, { value, help }] of jobMetricValues(job, view.wallMs())) {
    page.add(`flink_jobmanager_job_${name}`, help, jobLabels, value);
  }
  addProcessFigures(page, "jobmanager", labels, figures);
  return page;
}
