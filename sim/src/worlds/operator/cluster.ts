// A simulated kubelet, and the processes in the pods as far as the operator sees them: preflight, JobManagers, TaskManagers.
//
// Invariants (checked here):
//   OW3. A JobManager pod of another attempt is made only once every other one has ended, was asked to go 10 s ago, or sits on a lost node.
//   OW4. Before a pod is made that may begin a commit log, the stored status says everStateful.
//   OW10. A name is not used again for a pod whose uid was written down.
//   OW5. A JobManager or TaskManager pod is of the attempt that the stored status says is deployed.
//
// Not here: the log (bucket.ts), what goes wrong when (world.ts).

import { readPodConfig, writePodReport } from "@sluice/api";
import type { PodConfig, PodReport, StreamJobStatus } from "@sluice/api";
import { STREAM_JOBS } from "@sluice/controller/internal/apply";
import { CONFIG_MAPS, NODES, PODS } from "@sluice/controller/internal/kube";
import type { ConfigMap, Pod, Stored } from "@sluice/controller/internal/kube";
import type { JobManagerApi, RestAnswer } from "@sluice/controller/internal/observe";
import type { Rng } from "@sluice/kit/env";
import type { World } from "../../index.ts";
import type { SimKubeServer } from "../../kube/index.ts";
import type { Bucket } from "./bucket.ts";

const TICK_MS = 100;
const NODE_COUNT = 3;

interface Running {
  readonly uid: string;
  readonly name: string;
  readonly component: string;
  readonly attempt: string;
  readonly config: PodConfig;
  readonly ip: string;
  readonly node: string;
  startsAtMs: number;
  /** Process of this run; undefined: not started, or ended. */
  process: JobManagerProcess | "taskmanager" | "preflight" | undefined;
  restarts: number;
  /** Its container has owned the log once: it may not begin one (`sluice pod jobmanager`, PJ3). */
  hasClaimed: boolean;
  deletedAtMs: number | undefined;
  isOver: boolean;
}

interface JobManagerProcess {
  readonly epoch: number;
  readonly startedAtMs: number;
  state: "CREATED" | "RUNNING" | "RESTARTING" | "FINISHED" | "CANCELED" | "FAILED";
  restarts: number;
  completed: number;
  latest: { readonly id: number; readonly path: string; readonly atMs: number } | undefined;
  savepoint: { readonly id: number; readonly path: string; readonly atMs: number } | undefined;
  /** Under way: operation id, and when it will be done. */
  stop: { readonly triggerId: string; readonly dueMs: number } | undefined;
  exitsAtMs: number | undefined;
  nextCheckpointMs: number;
}

export interface ClusterOptions {
  readonly world: World;
  readonly server: SimKubeServer;
  readonly bucket: Bucket;
  readonly rng: Rng;
  readonly namespace: string;
  readonly job: string;
  /** What preflight says of a spec: undefined: it can run. */
  readonly preflight: (config: PodConfig) => PodReport | undefined;
  /** Share of REST calls whose answer is lost, before or after they were done. */
  restLossRate: number;
}

export class SimCluster {
  readonly #options: ClusterOptions;
  readonly #pods = new Map<string, Running>();
  readonly #lostNodes = new Set<string>();
  readonly #writtenDown = new Set<string>();
  readonly #names = new Map<string, string>();
  readonly counts: Record<string, number> = {};
  #ips = 0;

  constructor(options: ClusterOptions) {
    this.#options = options;
    for (let index = 0; index < NODE_COUNT; index += 1)
      options.server.seed(NODES, {
        metadata: { name: `node-${index}` },
        status: { conditions: [{ type: "Ready", status: "True" }] },
      });
    options.server.onCall((call, phase) => {
      const { request } = call;
      if (phase === "before" && request.verb === "create" && request.dryRun !== true && request.type.plural === "pods")
        this.#checkPod(request.body as unknown as Pod);
    });
    this.#tick();
  }

  /** JobManager processes that are alive. */
  get jobManagers(): readonly { readonly attempt: string; readonly name: string; readonly state: string }[] {
    return [...this.#pods.values()].flatMap((pod) =>
      typeof pod.process === "object" ? [{ attempt: pod.attempt, name: pod.name, state: pod.process.state }] : [],
    );
  }

  get podCount(): number {
    return this.#pods.size;
  }

  set restLossRate(rate: number) {
    this.#options.restLossRate = rate;
  }

