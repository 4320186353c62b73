// The pods of a StreamJob as plain data.
//
// Invariants:
//   PD1. Every container meets the "restricted" pod security standard: no root, no privileges, seccomp of the runtime, read-only root.
//   PD2. No pod carries a token of the Kubernetes API.
//   PD3. What users give is merged by name under what the operator owns: names, labels, command, ports, security, our mounts.
//
// Not here: ConfigMaps and Secrets (resources.ts), the memory formula (memory.ts).

import { CONTAINER_NAME, POD_PATHS } from "@sluice/api";
import type { StreamJobSpec } from "@sluice/api";

import type { Container, EnvVar, Pod, PodSpec, Volume, VolumeMount } from "../kube/index.ts";
import { ATTEMPT_LABEL, COMPONENT_LABEL, JOB_LABEL, metadataOf } from "./labels.ts";
import { podMemory } from "./memory.ts";
import { attemptName, podName, preflightName } from "./names.ts";
import type { Component } from "./names.ts";
import { mergeContainer, mergePodSpec } from "./pod-template.ts";
import { DATA_PORT, METRICS_PORT, REST_PORT, RPC_PORT } from "./resources.ts";
import type { AttemptInput, PreflightInput } from "./resources.ts";

/** A pod on a node that does not answer is given up by Kubernetes after this time; the controller is faster. */
const NODE_LOSS_SECONDS = 20;
const GRACE_SECONDS = 10;
/** The user "node" of the image, by number: the kubelet wants to see that it is not root. */
const USER_ID = 1000;
const MIB = 2 ** 20;

const VOLUMES = {
  config: "sluice-config",
  tmp: "sluice-tmp",
  work: "sluice-work",
  job: "sluice-job",
  configMapJob: "sluice-job-source",
} as const;

/** What the pods of an attempt are made of. */
export type RunningPodInput = Pick<AttemptInput, "job" | "settings"> & {
  readonly deployed: { readonly attempt: string };
};

/** A JobManager or TaskManager pod of an attempt. */
export function runningPod(
  of: RunningPodInput,
  as: { readonly component: "jobmanager" | "taskmanager"; readonly index: number; readonly configMap: string },
): Pod {
  const { job, deployed } = of;
  return pod(of, {
    component: as.component,
    name: podName({ job: job.name, component: as.component, attempt: deployed.attempt, index: as.index }),
    attempt: deployed.attempt,
    configMap: as.configMap,
    secret: attemptName(job.name, deployed.attempt),
  });
}

/** The pod that tries a version before anything else is touched. */
export function preflightPod(of: PreflightInput): Pod {
  const { job, attempt } = of;
  return pod(of, {
    component: "preflight",
    name: podName({ job: job.name, component: "preflight", attempt, index: 0 }),
    attempt,
    configMap: preflightName(job.name, attempt),
    secret: undefined,
  });
}

interface PodParts {
  readonly component: Component;
  readonly name: string;
  readonly attempt: string;
  readonly configMap: string;
  readonly secret: string | undefined;
}

function pod(of: Pick<AttemptInput, "job" | "settings">, parts: PodParts): Pod {
  const { job } = of;
  const { spec } = job;
  const template = parts.component === "taskmanager" ? spec.taskManager.podTemplate : spec.jobManager.podTemplate;
  const own = metadataOf(job, parts);
  const labels = { ...template?.metadata?.labels, ...own.labels };
  const annotations = { ...template?.metadata?.annotations };
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { ...own, labels, ...(Object.keys(annotations).length > 0 && { annotations }) },
    spec: mergePodSpec(podSpec(of, parts), template?.spec),
  };
}

function podSpec(of: Pick<AttemptInput, "job" | "settings">, parts: PodParts): PodSpec {
  const { job } = of;
  const { component } = parts;
  return {
    restartPolicy: component === "preflight" ? "Never" : "OnFailure",
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    terminationGracePeriodSeconds: GRACE_SECONDS,
    ...(component === "preflight" && { activeDeadlineSeconds: 600 }),
    securityContext: {
      runAsNonRoot: true,
      runAsUser: USER_ID,
      runAsGroup: USER_ID,
      fsGroup: USER_ID,
      seccompProfile: { type: "RuntimeDefault" },
    },
    tolerations: ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].map((key) => ({
      key,
      operator: "Exists" as const,
      effect: "NoExecute" as const,
      tolerationSeconds: NODE_LOSS_SECONDS,
    })),
    ...(component === "taskmanager" && { affinity: apart(job.name, parts.attempt) }),
    containers: [container(of, parts)],
    volumes: volumes(job.spec, parts),
  };
}

