#!/usr/bin/env node
// The controller's process: `sluice-controller [flags]`.
//
// Invariants:
//   MA1. Health says whether this process works; readiness whether its caches are filled. Neither asks the API server: when that is
//        away, restarting helps nobody.
//   MA2. SIGTERM ends the term of leading, then the process, with 0. A second one, or DRAIN_MS, ends it at once.
//   MA3. Logs are JSON lines on standard error, without secrets: those are derived where they are used and are part of no action.

import { randomUUID } from "node:crypto";

import { SLUICE_VERSION } from "@sluice/api";
import { describeFailure, toFailure } from "@sluice/kit";
import { NodeClock, NodeLog, nodeRng, NodeTimers } from "@sluice/kit/env/node";
import { Registry } from "prom-client";

import { cacheIsSynced, HealthChecks, KubeMetrics, queueMoves, watchIsFresh } from "../kube/index.ts";
import type { KubeObject, Reflector } from "../kube/index.ts";
import { defaultCredentials, HttpKubeApi } from "../kube/node/index.ts";
import { parseFlags, USAGE } from "./flags.ts";
import type { Flags } from "./flags.ts";
import { controllerKey } from "./key.ts";
import { LEASE_NAME, Operator } from "./operator.ts";
import { httpJobManagers } from "./rest.ts";
import { serve } from "./server.ts";

const DRAIN_MS = 20_000;

async function main(flags: Flags): Promise<void> {
  const clock = new NodeClock();
  const log = new NodeLog({
    level: flags.logLevel,
    format: process.env["SLUICE_LOG_FORMAT"] === "pretty" ? "pretty" : "json",
  });
  const env = { clock, timers: new NodeTimers(), rng: nodeRng(), log };
  const credentials = await defaultCredentials({
    env: process.env,
    clock,
    ...(flags.kubeconfig !== undefined && { kubeconfig: flags.kubeconfig }),
  });
  const registry = new Registry();
  const metrics = new KubeMetrics({ registry, clock });
  const http = new HttpKubeApi({ credentials, userAgent: `sluice-controller/${SLUICE_VERSION}` });
  const own = flags.leaderElectionNamespace ?? process.env["POD_NAMESPACE"] ?? credentials.namespace;
  let key: Uint8Array | undefined;
  const operator = new Operator({
    api: metrics.metered(http),
    env,
    jobManagers: httpJobManagers(() => key),
    namespaces: flags.namespaces,
    leaderElectionNamespace: own,
    identity: `${process.env["POD_NAME"] ?? process.env["HOSTNAME"] ?? "controller"}_${randomUUID().slice(0, 8)}`,
    settings: { defaultImage: flags.defaultImage },
    key: async (client, signal) => (key ??= await controllerKey(client, own, signal)),
    metrics,
  });
  showMetrics(metrics, operator);
  const { health, ready } = checksOf(operator);
  const servers = await Promise.all([
    serve(flags.healthPort, { "/healthz": () => health.report(), "/readyz": () => ready.report() }),
    serve(flags.metricsPort, {
      "/metrics": async () => ({ ok: true, text: await registry.metrics(), contentType: registry.contentType }),
    }),
  ]);
  const stop = new AbortController();
  stopOnSignals(stop, log);
  log.info("started", {
    version: SLUICE_VERSION,
    namespaces: flags.namespaces.join(",") || "all",
    lease: `${own}/${LEASE_NAME}`,
  });
  await operator.run(stop.signal);
  await Promise.all(servers.map((server) => server.close()));
  http.close();
  log.info("ended");
}

function showMetrics(metrics: KubeMetrics, operator: Operator): void {
  metrics.showElection(LEASE_NAME, operator);
  metrics.showWatch(operator.nodesReflector, operator.nodes);
  for (const scope of operator.scopes) {
    metrics.showWatch(scope.jobsReflector, scope.jobs);
    metrics.showWatch(scope.podsReflector, scope.pods);
  }
}

function checksOf(operator: Operator): { readonly health: HealthChecks; readonly ready: HealthChecks } {
  const health = new HealthChecks();
  const ready = new HealthChecks();
  operator.scopes.forEach((scope, index) => {
    const fresh = watchIsFresh(scope.podsReflector as unknown as Reflector<KubeObject>, () => operator.isLeader);
    health.set(`watch-${index}`, fresh);
    health.set(`queue-${index}`, () => (scope.controller === undefined ? undefined : queueMoves(scope.controller)()));
    ready.set(`streamjobs-${index}`, cacheIsSynced("streamjobs", scope.jobs));
    ready.set(`pods-${index}`, cacheIsSynced("pods", scope.pods));
  });
  return { health, ready };
}

/** MA2. */
function stopOnSignals(stop: AbortController, log: NodeLog): void {
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      if (stop.signal.aborted) process.exit(1);
      log.info("ends", { signal });
      stop.abort();
      setTimeout(() => process.exit(1), DRAIN_MS).unref();
    });
  }
}

const flags = parseFlags(process.argv.slice(2));
if (typeof flags === "string") {
  const isHelp = flags === USAGE;
  (isHelp ? process.stdout : process.stderr).write(`${flags}\n`);
  process.exit(isHelp ? 0 : 2);
}
// Timers are unref'd: the loop is kept alive by the servers until the operator has ended.
main(flags).then(
  () => process.exit(0),
  (thrown: unknown) => {
    process.stderr.write(`${describeFailure(toFailure(thrown))}\n`);
    process.exit(1);
  },
);
