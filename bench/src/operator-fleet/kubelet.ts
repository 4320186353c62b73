// A process of `npm run bench -- operator-fleet`: plays the kubelet of every pod, and the JobManagers in them.
//
// Invariants:
//   FK1. Pods are heard of by a watch and written by status patches, as a kubelet does; ConfigMap and Secret of an attempt are read
//        from the API server, and a JobManager answers only to the token in its Secret, with the submission in its `pod.json`.
//   FK2. A job has a moving checkpoint: one each checkpointMs since it runs; ids go on when another JobManager takes over.
//   FK3. Nothing costs the controller less than real pods would: phases come one by one, each written on its own.
//
// Not here: nodes (pods stay unscheduled, so that a delete removes them at once), processes, records.

import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { CONTAINER_NAME, readPodConfig, writePodReport } from "@sluice/api";
import type { PodConfig, SluiceStatusMessage } from "@sluice/api";
import { CONFIG_MAPS, KubeClient, ObjectCache, PODS, Reflector, SECRETS } from "@sluice/controller/internal/kube";
import type { Pod, Stored } from "@sluice/controller/internal/kube";
import { ATTEMPT_LABEL, COMPONENT_LABEL, MANAGED_BY, REST_PORT } from "@sluice/controller/internal/objects";
import { NodeClock, NodeLog, nodeRng, NodeTimers } from "@sluice/kit/env/node";

import { connect } from "./connect.ts";
import type { ApiServerAddress } from "./connect.ts";

/** What the parent sends first. */
export interface KubeletOptions {
  readonly server: ApiServerAddress;
  readonly checkpointMs: number;
  /** Addresses are 127.SECOND.x.y. */
  readonly second: number;
}

const PULL_AND_START_MS = 1_000;
const READY_MS = 1_000;
const PREFLIGHT_MS = 1_500;
const REGISTER_MS = 500;
const CHECKPOINT_BYTES = 1_234_567;

/** Of one StreamJob, over its JobManagers: the commit log as far as it matters here. */
interface JobLog {
  runningSinceMs: number | undefined;
  firstId: number;
}

class SimulatedKubelet {
  readonly #options: KubeletOptions;
  readonly #client: KubeClient;
  readonly #cache: ObjectCache<Pod>;
  readonly #reflector: Reflector<Pod>;
  readonly #alive = new Set<string>();
  /** Of TaskManagers that are up: uid to attempt. */
  readonly #workers = new Map<string, string>();
  readonly #servers = new Map<string, Server>();
  readonly #logs = new Map<string, JobLog>();
  #addresses = 1;

