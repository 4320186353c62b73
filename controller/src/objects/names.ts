// Every name that an operation needs, derived from the operation's id: a step that is done again meets what it made before.
//
// Invariants:
//   NA1. Equal ids give equal names; nothing else goes into a name but the StreamJob's name and a counter that is kept in its status.
//   NA2. A name of 45 characters leaves room: no name is longer than the 63 characters of a label.
//
// Not here: labels and the objects themselves (pods.ts, resources.ts).

import { createHash } from "node:crypto";

const ATTEMPT_CHARS = 10;
const SUBMISSION_CHARS = 12;
const ID_CHARS = 32;

function digest(text: string, chars: number): string {
  return createHash("sha256").update(text).digest("hex").slice(0, chars);
}

/** The id of the n-th try of one generation's operation. */
export function operationId(of: { readonly uid: string; readonly generation: number; readonly tries: number }): string {
  return `${of.uid}/${of.generation}/${of.tries}`;
}

/** What tells the pods of one deployment from those of all others. */
export function attemptOf(opId: string): string {
  return digest(opId, ATTEMPT_CHARS);
}

/** The JobManager's submission: the lineage that it would create. */
export function submissionOf(opId: string): string {
  return digest(`submission/${opId}`, SUBMISSION_CHARS);
}

/** REST's `triggerId` of the stop with a savepoint. */
export function triggerIdOf(opId: string): string {
  return digest(`stop/${opId}`, ID_CHARS);
}

/** The operation id under which a job is cancelled. */
export function cancelIdOf(opId: string): string {
  return digest(`cancel/${opId}`, ID_CHARS);
}

export type Component = "jobmanager" | "taskmanager" | "preflight";

const SHORT: Readonly<Record<Component, string>> = { jobmanager: "jm", taskmanager: "tm", preflight: "pf" };

/** Name of a pod. `index` counts up over all pods of an attempt: no name is used twice. */
export function podName(of: {
  readonly job: string;
  readonly component: Component;
  readonly attempt: string;
  readonly index: number;
}): string {
  const base = `${of.job}-${SHORT[of.component]}-${of.attempt}`;
  return of.component === "preflight" ? base : `${base}-${of.index}`;
}

/** Name of an attempt's ConfigMap and Secret. */
export function attemptName(job: string, attempt: string): string {
  return `${job}-${attempt}`;
}

/** Name of the ConfigMap of a preflight pod. */
export function preflightName(job: string, attempt: string): string {
  return `${job}-pf-${attempt}`;
}

/** Name of the ConfigMap that a JobManager pod gets which takes over a job that has run: it may not begin a commit log. */
export function continuedName(job: string, attempt: string): string {
  return `${job}-${attempt}-c`;
}

/** Name of the Service that finds the JobManager. */
export function serviceName(job: string): string {
  return `${job}-jobmanager`;
}

/** The operation id under which the JobManager lets go of what an upgrade kept. */
export function unpinIdOf(attempt: string): string {
  return digest(`unpin/${attempt}`, ID_CHARS);
}
