// What a pod says about why it does not run, in words of the user: a reason and a remedy.
//
// Invariants:
//   PO1. Every reason names what is missing and what to do.
//   PO2. Numbers are named where memory is the reason.
//
// Not here: whether it is final (the steps).

import type { PodReportView, PodView } from "../observe/index.ts";
import type { Draft, Finding } from "./draft.ts";

/** Waiting reasons of the kubelet about images. */
const IMAGE_REASONS: ReadonlySet<string> = new Set([
  "ErrImagePull",
  "ImagePullBackOff",
  "InvalidImageName",
  "ErrImageNeverPull",
  "ImageInspectError",
  "RegistryUnavailable",
]);

/** Why this pod does not run, or has ended without a report. */
export function findingOfPod(draft: Draft, pod: PodView): Finding {
  const { waiting, ended } = pod;
  if (pod.unschedulable !== undefined)
    return {
      reason: "Unschedulable",
      message: `no node has room for pod ${pod.name}: ${pod.unschedulable}. Ask for less (jobManager.resources, taskManager.resources), or add nodes.`,
    };
  if (waiting !== undefined && IMAGE_REASONS.has(waiting.reason))
    return {
      reason: "ImagePullFailed",
      message: `the image of pod ${pod.name} cannot be had: ${waiting.reason}: ${waiting.message} Correct spec.image, or give podTemplate.spec.imagePullSecrets.`,
    };
  if (waiting !== undefined && waiting.reason === "CreateContainerConfigError")
    return {
      reason: "SecretMissing",
      message: `pod ${pod.name} cannot start: ${waiting.message}. objectStore.secretRef needs a Secret in namespace ${draft.job.namespace} with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.`,
    };
  if (waiting !== undefined && /^(CreateContainerError|RunContainerError|CreatePodSandboxError)$/u.test(waiting.reason))
    return {
      reason: "ContainerRefused",
      message: `pod ${pod.name} cannot start: ${waiting.reason}: ${waiting.message}. Check spec.image and podTemplate.`,
    };
  if (pod.isNodeLost)
    return { reason: "NodeLost", message: `node ${pod.node ?? "?"} of pod ${pod.name} does not answer` };
  const end = ended ?? (waiting?.reason === "CrashLoopBackOff" ? pod.lastEnded : undefined);
  if (end?.reason === "OOMKilled") return outOfMemory(draft, pod);
  if (end?.report !== undefined) return findingOfFailure(draft, end.report);
  if (end !== undefined)
    return {
      reason: "ContainerCrashed",
      message: `pod ${pod.name} ended with exit code ${end.exitCode} (${end.reason || pod.reason || "no reason"}) and left no report; its log says more: kubectl logs ${pod.name} --previous`,
    };
  if (pod.reason !== "")
    return { reason: "PodFailed", message: `pod ${pod.name} failed: ${pod.reason}: ${pod.message}` };
  return {
    reason: pod.component === "preflight" ? "Preflight" : "PodsStarting",
    message: `pod ${pod.name} is ${pod.phase === "Pending" ? "starting" : pod.phase.toLowerCase()}${waiting === undefined ? "" : ` (${waiting.reason})`}`,
  };
}

/** A failure that a pod reported, under the code's name. */
export function findingOfFailure(draft: Draft, report: PodReportView): Finding {
  const { configMap } = draft.job.spec.job;
  const code = report.code ?? "INTERNAL";
  const message = report.message ?? "the pod reported a failure without words";
  if (code === "JOB_MODULE_NOT_FOUND" && configMap !== undefined)
    return {
      reason: "ConfigMapMissing",
      message: `ConfigMap ${draft.job.namespace}/${configMap.name} has no key ${configMap.key}, or does not exist: ${message} Create it, then change spec (restartNonce is enough).`,
    };
  const words = inSpecWords(report.remedy ?? "");
  const remedy = words === "" ? "" : ` What to do: ${words}`;
  return { reason: camelCase(code), message: `${code}: ${inSpecWords(message)}${remedy}` };
}

/**
 * Flags of `sluice run` that the runtime's remedies name, as fields of a StreamJob. The longest come first: "start with X or Y" is
 * said as a whole. `initialSnapshot` counts for the first start of a StreamJob, so it is named with a new one.
 */
const SPEC_WORDS: readonly (readonly [RegExp, string])[] = [
  [
    /with --new-lineage(?: \(no state\))? or --from CHECKPOINT(?: \(its state\))?/gu,
    "with upgradeMode: Stateless (no state), or apply a new StreamJob with onExistingData: NewLineage and initialSnapshot (its state)",
  ],
  [/with --allow-non-restored-state(?: \([^)]*\))?/gu, "with allowNonRestoredState: true"],
  [/--allow-non-restored-state\b/gu, "allowNonRestoredState: true"],
  [/with --from\b/gu, "in the initialSnapshot of a new StreamJob"],
  [/--from\b(?: CHECKPOINT)?/gu, "initialSnapshot of a new StreamJob"],
  [/--new-lineage\b(?: alone)?/gu, "upgradeMode: Stateless (a new StreamJob: onExistingData: NewLineage)"],
];

/** Texts of the runtime, in the words of who writes a StreamJob. */
export function inSpecWords(text: string): string {
  return SPEC_WORDS.reduce((said, [flags, words]) => said.replace(flags, words), text);
}

/** An OOM kill, with the numbers. */
export function outOfMemory(draft: Draft, pod: PodView): Finding {
  const { spec } = draft.job;
  const role = pod.component === "taskmanager" ? "taskManager" : "jobManager";
  const limit = spec[role].resources.memory;
  const slots = role === "taskManager" ? `, divided among ${spec.taskManager.slots} slots` : "";
  return {
    reason: "OutOfMemory",
    message: `the kernel killed pod ${pod.name}: its container used more than its limit of ${limit}${slots}. Raise ${role}.resources.memory${role === "taskManager" ? ", or lower taskManager.slots" : ""}; docs/operator/memory.md tells how it is divided.`,
  };
}

/** STORAGE_UNAVAILABLE as a condition's reason: StorageUnavailable. */
export function camelCase(code: string): string {
  const words = code.split(/[^A-Za-z0-9]+/u).filter((word) => word !== "");
  const text = words.map((word) => `${word[0]?.toUpperCase() ?? ""}${word.slice(1).toLowerCase()}`).join("");
  return /^[A-Z]/u.test(text) ? text : `Failure${text}`;
}