/** TaskManagers of one job rather on different nodes. */
function apart(job: string, attempt: string): Readonly<Record<string, unknown>> {
  return {
    podAntiAffinity: {
      preferredDuringSchedulingIgnoredDuringExecution: [
        {
          weight: 100,
          podAffinityTerm: {
            topologyKey: "kubernetes.io/hostname",
            labelSelector: {
              matchLabels: { [JOB_LABEL]: job, [COMPONENT_LABEL]: "taskmanager", [ATTEMPT_LABEL]: attempt },
            },
          },
        },
      ],
    },
  };
}

function container(of: Pick<AttemptInput, "job" | "settings">, parts: PodParts): Container {
  const { spec } = of.job;
  const { component } = parts;
  const isTaskManager = component === "taskmanager";
  const role = isTaskManager ? spec.taskManager : spec.jobManager;
  const memory = podMemory(spec);
  const heapBytes = isTaskManager ? memory.taskManagerHeapBytes : memory.jobManagerHeapBytes;
  const { cpu } = role.resources;
  const probePort = isTaskManager ? METRICS_PORT : REST_PORT;
  const own: Container = {
    name: CONTAINER_NAME,
    image: spec.image ?? of.settings.defaultImage,
    imagePullPolicy: spec.imagePullPolicy,
    command: ["sluice", "pod", component],
    env: environment(spec, heapBytes),
    ...(parts.secret !== undefined && { envFrom: [{ secretRef: { name: parts.secret } }] }),
    ...(component !== "preflight" && { ports: ports(component) }),
    resources: {
      requests: { memory: String(role.resources.memory), ...(cpu !== undefined && { cpu: String(cpu) }) },
      limits: { memory: String(role.resources.memory) },
    },
    volumeMounts: mounts(spec),
    ...(component !== "preflight" && {
      readinessProbe: {
        httpGet: { path: "/health", port: probePort },
        periodSeconds: 2,
        timeoutSeconds: 2,
        failureThreshold: 3,
      },
    }),
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      runAsNonRoot: true,
      capabilities: { drop: ["ALL"] },
      seccompProfile: { type: "RuntimeDefault" },
    },
    terminationMessagePath: POD_PATHS.report,
    terminationMessagePolicy: "File",
  };
  const template = isTaskManager ? spec.taskManager.podTemplate : spec.jobManager.podTemplate;
  const given = template?.spec?.containers?.find((one) => one.name === CONTAINER_NAME);
  return mergeContainer(own, given);
}

function environment(spec: StreamJobSpec, heapBytes: number): readonly EnvVar[] {
  const { objectStore } = spec;
  const credentials = objectStore === undefined ? [] : ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
  return [
    { name: "NODE_OPTIONS", value: `--max-old-space-size=${Math.max(32, Math.floor(heapBytes / MIB))}` },
    { name: "SLUICE_POD_NAME", valueFrom: { fieldRef: { fieldPath: "metadata.name" } } },
    { name: "SLUICE_POD_IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
    ...credentials.map((key) => ({
      name: key,
      valueFrom: { secretKeyRef: { name: objectStore?.secretRef.name ?? "", key } },
    })),
  ];
}

function ports(component: "jobmanager" | "taskmanager"): NonNullable<Container["ports"]> {
  return component === "jobmanager"
    ? [
        { name: "rpc", containerPort: RPC_PORT },
        { name: "rest", containerPort: REST_PORT },
      ]
    : [
        { name: "data", containerPort: DATA_PORT },
        { name: "metrics", containerPort: METRICS_PORT },
      ];
}

function mounts(spec: StreamJobSpec): readonly VolumeMount[] {
  return [
    { name: VOLUMES.config, mountPath: "/etc/sluice", readOnly: true },
    { name: VOLUMES.tmp, mountPath: "/tmp" },
    { name: VOLUMES.work, mountPath: POD_PATHS.work },
    // A path in the image is read where it lies: the emptyDir would hide it.
    ...(spec.job.path === undefined ? [{ name: VOLUMES.job, mountPath: POD_PATHS.job }] : []),
    ...(spec.job.configMap === undefined
      ? []
      : [{ name: VOLUMES.configMapJob, mountPath: POD_PATHS.configMapJob, readOnly: true }]),
  ];
}

function volumes(spec: StreamJobSpec, parts: PodParts): readonly Volume[] {
  const { configMap } = spec.job;
  const isTaskManager = parts.component === "taskmanager";
  return [
    { name: VOLUMES.config, configMap: { name: parts.configMap } },
    { name: VOLUMES.tmp, emptyDir: {} },
    {
      name: VOLUMES.work,
      emptyDir: isTaskManager ? { sizeLimit: String(spec.taskManager.localState.sizeLimit) } : {},
    },
    ...(spec.job.path === undefined ? [{ name: VOLUMES.job, emptyDir: {} }] : []),
    // optional: a ConfigMap that is not there would keep the pod from starting, and nobody would say why; so the pod does.
    ...(configMap === undefined
      ? []
      : [{ name: VOLUMES.configMapJob, configMap: { name: configMap.name, optional: true } }]),
  ];
}
