// `npm run bench -- operator-fleet`: what the controller costs with many StreamJobs (issue: with 50, under 250 MB, under 5 % of a core,
// at most 4 API calls per job and minute).
//
// The API server, etcd, the garbage collector and the controller are real; kubelets and JobManagers are simulated (kubelet.ts) in a
// process of their own.
//
// Invariants:
//   OF1. Measured is a fleet at rest: every job Stable, with a moving checkpoint. One that is not at the end fails the run.
//   OF2. Calls are those that the API server answered (audit log); the controller's own counter is printed beside it.
//   OF3. CPU is seconds of the controller's process: other work on the machine changes the wall clock, not them.

import { fork } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

import type { StreamJobStatus } from "@sluice/api";
import { STREAM_JOBS } from "@sluice/controller/internal/apply";
import type { StreamJobObject } from "@sluice/controller/internal/apply";
import { KubeClient, NAMESPACES, ObjectCache, PODS, Reflector } from "@sluice/controller/internal/kube";
import { NodeClock, NodeLog, nodeRng, NodeTimers } from "@sluice/kit/env/node";
import { runToEnd, startApiServer } from "@sluice/tools/peers";

import { connect } from "./connect.ts";
import { ControllerProcess, controllerProgram } from "./controller-process.ts";
import type { KubeletOptions } from "./kubelet.ts";
import { audited, counterIn, cpuSecondsOf, residentMbOf } from "./measure.ts";
import type { Audited } from "./measure.ts";

const { values } = parseArgs({
  options: {
    jobs: { type: "string", default: "50" },
    minutes: { type: "string", default: "4" },
    "settle-seconds": { type: "string", default: "30" },
    "checkpoint-seconds": { type: "string", default: "10" },
    /** Run the TypeScript instead of what ships. */
    source: { type: "boolean", default: false },
    /** Keep the audit log, the controller's log and its profile. */
    keep: { type: "boolean", default: false },
  },
});
const jobs = Number(values.jobs);
const windowCount = Math.max(1, Math.round(Number(values.minutes)));
const checkpointMs = Number(values["checkpoint-seconds"]) * 1_000;
const NAMESPACE = "fleet";
const CONTROLLER = "sluice-controller/";
const WAIT_MS = 300_000;
const WINDOW_MS = (Number(values.minutes) * 60_000) / windowCount;
const LIMITS = { residentMb: 250, cpuPercent: 5, callsPerJobMinute: 4 };

const folder = mkdtempSync(join(tmpdir(), "sluice-operator-fleet-"));
const auditLog = join(folder, "audit.log");
writeFileSync(
  join(folder, "audit-policy.yaml"),
  "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{ level: Metadata }]\n",
);
const program = await controllerProgram(values.source);
// Whatever ends this process, nothing of it stays behind.
process.once("exit", () => {
  program.remove();
  if (!values.keep) rmSync(folder, { recursive: true, force: true });
});
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(130));
const server = await startApiServer({
  controllers: ["garbage-collector-controller"],
  flags: [`--audit-log-path=${auditLog}`, `--audit-policy-file=${join(folder, "audit-policy.yaml")}`],
});
const address = { url: server.url, ca: server.ca, token: server.adminToken };
const api = connect(address, "fleet-bench");
const client = new KubeClient(api, { fieldManager: "fleet-bench" });
await applyCrd();
await client.create(NAMESPACES, { apiVersion: "v1", kind: "Namespace", metadata: { name: NAMESPACE } });

const kubelet = fork(join(import.meta.dirname, "kubelet.ts"), []);
const second = 16 + (process.pid % 200);
kubelet.send({ server: address, checkpointMs, second } satisfies KubeletOptions);
kubelet.once("exit", (code) => {
  if (code !== null) process.exit(1);
});
process.once("exit", () => void kubelet.kill("SIGKILL"));

const watching = new AbortController();
const env = { clock: new NodeClock(), timers: new NodeTimers(), rng: nodeRng(), log: new NodeLog({ level: "warn" }) };
const cache = new ObjectCache<StreamJobObject>({ onHandlerError: console.error });
const watched = new Reflector({ api, type: STREAM_JOBS, namespace: NAMESPACE, cache, env }).run(watching.signal);
const controller = await ControllerProcess.start(program.path, address, folder);
const { pid } = controller;
await until("the controller is ready", async () => {
  const text = await controller.metrics().catch(() => "");
  return counterIn(text, "leader_election_master_status") === 1;
});
console.log(
  `controller: ${values.source ? "TypeScript" : "JavaScript as it ships"}, token and CA from files, node ${process.version}; ` +
    `${residentMbOf(pid).now.toFixed(0)} MB before the first job; load of the machine ${loadOf()}`,
);

// 1. All jobs at once, until each is Stable.
const startedMs = Date.now();
const startedCpu = cpuSecondsOf(pid);
for (let index = 0; index < jobs; index += 1) await client.create(STREAM_JOBS, streamJob(index));
await until(`${jobs} jobs are Stable`, () => stableCount() === jobs, progress);
const stableMs = Date.now();
report(`${jobs} jobs applied at once, until all are Stable`, {
  wallMs: stableMs - startedMs,
  cpuSeconds: cpuSecondsOf(pid) - startedCpu,
  calls: await callsBetween(startedMs, stableMs),
});

