// `sluice pod preflight`: whether a version could run, before the running one is touched.
//
// Invariants:
//   PF1. It takes the same way as the JobManager would, up to the claim of the commit log: source, `main`, configuration, store.
//   PF2. It changes nothing that anybody reads (store-probe.ts).
//   PF3. It ends with a report, whatever happens: what works, or one failure that says whose it is. Exit code 0 or 1.
//
// Not here: what the operator makes of it.

import { POD_REPORT_FORMAT_VERSION, reportedFailure } from "@sluice/api";
import type { LogHead, PodConfig, PodReport } from "@sluice/api";
import { AssertionError, describeFailure, Failure, toFailure } from "@sluice/kit";
import { processLog } from "@sluice/runtime/internal/bin";
import type { JobPlan } from "@sluice/runtime/internal/model";

import type { PodEnvironment } from "./environment.ts";
import { makePodPlan } from "./plan.ts";
import type { PodPlan } from "./plan.ts";
import { writeReport } from "./report.ts";
import { probeStore } from "./store-probe.ts";

const formatVersion = POD_REPORT_FORMAT_VERSION;
const STACK_LINES_MAX = 3;
const OUTPUT_CHARS_MAX = 1_000;

export async function podPreflight(readConfig: () => PodConfig, at: PodEnvironment): Promise<void> {
  let output = "";
  let report: PodReport;
  try {
    const config = readConfig();
    const planned = await makePodPlan(config, { jobDir: at.jobDir, onOutput: (text) => (output = text) });
    for (const warning of [...planned.warnings, ...planned.settings.warnings])
      process.stderr.write(`warning: ${warning}\n`);
    report = { formatVersion, kind: "preflight", plan: summaryOf(planned), log: await logOf(config, planned) };
  } catch (thrown) {
    if (thrown instanceof AssertionError) throw thrown; // a bug: reported as such by the process
    const failure = withWhere(toFailure(thrown), output);
    process.stderr.write(`${describeFailure(failure)}\n`);
    report = { formatVersion, kind: "failure", failure: reportedFailure(failure) };
  }
  process.stdout.write(output);
  writeReport(at.reportPath, report);
  process.exit(report.kind === "preflight" ? 0 : 1);
}

async function logOf(config: PodConfig, { settings, store }: PodPlan): Promise<LogHead> {
  if (store === undefined || settings.checkpoints.intervalMs === null) return { kind: "none" };
  return await probeStore({
    store,
    savepointDirectory: settings.savepointDirectory,
    from: config.start.from,
    job: config.job,
    attempt: config.attempt,
    log: processLog({ process: "preflight" }),
  });
}

function summaryOf({ plan, settings }: PodPlan): Extract<PodReport, { readonly kind: "preflight" }>["plan"] {
  const { vertices } = plan;
  return {
    jobName: plan.jobName,
    digest: plan.digest,
    slotsNeeded: Math.max(1, ...vertices.map(({ parallelism }) => parallelism)),
    maxParallelism: Math.max(1, ...vertices.map(({ maxParallelism }) => maxParallelism)),
    vertexCount: vertices.length,
    stateful: isStateful(plan),
    checkpointed: settings.checkpoints.intervalMs !== null,
  };
}

function isStateful({ vertices }: JobPlan): boolean {
  return vertices.some(({ chain }) => chain.some(({ stateful }) => stateful));
}

/** The user's own code that threw, and what it had printed: the pod may be gone before anybody reads its log. */
function withWhere(failure: Failure, output: string): Failure {
  const isOfUser = failure.code === "JOB_MAIN_FAILED" || failure.code === "JOB_MODULE_INVALID";
  if (!isOfUser) return failure;
  const stack = (failure.stack ?? "").split("\n").filter((line) => /^\s+at .*file:/u.test(line) && !isOurs(line));
  const where = stack.slice(0, STACK_LINES_MAX).map((line) => line.trim());
  const printed = failure.message.includes("it had printed") ? "" : output.trim().slice(-OUTPUT_CHARS_MAX);
  const message = [failure.message, ...where, ...(printed === "" ? [] : [`it had printed: ${printed}`])].join("\n");
  const { code, retry, remedy } = failure;
  return new Failure(code, { retry, message, remedy, cause: failure });
}

function isOurs(line: string): boolean {
  return /node_modules\/|\/runtime\/(?:src|dist)\/|node:/u.test(line);
}