  constructor(options: KubeletOptions) {
    this.#options = options;
    const api = connect(options.server, "fleet-kubelet");
    const env = {
      clock: new NodeClock(),
      timers: new NodeTimers(),
      rng: nodeRng(),
      log: new NodeLog({ level: "warn" }),
    };
    this.#client = new KubeClient(api, { fieldManager: "fleet-kubelet" });
    this.#cache = new ObjectCache({ onHandlerError: fail });
    const [[label, value] = ["", ""]] = Object.entries(MANAGED_BY);
    const labelSelector = `${label}=${value}`;
    this.#reflector = new Reflector({ api, type: PODS, cache: this.#cache, env, labelSelector });
    this.#cache.onChange((change) => {
      const { uid } = change.object.metadata;
      if (change.type === "deleted") this.#gone(uid);
      else if (!this.#alive.has(uid)) {
        this.#alive.add(uid);
        this.#live(change.object).catch((thrown: unknown) => {
          if (this.#alive.has(uid)) fail(thrown);
        });
      }
    });
  }

  async run(): Promise<void> {
    await this.#reflector.run(new AbortController().signal);
  }

  #gone(uid: string): void {
    this.#alive.delete(uid);
    this.#workers.delete(uid);
    const server = this.#servers.get(uid);
    this.#servers.delete(uid);
    server?.close();
    server?.closeAllConnections();
  }

  async #live(pod: Stored<Pod>): Promise<void> {
    const { uid, labels } = pod.metadata;
    const component = labels?.[COMPONENT_LABEL];
    this.#addresses += 1;
    const ip = `127.${this.#options.second}.${this.#addresses >> 8}.${this.#addresses & 255}`;
    const config = await this.#config(pod);
    await sleep(PULL_AND_START_MS);
    if (!this.#alive.has(uid)) return;
    if (component === "preflight") return await this.#preflight(pod, ip);
    await this.#write(pod, ip, { isReady: false });
    if (component === "jobmanager") await this.#jobManager(pod, ip, config);
    await sleep(READY_MS);
    if (!this.#alive.has(uid)) return;
    await this.#write(pod, ip, { isReady: true });
    if (component === "taskmanager") this.#workers.set(uid, labels?.[ATTEMPT_LABEL] ?? "");
  }

  async #config(pod: Stored<Pod>): Promise<PodConfig> {
    const name = pod.spec.volumes?.find((one) => one.name === "sluice-config")?.configMap?.name ?? "";
    const { namespace = "default" } = pod.metadata;
    const map = await this.#client.get(CONFIG_MAPS, { namespace, name });
    return readPodConfig(map.data?.["pod.json"] ?? "");
  }

  async #preflight(pod: Stored<Pod>, ip: string): Promise<void> {
    await this.#write(pod, ip, { isReady: true });
    await sleep(PREFLIGHT_MS);
    const message = writePodReport({
      formatVersion: 1,
      kind: "preflight",
      plan: {
        jobName: pod.metadata.labels?.["sluice.dev/job"] ?? "",
        digest: "d",
        slotsNeeded: 2,
        maxParallelism: 128,
        vertexCount: 3,
        stateful: true,
        checkpointed: true,
      },
      log: { kind: "absent" },
    });
    await this.#write(pod, ip, { isReady: false, message });
  }

  /** FK3: one status patch. `message`: the container has ended with it. */
  async #write(
    pod: Stored<Pod>,
    ip: string,
    as: { readonly isReady: boolean; readonly message?: string },
  ): Promise<void> {
    const { name, namespace = "default" } = pod.metadata;
    const now = `${new Date().toISOString().slice(0, 19)}Z`;
    const ready = as.isReady ? "True" : "False";
    const condition = (type: string, status: string): object => ({ type, status, lastTransitionTime: now });
    const state =
      as.message === undefined
        ? { running: { startedAt: now } }
        : {
            terminated: { exitCode: 0, reason: "Completed", message: as.message, startedAt: now, finishedAt: now },
          };
    const status = {
      phase: as.message === undefined ? "Running" : "Succeeded",
      podIP: ip,
      podIPs: [{ ip }],
      startTime: now,
      conditions: [
        condition("PodScheduled", "True"),
        condition("Initialized", "True"),
        condition("ContainersReady", ready),
        condition("Ready", ready),
      ],
      containerStatuses: [
        {
          name: CONTAINER_NAME,
          ready: as.isReady,
          started: as.message === undefined,
          restartCount: 0,
          image: "sluice:1",
          imageID: "sha256:0",
          containerID: `sim://${name}`,
          state,
        },
      ],
    };
    await this.#client.mergePatch(PODS, { namespace, name }, { status }, { subresource: "status" });
  }

  async #jobManager(pod: Stored<Pod>, ip: string, config: PodConfig): Promise<void> {
    const { uid, namespace = "default" } = pod.metadata;
    const secretName = pod.spec.containers[0]?.envFrom?.[0]?.secretRef?.name ?? "";
    const secret = await this.#client.get(SECRETS, { namespace, name: secretName });
    const token = Buffer.from(secret.data?.["SLUICE_REST_TOKEN"] ?? "", "base64").toString();
    const process = new JobManager(config, this.#logOf(config), this.#options.checkpointMs, () =>
      [...this.#workers].flatMap(([worker, attempt]) => (attempt === config.attempt ? [worker] : [])),
    );
    const server = createServer((request, response) => process.answer(request, response, token));
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(REST_PORT, ip, resolve);
    });
    this.#servers.set(uid, server);
    if (!this.#alive.has(uid)) this.#gone(uid);
  }

  #logOf({ job }: PodConfig): JobLog {
    const known = this.#logs.get(job.uid);
    if (known !== undefined) return known;
    const made: JobLog = { runningSinceMs: undefined, firstId: 1 };
    this.#logs.set(job.uid, made);
    return made;
  }
}