// 2. At rest.
await sleep(Number(values["settle-seconds"]) * 1_000);
const windows: { readonly cpuPercent: number; readonly residentMb: number; readonly callsPerJobMinute: number }[] = [];
const restFromMs = Date.now();
const before = await controller.metrics();
const restCpu = cpuSecondsOf(pid);
for (let window = 0; window < windowCount; window += 1) {
  const fromMs = Date.now();
  const cpu = cpuSecondsOf(pid);
  let residentMb = 0;
  while (Date.now() - fromMs < WINDOW_MS) {
    await sleep(Math.min(500, WINDOW_MS));
    residentMb = Math.max(residentMb, residentMbOf(pid).now);
  }
  const toMs = Date.now();
  const cpuSeconds = cpuSecondsOf(pid) - cpu;
  await sleep(100); // of what was received in the window all is answered
  const { calls } = await callsBetween(fromMs, toMs);
  windows.push({
    cpuPercent: (cpuSeconds * 100_000) / (toMs - fromMs),
    residentMb,
    callsPerJobMinute: (calls * 60_000) / (toMs - fromMs) / jobs,
  });
}
const restToMs = Date.now();
const after = await controller.metrics();
const rest = await callsBetween(restFromMs, restToMs);
const restCpuSeconds = cpuSecondsOf(pid) - restCpu;
if (stableCount() !== jobs) throw new Error(`only ${stableCount()} of ${jobs} jobs are Stable at the end`); // OF1
if (!checkpointsMoved(restFromMs)) throw new Error("a job's lastCheckpoint did not move in its status"); // OF1
report(
  `at rest, ${windowCount} windows of ${(WINDOW_MS / 1_000).toFixed(0)} s, a checkpoint each ${checkpointMs / 1_000} s`,
  {
    wallMs: restToMs - restFromMs,
    cpuSeconds: restCpuSeconds,
    calls: rest,
  },
);
const own = (counter: string, where = ""): number =>
  counterIn(after, counter, where) - counterIn(before, counter, where);
console.log(
  `  the controller's own count: ${own("rest_client_requests_total")} requests, ` +
    `${own("controller_runtime_reconcile_total")} passes (${perJobMinute(own("controller_runtime_reconcile_total"))} per job and minute)`,
);
const measured = {
  residentMb: spread(windows.map((one) => one.residentMb)),
  cpuPercent: spread(windows.map((one) => one.cpuPercent)),
  callsPerJobMinute: spread(windows.map((one) => one.callsPerJobMinute)),
};
const peakMb = residentMbOf(pid).peak;
console.log(`\n  ${"".padEnd(30)}${"median".padStart(9)}${"max".padStart(9)}${"limit".padStart(9)}`);
const row = (what: string, of: { readonly median: number; readonly max: number }, limit: number): void =>
  console.log(
    `  ${what.padEnd(30)}${of.median.toFixed(2).padStart(9)}${of.max.toFixed(2).padStart(9)}${String(limit).padStart(9)}` +
      `  ${of.max <= limit ? "ok" : "MISSED"}`,
  );
row("resident memory, MB", measured.residentMb, LIMITS.residentMb);
row("CPU, % of a core", measured.cpuPercent, LIMITS.cpuPercent);
row("API calls per job and minute", measured.callsPerJobMinute, LIMITS.callsPerJobMinute);
console.log(`  most memory since its start: ${peakMb.toFixed(0)} MB\n`);

// 3. Every JobManager's pod is gone at once.
const lost = new Map(statuses().map(([name, status]) => [name, status.deployed?.pods.jobManager.uid]));
const pods = await client.list(PODS, { namespace: NAMESPACE, labelSelector: "sluice.dev/component=jobmanager" });
const burstMs = Date.now();
const burstCpu = cpuSecondsOf(pid);
await Promise.all(
  pods.items.map(({ metadata: { name } }) =>
    client.delete(PODS, { namespace: NAMESPACE, name }, { gracePeriodSeconds: 0 }),
  ),
);
await until("every job runs again", () =>
  statuses().every(([name, status]) => {
    const uid = status.deployed?.pods.jobManager.uid;
    return uid !== undefined && uid !== lost.get(name) && status.jobState === "RUNNING" && isReady(status);
  }),
);
const burstToMs = Date.now();
await sleep(100);
const burst = {
  wallMs: burstToMs - burstMs,
  cpuSeconds: cpuSecondsOf(pid) - burstCpu,
  calls: await callsBetween(burstMs, burstToMs),
};
report(`${pods.items.length} JobManager pods deleted at once, until all jobs are RUNNING and Ready again`, burst);
console.log(`  memory then: ${residentMbOf(pid).now.toFixed(0)} MB, most ${residentMbOf(pid).peak.toFixed(0)} MB`);

