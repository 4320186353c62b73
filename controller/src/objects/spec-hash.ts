// What of a spec is part of the running job: a change of it needs new pods.
//
// Invariants:
//   SH1. Key order changes nothing.
//   SH2. Only what this program knows counts, with its defaults filled in: a field that a newer CRD adds with a default restarts
//        nothing, neither under the controller before it nor under the one that brings it. So two specs are compared, never a
//        spec with a hash that another release has stored.

import { createHash } from "node:crypto";

import { knownFields, StreamJobSpec, withDefaults } from "@sluice/api";

/** How the job is looked after, not what it is. `restartNonce` is compared by itself. */
const NOT_PART_OF_THE_JOB: ReadonlySet<string> = new Set([
  "state",
  "upgradeMode",
  "allowNonRestoredState",
  "initialSnapshot",
  "onExistingData",
  "stability",
  "restartNonce",
]);

/** 16 hex digits of what a change of would restart the job. */
export function specHash(spec: StreamJobSpec): string {
  const known = knownFields(StreamJobSpec, withDefaults(StreamJobSpec, spec));
  const part = Object.fromEntries(Object.entries(known).filter(([key]) => !NOT_PART_OF_THE_JOB.has(key)));
  return createHash("sha256").update(canonical(part)).digest("hex").slice(0, 16);
}

function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  const entries = Object.entries(value).filter(([, one]) => one !== undefined);
  return `{${entries
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, one]) => `${JSON.stringify(key)}:${canonical(one)}`)
    .join(",")}}`;
}

/** Whether a change from one to the other restarts the job (SH2). */
export function isSameJob(a: StreamJobSpec, b: StreamJobSpec): boolean {
  return specHash(a) === specHash(b);
}
