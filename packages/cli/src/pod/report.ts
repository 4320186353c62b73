// The last words of a pod: its PodReport, and the exit code that the kubelet acts on.
//
// Invariants:
//   PO1. A job that has ended exits with 0, whatever its end: the kubelet would start it again otherwise.
//   PO2. What no new start changes exits with 78 (EX_CONFIG), so that it can be told from a crash without reading anything.
//   PO3. Writing the report never keeps a process from ending.
//
// Not here: the format (packages/api/src/streamjob/pod-report.ts).

import { writeFileSync } from "node:fs";

import { POD_REPORT_FORMAT_VERSION, writePodReport } from "@sluice/api";
import type { LogHead, PodReport } from "@sluice/api";
import type { EndEvent, Supervision } from "@sluice/runtime/internal/bin";
import type { EndOfLog } from "@sluice/runtime/internal/model";

export const EXIT_NEVER = 78;

const formatVersion = POD_REPORT_FORMAT_VERSION;

export function writeReport(path: string, report: PodReport): void {
  try {
    writeFileSync(path, writePodReport(report));
  } catch (thrown) {
    process.stderr.write(`the report cannot be written to ${path}: ${(thrown as Error).message}\n`); // PO3
  }
}

/** How a JobManager or TaskManager in a pod tells of itself. */
export function podSupervision(reportPath: string): Supervision {
  let isStarted = false;
  return {
    onEvent: (event) => {
      if (event.event === "listening") isStarted = true;
      else writeReport(reportPath, reportOf(event, isStarted));
    },
    exitCodeOf: (event) => {
      if (event.event !== "fatal") return 0; // PO1
      return event.retry === "never" ? EXIT_NEVER : 1; // PO2
    },
  };
}

function reportOf(event: EndEvent, isStarted: boolean): PodReport {
  switch (event.event) {
    case "jobEnded":
      return {
        formatVersion,
        kind: "jobEnded",
        state: event.state,
        message: event.message,
        ...(event.log === undefined ? {} : { log: logHead(event.log) }),
      };
    case "stopped":
      return { formatVersion, kind: "stopped", message: event.message };
    case "fatal": {
      const { code, message, remedy, retry } = event;
      return { formatVersion, kind: isStarted ? "fatal" : "failure", failure: { code, message, remedy, retry } };
    }
  }
}

/** What a record says, as reports have it. */
export function logHead({ uid, lineage, submission, seq, jobState, closed, head }: EndOfLog): LogHead {
  return {
    kind: "exists",
    uid,
    lineage,
    submission,
    seq,
    jobState,
    closed,
    ...(head === null ? {} : { headId: head.id, headPath: head.path }),
  };
}