console.log(
  JSON.stringify({
    benchmark: "operator-fleet",
    jobs,
    stableMs: stableMs - startedMs,
    windows,
    rest,
    burst,
    peakMb,
    folder: values.keep ? folder : null,
  }),
);
watching.abort();
await watched;
await controller.stop();
kubelet.removeAllListeners("exit");
kubelet.disconnect();
await server.stop();
const isMissed =
  measured.residentMb.max > LIMITS.residentMb ||
  measured.cpuPercent.max > LIMITS.cpuPercent ||
  measured.callsPerJobMinute.max > LIMITS.callsPerJobMinute;
process.exit(isMissed ? 1 : 0);

async function applyCrd(): Promise<void> {
  const crd = join(import.meta.dirname, "../../../crds/streamjobs.sluice.dev.yaml");
  const kubectl = async (...args: readonly string[]): Promise<void> => {
    const { code, output } = await runToEnd({
      command: server.kubectl,
      args: [`--kubeconfig=${server.kubeconfig}`, ...args],
    });
    if (code !== 0) throw new Error(`kubectl ${args.join(" ")}: ${output}`);
  };
  await kubectl("apply", "--server-side", "-f", crd);
  await kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", crd);
}

function streamJob(index: number): StreamJobObject {
  return {
    apiVersion: "sluice.dev/v1alpha1",
    kind: "StreamJob",
    metadata: { namespace: NAMESPACE, name: `job-${String(index).padStart(3, "0")}` },
    spec: {
      image: "sluice:1",
      job: { path: "/opt/sluice/job/sum.ts" },
      args: ["--rate", "100"],
      parallelism: 2,
      upgradeMode: "Savepoint",
      checkpointing: { dir: "s3://bucket/jobs", interval: `${checkpointMs / 1_000}s` },
      objectStore: { endpoint: "http://minio:9000", secretRef: { name: "minio" } },
    },
  };
}

function statuses(): readonly (readonly [name: string, status: StreamJobStatus])[] {
  return cache.all().map((job) => [job.metadata.name, (job.status ?? {}) as StreamJobStatus]);
}

function stableCount(): number {
  return statuses().filter(([, { lifecycleState }]) => lifecycleState === "Stable").length;
}

function isReady({ conditions, taskManagers }: StreamJobStatus): boolean {
  const ready = conditions?.some((one) => one.type === "Ready" && one.status === "True") === true;
  return ready && taskManagers?.ready === taskManagers?.wanted;
}

function checkpointsMoved(sinceMs: number): boolean {
  if (Date.now() - sinceMs < 90_000) return true;
  return statuses().every(
    ([, { lastCheckpoint }]) => Date.parse(lastCheckpoint?.completedAt ?? "") > Date.now() - 90_000,
  );
}

function progress(): string {
  const counts = new Map<string, number>();
  for (const [, { lifecycleState = "none" }] of statuses())
    counts.set(lifecycleState, (counts.get(lifecycleState) ?? 0) + 1);
  return [...counts].map(([state, count]) => `${count} ${state}`).join(", ");
}

async function until(what: string, isSo: () => boolean | Promise<boolean>, state = (): string => ""): Promise<void> {
  const deadlineMs = Date.now() + WAIT_MS;
  while (!(await isSo())) {
    if (Date.now() > deadlineMs) {
      console.error(readFileSync(join(folder, "controller.log"), "utf8").split("\n").slice(-15).join("\n"));
      throw new Error(`waited ${WAIT_MS / 1_000} s until ${what}: ${state()}`);
    }
    await sleep(50);
  }
}

async function callsBetween(fromMs: number, toMs: number): Promise<Audited> {
  return await audited(auditLog, { userAgent: CONTROLLER, fromMs, toMs });
}

function report(
  what: string,
  of: { readonly wallMs: number; readonly cpuSeconds: number; readonly calls: Audited },
): void {
  const { wallMs, cpuSeconds, calls } = of;
  const list = (counts: Audited["byKind"]): string => counts.map(([kind, count]) => `${kind} ${count}`).join(", ");
  console.log(
    `${what}:\n  ${(wallMs / 1_000).toFixed(1)} s, ${cpuSeconds.toFixed(2)} s of CPU (${((cpuSeconds * 100_000) / wallMs).toFixed(1)} % of a core)\n` +
      `  ${calls.calls} API calls (${(calls.calls / jobs).toFixed(2)} per job), ${calls.watches} watches begun: ${list(calls.byKind)}` +
      (calls.failures.length === 0 ? "" : `\n  of them refused: ${list(calls.failures)}`),
  );
}

function perJobMinute(count: number): string {
  return ((count * 60_000) / (restToMs - restFromMs) / jobs).toFixed(2);
}

function spread(figures: readonly number[]): { readonly median: number; readonly max: number } {
  const sorted = figures.toSorted((a, b) => a - b);
  return { median: sorted[(sorted.length - 1) >> 1] ?? 0, max: sorted.at(-1) ?? 0 };
}

function loadOf(): string {
  return readFileSync("/proc/loadavg", "utf8").split(" ", 1)[0] ?? "";
}
