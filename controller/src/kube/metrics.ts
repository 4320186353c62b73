// Metrics under controller-runtime's and client-go's names, so that existing dashboards and alerts work, and some of our own
// about watches.
//
// Invariants:
//   ME1. Labels have few values: names of controllers, resources, verbs, status codes. Never names of objects.
//   ME2. What is a state (depths, ages, sizes) is asked for when somebody scrapes; nothing runs in between.

import { Counter, Gauge, Histogram } from "prom-client";
import type { Registry } from "prom-client";

import type { Clock } from "@sluice/kit/env";
import { isApiError, NO_STATUS } from "./api/api-error.ts";
import type { KubeApi, KubeRequest } from "./api/kube-api.ts";
import { resourceName } from "./api/resources.ts";
import type { ResourceType } from "./api/resources.ts";
import type { ReadableCache } from "./cache/object-cache.ts";
import type { Reflector } from "./cache/reflector.ts";
import type { WriteGate } from "./cache/write-gate.ts";
import type { KubeObject } from "./api/objects.ts";
import type { Controller, ControllerObserver } from "./work/controller.ts";

/** controller-runtime's buckets, in seconds. */
const RECONCILE_BUCKETS = [
  0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.25, 1.5, 1.75, 2,
  2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30, 40, 50, 60,
];
const QUEUE_BUCKETS = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100, 1000];
const REQUEST_BUCKETS = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60];

const METHODS: Readonly<Record<KubeRequest["verb"] | "watch", string>> = {
  get: "GET",
  list: "GET",
  watch: "GET",
  create: "POST",
  update: "PUT",
  patch: "PATCH",
  delete: "DELETE",
};

type Sample = readonly [labels: Readonly<Record<string, string>>, value: number];

export class KubeMetrics {
  readonly #registry: Registry;
  readonly #clock: Clock;
  readonly #counters: Readonly<Record<string, Counter>>;
  readonly #histograms: Readonly<Record<string, Histogram>>;
  readonly #controllers = new Map<string, Controller>();
  readonly #watched = new Map<string, readonly [Reflector<KubeObject>, ReadableCache<KubeObject>]>();
  readonly #elections = new Map<string, { readonly isLeader: boolean }>();
  readonly #gates = new Map<string, WriteGate>();

