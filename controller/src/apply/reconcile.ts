// One look at one StreamJob: observe, decide, write the status, act.
//
// Invariants:
//   RC1. The status is stored before anything of the same decision is done; a conflict ends the pass.
//   RC2. A decision that changes nothing in the status acts only on a status that the API server has just confirmed: a cache that
//        lies behind another leader's writes would else undo them.
//   RC3. One action's failure ends the pass; it is remembered for the next decision when the API server refused the object.
//   RC4. While nothing is under way one lost answer changes nothing: the answer before it holds for a moment, if it is of the same run.
//
// Not here: when this is called (main), what is decided (decide).

import { isDeepStrictEqual } from "node:util";

import { planted } from "@sluice/kit";

import { decide } from "../decide/index.ts";
import type { Action, JobEvent, JobView, Settings } from "../decide/index.ts";
import { isApiError, isConflict, isNotFound, isRejected, keyOf, NAMESPACES } from "../kube/index.ts";
import type { KubeClient, Node, Pod, Stored } from "../kube/index.ts";
import { askStatus, askStop, lostNodesOf, podViews } from "../observe/index.ts";
import type {
  JobManagerApi,
  JobManagerView,
  Observed,
  OperationView,
  PodTrial,
  PodView,
  RefusedAction,
} from "../observe/index.ts";
import { applyAction } from "./apply.ts";
import { jobViewOf, STREAM_JOBS } from "./stream-jobs.ts";
import type { StreamJobObject } from "./stream-jobs.ts";

/** What a pass reads of caches. */
export interface Caches {
  readonly jobs: { get(key: string): Stored<StreamJobObject> | undefined };
  readonly pods: { byOwner(uid: string): readonly Stored<Pod>[] };
  readonly nodes: { all(): readonly Stored<Node>[] };
}

export interface ReconcilerOptions {
  readonly caches: Caches;
  readonly jobManagers: JobManagerApi;
  readonly key: Uint8Array;
  readonly settings: Settings;
  readonly wallMs: () => number;
  /** Tells of what was decided (Kubernetes events). */
  readonly onEvent: (object: Stored<StreamJobObject>, event: JobEvent) => void;
}

const REFUSED_COUNT_MAX = 1_000;
const ANSWER_HOLDS_MS = 5_000;

export class Reconciler {
  readonly #options: ReconcilerOptions;
  /** By uid: the newest answer of a JobManager (RC4). */
  readonly #answers = new Map<string, { readonly view: JobManagerView; readonly atMs: number }>();
  /** By uid: what the API server refused last (RC3). */
  readonly #refused = new Map<string, RefusedAction>();
  /** By uid: what came of the newest dry run. */
  readonly #trials = new Map<string, PodTrial>();

  constructor(options: ReconcilerOptions) {
    this.#options = options;
  }

