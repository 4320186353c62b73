// The memory formula adds up (ME1, ME2), pods meet the restricted standard whatever users give (PD1-PD3), secrets derive (RS2).

import { describe, expect, test } from "@jest/globals";
import { readPodConfig, StreamJobSpec, withDefaults } from "@sluice/api";
import fc from "fast-check";

import {
  attemptConfigMap,
  attemptSecret,
  isSameJob,
  jobManagerMemory,
  preflightPod,
  problemsOfMemory,
  quantityBytes,
  runningPod,
  secretsOf,
  specHash,
  taskManagerMemory,
} from "./index.ts";
import type { AttemptInput } from "./index.ts";

const MIB = 2 ** 20;

function spec(change: Readonly<Record<string, unknown>> = {}): StreamJobSpec {
  return withDefaults(StreamJobSpec, {
    job: { path: "/opt/sluice/job/sum.ts" },
    checkpointing: { dir: "s3://bucket/jobs" },
    objectStore: { endpoint: "http://minio:9000", secretRef: { name: "minio" } },
    ...change,
  } as unknown as StreamJobSpec);
}

const DEPLOYED = {
  attempt: "0123456789",
  submission: "0123456789ab",
  restore: { mayCreate: true, newLineage: false, onForeignLog: "refuse" as const, pinRestored: false },
  pods: { taskManagers: [1, 2] },
};

const input = (change: Readonly<Record<string, unknown>> = {}): AttemptInput => ({
  job: { uid: "u1", namespace: "ns", name: "sum", spec: spec(change) },
  settings: { defaultImage: "sluice:0" },
  deployed: DEPLOYED,
});

describe("memory", () => {
  test("ME1: a TaskManager's parts never exceed the limit; ME2: more memory makes no part smaller, more slots no slot larger", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 64, max: 65_536 }),
        fc.integer({ min: 1, max: 64 }),
        fc.integer({ min: 0, max: 4_096 }),
        (mib, slots, more) => {
          const one = taskManagerMemory(mib * MIB, slots);
          if (!one.fits) {
            expect(one.leastBytes).toBeGreaterThan(mib * MIB);
            expect(taskManagerMemory(one.leastBytes, slots).fits).toBe(true);
            expect(taskManagerMemory(one.leastBytes - MIB, slots).fits).toBe(false);
            return;
          }
          const { memory } = one;
          const sum =
            memory.reserveBytes +
            memory.processBytes +
            memory.mainHeapBytes +
            memory.threadBytes +
            memory.ioHeapBytes +
            slots * (memory.slotHeapBytes + memory.slotTablesBytes + memory.slotRingsBytes + memory.threadBytes);
          expect(sum).toBeLessThanOrEqual(memory.limitBytes);
          const larger = taskManagerMemory((mib + more) * MIB, slots);
          if (!larger.fits) throw new Error("ME2: what fits in less fits in more");
          for (const part of ["mainHeapBytes", "ioHeapBytes", "slotHeapBytes", "slotTablesBytes"] as const)
            expect(larger.memory[part]).toBeGreaterThanOrEqual(memory[part]);
          const crowded = taskManagerMemory(mib * MIB, slots + 1);
          if (crowded.fits) expect(crowded.memory.slotHeapBytes).toBeLessThanOrEqual(memory.slotHeapBytes);
        },
      ),
      { numRuns: 500, seed: 7 },
    );
  });

  test("ME1 for JobManagers", () => {
    fc.assert(
      fc.property(fc.integer({ min: 64, max: 16_384 }), (mib) => {
        const one = jobManagerMemory(mib * MIB);
        if (!one.fits) return;
        const { reserveBytes, processBytes, heapBytes, planProcessBytes, planHeapBytes, limitBytes } = one.memory;
        expect(reserveBytes + processBytes + heapBytes + planProcessBytes + planHeapBytes).toBeLessThanOrEqual(
          limitBytes,
        );
      }),
      { numRuns: 200, seed: 7 },
    );
  });

  test("ME3: the defaults fit; what does not is refused with numbers", () => {
    expect(problemsOfMemory(spec())).toEqual([]);
    const [problem] = problemsOfMemory(spec({ taskManager: { resources: { cpu: "1", memory: "300Mi" }, slots: 4 } }));
    expect(problem).toMatch(/300Mi cannot hold 4 slots: at least \d+Mi/u);
    expect(problemsOfMemory(spec({ jobManager: { resources: { cpu: "1", memory: "128Mi" } } }))[0]).toMatch(
      /at least \d+Mi/u,
    );
  });

  test.each<[string | number, number | undefined]>([
    ["512Mi", 512 * MIB],
    ["1Gi", 1024 * MIB],
    ["0.5Gi", 512 * MIB],
    ["1e9", 1e9],
    ["1500M", 1.5e9],
    [1048576, MIB],
    ["1Kb", undefined],
    ["much", undefined],
  ])("quantity %s", (text, bytes) => expect(quantityBytes(text)).toBe(bytes));
});

