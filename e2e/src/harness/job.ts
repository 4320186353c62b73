// One StreamJob of a scenario: applied, changed, waited for, looked at.
//
// Invariants:
//   JH1. Waiting is for a condition of the data that was watched; a time limit ends a wait that has failed, it is no assertion.
//   JH2. A wait that fails says what it waited for and what was there instead.

import { containerOf, componentOf, conditionOf, isAlive } from "./objects.ts";
import type { Component, PodObject, StreamJobObject } from "./objects.ts";
import type { StreamJobManifest } from "./manifest.ts";
import { kubectl, tryKubectl } from "./world.ts";
import type { World } from "./world.ts";

const UNTIL_TIMEOUT_MS = 240_000;
const DELETE_TIMEOUT = "90s";

/** What a wait looks at. */
export interface Seen {
  readonly job: StreamJobObject | undefined;
  readonly pods: readonly PodObject[];
}

export class JobHandle {
  readonly #world: World;
  readonly namespace: string;
  readonly name: string;
  #spec: Readonly<Record<string, unknown>>;

  constructor(world: World, manifest: StreamJobManifest) {
    this.#world = world;
    this.namespace = manifest.metadata.namespace;
    this.name = manifest.metadata.name;
    this.#spec = manifest.spec;
  }

  get spec(): Readonly<Record<string, unknown>> {
    return this.#spec;
  }

