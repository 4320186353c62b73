// The operator in a world of its own: the real controller over a simulated API server, kubelet and JobManagers, while a script
// changes the StreamJob and a nemesis breaks things. Then everything heals, and the world must come to rest where the spec says.
//
// Invariants: OW1-OW5 (bucket.ts, cluster.ts), and at the end
//   OW6. Exactly one JobManager runs, of the attempt in the status; as many TaskManagers as wanted; no other pod.
//   OW7. A version that stopped with a savepoint was followed by one that was started from it.
//   OW8. A StreamJob that is deleted is gone within a minute, and its pods with it.
//   OW9. A controller that crashes anywhere is followed by one that ends in the same place.

import { STREAM_JOBS } from "@sluice/controller/internal/apply";
import type { StreamJobObject } from "@sluice/controller/internal/apply";
import { ApiError, NAMESPACES, PODS } from "@sluice/controller/internal/kube";
import type { KubeObject, ResourceType, Stored } from "@sluice/controller/internal/kube";
import { Operator } from "@sluice/controller/internal/main";
import { StreamJobSpec, withDefaults } from "@sluice/api";
import type { PodReport, StreamJobStatus } from "@sluice/api";
import { HEALTHY, Violation, World } from "../../index.ts";
import { simKubeClient, SimKubeServer, unreliable } from "../../kube/index.ts";
import type { KubeCall } from "../../kube/index.ts";
import { Bucket } from "./bucket.ts";
import { SimCluster } from "./cluster.ts";

const NAMESPACE = "jobs";
const NAME = "sum";
const KEY = new Uint8Array(32).fill(7);
const SETTLE_MS = 240_000;
const EVENTS_MAX = 400_000;

export type Mode = "Savepoint" | "LastState" | "Stateless";

/** What the user does, and when (virtual milliseconds after the first version is stable). */
export interface UserStep {
  readonly atMs: number;
  readonly change: Partial<StreamJobSpec> | "delete";
}

export interface OperatorWorldOptions {
  readonly seed: number;
  readonly mode: Mode;
  readonly steps: readonly UserStep[];
  /** Kill the controller at this call of its own after the first version is stable, counted from 1. */
  readonly crashAt?: { readonly call: number; readonly phase: "before" | "after" };
  /** Random faults until the steps are over and a while longer. */
  readonly chaos?: boolean;
  readonly keepsTrace?: boolean;
  /** Somebody empties the bucket at this time. */
  readonly wipeAtMs?: number;
}

export interface OperatorWorldResult {
  readonly failure: string | undefined;
  readonly calls: number;
  readonly hash: number;
  readonly virtualMs: number;
  readonly eventCount: number;
  readonly counts: Readonly<Record<string, number>>;
  readonly status: StreamJobStatus | undefined;
  readonly bucket: Bucket;
  readonly trace: readonly string[];
}

const BAD = "--bad";
/** A label of podTemplate that a policy of the namespace refuses on TaskManagers. */
export const FORBIDDEN_LABEL = "forbidden";

function admit(type: ResourceType, object: KubeObject): void {
  if (type.plural !== "pods" || object.metadata.labels?.[FORBIDDEN_LABEL] === undefined) return;
  const message = `pods "${object.metadata.name ?? ""}" is forbidden: violates PodSecurity "restricted:latest"`;
  throw new ApiError({ status: 403, reason: "Forbidden", message, outcome: "refused" });
}

export async function runOperatorWorld(options: OperatorWorldOptions): Promise<OperatorWorldResult> {
  const one = new OperatorWorld(options);
  let failure: string | undefined;
  try {
    await one.run();
  } catch (thrown) {
    if (!(thrown instanceof Violation)) throw thrown;
    failure = thrown.message;
  }
  return one.result(failure);
}

class OperatorWorld {
  readonly #options: OperatorWorldOptions;
  readonly #world: World;
  readonly #server: SimKubeServer;
  readonly #bucket: Bucket;
  readonly #cluster: SimCluster;
  #incarnation = 0;
  /** Calls of the controller since the first version was stable. */
  #calls = 0;
  #isCounting = false;
  #hasCrashed = false;
  #isDeleted = false;
  #spec: StreamJobSpec;