describe("pods", () => {
  const all = (change: Readonly<Record<string, unknown>> = {}) => [
    runningPod(input(change), { component: "jobmanager", index: 0, configMap: "sum-0123456789" }),
    runningPod(input(change), { component: "taskmanager", index: 1, configMap: "sum-0123456789" }),
    preflightPod({ ...input(change), attempt: "0123456789", opId: "u1/1/1" }),
  ];

  test("PD1, PD2: restricted, without a token, whatever the role", () => {
    for (const { spec: podSpec } of all()) {
      expect(podSpec.automountServiceAccountToken).toBe(false);
      expect(podSpec.securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } });
      expect(podSpec.containers[0]?.securityContext).toMatchObject({
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ["ALL"] },
      });
      expect(podSpec.containers[0]?.resources?.limits?.["memory"]).toBe(
        podSpec.containers[0]?.resources?.requests?.["memory"],
      );
    }
  });

  test("PD3: what users give is merged by name; the operator's own stands", () => {
    const podTemplate = {
      metadata: { labels: { team: "a", "sluice.dev/job": "other" }, annotations: { note: "x" } },
      spec: {
        nodeSelector: { disk: "ssd" },
        restartPolicy: "Always",
        volumes: [
          { name: "extra", emptyDir: {} },
          { name: "sluice-tmp", hostPath: { path: "/" } },
        ],
        tolerations: [{ key: "gpu", operator: "Exists" }],
        containers: [
          {
            name: "sluice",
            command: ["sh"],
            env: [
              { name: "TZ", value: "UTC" },
              { name: "NODE_OPTIONS", value: "--trace-gc" },
            ],
            volumeMounts: [{ name: "extra", mountPath: "/extra" }],
          },
          { name: "sidecar", image: "busybox" },
        ],
      },
    };
    const taskManager = {
      resources: { cpu: "1", memory: "1Gi" },
      slots: 1,
      localState: { sizeLimit: "1Gi" },
      podTemplate,
    };
    const { metadata, spec: made } = runningPod(input({ taskManager }), {
      component: "taskmanager",
      index: 1,
      configMap: "c",
    });
    expect(metadata.labels).toMatchObject({ team: "a", "sluice.dev/job": "sum" });
    expect(metadata.annotations).toEqual({ note: "x" });
    expect(made).toMatchObject({ nodeSelector: { disk: "ssd" }, restartPolicy: "OnFailure" });
    expect(made.volumes?.find(({ name }) => name === "sluice-tmp")).toEqual({ name: "sluice-tmp", emptyDir: {} });
    expect(made.volumes?.map(({ name }) => name)).toContain("extra");
    expect(made.tolerations?.map(({ key }) => key)).toEqual([
      "node.kubernetes.io/not-ready",
      "node.kubernetes.io/unreachable",
      "gpu",
    ]);
    expect(made.containers.map(({ name }) => name)).toEqual(["sluice", "sidecar"]);
    const [own] = made.containers;
    expect(own?.command).toEqual(["sluice", "pod", "taskmanager"]);
    expect(own?.env?.find(({ name }) => name === "TZ")?.value).toBe("UTC");
    expect(own?.env?.find(({ name }) => name === "NODE_OPTIONS")?.value).toMatch(
      /^--trace-gc --max-old-space-size=\d+$/u,
    );
    expect(own?.volumeMounts?.map(({ mountPath }) => mountPath)).toContain("/extra");
  });

  test("pod.json can be read by the pods, and holds no secret", () => {
    const map = attemptConfigMap(input(), { isTakeover: false });
    const config = readPodConfig(map.data?.["pod.json"] ?? "");
    expect(config).toMatchObject({
      attempt: "0123456789",
      taskManagers: 2,
      start: { mayCreate: true },
      image: "sluice:0",
    });
    const takeover = readPodConfig(attemptConfigMap(input(), { isTakeover: true }).data?.["pod.json"] ?? "");
    expect(takeover.start.mayCreate).toBe(false);
    expect(JSON.stringify(map)).not.toContain("SLUICE_SECRET");
  });
});

test("RS2: secrets differ by uid, attempt and purpose, and derive from the key", () => {
  const key = new Uint8Array(32).fill(1);
  const a = secretsOf(key, { uid: "u1", attempt: "a" });
  expect(secretsOf(key, { uid: "u1", attempt: "a" })).toEqual(a);
  const others = [
    secretsOf(key, { uid: "u2", attempt: "a" }),
    secretsOf(key, { uid: "u1", attempt: "b" }),
    secretsOf(new Uint8Array(32), { uid: "u1", attempt: "a" }),
  ];
  expect(new Set([a, ...others].flatMap(({ secret, restToken }) => [secret, restToken])).size).toBe(8);
  expect(attemptSecret({ uid: "u1", namespace: "ns", name: "sum" }, "a", a).metadata.name).toBe("sum-a");
});

test("SH1: the hash of a spec knows what is part of the job, and no order of keys", () => {
  const hash = specHash(spec({ args: ["1"] }));
  expect(specHash(spec({ args: ["1"], upgradeMode: "LastState", stability: { checkpoints: 3, deadline: "9m" } }))).toBe(
    hash,
  );
  expect(
    specHash(Object.fromEntries(Object.entries(spec({ args: ["1"] })).toReversed()) as unknown as StreamJobSpec),
  ).toBe(hash);
  expect(specHash(spec({ args: ["2"] }))).not.toBe(hash);
});

test("SH2: a field that another release adds with a default is no change, whoever looks; a known one set is", () => {
  const { imagePullPolicy: _, ...older } = spec({ args: ["1"] }); // a release that did not know imagePullPolicy has stored this
  expect(isSameJob(older as StreamJobSpec, spec({ args: ["1"] }))).toBe(true);
  expect(isSameJob(older as StreamJobSpec, spec({ args: ["1"], imagePullPolicy: "Always" }))).toBe(false);
  const newer = spec({ args: ["1"], turbo: true, taskManager: { turbo: { level: 3 } } });
  expect(isSameJob(newer, spec({ args: ["1"] }))).toBe(true);
  const affinity = { podTemplate: { spec: { affinity: { nodeAffinity: {} } } } };
  expect(isSameJob(spec({ taskManager: affinity }), spec())).toBe(false); // of Kubernetes, and handed on
});