  /** One pass. `client` writes: it is the leader's, and remembers what it wrote. Returns when to look again. */
  async reconcile(
    key: string,
    client: KubeClient,
    signal: AbortSignal,
  ): Promise<{ readonly requeueAfterMs: number } | undefined> {
    const object = this.#options.caches.jobs.get(key);
    if (object === undefined) return undefined;
    const job = jobViewOf(object);
    const observed = await this.#observe(job, client, signal);
    const { settings, wallMs } = this.#options;
    const decision = decide({ job, observed, settings, nowMs: wallMs() });
    const isChanged = !isDeepStrictEqual(plain(decision.status), plain(job.status));
    const act = async (): Promise<void> => await this.#act({ client, job, object, signal }, decision.actions);
    if (planted("operator-acts-before-status")) await act();
    if (isChanged) {
      if (!(await this.#writeStatus(client, object, decision.status, signal))) return { requeueAfterMs: 50 };
    } else if (decision.actions.length > 0 && !(await this.#isCurrent(client, object, signal))) {
      return { requeueAfterMs: 200 };
    }
    for (const event of decision.events) this.#options.onEvent(object, event);
    if (!planted("operator-acts-before-status")) await act();
    return { requeueAfterMs: decision.requeueAfterMs };
  }

  /** Nothing of that StreamJob is remembered any more. */
  forget(uid: string): void {
    this.#refused.delete(uid);
    this.#answers.delete(uid);
    this.#trials.delete(uid);
  }

  async #observe(job: JobView, client: KubeClient, signal: AbortSignal): Promise<Observed> {
    const { caches } = this.#options;
    const pods = podViews(caches.pods.byOwner(job.uid), {
      jobUid: job.uid,
      lostNodes: lostNodesOf(caches.nodes.all()),
    });
    const isNamespaceTerminating = job.isDeleting && (await isTerminating(client, job.namespace, signal));
    const answers = await this.#ask(job, pods, signal);
    return { pods, ...answers, isNamespaceTerminating, refused: this.#refused.get(job.uid), trial: this.#trialOf(job) };
  }

  /** Asks the JobManager of what is deployed, if there is one that could answer. */
  async #ask(
    job: JobView,
    pods: readonly PodView[],
    signal: AbortSignal,
  ): Promise<{ readonly jobManager: Observed["jobManager"]; readonly operation: OperationView | undefined }> {
    const { deployed, op } = job.status;
    const none = { jobManager: undefined, operation: undefined };
    if (deployed === undefined || deployed.ended !== undefined) return none;
    const pod = pods
      .filter((one) => one.component === "jobmanager" && one.attempt === deployed.attempt && one.phase === "Running")
      .toSorted((a, b) => Number(a.isDeleting) - Number(b.isDeleting))
      .find((one) => deployed.pods.jobManager.uid === undefined || deployed.pods.jobManager.uid === one.uid);
    if (pod?.podIp === undefined || pod.ended !== undefined) return none;
    const { jobManagers } = this.#options;
    const at = { podIp: pod.podIp, uid: job.uid, attempt: deployed.attempt };
    const expected = { submission: deployed.submission, run: `${pod.uid}/${pod.restartCount}` };
    const answer = await askStatus(jobManagers, at, expected, signal);
    const jobManager = this.#remembered(job, expected.run, answer);
    if (jobManager === undefined || op?.step !== "Stop" || op.triggerId === undefined)
      return { jobManager, operation: undefined };
    const of = { jobId: jobManager.jobId, triggerId: op.triggerId };
    return { jobManager, operation: await askStop(jobManagers, at, of, signal) };
  }

  #trialOf(job: JobView): PodTrial | undefined {
    const trial = this.#trials.get(job.uid);
    if (trial === undefined || trial.opId === job.status.op?.id) return trial;
    this.#trials.delete(job.uid);
    return undefined;
  }

  /** RC4. */
  #remembered(job: JobView, run: string, answer: JobManagerView | undefined): JobManagerView | undefined {
    const nowMs = this.#options.wallMs();
    if (answer !== undefined) this.#answers.set(job.uid, { view: answer, atMs: nowMs });
    if (answer !== undefined || job.status.op !== undefined) return answer;
    const last = this.#answers.get(job.uid);
    const holds = last?.view.run === run && Math.abs(nowMs - last.atMs) < ANSWER_HOLDS_MS;
    return holds ? last.view : undefined;
  }

  /** False: somebody else has written meanwhile (RC1). */
  async #writeStatus(
    client: KubeClient,
    object: Stored<StreamJobObject>,
    status: unknown,
    signal: AbortSignal,
  ): Promise<boolean> {
    try {
      await client.updateStatus(STREAM_JOBS, { ...object, status }, { signal });
      return true;
    } catch (thrown) {
      if (isConflict(thrown) || isNotFound(thrown)) return false;
      throw thrown;
    }
  }

  /** RC2. */
  async #isCurrent(client: KubeClient, object: Stored<StreamJobObject>, signal: AbortSignal): Promise<boolean> {
    const { namespace, name, uid } = object.metadata;
    const current = await client.find(STREAM_JOBS, { name, ...(namespace !== undefined && { namespace }) }, { signal });
    return current?.metadata.uid === uid && isDeepStrictEqual(current.status, object.status);
  }

  async #act(
    of: {
      readonly client: KubeClient;
      readonly job: JobView;
      readonly object: Stored<StreamJobObject>;
      readonly signal: AbortSignal;
    },
    actions: readonly Action[],
  ): Promise<void> {
    const { jobManagers, key } = this.#options;
    const { client, job, object, signal } = of;
    const onTrial = (trial: PodTrial): void => void this.#trials.set(job.uid, trial);
    for (const action of actions) {
      try {
        await applyAction({ client, jobManagers, key, signal, onTrial }, job, object, action);
      } catch (thrown) {
        if (isRejected(thrown)) this.#remember(job, action, thrown);
        throw thrown;
      }
    }
    this.#refused.delete(job.uid);
  }

  #remember(job: JobView, action: Action, thrown: unknown): void {
    if (!isApiError(thrown)) return;
    if (this.#refused.size >= REFUSED_COUNT_MAX) this.#refused.clear();
    const { status, message } = thrown;
    this.#refused.set(job.uid, { opId: job.status.op?.id, what: whatOf(action), status, message });
  }
}

function whatOf(action: Action): string {
  if ("object" in action) return `${action.object.kind} ${keyOf(action.object)}`;
  return "name" in action ? `${action.type} ${action.name}` : action.type;
}

/** As the API server will give it back: without what is undefined. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value)) as unknown;
}

async function isTerminating(client: KubeClient, namespace: string, signal: AbortSignal): Promise<boolean> {
  try {
    const found = await client.find(NAMESPACES, { name: namespace }, { signal });
    return found === undefined || found.metadata.deletionTimestamp !== undefined;
  } catch (thrown) {
    if (isRejected(thrown)) return false; // may not look: it is waited for then, which ends as well
    throw thrown;
  }
}
