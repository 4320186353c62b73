// The decision is pure and total (D1), writes before it acts (D2), fails closed (D3), gates before it stops (D4), and does not try a
// generation again that was given up (D6).

import { describe, expect, test } from "@jest/globals";
import type { StreamJobSpec } from "@sluice/api";

import { attemptOf, specHash, triggerIdOf } from "../objects/index.ts";
import type { JobManagerView, Observed, PodReportView, PodView } from "../observe/index.ts";
import type { JobStatus, Operation } from "../status/index.ts";
import {
  NOW,
  OK,
  OP,
  SETTINGS,
  UID,
  ago,
  condition,
  deployed,
  ended,
  exists,
  job,
  jobManager,
  look,
  observed,
  operation,
  pod,
  runningPods,
  spec,
  stableStatus,
  taken,
  words,
} from "./decide.fixture.ts";
import { decide } from "./index.ts";
import type { Decision } from "./index.ts";

describe("first start", () => {
  test("a preflight pod, and nothing else, with its finalizer first", () => {
    const decision = look({ job: job({ hasFinalizer: false }) });
    const attempt = attemptOf(OP());
    expect(words(decision.actions)).toBe(
      `addFinalizer, createConfigMap sum-pf-${attempt}, createPod sum-pf-${attempt}`,
    );
    expect(decision.status.op).toMatchObject({ id: OP(), kind: "Deploy", step: "Preflight" });
    expect(decision.status.everStateful).toBeUndefined();
    expect(decision.status.lifecycleState).toBe("Preflight");
  });

  test("D3: everStateful, the attempt and its pods are written by the decision that makes them; all at once", () => {
    const first = look({});
    const pf = pod({ component: "preflight", phase: "Succeeded", ended: ended(OK) });
    const asked = look({ job: job({ status: first.status }), seen: observed({ pods: [pf] }) });
    expect(asked.actions.map(({ type }) => type)).toEqual(["tryPods"]);
    expect(asked.status.everStateful).toBeUndefined();
    const decision = look({ job: job({ status: first.status }), seen: observed({ pods: [pf], ...taken() }) });
    expect(decision.status).toMatchObject({
      everStateful: true,
      deployed: { attempt: attemptOf(OP()), restore: { mayCreate: true } },
    });
    const attempt = attemptOf(OP());
    expect(words(decision.actions.filter(({ type }) => type.startsWith("create") || type === "applyService"))).toBe(
      [
        "applyService sum-jobmanager",
        `createConfigMap sum-${attempt}`,
        `createSecret sum-${attempt}`,
        `createPod sum-jm-${attempt}-0`,
        `createPod sum-tm-${attempt}-1`,
        `createPod sum-tm-${attempt}-2`,
      ].join(", "),
    );
  });

  test.each<[string, Partial<StreamJobSpec>, PodReportView["log"], string]>([
    ["foreign data is refused by default", {}, exists("other"), "ExistingData"],
    ["a log that is missing is refused", {}, { kind: "absent" }, "StateMissing"],
    ["a finished job is not run again", {}, exists(UID, "finished"), "JobFinished"],
  ])("the commit log: %s", (_name, change, log, reason) => {
    const isFirst = reason === "ExistingData";
    const status: JobStatus = {
      op: operation({ id: OP(), generation: 1, kind: "Deploy" }),
      ...(!isFirst && { everStateful: true, jobId: "a".repeat(32) }),
    };
    const pf = pod({ component: "preflight", phase: "Succeeded", ended: ended({ ...OK, ...(log && { log }) }) });
    const decision = look({ job: job({ spec: spec(change), status }), seen: observed({ pods: [pf] }) });
    expect(condition(decision, "Stalled")).toBe(`True ${reason}`);
    expect(decision.status.deployed).toBeUndefined();
    expect(words(decision.actions)).not.toContain("createPod");
  });

  test("onExistingData says what becomes of foreign data", () => {
    const status: JobStatus = { op: operation({ id: OP(), generation: 1, kind: "Deploy" }) };
    const pf = pod({ component: "preflight", phase: "Succeeded", ended: ended({ ...OK, log: exists("other") }) });
    for (const [choice, told] of [
      ["Resume", "resume"],
      ["NewLineage", "newLineage"],
    ] as const) {
      const decision = look({
        job: job({ spec: spec({ onExistingData: choice }), status }),
        seen: observed({ pods: [pf], ...taken() }),
      });
      expect(decision.status.deployed?.restore.onForeignLog).toBe(told);
    }
  });
});