  /** Ends the container of a pod as if it had crashed; the kubelet starts it again. */
  crash(component: string): boolean {
    const pod = this.#pick(component);
    if (pod === undefined) return false;
    this.#count(`crashed ${component}`);
    pod.process = undefined;
    pod.restarts += 1;
    pod.startsAtMs = this.#now + 500;
    return true;
  }

  /** Deletes a pod past everybody, at once. */
  vanish(component: string): boolean {
    const pod = this.#pick(component);
    if (pod === undefined) return false;
    this.#count(`vanished ${component}`);
    this.#pods.delete(pod.uid);
    this.#options.server.state.remove(PODS, { namespace: this.#options.namespace, name: pod.name });
    return true;
  }

  /** A node stops answering: its processes go on, nobody hears of them, and its pods are never removed. */
  loseNode(): void {
    const { rng, server } = this.#options;
    const name = `node-${rng.below(NODE_COUNT)}`;
    if (this.#lostNodes.size > 0) return;
    this.#lostNodes.add(name);
    this.#count("lost node");
    server.state.edit(NODES, { name }, (node) => ({
      ...node,
      status: { conditions: [{ type: "Ready", status: "Unknown" }] },
    }));
  }

  healNodes(): void {
    const { server } = this.#options;
    for (const name of this.#lostNodes)
      server.state.edit(NODES, { name }, (node) => ({
        ...node,
        status: { conditions: [{ type: "Ready", status: "True" }] },
      }));
    this.#lostNodes.clear();
  }

  get #now(): number {
    return this.#options.world.loop.nowMs;
  }

  #count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1;
  }

  #pick(component: string): Running | undefined {
    const pods = [...this.#pods.values()].filter((pod) => pod.component === component && pod.process !== undefined);
    return pods.length === 0 ? undefined : pods[this.#options.rng.below(pods.length)];
  }

  #status(): StreamJobStatus | undefined {
    const { server, namespace, job } = this.#options;
    try {
      const stored = server.state.execute({ verb: "get", type: STREAM_JOBS, namespace, name: job });
      return (stored as { readonly status?: StreamJobStatus }).status;
    } catch {
      return undefined;
    }
  }

  #checkPod(pod: Pod): void {
    const component = pod.metadata.labels?.["sluice.dev/component"];
    const attempt = pod.metadata.labels?.["sluice.dev/attempt"];
    const violate = (reason: string): void => this.#options.world.violate(reason);
    if (component === "preflight") return;
    const status = this.#status();
    if (status?.deployed?.attempt !== attempt)
      violate(`OW5: pod ${pod.metadata.name} is of attempt ${attempt}, the status says ${status?.deployed?.attempt}`);
    if (component !== "jobmanager") return;
    if (status?.everStateful !== true) violate("OW4: a JobManager pod is made before everStateful is stored");
    for (const other of this.#pods.values()) {
      if (other.component !== "jobmanager" || other.attempt === attempt || typeof other.process !== "object") continue;
      if (other.process.exitsAtMs !== undefined || this.#lostNodes.has(other.node)) continue;
      const askedMs = other.deletedAtMs === undefined ? 0 : this.#now - other.deletedAtMs;
      if (other.deletedAtMs === undefined || askedMs < 9_000)
        violate(`OW3: ${pod.metadata.name} is made while ${other.name} runs (asked to go ${askedMs} ms ago)`);
    }
  }

