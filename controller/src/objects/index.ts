// Public module of controller/src/objects: names, pods and other objects of a StreamJob's attempts as plain data; the memory formula.

export {
  ATTEMPT_LABEL,
  COMPONENT_LABEL,
  FINALIZER,
  JOB_LABEL,
  labelsOf,
  MANAGED_BY,
  ownerReference,
} from "./labels.ts";
export type { Owner } from "./labels.ts";
export { jobManagerMemory, podMemory, problemsOfMemory, quantityBytes, taskManagerMemory } from "./memory.ts";
export type { JobManagerMemory, TaskManagerMemory } from "./memory.ts";
export {
  attemptName,
  attemptOf,
  cancelIdOf,
  continuedName,
  operationId,
  podName,
  preflightName,
  serviceName,
  submissionOf,
  triggerIdOf,
  unpinIdOf,
} from "./names.ts";
export type { Component } from "./names.ts";
export { preflightPod, runningPod } from "./pods.ts";
export {
  attemptConfigMap,
  attemptSecret,
  METRICS_PORT,
  preflightConfigMap,
  REST_PORT,
  secretsOf,
  service,
  slotsOf,
  taskManagersOf,
} from "./resources.ts";
export type { AttemptInput, AttemptSecrets, PreflightInput } from "./resources.ts";
export { isSameJob, specHash } from "./spec-hash.ts";