describe("what a preflight pod meets, with the old job untouched", () => {
  const report = (code: string, message = "words"): PodReportView => ({
    event: "failure",
    code,
    message,
    remedy: "do this",
    retry: "never",
  });
  test.each<[string, Partial<PodView>, string]>([
    ["main throws", { phase: "Failed", ended: ended(report("JOB_MAIN_FAILED")) }, "JobMainFailed"],
    ["no module in the image", { phase: "Failed", ended: ended(report("JOB_MODULE_NOT_FOUND")) }, "JobModuleNotFound"],
    ["the bucket refuses us", { phase: "Failed", ended: ended(report("STORAGE_DENIED")) }, "StorageDenied"],
    [
      "out of memory",
      { phase: "Failed", ended: ended(undefined, { reason: "OOMKilled", exitCode: 137 }) },
      "OutOfMemory",
    ],
    [
      "no such image",
      { phase: "Pending", waiting: { reason: "ImagePullBackOff", message: "not found" } },
      "ImagePullFailed",
    ],
    [
      "an image that is not there and not pulled",
      { phase: "Pending", createdAtMs: NOW, waiting: { reason: "ErrImageNeverPull", message: "" } },
      "ImagePullFailed",
    ],
    [
      "no such secret",
      { phase: "Pending", waiting: { reason: "CreateContainerConfigError", message: 'secret "minio" not found' } },
      "SecretMissing",
    ],
  ])("%s: refused, with a remedy", (_name, change, reason) => {
    const attempt = attemptOf(OP(1, 2));
    const status = stableStatus({ op: operation() });
    const seen = observed({
      pods: [...runningPods(), pod({ component: "preflight", attempt, ...change })],
      jobManager: jobManager(),
    });
    const decision = look({ job: job({ generation: 2, spec: spec({ args: ["2"] }), status }), seen });
    expect(condition(decision, "Stalled")).toBe(`True ${reason}`);
    expect(condition(decision, "Ready")).toBe("True Running");
    expect(decision.status.op).toBeUndefined();
    expect(decision.status.deployed).toMatchObject({ generation: 1, attempt: attemptOf(OP()) });
    expect(decision.actions.filter((action) => action.type === "deletePod").map((action) => action.name)).toEqual([
      `sum-pf-${attempt}`,
    ]);
    const message = decision.status.conditions?.find(({ type }) => type === "Stalled")?.message ?? "";
    expect(message.length).toBeGreaterThan(40);
    // D6: the same generation is not tried again.
    const again = look({
      job: job({ generation: 2, spec: spec({ args: ["2"] }), status: decision.status }),
      seen: observed({ pods: runningPods(), jobManager: jobManager() }),
    });
    expect(again.status.op).toBeUndefined();
    expect(again.actions).toEqual([]);
    // The next one is.
    const next = look({
      job: job({ generation: 3, spec: spec({ args: ["3"] }), status: again.status }),
      seen: observed({ pods: runningPods(), jobManager: jobManager() }),
    });
    expect(next.status.op).toMatchObject({ kind: "Upgrade", step: "Preflight", id: OP(1, 3) });
    expect(condition(next, "Stalled")).toMatch(/^False/u);
  });

  test("a ConfigMap without the key is named", () => {
    const withMap = spec({ job: { configMap: { name: "jobs", key: "sum.ts" } } });
    const pf = pod({ component: "preflight", phase: "Failed", ended: ended(report("JOB_MODULE_NOT_FOUND")) });
    const decision = look({
      job: job({ spec: withMap, status: { op: operation({ id: OP(), generation: 1, kind: "Deploy" }) } }),
      seen: observed({ pods: [pf] }),
    });
    expect(condition(decision, "Stalled")).toBe("True ConfigMapMissing");
  });

  test.each([
    [
      "choose another name, or start with --new-lineage (no state) or --from CHECKPOINT (its state); both write output under a new prefix",
      /with upgradeMode: Stateless \(no state\), or apply a new StreamJob with onExistingData: NewLineage and initialSnapshot/u,
    ],
    [
      "name another checkpoint or savepoint with --from, or start with --new-lineage alone",
      /initialSnapshot.*Stateless/u,
    ],
    [
      "good with --allow-non-restored-state (execution.state-recovery.x: true)",
      /good with allowNonRestoredState: true/u,
    ],
  ])("flags of the command line are said as fields of the spec: %s", (remedy, said) => {
    const pf = pod({ component: "preflight", attempt: attemptOf(OP(1, 2)), phase: "Failed" });
    const failure = ended({ ...report("SNAPSHOT_DAMAGED", remedy), remedy });
    const decision = look({
      job: job({ generation: 2, spec: spec({ args: ["2"] }), status: stableStatus({ op: operation() }) }),
      seen: observed({ pods: [...runningPods(), { ...pf, ended: failure }], jobManager: jobManager() }),
    });
    const message = decision.status.conditions?.find((one) => one.type === "Stalled")?.message;
    expect(message).toMatch(said);
    expect(message).not.toMatch(/(?:^|\s)--[a-z]/u);
  });

  test("what may come by itself is waited for and named meanwhile", () => {
    const status: JobStatus = { op: operation({ id: OP(), generation: 1, kind: "Deploy" }) };
    for (const [change, reason] of [
      [{ phase: "Pending" as const, unschedulable: "0/3 nodes: Insufficient cpu" }, "Unschedulable"],
      [
        {
          phase: "Pending" as const,
          createdAtMs: NOW - 2_000,
          waiting: { reason: "CreateContainerConfigError", message: "secret" },
        },
        "SecretMissing",
      ],
    ] as const) {
      const decision = look({
        job: job({ status }),
        seen: observed({ pods: [pod({ component: "preflight", ...change })] }),
      });
      expect(condition(decision, "Progressing")).toBe(`True ${reason}`);
      expect(condition(decision, "Stalled")).toMatch(/^False/u);
    }
  });

  test("a bucket that does not answer is tried again under fresh names, then refused", () => {
    const away: PodReportView = {
      event: "failure",
      code: "STORAGE_UNAVAILABLE",
      message: "no answer",
      remedy: "look at it",
      retry: "backoff",
    };
    let status: JobStatus = { op: operation({ id: OP(), generation: 1, kind: "Deploy" }) };
    for (let tries = 1; tries < 4; tries += 1) {
      const pf = pod({ component: "preflight", attempt: attemptOf(OP(tries)), phase: "Failed", ended: ended(away) });
      const decision = look({ job: job({ status }), seen: observed({ pods: [pf] }) });
      expect(decision.status.op).toMatchObject({ id: OP(tries + 1), step: "Preflight" });
      ({ status } = decision);
    }
    const pf = pod({ component: "preflight", attempt: attemptOf(OP(4)), phase: "Failed", ended: ended(away) });
    expect(condition(look({ job: job({ status }), seen: observed({ pods: [pf] }) }), "Stalled")).toBe(
      "True StorageUnavailable",
    );
  });

  test("memory that is too small is refused with numbers before any pod", () => {
    const small = spec({ taskManager: { ...spec().taskManager, slots: 4, resources: { cpu: "1", memory: "256Mi" } } });
    const decision = look({ job: job({ spec: small }) });
    expect(condition(decision, "Stalled")).toBe("True MemoryTooSmall");
    expect(decision.actions).toEqual([]);
    expect(decision.status.conditions?.find(({ type }) => type === "Stalled")?.message).toMatch(
      /256Mi cannot hold 4 slots: at least \d+Mi/u,
    );
  });
});