  /** `kubectl apply` of the manifest with these fields of spec; the next one starts from it. Returns the moment before. */
  async apply(changes: Readonly<Record<string, unknown>> = {}): Promise<number> {
    this.#spec = { ...this.#spec, ...changes };
    const manifest = {
      apiVersion: "sluice.dev/v1alpha1",
      kind: "StreamJob",
      metadata: { name: this.name, namespace: this.namespace },
      spec: this.#spec,
    };
    const atMs = Date.now();
    const args = ["apply", "--server-side", "--force-conflicts", "-o", "json", "-f", "-"];
    const applied = JSON.parse(await kubectl(this.#world, args, JSON.stringify(manifest))) as StreamJobObject;
    const { uid, generation = 0 } = applied.metadata;
    // What is waited for next must not be read off the object as it was before.
    await this.until("the watch has what was applied", ({ job }) => {
      return job?.metadata.uid === uid && (job.metadata.generation ?? 0) >= generation;
    });
    return atMs;
  }

  /** What `kubectl apply` says of a spec that it must refuse. */
  async applyRefused(changes: Readonly<Record<string, unknown>>): Promise<string> {
    const manifest = {
      apiVersion: "sluice.dev/v1alpha1",
      kind: "StreamJob",
      metadata: { name: this.name, namespace: this.namespace },
      spec: { ...this.#spec, ...changes },
    };
    const { code, output } = await tryKubectl(
      this.#world,
      ["apply", "--server-side", "-f", "-"],
      JSON.stringify(manifest),
    );
    if (code === 0) throw new Error(`kubectl apply took ${JSON.stringify(changes)}`);
    return output;
  }

  get job(): StreamJobObject | undefined {
    return this.#world.jobs.get(this.namespace, this.name);
  }

  get uid(): string {
    const uid = this.job?.metadata.uid;
    if (uid === undefined) throw new Error(`${this.namespace}/${this.name} is not there`);
    return uid;
  }

  /** Pods that are neither ended nor asked to end, of this StreamJob. */
  pods(component: Component): readonly PodObject[] {
    return this.#allPods().filter((pod) => isAlive(pod) && componentOf(pod) === component);
  }

  #allPods(): readonly PodObject[] {
    return this.#world.pods
      .of(this.namespace)
      .filter(({ metadata }) => metadata.labels?.["sluice.dev/job"] === this.name);
  }

  /** JH1. Resolves with what `look` returns, as soon as it is not undefined or false. */
  async until<T>(
    what: string,
    look: (seen: Seen) => T | undefined | false,
    timeoutMs: number = UNTIL_TIMEOUT_MS,
  ): Promise<T> {
    const { jobs, pods } = this.#world;
    const now = (): T | undefined | false => look({ job: this.job, pods: this.#allPods() });
    return await new Promise<T>((resolve, reject) => {
      const check = (): void => {
        let found: T | undefined | false;
        try {
          found = now();
        } catch (error) {
          settle(() => reject(error instanceof Error ? error : new Error(String(error))));
          return;
        }
        if (found !== undefined && found !== false) settle(() => resolve(found as T));
      };
      const timer = setTimeout(() => {
        settle(() => reject(new Error(`waited ${timeoutMs / 1000} s in vain: ${what}; ${this.describe()}`)));
      }, timeoutMs);
      const stops = [jobs.listen(check), pods.listen(check)];
      const settle = (end: () => void): void => {
        clearTimeout(timer);
        for (const stop of stops) stop();
        end();
      };
      check();
    });
  }

  /** Ready, of the newest generation, in this lifecycle state or one of these. */
  async untilLifecycle(...states: readonly string[]): Promise<StreamJobObject> {
    return await this.until(`lifecycleState is ${states.join(" or ")}`, ({ job }) => {
      const status = job?.status;
      const isCurrent = job !== undefined && status?.observedGeneration === job.metadata.generation;
      if (isCurrent && states.includes(status?.lifecycleState ?? "")) return job;
      this.#failWhenStalled(job, states);
      return undefined;
    });
  }

  /** The newest generation runs and is stable; or its job has finished already. */
  async untilStable(): Promise<StreamJobObject> {
    return await this.until("the newest generation is stable", ({ job }) => {
      if (job?.status === undefined || job.status.observedGeneration !== job.metadata.generation) return undefined;
      const { status } = job;
      this.#failWhenStalled(job, ["Stable"]);
      const { generation } = job.metadata;
      const { deployed, lastStable, op } = status;
      // A version that reads fast may have finished before its stability was looked at.
      const isFinished = deployed?.generation === generation && deployed?.ended === "FINISHED";
      return op === undefined && (lastStable?.generation === generation || isFinished) ? job : undefined;
    });
  }

  /** Nobody needs to wait for what cannot come any more. */
  #failWhenStalled(job: StreamJobObject | undefined, wanted: readonly string[]): void {
    const stalled = conditionOf(job, "Stalled");
    if (stalled?.status !== "True" || stalled.generation !== job?.metadata.generation) return;
    if (wanted.includes("Stalled")) return;
    throw new Error(`waited for ${wanted.join(" or ")}, but: Stalled, ${stalled.reason}: ${stalled.message}`);
  }

  /** The newest generation is given up; its reason and message. */
  async untilStalled(reason: string): Promise<string> {
    return await this.until(`Stalled with the reason ${reason}`, ({ job }) => {
      const stalled = conditionOf(job, "Stalled");
      const isCurrent = stalled?.status === "True" && stalled.generation === job?.metadata.generation;
      if (!isCurrent) return undefined;
      if (stalled.reason !== reason) throw new Error(`Stalled is ${stalled.reason}, not ${reason}: ${stalled.message}`);
      return stalled.message;
    });
  }

  /** `kubectl delete`, until it is gone. */
  async delete(): Promise<void> {
    const args = ["delete", "streamjob", this.name, "-n", this.namespace, `--timeout=${DELETE_TIMEOUT}`];
    await kubectl(this.#world, args);
    await this.until(
      "all pods of the deleted StreamJob are gone",
      ({ job, pods }) => job === undefined && pods.length === 0,
    );
  }

  /** One line: state and pods. */
  describe(): string {
    const { job } = this;
    const status = job?.status;
    const conditions = (status?.conditions ?? [])
      .filter((one) => one.status === "True")
      .map((one) => `${one.type}=${one.reason} (${one.message})`);
    const pods = this.#allPods().map((pod) => {
      const container = containerOf(pod);
      const waiting = container?.state?.waiting?.reason ?? container?.lastState?.terminated?.reason ?? "";
      return `${pod.metadata.name} ${pod.status.phase}${waiting === "" ? "" : `/${waiting}`} restarts ${container?.restartCount ?? 0}`;
    });
    return [
      `${this.namespace}/${this.name} generation ${job?.metadata.generation} (observed ${status?.observedGeneration})`,
      `${status?.lifecycleState} job ${status?.jobState ?? "-"} op ${status?.op?.kind ?? "-"}/${status?.op?.step ?? "-"}`,
      conditions.join(", "),
      `pods: ${pods.join("; ") || "none"}`,
    ].join("; ");
  }
}