  constructor(options: OperatorWorldOptions) {
    this.#options = options;
    this.#world = new World({ seed: options.seed, faults: HEALTHY, keepsTrace: options.keepsTrace === true });
    this.#server = new SimKubeServer(this.#world, { admit });
    this.#bucket = new Bucket((reason) => this.#world.violate(reason));
    this.#cluster = new SimCluster({
      world: this.#world,
      server: this.#server,
      bucket: this.#bucket,
      rng: this.#world.rng.fork("cluster"),
      namespace: NAMESPACE,
      job: NAME,
      preflight: (config) => (config.arguments.includes(BAD) ? REFUSED : undefined),
      restLossRate: 0,
    });
    this.#spec = withDefaults(StreamJobSpec, {
      job: { path: "/opt/sluice/job/sum.ts" },
      image: "sluice:1",
      parallelism: 2,
      upgradeMode: options.mode,
      checkpointing: { dir: "s3://bucket/jobs", interval: "1s" },
      objectStore: { endpoint: "http://minio:9000", secretRef: { name: "minio" } },
    } as unknown as StreamJobSpec);
    this.#server.seed(NAMESPACES, { metadata: { name: NAMESPACE } });
    this.#server.seed(STREAM_JOBS, { metadata: { namespace: NAMESPACE, name: NAME }, spec: this.#spec });
    this.#server.onCall((call, phase) => this.#onCall(call, phase));
  }

  async run(): Promise<void> {
    this.#startController();
    await this.#until("the first version becomes stable", () => this.#isAtRest(), 120_000);
    this.#isCounting = true;
    const startMs = this.#world.loop.nowMs;
    for (const { atMs, change } of this.#options.steps) this.#world.after(atMs, "user", () => this.#change(change));
    const { wipeAtMs } = this.#options;
    if (wipeAtMs !== undefined) this.#world.after(wipeAtMs, "wipe", () => this.#bucket.wipe());
    const lastMs = Math.max(0, ...this.#options.steps.map(({ atMs }) => atMs), wipeAtMs ?? 0);
    if (this.#options.chaos === true) this.#nemesis(startMs + lastMs + 20_000);
    await this.#until(
      "the script is over",
      () => this.#world.loop.nowMs > startMs + lastMs + (this.#options.chaos === true ? 20_000 : 1),
      600_000,
    );
    this.#heal();
    await this.#until("everything comes to rest", () => this.#isAtRest(), SETTLE_MS);
    this.#checkEnd();
  }

  result(failure: string | undefined): OperatorWorldResult {
    return {
      failure,
      calls: this.#calls,
      hash: this.#world.loop.hash,
      virtualMs: this.#world.loop.nowMs,
      eventCount: this.#world.loop.eventCount,
      counts: {
        ...(this.#options.crashAt !== undefined && {
          [this.#hasCrashed ? "crashed at a call" : "ran past the last call"]: 1,
        }),
        ...this.#cluster.counts,
        ...this.#server.struck,
        claims: this.#bucket.claims.length,
        savepoints: this.#bucket.savepoints.length,
      },
      status: this.#stored()?.status as StreamJobStatus | undefined,
      bucket: this.#bucket,
      trace: this.#world.loop.tail(this.#options.keepsTrace === true ? 100_000 : 60),
    };
  }

  #stored(): Stored<StreamJobObject> | undefined {
    try {
      return this.#server.state.execute({
        verb: "get",
        type: STREAM_JOBS,
        namespace: NAMESPACE,
        name: NAME,
      }) as Stored<StreamJobObject>;
    } catch {
      return undefined;
    }
  }

  #change(change: Partial<StreamJobSpec> | "delete"): void {
    if (this.#isDeleted) return;
    if (change === "delete") {
      this.#isDeleted = true;
      this.#server.state.execute({ verb: "delete", type: STREAM_JOBS, namespace: NAMESPACE, name: NAME });
      return;
    }
    this.#spec = { ...this.#spec, ...change };
    const stored = this.#stored();
    if (stored === undefined) return;
    this.#server.state.execute({
      verb: "update",
      type: STREAM_JOBS,
      namespace: NAMESPACE,
      name: NAME,
      body: { ...stored, metadata: { ...stored.metadata }, spec: this.#spec } as StreamJobObject,
    });
  }

  #startController(): void {
    this.#incarnation += 1;
    const identity = `controller-${this.#incarnation}`;
    const node = this.#world.node(identity);
    const stop = new AbortController();
    const owner = node.start(async (env) => {
      const operator = new Operator({
        api: simKubeClient(this.#server, identity, owner),
        // One clock for all: what differs between machines of a cluster are seconds, and deadlines here are minutes.
        env: {
          ...env,
          clock: {
            nowMs: () => env.clock.nowMs(),
            wallMs: () => Math.floor(1_700_000_000_000 + this.#world.loop.nowMs),
          },
        },
        jobManagers: this.#cluster.restOf(() => owner.isAlive),
        namespaces: [],
        leaderElectionNamespace: NAMESPACE,
        identity,
        settings: { defaultImage: "sluice:0" },
        key: () => Promise.resolve(KEY),
      });
      await operator.run(stop.signal);
    });
    this.#crash = (reason: string): void => node.crash(reason);
  }

  #crash: (reason: string) => void = () => {};

  #crashController(reason: string): void {
    this.#crash(reason);
    this.#world.after(1_000, "restart controller", () => this.#startController());
  }

  #onCall(call: KubeCall, phase: "before" | "after"): void {
    if (!this.#isCounting || call.client !== `controller-${this.#incarnation}` || call.request.type.plural === "leases")
      return;
    if (phase === "before") this.#calls += 1;
    const { crashAt } = this.#options;
    if (crashAt === undefined || this.#hasCrashed || this.#calls !== crashAt.call || phase !== crashAt.phase) return;
    this.#hasCrashed = true;
    this.#crashController(`at call ${crashAt.call} (${phase})`);
  }

  #nemesis(untilMs: number): void {
    const rng = this.#world.rng.fork("nemesis");
    const swarm = {
      api: rng.chance(0.6),
      rest: rng.chance(0.5),
      pods: rng.chance(0.6),
      controller: rng.chance(0.6),
      nodes: rng.chance(0.3),
    };
    if (swarm.api) this.#server.faults = unreliable(0.02 + rng.below(20) / 100, rng.below(3_000));
    if (swarm.rest) this.#cluster.restLossRate = 0.05 + rng.below(20) / 100;
    const strike = (): void => {
      if (this.#world.loop.nowMs > untilMs) return;
      switch (rng.below(6)) {
        case 0:
          if (swarm.pods) this.#cluster.crash(rng.chance(0.5) ? "taskmanager" : "jobmanager");
          break;
        case 1:
          if (swarm.pods) this.#cluster.vanish(rng.chance(0.5) ? "taskmanager" : "jobmanager");
          break;
        case 2:
          if (swarm.controller) this.#crashController("nemesis");
          break;
        case 3:
          if (swarm.nodes) this.#cluster.loseNode();
          break;
        case 4:
          if (swarm.api) this.#server.breakWatches();
          break;
        default:
          break;
      }
      this.#world.after(1_000 + rng.below(9_000), "nemesis", strike);
    };
    this.#world.after(rng.below(5_000), "nemesis", strike);
  }

  #heal(): void {
    this.#server.heal();
    this.#cluster.restLossRate = 0;
    this.#cluster.healNodes();
    this.#world.heal();
  }

  async #until(what: string, done: () => boolean, virtualMs: number): Promise<void> {
    const limits = { virtualMs: this.#world.loop.nowMs + virtualMs, events: this.#world.loop.eventCount + EVENTS_MAX };
    let next = 0;
    const end = await this.#world.runUntil(() => {
      if (this.#world.loop.nowMs < next) return false;
      next = this.#world.loop.nowMs + 50;
      return done();
    }, limits);
    if (end !== "done") throw new Violation(`OW9: ${what} does not happen: ${this.#describe()}`);
  }

  #describe(): string {
    const { lifecycleState, op, conditions, deployed } = (this.#stored()?.status ?? {}) as StreamJobStatus;
    const jms = this.#cluster.jobManagers.map(({ name, state }) => `${name}=${state}`).join(" ");
    return JSON.stringify({
      lifecycleState,
      op,
      deployed: deployed?.attempt,
      ended: deployed?.ended,
      conditions: conditions?.map((one) => `${one.type}=${one.status} ${one.reason} ${one.message}`),
      jms,
      pods: this.#cluster.podCount,
    });
  }

  /** Where the newest spec says, and nothing left over. */
  #isAtRest(): boolean {
    const stored = this.#stored();
    if (this.#isDeleted) return stored === undefined && this.#cluster.podCount === 0;
    if (stored === undefined) return false;
    const status = (stored.status ?? {}) as StreamJobStatus;
    if (status.observedGeneration !== stored.metadata.generation || status.op !== undefined) return false;
    const alive = this.#cluster.jobManagers;
    const stalled = status.conditions?.some((one) => one.type === "Stalled" && one.status === "True") === true;
    const isForbidden = this.#spec.taskManager.podTemplate?.metadata?.labels?.[FORBIDDEN_LABEL] !== undefined;
    const isBad = isForbidden || this.#spec.args?.includes(BAD) === true;
    if (stalled && status.deployed?.ended === "STALLED") return this.#cluster.podCount === 0;
    if (this.#spec.state === "Suspended" && (!stalled || status.deployed?.ended !== undefined))
      return status.lifecycleState === "Suspended" && this.#cluster.podCount === 0;
    if (stalled && isBad && status.deployed?.ended === "SUSPENDED") return this.#cluster.podCount === 0;
    if (isBad !== stalled) return false;
    return (
      status.lifecycleState === "Stable" &&
      alive.length === 1 &&
      alive[0]?.attempt === status.deployed?.attempt &&
      alive[0]?.state === "RUNNING" &&
      status.jobState === "RUNNING" &&
      status.taskManagers?.ready === status.taskManagers?.wanted &&
      this.#cluster.podCount === 1 + (status.taskManagers?.wanted ?? 0)
    );
  }

  #checkEnd(): void {
    if (this.#isDeleted) return;
    const status = (this.#stored()?.status ?? {}) as StreamJobStatus;
    const { deployed } = status;
    const isStalled = deployed?.ended === "STALLED";
    if (isStalled && this.#bucket.wipes === 0)
      this.#world.violate(`OW9: stalled though everything healed: ${this.#describe()}`);
    if (this.#bucket.wipes > 0 && this.#bucket.created > 1)
      this.#world.violate("OW1: an emptied bucket was begun anew");
    const names = this.#pods().map((pod) => pod.metadata.name);
    if (new Set(names).size !== names.length) this.#world.violate("a pod's name was used twice");
    // OW7: after each savepoint of a stop the next claim restores it, unless a spec said Stateless.
    for (const { path } of this.#bucket.savepoints) {
      if (this.#options.steps.some(({ change }) => change !== "delete" && change.upgradeMode !== undefined)) return;
      const id = Number(path.split("-")[1]);
      const later = this.#bucket.claims.find(({ restored }) => restored !== undefined && restored.id >= id);
      if (later?.restored !== undefined && later.restored.path !== path)
        this.#world.violate(`OW7: ${path} was passed over: the next start restored ${later.restored.path}`);
    }
    if (
      this.#bucket.newLineages > 0 &&
      this.#options.mode !== "Stateless" &&
      !this.#options.steps.some(({ change }) => change !== "delete" && change.upgradeMode === "Stateless")
    )
      this.#world.violate("OW1: state was given up though no spec said Stateless");
    throwViolation(this.#world);
  }

  #pods(): readonly Stored<StreamJobObject>[] {
    return (
      this.#server.state.execute({ verb: "list", type: PODS, namespace: NAMESPACE }) as unknown as {
        readonly items: Stored<StreamJobObject>[];
      }
    ).items;
  }
}

function throwViolation(world: World): void {
  const found = world.violation;
  if (found !== undefined) throw new Violation(found);
}

const REFUSED: PodReport = {
  formatVersion: 1,
  kind: "failure",
  failure: { code: "JOB_MAIN_FAILED", message: "main threw: bad", remedy: "correct it", retry: "never" },
};
