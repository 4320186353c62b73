// PodReport: what a pod says at its end, in its termination message.
//
// Invariants:
//   PR1. At most 4,096 bytes: the kubelet cuts what is longer, and JSON that is cut says nothing. Long texts are shortened instead.
//   PR2. Controller and image may be of different versions: unknown fields are ignored, a `formatVersion` above the reader's is none.
//   PR3. Nothing is believed: it was written by a pod that runs users' code.
//
// Not here: who writes it (packages/cli/src/pod), who reads it (controller/src/observe).

import type { Failure } from "@sluice/kit";
import { anyOf, flag, integer, limited, literal, object, oneOf, text } from "../schema.ts";
import { problemsOf } from "../schema-check.ts";
import type { Message } from "../schema.ts";

export const POD_REPORT_FORMAT_VERSION = 1;
export const POD_REPORT_BYTES_MAX = 4096;

const formatVersion = limited(integer(), { minimum: 1 });
const RETRIES = ["now", "backoff", "never"] as const;

/** What preflight found out of the user's `main`. */
export const PlanSummary = object({
  jobName: text("As the job's code names it."),
  digest: text("Of the graph, its arguments and code."),
  slotsNeeded: limited(integer("The greatest parallelism of its vertices."), { minimum: 1 }),
  maxParallelism: limited(integer("The greatest of its vertices."), { minimum: 1 }),
  vertexCount: limited(integer(), { minimum: 1 }),
  stateful: flag("An operator has state."),
  checkpointed: flag("Periodic checkpoints are on."),
});
export type PlanSummary = Message<typeof PlanSummary>;

export const LOG_JOB_STATES = ["active", "stopping", "draining", "stopped", "finished", "failed", "cancelled"] as const;

/** The newest record of the commit log. `none`: the job has no store. `absent`: it has, and there is no log in it. */
export const LogHead = anyOf(
  object({ kind: literal("none") }),
  object({ kind: literal("absent") }),
  object(
    {
      kind: literal("exists"),
      uid: text("Of the StreamJob that owns it."),
      lineage: text(),
      submission: text("That claimed it last."),
      seq: limited(integer(), { minimum: 0 }),
      jobState: oneOf(LOG_JOB_STATES),
      closed: flag("Final for its lineage."),
    },
    {
      headId: integer("Of the newest checkpoint; absent: there is none."),
      headPath: text("URI of its directory."),
    },
  ),
);
export type LogHead = Message<typeof LogHead>;

/** A Failure without its stack. */
export const ReportedFailure = object({ code: text(), message: text(), remedy: text(), retry: oneOf(RETRIES) });
export type ReportedFailure = Message<typeof ReportedFailure>;

/**
 * preflight: it succeeded. failure: preflight or the preparation of a process failed, nothing was started. jobEnded, stopped, fatal: the
 * last event of a JobManager or TaskManager (runtime's ProcessEvent).
 */
export const PodReport = anyOf(
  object({ formatVersion, kind: literal("preflight"), plan: PlanSummary, log: LogHead }),
  object({ formatVersion, kind: literal("failure"), failure: ReportedFailure }),
  object(
    {
      formatVersion,
      kind: literal("jobEnded"),
      state: oneOf(["FINISHED", "CANCELED", "FAILED"]),
      message: text(),
    },
    { log: LogHead },
  ),
  object({ formatVersion, kind: literal("stopped"), message: text() }),
  object({ formatVersion, kind: literal("fatal"), failure: ReportedFailure }),
);
export type PodReport = Message<typeof PodReport>;

/** A Failure as a report has it. */
export function reportedFailure(failure: Pick<Failure, "code" | "message" | "remedy" | "retry">): ReportedFailure {
  return { code: failure.code, message: failure.message, remedy: failure.remedy, retry: failure.retry };
}

/** The termination message: one JSON object of at most 4,096 bytes (PR1). */
export function writePodReport(report: PodReport): string {
  for (let charsMax = POD_REPORT_BYTES_MAX; charsMax >= 16; charsMax = Math.floor(charsMax / 1.25)) {
    const written = JSON.stringify(report, (_key, value: unknown) =>
      typeof value === "string" ? shortened(value, charsMax) : value,
    );
    if (new TextEncoder().encode(written).length <= POD_REPORT_BYTES_MAX) return written;
  }
  return JSON.stringify(report, (_key, value: unknown) => (typeof value === "string" ? shortened(value, 16) : value));
}

/** The middle goes: a message begins with what happened, and often ends with where. */
function shortened(value: string, charsMax: number): string {
  const chars = Array.from(value);
  if (chars.length <= charsMax) return value;
  const headChars = Math.ceil(charsMax * 0.7);
  return `${chars.slice(0, headChars).join("")} … ${chars.slice(chars.length - (charsMax - headChars)).join("")}`;
}

export type ReadPodReport =
  | { readonly type: "report"; readonly report: PodReport }
  /** Nothing was written, or something that is no report: the container was killed, or the image is not ours. */
  | { readonly type: "none"; readonly problem: string };

/** Reads a termination message (PR2, PR3). */
export function readPodReport(written: string | undefined): ReadPodReport {
  if (written === undefined || written.trim() === "") return { type: "none", problem: "the pod left no report" };
  let value: unknown;
  try {
    value = JSON.parse(written);
  } catch {
    return { type: "none", problem: `the pod's last words are no report: ${written.trim().slice(0, 200)}` };
  }
  const version = (value as { readonly formatVersion?: unknown } | null)?.formatVersion;
  if (typeof version === "number" && version > POD_REPORT_FORMAT_VERSION)
    return {
      type: "none",
      problem: `the pod's report has format version ${version}: the image is newer than the controller`,
    };
  const [problem] = problemsOf(PodReport, value, { allowsUnknownFields: true });
  if (problem !== undefined) return { type: "none", problem: `the pod's report cannot be read: ${problem}` };
  return { type: "report", report: value as PodReport };
}
