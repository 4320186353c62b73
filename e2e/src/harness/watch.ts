// All objects of a kind, in all namespaces, as they are now, and who waits for them to become something.
//
// One `kubectl get --watch` per kind serves all scenarios: it costs no requests, and waiting is not polling.
//
// Invariants:
//   WA1. A watch that ends is begun again; what was deleted meanwhile is forgotten, because the list comes first.
//   WA2. Waiters are told on every event, with the object as the event had it, so that short states are seen too.

import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";

const AGAIN_MS = 500;

export interface KubeObject {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly uid: string;
    readonly generation?: number;
    readonly labels?: Readonly<Record<string, string>>;
    readonly deletionTimestamp?: string;
  };
}

interface WatchEvent<T> {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  readonly object: T;
}

export type Listener = () => void;

export class Watch<T extends KubeObject> {
  readonly #args: readonly string[];
  readonly #env: NodeJS.ProcessEnv;
  readonly #onEvent: (type: "changed" | "deleted", object: T) => void;
  readonly #objects = new Map<string, T>();
  readonly #listeners = new Set<Listener>();
  #child: ChildProcess | undefined;
  #stopped = false;

  /** @param args what follows `kubectl get`, for example ["pods", "-l", "a=b"]. */
  constructor(
    args: readonly string[],
    env: NodeJS.ProcessEnv,
    onEvent: (type: "changed" | "deleted", object: T) => void = () => {},
  ) {
    this.#args = args;
    this.#env = env;
    this.#onEvent = onEvent;
  }

  start(): void {
    void this.#watch();
    process.once("exit", () => this.#child?.kill("SIGKILL"));
  }

  stop(): void {
    this.#stopped = true;
    this.#child?.kill("SIGTERM");
  }

  get(namespace: string, name: string): T | undefined {
    return this.#objects.get(`${namespace}/${name}`);
  }

  /** Those of a namespace, by name. */
  of(namespace: string): readonly T[] {
    return [...this.#objects.values()]
      .filter(({ metadata }) => metadata.namespace === namespace)
      .toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  }

  /** WA2. Returns how to stop listening. */
  listen(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** WA1. */
  async #watch(): Promise<void> {
    while (!this.#stopped) {
      this.#objects.clear();
      await this.#watchOnce();
      if (!this.#stopped) await sleep(AGAIN_MS);
    }
  }

  #watchOnce(): Promise<void> {
    const args = ["get", ...this.#args, "--all-namespaces", "--watch", "--output-watch-events", "--output=json"];
    const child = spawn("kubectl", args, { env: this.#env, stdio: ["ignore", "pipe", "ignore"] });
    this.#child = child;
    let text = "";
    child.stdout.setEncoding("utf8").on("data", (more: string) => {
      text += more;
      // One event a line.
      for (let end = text.indexOf("\n"); end !== -1; end = text.indexOf("\n")) {
        const line = text.slice(0, end);
        text = text.slice(end + 1);
        if (line !== "") this.#take(JSON.parse(line) as WatchEvent<T>);
      }
    });
    return new Promise((resolve) => {
      child.on("error", () => resolve());
      child.on("close", () => resolve());
    });
  }

  #take({ type, object }: WatchEvent<T>): void {
    if (type === "ERROR" || type === "BOOKMARK") return;
    const key = `${object.metadata.namespace}/${object.metadata.name}`;
    if (type === "DELETED") this.#objects.delete(key);
    else this.#objects.set(key, object);
    this.#onEvent(type === "DELETED" ? "deleted" : "changed", object);
    for (const listener of this.#listeners) listener();
  }
}