/** One JobManager process: what it says follows from the time alone (FK2). */
class JobManager {
  readonly #config: PodConfig;
  readonly #log: JobLog;
  readonly #checkpointMs: number;
  readonly #workers: () => readonly string[];
  readonly #startedMs = Date.now();
  readonly #jobId: string;
  #runningSinceMs: number | undefined;
  #completedBefore = 0;
  #isPinned: boolean;

  constructor(config: PodConfig, log: JobLog, checkpointMs: number, workers: () => readonly string[]) {
    this.#config = config;
    this.#log = log;
    this.#checkpointMs = checkpointMs;
    this.#workers = workers;
    this.#isPinned = config.start.pinRestored && log.runningSinceMs !== undefined;
    this.#jobId = createHash("sha256").update(config.submission).digest("hex").slice(0, 32);
  }

  answer(request: IncomingMessage, response: ServerResponse, token: string): void {
    request.resume();
    const give = (status: number, body: object): void => {
      const text = JSON.stringify(body);
      response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
      response.end(text);
    };
    if (request.headers.authorization !== `Bearer ${token}`) return give(401, { errors: ["wrong token"] }); // FK1
    if (request.method === "GET" && request.url === "/sluice/status") return give(200, this.#status());
    if (request.method === "POST" && request.url === `/jobs/${this.#jobId}/unpin`) {
      this.#isPinned = false;
      return give(200, {});
    }
    return give(404, { errors: [`no ${request.url}`] });
  }

  #status(): SluiceStatusMessage {
    const now = Date.now();
    const workers = now - this.#startedMs < REGISTER_MS ? [] : this.#workers();
    const { taskManagers: slotsRequired, slots } = this.#config;
    const registeredSlots = workers.length * slots;
    if (this.#runningSinceMs === undefined && registeredSlots >= slotsRequired) {
      this.#runningSinceMs = now;
      this.#log.runningSinceMs ??= now;
      this.#completedBefore = this.#checkpointCount(now);
    }
    const count = this.#checkpointCount(now);
    const id = this.#log.firstId + count - 1;
    const path = `s3://bucket/jobs/chk-${id}`;
    const completedAtMs = (this.#log.runningSinceMs ?? now) + count * this.#checkpointMs;
    const latest = count === 0 ? null : { id, path, completedAtMs, sizeBytes: CHECKPOINT_BYTES + id };
    const isRunning = this.#runningSinceMs !== undefined;
    return {
      jobId: this.#jobId,
      jobName: this.#config.job.name,
      state: isRunning ? "RUNNING" : "CREATED",
      sinceMs: this.#runningSinceMs ?? this.#startedMs,
      runningSinceMs: this.#runningSinceMs ?? -1,
      restarts: 0,
      failure: null,
      taskManagers: { registered: [...workers], slots: registeredSlots, slotsRequired },
      checkpoints: {
        completed: isRunning ? count - this.#completedBefore : 0,
        failed: 0,
        latest: isRunning ? latest : null,
        latestSavepoint: null,
        restored: null,
      },
      submission: this.#config.submission,
      log: {
        seq: count,
        epoch: 1,
        uid: this.#config.job.uid,
        lineage: this.#config.submission,
        headId: latest?.id ?? null,
        headPath: latest?.path ?? null,
        pins: this.#isPinned && latest !== null ? [{ holder: "start:fleet", id, path }] : [],
      },
    };
  }

  #checkpointCount(now: number): number {
    const since = this.#log.runningSinceMs;
    return since === undefined ? 0 : Math.floor((now - since) / this.#checkpointMs);
  }
}

function fail(thrown: unknown): void {
  console.error("the simulated kubelet:", thrown);
  process.exit(1);
}

process.once("message", (options: KubeletOptions) => {
  new SimulatedKubelet(options).run().catch(fail);
});
// Timers of the seams do not keep a process alive; the channel to the parent does, and its end is ours.
process.once("disconnect", () => process.exit(0));