describe("PF3: the API server is asked for the pods of a new version while the old one runs", () => {
  const quota = (requested: string): string =>
    `pods "sum-tm" is forbidden: exceeded quota: q, requested: limits.memory=${requested}, used: limits.memory=1536Mi, limited: limits.memory=2Gi`;
  const ready: PodReportView = { ...OK, log: exists(UID) };
  const of = (
    refused: { readonly status: number; readonly message: string } | undefined,
    change: Partial<Observed> & { readonly deadline?: string } = {},
  ): Decision => {
    const { deadline, ...seen } = change;
    const pf = pod({ component: "preflight", attempt: attemptOf(OP(1, 2)), phase: "Succeeded", ended: ended(ready) });
    const status = stableStatus({ op: operation(deadline === undefined ? {} : { deadline }) });
    const trial = { opId: OP(1, 2), refused: refused && { what: "Pod ns/sum-tm", ...refused } };
    return look({
      job: job({ generation: 2, spec: spec({ args: ["2"] }), status }),
      seen: observed({ pods: [...runningPods(), pf], jobManager: jobManager(), trial, ...seen }),
    });
  };

  test("nothing is stopped before it has answered; an answer about another operation is none", () => {
    for (const trial of [undefined, { opId: OP(1, 1), refused: undefined }]) {
      const decision = of(undefined, { trial });
      expect(decision.status.op?.step).toBe("Preflight");
      const [asked] = decision.actions.flatMap((action) => (action.type === "tryPods" ? [action] : []));
      expect(asked?.opId).toBe(OP(1, 2));
      expect(asked?.objects.map(({ metadata }) => metadata.labels?.["sluice.dev/component"])).toEqual([
        "jobmanager",
        "taskmanager",
      ]);
    }
    expect(of(undefined).status.op?.step).toBe("Stop");
  });

  test.each([
    ["a bad podTemplate", 422, 'Pod "x" is invalid: spec.containers[1].image: Required value'],
    ["pod security", 403, 'pods "x" is forbidden: violates PodSecurity "restricted:latest": hostNetwork'],
    ["a LimitRange", 403, 'pods "x" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi'],
    ["more than the whole quota", 403, quota("3Gi")],
  ])("%s: refused with the API server's words, the old job untouched", (_name, status, message) => {
    const decision = of({ status, message });
    expect(condition(decision, "Stalled")).toBe("True PodRefused");
    expect(decision.status.conditions?.find(({ type }) => type === "Stalled")?.message).toContain(message);
    expect(condition(decision, "Ready")).toBe("True Running");
    expect(decision.actions.filter(({ type }) => type === "stopWithSavepoint" || type === "tryPods")).toEqual([]);
  });

  test("TR1: a quota that others use, and rights that are to come, are waited for until the deadline", () => {
    const rights = { status: 403, message: 'pods is forbidden: User "c" cannot create resource "pods"' };
    const others = { pods: [pod({ component: "preflight", attempt: attemptOf(OP(1, 2)), ended: ended(ready) })] };
    for (const decision of [of(rights), of({ status: 403, message: quota("1Gi") }, others)]) {
      expect(decision.status.op?.step).toBe("Preflight");
      expect(decision.actions.some(({ type }) => type === "tryPods")).toBe(true);
      expect(condition(decision, "Progressing")).toBe("True PodRefused");
    }
    expect(condition(of(rights, { deadline: ago(1) }), "Stalled")).toBe("True PodRefused");
    expect(condition(of(undefined, { deadline: ago(1), trial: undefined }), "Stalled")).toBe("True PreflightTimeout");
  });

  test("TR2: a quota that the running version uses, and a webhook that takes no dry run, hold nothing up", () => {
    expect(of({ status: 403, message: quota("1Gi") }).status.op?.step).toBe("Stop");
    const webhook = { status: 400, message: 'admission webhook "w" does not support dry run' };
    expect(of(webhook).status.op?.step).toBe("Stop");
  });

  test("a pod of the running version that is refused meanwhile is not held against the new one", () => {
    const refused = {
      opId: OP(1, 2),
      what: "Pod ns/sum-tm-0123456789-7",
      status: 403,
      message: "violates PodSecurity",
    };
    expect(of(undefined, { refused }).status.op?.step).toBe("Stop");
    const what = `Pod ns/sum-pf-${attemptOf(OP(1, 2))}`;
    expect(condition(of(undefined, { refused: { ...refused, what } }), "Stalled")).toBe("True PodRefused");
  });
});

