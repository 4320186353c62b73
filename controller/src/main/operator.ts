// The operator: caches, election and the loop over StreamJobs, over seams. The process around it is main.ts; a simulated world runs
// the same.
//
// Invariants:
//   OP1. Every replica keeps warm caches; only the one that holds the Lease reconciles, and its writes end with its term.
//   OP2. A StreamJob's pass begins when its own writes are visible (WriteGate) and never twice at once (Controller).
//   OP3. One bad object concerns its own key only.
//
// Not here: flags, HTTP, connections (main.ts), caches and the loop of one namespace (scope.ts).

import { SLUICE_VERSION } from "@sluice/api";
import type { Clock, Log, Rng, Timers } from "@sluice/kit/env";

import type { Settings } from "../decide/index.ts";
import {
  EventRecorder,
  KubeClient,
  LeaseElection,
  NODES,
  ObjectCache,
  Reflector,
  whenAllSynced,
} from "../kube/index.ts";
import type { KubeApi, LeaderTerm, Node, Stored } from "../kube/index.ts";
import type { JobManagerApi } from "../observe/index.ts";
import { Scope } from "./scope.ts";
import type { ScopeMetrics } from "./scope.ts";

export const FIELD_MANAGER = "sluice-controller";
export const LEASE_NAME = "sluice-controller";

export interface OperatorOptions {
  readonly api: KubeApi;
  readonly env: { readonly clock: Clock; readonly timers: Timers; readonly rng: Rng; readonly log: Log };
  readonly jobManagers: JobManagerApi;
  /** Namespaces to look after; empty: all of them. */
  readonly namespaces: readonly string[];
  readonly leaderElectionNamespace: string;
  /** Unlike any other process's. */
  readonly identity: string;
  readonly settings: Settings;
  /** The controller's key; asked for once this process leads. */
  readonly key: (client: KubeClient, signal: AbortSignal) => Promise<Uint8Array>;
  readonly onLeading?: (isLeader: boolean) => void;
  readonly metrics?: ScopeMetrics;
}

export class Operator {
  readonly scopes: readonly Scope[];
  readonly nodes: ObjectCache<Node>;
  readonly nodesReflector: Reflector<Node>;
  readonly #options: OperatorOptions;
  readonly #election: LeaseElection;

  constructor(options: OperatorOptions) {
    this.#options = options;
    const { api, env } = options;
    this.nodes = new ObjectCache({
      onHandlerError: (thrown) => env.log.error("a handler of a cache threw: a bug", { error: String(thrown) }),
    });
    this.nodesReflector = new Reflector({ api, type: NODES, cache: this.nodes, env, trim: trimNode });
    const namespaces = options.namespaces.length === 0 ? [undefined] : options.namespaces;
    this.scopes = namespaces.map(
      (namespace) => new Scope({ api, env, namespace, nodes: this.nodes, metrics: options.metrics }),
    );
    this.#election = new LeaseElection({
      client: new KubeClient(api, { fieldManager: FIELD_MANAGER }),
      env,
      namespace: options.leaderElectionNamespace,
      name: LEASE_NAME,
      identity: options.identity,
      onChange: (isLeader) => options.onLeading?.(isLeader),
    });
  }

  get isLeader(): boolean {
    return this.#election.isLeader;
  }

  get election(): LeaseElection {
    return this.#election;
  }

  /** Nodes are looked at where that is allowed: without, a lost node is noticed when Kubernetes gives its pods up. */
  get isSynced(): boolean {
    return this.scopes.every((scope) => scope.isSynced);
  }

  /** Runs until the signal fires; then ends the term, and gives the Lease back. */
  async run(signal: AbortSignal): Promise<void> {
    const watching = Promise.all([this.nodesReflector, ...this.scopes].map((one) => one.run(signal)));
    try {
      await whenAllSynced(
        this.scopes.flatMap((scope) => [scope.jobs, scope.pods]),
        signal,
      );
      await this.#election.run(signal, (term) => this.#lead(term));
    } catch (thrown) {
      if (!signal.aborted) throw thrown;
    }
    await watching;
  }

  /** One term of leading (OP1). */
  async #lead(term: LeaderTerm): Promise<void> {
    const { api, env, identity, jobManagers, settings, key: keyOfController } = this.#options;
    const guarded = term.guard(api);
    const client = new KubeClient(guarded, { fieldManager: FIELD_MANAGER });
    const key = await keyOfController(client, term.signal);
    const recorder = new EventRecorder({
      client,
      env,
      reportingController: "sluice.dev/controller",
      reportingInstance: identity,
    });
    env.log.info("reconciles", { identity, version: SLUICE_VERSION });
    const of = { api: guarded, key, recorder, jobManagers, settings };
    await Promise.all(this.scopes.map((scope) => scope.lead(of, term.signal)));
    await recorder.flush();
  }
}

function trimNode(node: Stored<Node>): Stored<Node> {
  const { name, uid, resourceVersion } = node.metadata;
  const conditions = node.status?.conditions?.filter((one) => one.type === "Ready") ?? [];
  return { apiVersion: "v1", kind: "Node", metadata: { name, uid, resourceVersion }, status: { conditions } };
}