  constructor(options: { readonly registry: Registry; readonly clock: Clock }) {
    this.#registry = options.registry;
    this.#clock = options.clock;
    const controller = ["controller"];
    const queue = ["name", "controller"];
    this.#counters = {
      reconciled: this.#counter("controller_runtime_reconcile_total", "Reconciliations by result", [
        "controller",
        "result",
      ]),
      errors: this.#counter("controller_runtime_reconcile_errors_total", "Reconciliations that failed", controller),
      panics: this.#counter("controller_runtime_reconcile_panics_total", "Reconciliations that met a bug", controller),
      timeouts: this.#counter("controller_runtime_reconcile_timeouts_total", "Reconciliations aborted", controller),
      adds: this.#counter("workqueue_adds_total", "Additions to the queue", queue),
      retries: this.#counter("workqueue_retries_total", "Additions after a failure", queue),
      requests: this.#counter("rest_client_requests_total", "Requests to the API server", [
        "code",
        "method",
        "resource",
      ]),
    };
    this.#histograms = {
      time: this.#histogram(
        "controller_runtime_reconcile_time_seconds",
        "Time per reconciliation",
        controller,
        RECONCILE_BUCKETS,
      ),
      waited: this.#histogram("workqueue_queue_duration_seconds", "Time in the queue", queue, QUEUE_BUCKETS),
      worked: this.#histogram("workqueue_work_duration_seconds", "Time of work per item", queue, QUEUE_BUCKETS),
      requests: this.#histogram(
        "rest_client_request_duration_seconds",
        "Time per request to the API server",
        ["verb", "resource"],
        REQUEST_BUCKETS,
      ),
    };
    this.#stateGauges();
  }

  /** What a controller of that name reports to. */
  observerFor(name: string): ControllerObserver {
    const { counters, histograms } = { counters: this.#counters, histograms: this.#histograms };
    const queue = { name, controller: name };
    return {
      queue: {
        added: () => counters["adds"]!.inc(queue),
        retried: () => counters["retries"]!.inc(queue),
        started: (waitedMs) => histograms["waited"]!.observe(queue, waitedMs / 1_000),
        finished: (workedMs) => histograms["worked"]!.observe(queue, workedMs / 1_000),
      },
      reconciled: (result, tookMs) => {
        counters["reconciled"]!.inc({ controller: name, result });
        if (result === "error") counters["errors"]!.inc({ controller: name });
        histograms["time"]!.observe({ controller: name }, tookMs / 1_000);
      },
      panicked: () => counters["panics"]!.inc({ controller: name }),
      timedOut: () => counters["timeouts"]!.inc({ controller: name }),
    };
  }

  /** Shows a controller's queue and workers; another one of its name replaces it. */
  showController(controller: Controller): void {
    this.#controllers.set(controller.name, controller);
  }

  /** Shows a watched resource. */
  showWatch<T extends KubeObject>(reflector: Reflector<T>, cache: ReadableCache<T>): void {
    this.#watched.set(reflector.resource, [
      reflector as unknown as Reflector<KubeObject>,
      cache as unknown as ReadableCache<KubeObject>,
    ]);
  }

  showElection(name: string, election: { readonly isLeader: boolean }): void {
    this.#elections.set(name, election);
  }

  showGate(controller: string, gate: WriteGate): void {
    this.#gates.set(controller, gate);
  }

  /** The API with every request counted and timed. */
  metered(api: KubeApi): KubeApi {
    return {
      request: async (request, options) => {
        const startedMs = this.#clock.nowMs();
        let code = "200";
        try {
          return await api.request(request, options);
        } catch (thrown) {
          code = codeOf(thrown);
          throw thrown;
        } finally {
          this.#requested(request.verb, request.type, code, this.#clock.nowMs() - startedMs);
        }
      },
      watch: (request, options) => {
        this.#requested("watch", request.type, "200", undefined);
        return api.watch(request, options);
      },
    };
  }

  #requested(verb: KubeRequest["verb"] | "watch", type: ResourceType, code: string, tookMs: number | undefined): void {
    const resource = resourceName(type);
    this.#counters["requests"]!.inc({ code, method: METHODS[verb], resource });
    if (tookMs !== undefined) this.#histograms["requests"]!.observe({ verb, resource }, tookMs / 1_000);
  }

  /** ME2. */
  #stateGauges(): void {
    const perController = (value: (controller: Controller) => number) => (): Sample[] =>
      [...this.#controllers.values()].map((one) => [{ controller: one.name }, value(one)]);
    const perQueue = (value: (controller: Controller) => number) => (): Sample[] =>
      [...this.#controllers.values()].map((one) => [{ name: one.name, controller: one.name }, value(one)]);
    const perWatch =
      (value: (reflector: Reflector<KubeObject>, cache: ReadableCache<KubeObject>) => number) => (): Sample[] =>
        [...this.#watched].map(([resource, [reflector, cache]]) => [{ resource }, value(reflector, cache)]);
    const queue = ["name", "controller"];
    this.#gauge(
      "controller_runtime_active_workers",
      "Reconciliations running",
      ["controller"],
      perController((one) => one.activeCount),
    );
    this.#gauge(
      "controller_runtime_max_concurrent_reconciles",
      "Reconciliations that may run",
      ["controller"],
      perController((one) => one.concurrentCountMax),
    );
    this.#gauge(
      "workqueue_depth",
      "Items that wait",
      queue,
      perQueue((one) => one.queue.depth),
    );
    this.#gauge(
      "workqueue_unfinished_work_seconds",
      "Time spent on items being worked on",
      queue,
      perQueue((one) => one.queue.unfinishedMs / 1_000),
    );
    this.#gauge(
      "workqueue_longest_running_processor_seconds",
      "Time of the item worked on longest",
      queue,
      perQueue((one) => one.queue.longestWorkingMs / 1_000),
    );
    this.#gauge("leader_election_master_status", "1 when this process leads", ["name"], () =>
      [...this.#elections].map(([name, one]) => [{ name }, one.isLeader ? 1 : 0]),
    );
    this.#gauge(
      "sluice_watch_staleness_seconds",
      "Time since the server last spoke about a resource",
      ["resource"],
      perWatch((reflector) => reflector.stalenessMs / 1_000),
    );
    this.#gauge(
      "sluice_watch_cache_objects",
      "Objects in the cache",
      ["resource"],
      perWatch((_, cache) => cache.size),
    );
    this.#gauge(
      "sluice_watch_missed_changes",
      "Changes that audits found missed",
      ["resource"],
      perWatch((reflector) => reflector.counts.missed),
    );
    this.#gauge(
      "sluice_watch_errors",
      "Failed lists and watches",
      ["resource"],
      perWatch((reflector) => reflector.counts.errors),
    );
    this.#gauge(
      "sluice_watch_lists",
      "Complete lists",
      ["resource"],
      perWatch((reflector) => reflector.counts.lists),
    );
    this.#gauge("sluice_write_gate_waiting", "Objects whose last writes no cache shows yet", ["controller"], () =>
      [...this.#gates].map(([controller, gate]) => [{ controller }, gate.waitingCount]),
    );
    this.#gauge("sluice_write_gate_live_reads", "Objects read because no cache could tell", ["controller"], () =>
      [...this.#gates].map(([controller, gate]) => [{ controller }, gate.liveReadCount]),
    );
  }

  #gauge(name: string, help: string, labelNames: string[], samples: () => readonly Sample[]): void {
    const gauge: Gauge = new Gauge({
      name,
      help,
      labelNames,
      registers: [this.#registry],
      collect: () => {
        gauge.reset();
        for (const [labels, value] of samples()) gauge.set({ ...labels }, value);
      },
    });
  }

  #counter(name: string, help: string, labelNames: string[]): Counter {
    return new Counter({ name, help, labelNames, registers: [this.#registry] });
  }

  #histogram(name: string, help: string, labelNames: string[], buckets: number[]): Histogram {
    return new Histogram({ name, help, labelNames, buckets, registers: [this.#registry] });
  }
}

/** client-go's words: the status, or "<error>" when there was no answer. */
function codeOf(thrown: unknown): string {
  return isApiError(thrown) && thrown.status !== NO_STATUS ? String(thrown.status) : "<error>";
}