describe("a running job", () => {
  const running = (
    pods: readonly PodView[],
    change: Partial<JobStatus> = {},
    jm: Partial<JobManagerView> = {},
  ): Decision =>
    look({ job: job({ status: stableStatus(change) }), seen: observed({ pods, jobManager: jobManager(jm) }) });
  const without = (index: number): readonly PodView[] => runningPods().filter((_, at) => at !== index);

  test.each<[string, readonly PodView[]]>([
    ["is gone", without(1)],
    ["has failed", [...without(1), { ...runningPods()[1]!, phase: "Failed" }]],
    ["is being deleted", [...without(1), { ...runningPods()[1]!, isDeleting: true, deletingSinceMs: NOW }]],
    ["sits on a lost node", [...without(1), { ...runningPods()[1]!, isNodeLost: true }]],
  ])("KR1: a TaskManager pod that %s is replaced at once, under a name that was never used", (_name, pods) => {
    const decision = running(pods);
    const created = decision.actions.filter(({ type }) => type === "createPod");
    expect(words(created)).toBe(`createPod sum-tm-${attemptOf(OP())}-3`);
    expect(decision.status.deployed?.pods).toMatchObject({ next: 4, taskManagers: [{ index: 3 }, { index: 2 }] });
    // Until it is seen, the same name is made again; nothing else changes.
    const again = look({
      job: job({ status: decision.status }),
      seen: observed({ pods: without(1), jobManager: jobManager() }),
    });
    expect(words(again.actions.filter(({ type }) => type === "createPod"))).toBe(words(created));
    expect(again.status.deployed?.pods.next).toBe(4);
  });

  test("KR3: a JobManager that takes over a job that has run may not begin a commit log", () => {
    const decision = look({ job: job({ status: stableStatus() }), seen: observed({ pods: without(0) }) });
    const made = decision.actions.flatMap((action) => (action.type === "createPod" ? [action.object] : []));
    expect(made.map(({ metadata }) => metadata.name)).toEqual([`sum-jm-${attemptOf(OP())}-3`]);
    const name = made[0]?.spec.volumes?.find((volume) => volume.name === "sluice-config")?.configMap?.name;
    const map = decision.actions.flatMap((action) =>
      action.type === "createConfigMap" && action.object.metadata.name === name ? [action.object] : [],
    )[0];
    expect(JSON.parse(map?.data?.["pod.json"] ?? "{}")).toMatchObject({ start: { mayCreate: false } });
  });

  test("eight crashes without a checkpoint stall, with the reason; its pods end", () => {
    const crashing = runningPods().map((one, at) =>
      at === 1 ? { ...one, restartCount: 8, lastEnded: ended(undefined, { reason: "OOMKilled", exitCode: 137 }) } : one,
    );
    const decision = running(crashing, {}, { lastCheckpoint: undefined });
    expect(condition(decision, "Stalled")).toBe("True CrashLoop");
    expect(decision.status.deployed?.ended).toBe("STALLED");
    expect(decision.actions.filter(({ type }) => type === "deletePod")).toHaveLength(3);
  });

  test("a fatal report that no restart changes stalls at once; being fenced does not", () => {
    const fatal = (code: string): readonly PodView[] =>
      runningPods().map((one, at) =>
        at === 1
          ? { ...one, lastEnded: ended({ event: "fatal", code, message: "m", remedy: "r", retry: "never" }) }
          : one,
      );
    expect(condition(running(fatal("PLAN_MISMATCH")), "Stalled")).toBe("True PlanMismatch");
    expect(condition(running(fatal("FENCED")), "Stalled")).toMatch(/^False/u);
  });

  test("an OOM kill is named with the limit", () => {
    const killed = runningPods().map((one, at) =>
      at === 1 ? { ...one, restartCount: 1, lastEnded: ended(undefined, { reason: "OOMKilled", exitCode: 137 }) } : one,
    );
    const decision = running(killed);
    expect(condition(decision, "Degraded")).toBe("True OutOfMemory");
    expect(decision.status.conditions?.find(({ type }) => type === "Degraded")?.message).toContain("limit of 1Gi");
    expect(decision.events.map(({ reason }) => reason)).toContain("OutOfMemory");
  });

  test.each([
    ["FINISHED", "Finished", "False"],
    ["FAILED", "Failed", "True"],
  ] as const)("a job that is %s: %s, and its pods end", (state, lifecycle, stalled) => {
    const decision = running(runningPods(), {}, { state, isRunning: false });
    expect(decision.status.lifecycleState).toBe(lifecycle);
    expect(condition(decision, "Stalled").split(" ")[0]).toBe(stalled);
    expect(decision.actions.filter(({ type }) => type === "deletePod")).toHaveLength(3);
  });

  test("a stable job that goes on changes nothing: no write, no action, a slow look", () => {
    const first = running(runningPods());
    const second = look({
      job: job({ status: first.status }),
      seen: observed({ pods: runningPods(), jobManager: jobManager() }),
    });
    expect(second.status).toBe(first.status);
    expect(second.actions).toEqual([]);
    expect(second.requeueAfterMs).toBeGreaterThanOrEqual(10_000);
  });

  test("FO2: checkpoints are written at most twice a minute", () => {
    const { status } = running(runningPods());
    let writes = 0;
    let now = status;
    for (let second = 1; second <= 60; second += 1) {
      const lastCheckpoint = {
        id: 3 + second,
        path: `chk-${3 + second}`,
        completedAtMs: NOW + second * 1_000,
        sizeBytes: 1,
      };
      const decision = decide({
        job: job({ status: now }),
        observed: observed({ pods: runningPods(), jobManager: jobManager({ lastCheckpoint }) }),
        settings: SETTINGS,
        nowMs: NOW + second * 1_000,
      });
      if (decision.status !== now) writes += 1;
      now = decision.status;
    }
    expect(writes).toBeLessThanOrEqual(2);
    expect(writes).toBeGreaterThan(0);
  });
});