  #tick(): void {
    this.#options.world.after(TICK_MS, "kubelet", () => {
      this.#sync();
      for (const pod of this.#pods.values()) this.#live(pod);
      this.#tick();
    });
  }

  #list(): readonly Stored<Pod>[] {
    const { server, namespace } = this.#options;
    return (
      server.state.execute({ verb: "list", type: PODS, namespace }) as unknown as { readonly items: Stored<Pod>[] }
    ).items;
  }

  /** OW10. */
  #checkNames(): void {
    const { deployed } = this.#status() ?? {};
    if (deployed !== undefined)
      for (const { uid } of [deployed.pods.jobManager, ...deployed.pods.taskManagers])
        if (uid !== undefined) this.#writtenDown.add(uid);
    for (const { name, uid } of this.#pods.values()) {
      const before = this.#names.get(name);
      if (before !== undefined && before !== uid && this.#writtenDown.has(before))
        this.#options.world.violate(`OW10: the name ${name} is used again`);
      this.#names.set(name, uid);
    }
  }

  #sync(): void {
    const { rng } = this.#options;
    this.#checkNames();
    const seen = new Set<string>();
    for (const pod of this.#list()) {
      const { uid, name, deletionTimestamp, labels } = pod.metadata;
      seen.add(uid);
      const known = this.#pods.get(uid);
      if (known === undefined) {
        const config = this.#config(pod);
        if (config === undefined) continue; // its ConfigMap is not there yet: the kubelet waits
        this.#ips += 1;
        const nodes = Array.from({ length: NODE_COUNT }, (_, index) => `node-${index}`).filter(
          (one) => !this.#lostNodes.has(one),
        );
        this.#pods.set(uid, {
          uid,
          name,
          component: labels?.["sluice.dev/component"] ?? "",
          attempt: labels?.["sluice.dev/attempt"] ?? "",
          config,
          ip: `10.0.${this.#ips >> 8}.${this.#ips & 255}`,
          node: nodes[rng.below(nodes.length)] ?? "node-0",
          startsAtMs: this.#now + 200 + rng.below(1_000),
          process: undefined,
          restarts: 0,
          hasClaimed: false,
          deletedAtMs: undefined,
          isOver: false,
        });
        this.#edit(uid, name, (one) => ({
          ...one,
          spec: { ...one.spec, nodeName: this.#pods.get(uid)?.node ?? "node-0" },
        }));
        continue;
      }
      if (deletionTimestamp !== undefined) {
        known.deletedAtMs ??= this.#now;
        if (this.#lostNodes.has(known.node)) continue;
        if (this.#now - known.deletedAtMs > 300 + rng.below(1_500)) {
          this.#pods.delete(uid);
          this.#options.server.state.remove(PODS, { namespace: this.#options.namespace, name });
        }
      }
    }
    for (const uid of this.#pods.keys()) if (!seen.has(uid)) this.#pods.delete(uid);
  }

  #config(pod: Stored<Pod>): PodConfig | undefined {
    const { server, namespace } = this.#options;
    const name = pod.spec.volumes?.find((one) => one.name === "sluice-config")?.configMap?.name ?? "";
    try {
      const map = server.state.execute({ verb: "get", type: CONFIG_MAPS, namespace, name }) as unknown as ConfigMap;
      return readPodConfig(map.data?.["pod.json"] ?? "");
    } catch {
      return undefined;
    }
  }

  #edit(uid: string, name: string, change: (pod: Stored<Pod>) => Pod): void {
    const { server, namespace } = this.#options;
    server.state.edit(PODS, { namespace, name }, (pod) =>
      pod.metadata.uid === uid ? (change(pod) as typeof pod) : pod,
    );
  }

  #live(pod: Running): void {
    if (pod.isOver) return;
    if (pod.process === undefined) {
      if (this.#now >= pod.startsAtMs && pod.deletedAtMs === undefined) this.#start(pod);
      return;
    }
    if (typeof pod.process === "object") this.#run(pod, pod.process);
  }

  #start(pod: Running): void {
    if (pod.component === "preflight") {
      const { bucket, preflight } = this.#options;
      const { log } = bucket;
      const report: PodReport = preflight(pod.config) ?? {
        formatVersion: 1,
        kind: "preflight",
        plan: {
          jobName: "sum",
          digest: "d",
          slotsNeeded: Number(pod.config.configuration["parallelism.default"] ?? 1),
          maxParallelism: 128,
          vertexCount: 1,
          stateful: true,
          checkpointed: true,
        },
        log:
          log === undefined
            ? { kind: "absent" }
            : {
                kind: "exists",
                uid: log.uid,
                lineage: log.lineage,
                submission: log.submission,
                seq: 1,
                jobState: log.jobState,
                closed: log.jobState === "finished",
              },
      };
      pod.isOver = true;
      this.#count("preflights");
      this.#ended(pod, report, report.kind === "preflight" ? 0 : 1);
      return;
    }
    if (pod.component === "taskmanager") {
      pod.process = "taskmanager";
      this.#running(pod, true);
      return;
    }
    const { config } = pod;
    const claim = this.#options.bucket.claim({
      uid: config.job.uid,
      submission: config.submission,
      attempt: config.attempt,
      start: { ...config.start, mayCreate: config.start.mayCreate && !pod.hasClaimed },
    });
    if (claim.type === "refused") {
      this.#count(`refused ${claim.code}`);
      pod.restarts += 1;
      pod.startsAtMs = this.#now + 5_000;
      const failure = { code: claim.code, message: claim.message, remedy: "look", retry: "never" as const };
      this.#ended(pod, { formatVersion: 1, kind: "fatal", failure }, 1);
      return;
    }
    this.#count("claims");
    pod.hasClaimed = true;
    pod.process = {
      epoch: claim.epoch,
      startedAtMs: this.#now,
      state: claim.type === "ended" ? claim.state : "CREATED",
      restarts: 0,
      completed: 0,
      latest: undefined,
      savepoint: undefined,
      stop: undefined,
      exitsAtMs: claim.type === "ended" ? this.#now + 4_000 : undefined,
      nextCheckpointMs: Number.MAX_SAFE_INTEGER,
    };
    this.#running(pod, true);
  }

  #run(pod: Running, jm: JobManagerProcess): void {
    const { bucket, rng } = this.#options;
    if (jm.exitsAtMs !== undefined) {
      if (this.#now < jm.exitsAtMs) return;
      pod.process = undefined;
      pod.isOver = true;
      const state = jm.state as "FINISHED" | "CANCELED" | "FAILED";
      this.#ended(pod, { formatVersion: 1, kind: "jobEnded", state, message: "" }, 0);
      return;
    }
    if (bucket.log?.epoch !== jm.epoch) {
      this.#count("fenced");
      pod.process = undefined;
      pod.restarts += 1;
      pod.startsAtMs = this.#now + 2_000;
      const failure = { code: "FENCED", message: "a newer JobManager", remedy: "", retry: "never" as const };
      this.#ended(pod, { formatVersion: 1, kind: "fatal", failure }, 1);
      return;
    }
    const workers = [...this.#pods.values()].filter(
      (one) => one.process === "taskmanager" && one.attempt === pod.attempt && !this.#lostNodes.has(one.node),
    ).length;
    const enough = workers >= pod.config.taskManagers;
    if (!enough && jm.state === "RUNNING") {
      jm.state = "RESTARTING";
      jm.restarts += 1;
    } else if (enough && (jm.state === "CREATED" || jm.state === "RESTARTING")) {
      jm.state = "RUNNING";
      jm.nextCheckpointMs = this.#now + 1_000;
      // S0 is recorded: a JobManager that takes over goes on with it.
      const pending = [...(bucket.log?.stops ?? [])].find(([, place]) => place === null);
      if (pending !== undefined) jm.stop = { triggerId: pending[0], dueMs: this.#now + 500 };
    }
    if (jm.state !== "RUNNING") return;
    if (jm.stop !== undefined && this.#now >= jm.stop.dueMs) {
      if (!bucket.completeStop(jm.epoch, jm.stop.triggerId)) return;
      const head = bucket.log?.head;
      if (head !== undefined) jm.savepoint = { id: head.id, path: head.path, atMs: this.#now };
      jm.state = "FINISHED";
      jm.exitsAtMs = this.#now + (rng.chance(0.2) ? 100 : 4_000);
      return;
    }
    if (jm.stop === undefined && this.#now >= jm.nextCheckpointMs && bucket.commit(jm.epoch)) {
      const head = bucket.log?.head;
      if (head !== undefined) jm.latest = { id: head.id, path: head.path, atMs: this.#now };
      jm.completed += 1;
      jm.nextCheckpointMs = this.#now + 1_000;
    }
  }

  #running(pod: Running, isReady: boolean): void {
    const state = { running: { startedAt: "2026-01-01T00:00:00Z" } };
    this.#edit(pod.uid, pod.name, (one) => ({
      ...one,
      status: {
        ...one.status,
        phase: "Running",
        podIP: pod.ip,
        conditions: [{ type: "Ready", status: isReady ? "True" : "False" }],
        containerStatuses: [
          {
            name: "sluice",
            ready: isReady,
            restartCount: pod.restarts,
            state,
            ...(one.status?.containerStatuses?.[0]?.lastState && {
              lastState: one.status.containerStatuses[0].lastState,
            }),
          },
        ],
      },
    }));
  }

  #ended(pod: Running, report: PodReport, exitCode: number): void {
    if (this.#lostNodes.has(pod.node)) return;
    const terminated = { exitCode, reason: exitCode === 0 ? "Completed" : "Error", message: writePodReport(report) };
    const phase =
      pod.component === "preflight"
        ? exitCode === 0
          ? "Succeeded"
          : "Failed"
        : exitCode === 0
          ? "Succeeded"
          : "Running";
    const isAgain = phase === "Running";
    this.#edit(pod.uid, pod.name, (one) => ({
      ...one,
      status: {
        ...one.status,
        phase,
        podIP: pod.ip,
        conditions: [{ type: "Ready", status: "False" }],
        containerStatuses: [
          {
            name: "sluice",
            ready: false,
            restartCount: pod.restarts,
            state: isAgain ? { waiting: { reason: "CrashLoopBackOff", message: "" } } : { terminated },
            ...(isAgain && { lastState: { terminated } }),
          },
        ],
      },
    }));
  }

  /** REST of the JobManagers, as one controller process sees it; it ends with its owner (`isAlive`). */
  restOf(isAlive: () => boolean): JobManagerApi {
    const { world, rng } = this.#options;
    return {
      request: (at, request) =>
        new Promise((resolve) => {
          const answer = (value: RestAnswer | undefined, delayMs: number): void =>
            world.after(delayMs, "rest answer", () => {
              if (isAlive()) resolve(value);
            });
          const isLostBefore = rng.chance(this.#options.restLossRate);
          const isLostAfter = rng.chance(this.#options.restLossRate);
          world.after(2 + rng.below(20), "rest request", () => {
            const pod = [...this.#pods.values()].find((one) => one.ip === at.podIp);
            if (isLostBefore || pod === undefined || typeof pod.process !== "object" || this.#lostNodes.has(pod.node)) {
              answer(undefined, 2_000);
              return;
            }
            const value = this.#answer(pod, pod.process, request);
            if (isLostAfter) answer(undefined, 2_000);
            else answer(value, 5);
          });
        }),
    };
  }

  #answer(
    pod: Running,
    jm: JobManagerProcess,
    request: { readonly method: string; readonly path: string; readonly body?: unknown },
  ): RestAnswer {
    const { bucket, rng } = this.#options;
    const { path, method } = request;
    if (path === "/sluice/status") return { status: 200, body: this.#statusAnswer(pod, jm) };
    if (method === "POST" && path.endsWith("/stop")) {
      const { triggerId } = request.body as { readonly triggerId: string };
      this.#count("stop asked");
      if (jm.state !== "RUNNING") return { status: 409, body: { errors: ["not running"] } };
      if (!bucket.recordStop(jm.epoch, triggerId)) return { status: 409, body: { errors: ["fenced"] } };
      jm.stop ??= { triggerId, dueMs: this.#now + 200 + rng.below(1_200) };
      return { status: 202, body: { "request-id": triggerId } };
    }
    const savepoint = /\/savepoints\/([0-9a-f]{32})$/u.exec(path)?.[1];
    if (savepoint !== undefined) {
      const place = bucket.log?.stops.get(savepoint);
      if (place === undefined) return { status: 404, body: { errors: ["unknown"] } };
      if (place === null) return { status: 200, body: { status: { id: "IN_PROGRESS" }, operation: null } };
      return { status: 200, body: { status: { id: "COMPLETED" }, operation: { location: place } } };
    }
    if (method === "PATCH") {
      this.#count("cancelled");
      bucket.end(jm.epoch, "cancelled");
      jm.state = "CANCELED";
      jm.exitsAtMs ??= this.#now + 500;
      return { status: 202, body: {} };
    }
    return { status: 202, body: { "request-id": "0".repeat(32) } };
  }

  #statusAnswer(pod: Running, jm: JobManagerProcess): unknown {
    const summary = (one: JobManagerProcess["latest"]): unknown =>
      one === undefined
        ? null
        : { id: one.id, path: one.path, completedAtMs: Math.floor(1_700_000_000_000 + one.atMs), sizeBytes: 10 };
    return {
      jobId: "a".repeat(32),
      jobName: "sum",
      state: jm.state,
      sinceMs: 0,
      runningSinceMs: 0,
      restarts: jm.restarts,
      failure: null,
      taskManagers: { registered: [], slots: 1, slotsRequired: 1 },
      checkpoints: {
        completed: jm.completed,
        failed: 0,
        latest: summary(jm.latest),
        latestSavepoint: summary(jm.savepoint),
        restored: null,
      },
      submission: pod.config.submission,
      log: null,
    };
  }
}
