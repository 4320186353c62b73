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
