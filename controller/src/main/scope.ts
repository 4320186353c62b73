// What the operator does in one namespace, or in all of them: caches of StreamJobs and pods, and the loop over them.
//
// Invariants:
//   SC1. A StreamJob is looked at when it, one of its pods or a node of its pods changes, and when a decision asked for it.
//   SC2. Caches keep what is decided by and no more: the specs of pods are large.
//
// Not here: the election (operator.ts).

import type { Clock, Log, Rng, Timers } from "@sluice/kit/env";

import { Reconciler, STREAM_JOBS } from "../apply/index.ts";
import type { StreamJobObject } from "../apply/index.ts";
import type { Settings } from "../decide/index.ts";
import {
  Controller,
  controllerOf,
  keyOf,
  KubeClient,
  ObjectCache,
  objectKey,
  PODS,
  Reflector,
  WriteGate,
} from "../kube/index.ts";
import type { EventRecorder, KubeApi, KubeMetrics, Node, Pod, Stored } from "../kube/index.ts";
import { MANAGED_BY } from "../objects/index.ts";
import type { JobManagerApi } from "../observe/index.ts";

const FIELD_MANAGER = "sluice-controller";
const CONCURRENT_COUNT_MAX = 8;
/** A job that is stuck is looked at again within half a minute, not after a quarter of an hour. */
const ITEM_BACKOFF = { baseMs: 50, maxMs: 30_000 };

export interface ScopeOptions {
  readonly api: KubeApi;
  readonly env: { readonly clock: Clock; readonly timers: Timers; readonly rng: Rng; readonly log: Log };
  /** Undefined: all namespaces. */
  readonly namespace: string | undefined;
  readonly nodes: ObjectCache<Node>;
  readonly metrics: ScopeMetrics | undefined;
}

/** Where a scope shows its loop. */
export type ScopeMetrics = Pick<KubeMetrics, "observerFor" | "showController" | "showGate">;

/** What leading needs. */
export interface LeadOptions {
  readonly api: KubeApi;
  readonly key: Uint8Array;
  readonly recorder: EventRecorder;
  readonly jobManagers: JobManagerApi;
  readonly settings: Settings;
}

export class Scope {
  readonly jobs: ObjectCache<StreamJobObject>;
  readonly pods: ObjectCache<Pod>;
  readonly jobsReflector: Reflector<StreamJobObject>;
  readonly podsReflector: Reflector<Pod>;
  readonly #options: ScopeOptions;
  #controller: Controller | undefined;

  constructor(options: ScopeOptions) {
    this.#options = options;
    const { api, env, namespace } = options;
    const onHandlerError = (thrown: unknown): void =>
      env.log.error("a handler of a cache threw: a bug", { error: String(thrown) });
    this.jobs = new ObjectCache({ onHandlerError });
    this.pods = new ObjectCache({ onHandlerError });
    const where = { api, env, ...(namespace !== undefined && { namespace }) };
    const [[label, value] = ["", ""]] = Object.entries(MANAGED_BY);
    this.jobsReflector = new Reflector({ ...where, type: STREAM_JOBS, cache: this.jobs, trim: trimJob });
    this.podsReflector = new Reflector({
      ...where,
      type: PODS,
      cache: this.pods,
      labelSelector: `${label}=${value}`,
      trim: trimPod,
    });
  }

  get isSynced(): boolean {
    return this.jobs.isSynced && this.pods.isSynced;
  }

  /** The loop of the present term, for health and metrics. */
  get controller(): Controller | undefined {
    return this.#controller;
  }

  /** Keeps the caches. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([this.jobsReflector.run(signal), this.podsReflector.run(signal)]);
  }

  /** Reconciles until the signal fires. */
  async lead(of: LeadOptions, signal: AbortSignal): Promise<void> {
    const { env, nodes, metrics, namespace } = this.#options;
    const name = namespace === undefined ? "streamjob" : `streamjob-${namespace}`;
    const gate = new WriteGate({ api: of.api, clock: env.clock });
    gate.register(STREAM_JOBS, this.jobs);
    gate.register(PODS, this.pods);
    const reconciler = new Reconciler({
      caches: { jobs: this.jobs, pods: this.pods, nodes },
      jobManagers: of.jobManagers,
      key: of.key,
      settings: of.settings,
      wallMs: () => env.clock.wallMs(),
      onEvent: (object, event) => {
        env.log.info("decided", { key: keyOf(object), reason: event.reason, note: event.note });
        of.recorder.record(object, event);
      },
    });
    const controller = new Controller({
      name,
      env,
      gate,
      concurrentCountMax: CONCURRENT_COUNT_MAX,
      reconcile: async (key, aborted) => {
        const client = new KubeClient(gate.api(key), { fieldManager: FIELD_MANAGER });
        return (await reconciler.reconcile(key, client, aborted)) ?? {};
      },
      queue: { itemBackoff: ITEM_BACKOFF },
      ...(metrics !== undefined && { observer: metrics.observerFor(name) }),
    });
    metrics?.showController(controller);
    metrics?.showGate(name, gate);
    const stops = this.#listen(controller, (object) => {
      reconciler.forget(object.metadata.uid);
      gate.forget(keyOf(object));
    });
    this.#controller = controller;
    try {
      for (const object of this.jobs.all()) controller.queue.add(keyOf(object));
      await controller.run(signal);
    } finally {
      for (const stop of stops) stop();
      this.#controller = undefined;
    }
  }

  /** SC1. */
  #listen(controller: Controller, onGone: (object: Stored<StreamJobObject>) => void): readonly (() => void)[] {
    const { nodes } = this.#options;
    const addOwner = (pod: Stored<Pod>): void => {
      const owner = controllerOf(pod);
      if (owner?.kind === STREAM_JOBS.kind) controller.queue.add(objectKey(pod.metadata.namespace, owner.name));
    };
    return [
      this.jobs.onChange((change) => {
        if (change.type === "deleted") onGone(change.object);
        else controller.queue.add(keyOf(change.object));
      }),
      this.pods.onChange(({ object }) => addOwner(object)),
      nodes.onChange((change) => {
        if (change.type === "updated" && isReady(change.object) === isReady(change.before)) return;
        const { name } = change.object.metadata;
        for (const pod of this.pods.all()) if (pod.spec.nodeName === name) addOwner(pod);
      }),
    ];
  }
}

function isReady(node: Stored<Node>): boolean {
  return node.status?.conditions?.some((one) => one.type === "Ready" && one.status === "True") === true;
}

function trimJob(job: Stored<StreamJobObject>): Stored<StreamJobObject> {
  const { managedFields: _, ...metadata } = job.metadata as typeof job.metadata & { readonly managedFields?: unknown };
  return { ...job, metadata };
}

/** SC2. */
function trimPod(pod: Stored<Pod>): Stored<Pod> {
  const { status, spec } = pod;
  const {
    managedFields: _,
    annotations: __,
    ...metadata
  } = pod.metadata as typeof pod.metadata & {
    readonly managedFields?: unknown;
  };
  const { nodeName } = spec;
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata,
    spec: { containers: [], ...(nodeName !== undefined && { nodeName }) },
    ...(status !== undefined && { status }),
  };
}