describe("upgrades", () => {
  const upgrading = (
    change: Partial<Operation>,
    seen: Partial<Observed>,
    specChange: Partial<StreamJobSpec> = {},
  ): Decision =>
    look({
      job: job({
        generation: 2,
        spec: spec({ args: ["2"], ...specChange }),
        status: stableStatus({ op: operation(change) }),
      }),
      seen: observed({ pods: runningPods(), jobManager: jobManager(), ...seen }),
    });

  const endedWith = (jobState: "stopped" | "finished" | undefined): Partial<Observed> => {
    const [jm, ...others] = runningPods();
    const log = { ...exists(UID), jobState: jobState ?? "active" } as NonNullable<PodReportView["log"]>;
    const report: PodReportView = { event: "jobEnded", state: "FINISHED", ...(jobState !== undefined && { log }) };
    return {
      pods: [{ ...pod({ component: "jobmanager" }), ...jm, ended: ended(report) }, ...others],
      jobManager: undefined,
    };
  };

  test("SP1: the trigger id is written by the decision that asks for the stop", () => {
    const decision = upgrading({ step: "Stop" }, {});
    expect(decision.status.op?.triggerId).toBe(triggerIdOf(OP(1, 2)));
    expect(decision.actions).toEqual([
      expect.objectContaining({ type: "stopWithSavepoint", triggerId: triggerIdOf(OP(1, 2)) }),
    ]);
  });

  test("SP2: no pod is deleted before the savepoint is known; then all of them are, by uid, and the new ones wait", () => {
    const triggerId = triggerIdOf(OP(1, 2));
    expect(upgrading({ step: "Stop", triggerId }, { operation: { type: "running" } }).actions).toEqual([]);
    const completed = { operation: { type: "completed", location: "s3://bucket/savepoint-4" } } as const;
    const hasEnded = jobManager({ state: "FINISHED", isRunning: false });
    const decision = upgrading({ step: "Stop", triggerId }, { ...completed, jobManager: hasEnded });
    expect(decision.status.op).toMatchObject({ step: "Fence", savepoint: "s3://bucket/savepoint-4", isStopped: true });
    expect(decision.status.lastSavepoint).toMatchObject({ path: "s3://bucket/savepoint-4" });
    expect(decision.actions.map(({ type }) => type)).toEqual(["deletePod", "deletePod", "deletePod"]);
  });

  test("SP4: a job with its savepoint is not touched before it has ended and published its output, or for 30 s", () => {
    const savepoint = "s3://bucket/savepoint-4";
    const triggerId = triggerIdOf(OP(1, 2));
    const completed = { operation: { type: "completed", location: savepoint } } as const;
    const first = upgrading({ step: "Stop", triggerId, stepAt: ago(500_000) }, completed);
    expect(first.actions).toEqual([]);
    // the JobManager may be gone before it is asked again
    expect(first.status.op).toMatchObject({ step: "Stop", savepoint, stepAt: ago(0) });
    expect(first.status.lastSavepoint).toMatchObject({ path: savepoint });
    const of = (seen: Partial<Observed>, ms = 1_000): Decision =>
      upgrading({ step: "Stop", triggerId, savepoint, stepAt: ago(ms) }, seen);
    for (const seen of [completed, { jobManager: undefined }]) {
      expect(of(seen).actions).toEqual([]);
      expect(of(seen).status.op).toMatchObject({ step: "Stop", savepoint, stepAt: ago(1_000) });
      expect(of(seen, 30_000).status.op).toMatchObject({ step: "Fence", savepoint });
    }
    expect(of(endedWith("stopped")).status.op).toMatchObject({ step: "Fence", savepoint });
    const words = of(completed, 30_000).status.decisions?.at(-1)?.reason;
    expect(words).toContain("its last output was not published within 30 s, its next start does it");
  });

  test("a savepoint that takes long is named with its beginning and the time after which it is given up", () => {
    const of = (ms: number): string | undefined => {
      const decision = upgrading(
        { step: "Stop", triggerId: triggerIdOf(OP(1, 2)), stepAt: ago(ms) },
        { operation: { type: "running" } },
      );
      expect(decision.actions).toEqual([]);
      return decision.status.conditions?.find((one) => one.type === "Progressing")?.message;
    };
    expect(of(5_000)).toBe("the job stops with a savepoint");
    expect(of(45_000)).toContain(`asked for at ${ago(45_000)} and not complete for more than 30 s (try 1 of 3)`);
    expect(of(540_000)).toMatch(/more than 5 min .*gives a savepoint up after 10m/u);
  });

  test("a savepoint that fails is tried three times, then refused with the old job running", () => {
    const failedStop = { operation: { type: "failed" as const, message: "no space" } };
    expect(upgrading({ step: "Stop", triggerId: "t" }, failedStop).status.op).toMatchObject({ step: "Stop", tries: 2 });
    const last = upgrading({ step: "Stop", triggerId: "t", tries: 3 }, failedStop);
    expect(condition(last, "Stalled")).toBe("True SavepointFailed");
    expect(condition(last, "Ready")).toBe("True Running");
    expect(last.actions.filter(({ type }) => type === "deletePod")).toEqual([]);
  });

  test("SP3: a job that has failed is upgraded from its newest checkpoint", () => {
    expect(
      upgrading({ step: "Stop" }, { jobManager: jobManager({ state: "FAILED", isRunning: false }) }).status.op,
    ).toMatchObject({ step: "Fence" });
  });

  test("input that ends before a stop takes hold: the job has finished, and is not taken for stopped", () => {
    const stop = { step: "Stop" as const, triggerId: triggerIdOf(OP(1, 2)) };
    expect(upgrading(stop, endedWith("finished")).status.deployed?.ended).toBe("FINISHED");
    expect(upgrading(stop, endedWith("stopped")).status.op).toMatchObject({
      step: "Fence",
      savepoint: "s3://bucket/chk-3",
    });
  });

  test("KR5: a stop that was given up and takes hold later does not end the job: its version is started again", () => {
    const conditions = [
      {
        type: "Stalled",
        status: "True" as const,
        reason: "SavepointFailed",
        message: "",
        lastTransitionTime: ago(1_000),
      },
    ].map((one) => ({ ...one, observedGeneration: 2 }));
    const of = (seen: Partial<Observed>, status: Partial<JobStatus> = {}): Decision =>
      look({
        job: job({ generation: 2, spec: spec({ args: ["2"] }), status: stableStatus({ conditions, ...status }) }),
        seen: observed({ pods: runningPods(), jobManager: jobManager(), ...seen }),
      });
    expect(
      of({ jobManager: jobManager({ state: "FINISHED", isRunning: false }) }).status.deployed?.ended,
    ).toBeUndefined();
    expect(of(endedWith("finished")).status.deployed?.ended).toBe("FINISHED");
    const returns = of(endedWith("stopped"));
    expect(returns.status.deployed?.ended).toBeUndefined();
    expect(returns.status.op).toMatchObject({ kind: "Deploy", step: "Fence", returns: true });
    const started = of({ pods: [], jobManager: undefined }, returns.status);
    expect(started.status.deployed).toMatchObject({
      hash: specHash(spec()),
      restore: { mayCreate: false, newLineage: false, order: [2, 1] },
    });
    expect(condition(started, "Stalled")).toBe("True SavepointFailed");
  });

  test.each([
    ["Savepoint", false],
    ["LastState", false],
    ["Stateless", true],
  ] as const)("%s: what the new JobManager is told", (upgradeMode, newLineage) => {
    const savepoint = upgradeMode === "Savepoint" ? { savepoint: "s3://bucket/savepoint-4" } : {};
    const decision = upgrading(
      { step: "Fence", mode: upgradeMode, isStopped: true, ...savepoint },
      { pods: [] },
      { upgradeMode },
    );
    expect(decision.status.deployed).toMatchObject({
      generation: 2,
      attempt: attemptOf(OP(1, 2)),
      restore: { mayCreate: false, newLineage, order: [2, 1] },
    });
    expect(decision.status.deployed?.restore.expectHead).toEqual(
      upgradeMode === "Savepoint" ? { path: "s3://bucket/savepoint-4" } : undefined,
    );
  });

  test("BE1: a newer generation after the stop passes its own gate, and starts from that savepoint", () => {
    const handed = look({
      job: job({
        generation: 3,
        spec: spec({ args: ["3"] }),
        status: stableStatus({
          op: operation({ step: "Fence", isStopped: true, savepoint: "s3://bucket/savepoint-4" }),
        }),
      }),
      seen: observed({ pods: [] }),
    });
    expect(handed.status.op).toMatchObject({
      id: OP(1, 3),
      step: "Preflight",
      savepoint: "s3://bucket/savepoint-4",
      isStopped: true,
    });
    expect(words(handed.actions)).toContain(`createPod sum-pf-${attemptOf(OP(1, 3))}`);
    // RE1: refused there, the version before is started again.
    const pf = pod({
      component: "preflight",
      attempt: attemptOf(OP(1, 3)),
      phase: "Failed",
      ended: ended({ event: "failure", code: "JOB_MAIN_FAILED", message: "m", remedy: "r", retry: "never" }),
    });
    const back = look({
      job: job({ generation: 3, spec: spec({ args: ["3"] }), status: handed.status }),
      seen: observed({ pods: [pf] }),
    });
    expect(condition(back, "Stalled")).toBe("True JobMainFailed");
    expect(back.status.deployed).toMatchObject({ hash: specHash(spec()), attempt: attemptOf(OP(2, 3)) });
    expect(words(back.actions)).toContain(`createPod sum-jm-${attemptOf(OP(2, 3))}-0`);
  });

  test("BE2: what is no part of the job restarts nothing", () => {
    const decision = look({
      job: job({
        generation: 2,
        spec: spec({ upgradeMode: "LastState", stability: { checkpoints: 2, deadline: "9m" } }),
        status: stableStatus(),
      }),
      seen: observed({ pods: runningPods(), jobManager: jobManager() }),
    });
    expect(decision.status).toMatchObject({ observedGeneration: 2, deployed: { generation: 2 } });
    expect(decision.actions).toEqual([]);
  });

  test("SH2: a status that an older release wrote, and a field that came with a default since: nothing to do", () => {
    const { imagePullPolicy: _, ...older } = spec();
    const status = stableStatus({
      deployed: deployed({ hash: "of an older release" }),
      deployedSpec: older as StreamJobSpec,
    });
    const seen = observed({ pods: runningPods(), jobManager: jobManager() });
    const decision = look({ job: job({ status }), seen });
    expect(decision.status.op).toBeUndefined();
    expect(decision.actions).toEqual([]);
    const changed = look({ job: job({ generation: 2, spec: spec({ imagePullPolicy: "Always" }), status }), seen });
    expect(changed.status.op).toMatchObject({ kind: "Upgrade" });
  });

  test("restartNonce restarts without a savepoint and without a gate", () => {
    const decision = look({
      job: job({ generation: 2, spec: spec({ restartNonce: 1 }), status: stableStatus() }),
      seen: observed({ pods: runningPods(), jobManager: jobManager() }),
    });
    expect(decision.status.op).toMatchObject({ kind: "Restart", step: "Fence" });
    expect(decision.actions.map(({ type }) => type)).toEqual(["deletePod", "deletePod", "deletePod"]);
  });

  test("DE2: a version that does not become stable in time is stalled, and names what it started from", () => {
    const attempt = attemptOf(OP(1, 2));
    const status = stableStatus({
      deployed: deployed({ generation: 2, attempt, startedAt: ago(301_000), savepoint: "s3://bucket/savepoint-4" }),
      op: operation({ step: "Verify", stepAt: ago(200_000), savepoint: "s3://bucket/savepoint-4" }),
    });
    const decision = look({
      job: job({ generation: 2, spec: spec({ args: ["2"] }), status }),
      seen: observed({
        jobManager: jobManager({
          state: "RESTARTING",
          isRunning: false,
          failure: { code: "USER_FUNCTION_FAILED", message: "boom" },
        }),
      }),
    });
    expect(condition(decision, "Stalled")).toBe("True NotStable");
    expect(decision.status.conditions?.find(({ type }) => type === "Stalled")?.message).toMatch(/boom.*savepoint-4/su);
    expect(decision.status.deployed?.ended).toBe("STALLED");
  });
});

