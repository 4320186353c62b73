// Service, ConfigMaps and Secret of a StreamJob's attempts.
//
// Invariants:
//   RS1. A ConfigMap and a Secret belong to one attempt and never change.
//   RS2. A Secret's values derive from the controller's key, the StreamJob's uid and the attempt: they are never read from the cluster.
//
// Not here: pods (pods.ts).

import { createHmac } from "node:crypto";

import { flinkConfigurationOf, POD_CONFIG_FORMAT_VERSION, POD_PATHS, writePodConfig } from "@sluice/api";
import type { PodConfig, StartInstructions, StreamJobSpec } from "@sluice/api";

import type { ConfigMap, Secret, Service } from "../kube/index.ts";
import { COMPONENT_LABEL, ATTEMPT_LABEL, JOB_LABEL, metadataOf } from "./labels.ts";
import type { Owner } from "./labels.ts";
import { podMemory } from "./memory.ts";
import { attemptName, continuedName, preflightName, serviceName, submissionOf } from "./names.ts";

export const RPC_PORT = 6123;
export const REST_PORT = 8081;
export const DATA_PORT = 6121;
export const METRICS_PORT = 9249;

/** What a deployed attempt's objects are made of. */
export interface AttemptInput {
  readonly job: Owner & { readonly spec: StreamJobSpec };
  readonly settings: { readonly defaultImage: string };
  readonly deployed: {
    readonly attempt: string;
    readonly submission: string;
    readonly restore: StartInstructions;
    readonly pods: { readonly taskManagers: readonly unknown[] };
  };
}

/** What a preflight pod is made of. */
export interface PreflightInput {
  readonly job: Owner & { readonly spec: StreamJobSpec };
  readonly settings: { readonly defaultImage: string };
  readonly attempt: string;
  readonly opId: string;
}

/** Slots that a spec's own parallelism needs. */
export function slotsOf(spec: StreamJobSpec): number {
  return spec.parallelism;
}

/** TaskManagers for so many slots. */
export function taskManagersOf(spec: StreamJobSpec, slots: number): number {
  return Math.max(1, Math.ceil(slots / Math.max(1, spec.taskManager.slots)));
}

function sourceOf(spec: StreamJobSpec): PodConfig["source"] {
  const { path, inline, configMap, uri } = spec.job;
  if (inline !== undefined) return { kind: "inline", path: POD_PATHS.inlineJob };
  if (configMap !== undefined) return { kind: "configMap", path: `${POD_PATHS.configMapJob}/${configMap.key}` };
  if (uri !== undefined) return { kind: "uri", url: uri.url, sha256: uri.sha256 };
  return { kind: "path", path: path ?? "" };
}

function podConfig(
  of: { readonly job: Owner & { readonly spec: StreamJobSpec }; readonly settings: { readonly defaultImage: string } },
  rest: Pick<PodConfig, "attempt" | "submission" | "start" | "taskManagers">,
): PodConfig {
  const { job } = of;
  const { spec } = job;
  const { objectStore, checkpointing } = spec;
  return {
    formatVersion: POD_CONFIG_FORMAT_VERSION,
    job: { name: job.name, namespace: job.namespace, uid: job.uid },
    image: spec.image ?? of.settings.defaultImage,
    source: sourceOf(spec),
    arguments: spec.args ?? [],
    configuration: flinkConfigurationOf(spec, job),
    store: {
      ...(checkpointing !== undefined && { uri: checkpointing.dir }),
      ...(objectStore !== undefined && { endpoint: objectStore.endpoint }),
      ...(objectStore?.region !== undefined && { region: objectStore.region }),
    },
    slots: spec.taskManager.slots,
    memory: podMemory(spec),
    ...rest,
  };
}

function configMap(owner: Owner, name: string, attempt: string, config: PodConfig, spec: StreamJobSpec): ConfigMap {
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: metadataOf(owner, { name, attempt }),
    data: {
      "pod.json": writePodConfig(config),
      ...(spec.job.inline !== undefined && { "job.ts": spec.job.inline }),
    },
    immutable: true,
  };
}

/** The ConfigMap of all pods of an attempt; `isTakeover`: of a JobManager that may not begin a commit log. */
export function attemptConfigMap(of: AttemptInput, options: { readonly isTakeover: boolean }): ConfigMap {
  const { attempt, submission, restore, pods } = of.deployed;
  const config = podConfig(of, {
    attempt,
    submission,
    start: options.isTakeover ? { ...restore, mayCreate: false } : restore,
    taskManagers: pods.taskManagers.length,
  });
  const name = options.isTakeover ? continuedName(of.job.name, attempt) : attemptName(of.job.name, attempt);
  return configMap(of.job, name, attempt, config, of.job.spec);
}

/** The ConfigMap of a preflight pod. */
export function preflightConfigMap(of: PreflightInput): ConfigMap {
  const { attempt, opId, job } = of;
  const config = podConfig(of, {
    attempt,
    submission: submissionOf(opId),
    start: { newLineage: false, mayCreate: false, onForeignLog: "refuse", pinRestored: false },
    taskManagers: 0,
  });
  return configMap(job, preflightName(job.name, attempt), attempt, config, job.spec);
}

/** Finds the JobManager of one attempt, also while it is not ready. */
export function service(of: AttemptInput): Service {
  const { job, deployed } = of;
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: metadataOf(job, { name: serviceName(job.name) }),
    spec: {
      type: "ClusterIP",
      publishNotReadyAddresses: true,
      selector: {
        [JOB_LABEL]: job.name,
        [COMPONENT_LABEL]: "jobmanager",
        [ATTEMPT_LABEL]: deployed.attempt,
      },
      ports: [
        { name: "rpc", port: RPC_PORT, targetPort: RPC_PORT, protocol: "TCP" },
        { name: "rest", port: REST_PORT, targetPort: REST_PORT, protocol: "TCP" },
      ],
    },
  };
}

/** What the processes of an attempt and the controller share. */
export interface AttemptSecrets {
  readonly secret: string;
  readonly restToken: string;
}

/** HMAC-SHA256 of the controller's key over uid, attempt and purpose (RS2). */
export function secretsOf(key: Uint8Array, of: { readonly uid: string; readonly attempt: string }): AttemptSecrets {
  const derive = (purpose: string): string =>
    createHmac("sha256", key).update(`${of.uid}/${of.attempt}/${purpose}`).digest("hex");
  return { secret: derive("rpc"), restToken: derive("rest") };
}

/** The Secret of an attempt, by envFrom. */
export function attemptSecret(owner: Owner, attempt: string, secrets: AttemptSecrets): Secret {
  return {
    apiVersion: "v1",
    kind: "Secret",
    metadata: metadataOf(owner, { name: attemptName(owner.name, attempt), attempt }),
    type: "Opaque",
    stringData: { SLUICE_SECRET: secrets.secret, SLUICE_REST_TOKEN: secrets.restToken },
    immutable: true,
  };
}
