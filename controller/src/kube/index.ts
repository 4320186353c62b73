// Public module of controller/src/kube: the controller's own small core over the Kubernetes API. It knows nothing of jobs.
//
// Not here: the implementation that opens connections (node/), the simulated one (the sim workspace).

export {
  ApiError,
  failureOfApiError,
  isAlreadyExists,
  isApiError,
  isConflict,
  isExpired,
  isNotFound,
  isRejected,
  isUnknownOutcome,
  NO_STATUS,
  outcomeOfStatus,
} from "./api/api-error.ts";
export type { ApiErrorOptions } from "./api/api-error.ts";
export { KubeClient } from "./api/client.ts";
export type { ApplyBody, DeleteOptions, ListOptions, ObjectName } from "./api/client.ts";
export { CALL_TIMEOUT_MS } from "./api/kube-api.ts";
export type {
  Answers,
  CallOptions,
  CreateRequest,
  DeleteRequest,
  GetRequest,
  KubeApi,
  KubeRequest,
  ListRequest,
  ObjectList,
  PatchRequest,
  Selection,
  StatusAnswer,
  UpdateRequest,
  WatchEvent,
  WatchRequest,
} from "./api/kube-api.ts";
export { controllerOf, controllerRef, keyOf, objectKey, splitKey } from "./api/objects.ts";
export type {
  Condition,
  ConfigMap,
  Container,
  ContainerState,
  ContainerStateTerminated,
  ContainerStatus,
  EnvVar,
  KeyToPath,
  KubeEvent,
  KubeObject,
  Lease,
  Namespace,
  Node,
  ObjectMeta,
  ObjectReference,
  OwnerReference,
  Pod,
  PodSpec,
  PodStatus,
  Probe,
  ResourceQuantities,
  Secret,
  SecurityContext,
  Service,
  ServicePort,
  Stored,
  StoredMeta,
  Toleration,
  Volume,
  VolumeMount,
} from "./api/objects.ts";
export {
  apiVersionOf,
  CONFIG_MAPS,
  EVENTS,
  LEASES,
  NAMESPACES,
  NODES,
  PODS,
  resourceName,
  resourceType,
  SECRETS,
  SERVICES,
} from "./api/resources.ts";
export type { ResourceType } from "./api/resources.ts";
export { ObjectCache } from "./cache/object-cache.ts";
export type { CacheChange, ObjectCacheOptions, ReadableCache } from "./cache/object-cache.ts";
export { Reflector, withoutManagedFields } from "./cache/reflector.ts";
export type { ReflectorCounts, ReflectorOptions } from "./cache/reflector.ts";
export { compareVersions, hasReached } from "./cache/versions.ts";
export { WriteGate } from "./cache/write-gate.ts";
export type { Settled, WriteGateOptions } from "./cache/write-gate.ts";
export { LeaseElection, microTime } from "./election.ts";
export type { ElectionOptions, LeaderTerm } from "./election.ts";
export { cacheIsSynced, HealthChecks, queueMoves, watchIsFresh } from "./health.ts";
export type { Check, HealthReport } from "./health.ts";
export { KubeMetrics } from "./metrics.ts";
export { EventRecorder, referenceTo } from "./recorder.ts";
export type { EventRecorderOptions, EventToRecord } from "./recorder.ts";
export { Controller, whenAllSynced } from "./work/controller.ts";
export type {
  ControllerObserver,
  ControllerOptions,
  Reconcile,
  ReconcileOutcome,
  ReconcileResult,
} from "./work/controller.ts";
export { ItemBackoff, TokenBucket } from "./work/rate-limits.ts";
export { LOW_PRIORITY, NORMAL_PRIORITY, WorkQueue } from "./work/work-queue.ts";
export type { QueueObserver, WorkQueueOptions } from "./work/work-queue.ts";