describe("deletion", () => {
  const deleting = (change: Partial<Operation>, seen: Partial<Observed>): Decision =>
    look({
      job: job({
        isDeleting: true,
        status: stableStatus({
          op: operation({ kind: "Delete", step: "Stop", generation: 1, stepAt: ago(1_000), ...change }),
        }),
      }),
      seen: observed({ pods: runningPods(), jobManager: jobManager(), ...seen }),
    });

  test("the job is cancelled under an operation id, then its pods end, then the finalizer goes", () => {
    expect(deleting({}, {}).actions.map(({ type }) => type)).toEqual(["cancelJob"]);
    const cancelled = deleting({}, { jobManager: jobManager({ state: "CANCELED", isRunning: false }) });
    expect(cancelled.actions.map(({ type }) => type)).toEqual(["deletePod", "deletePod", "deletePod"]);
    expect(deleting({ step: "Fence" }, { pods: [], jobManager: undefined }).actions.map(({ type }) => type)).toEqual([
      "removeFinalizer",
    ]);
  });

  test.each<[string, Partial<Operation>, Partial<Observed>]>([
    ["no answer for 20 s", { stepAt: ago(21_000) }, { jobManager: undefined }],
    ["a namespace that terminates", {}, { isNamespaceTerminating: true }],
    ["no JobManager pod", {}, { pods: [], jobManager: undefined }],
  ])("DL1: %s does not hold it up", (_name, change, seen) => {
    expect(deleting(change, seen).actions.map(({ type }) => type)).not.toContain("cancelJob");
    expect(deleting(change, seen).actions.length).toBeGreaterThan(0);
  });

  test("DL2: pods that do not go do not hold it up", () => {
    const stuck = runningPods().map((one) => ({ ...one, isDeleting: true, deletingSinceMs: NOW - 20_000 }));
    expect(deleting({ step: "Fence", stepAt: ago(11_000) }, { pods: stuck }).actions.map(({ type }) => type)).toEqual([
      "removeFinalizer",
    ]);
  });
});
