// D1-D5 as a property: any status and any observation, also ones that no controller would have written.

import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";

import { attemptOf, podName } from "../objects/index.ts";
import type { Observed, PodReportView } from "../observe/index.ts";
import { NOW, OP, UID, deployed, exists, job, jobManager, look, observed, pod, spec } from "./decide.fixture.ts";

describe("totality", () => {
  const attempts = fc.constantFrom(attemptOf(OP()), attemptOf(OP(1, 2)), attemptOf(OP(2, 2)), "ffffffffff");
  const time = fc.integer({ min: -400_000, max: 10_000 }).map((ms) => new Date(NOW + ms).toISOString());
  const arbitraryReport = fc.option(
    fc.record({
      event: fc.constantFrom(
        "preflight" as const,
        "failure" as const,
        "jobEnded" as const,
        "stopped" as const,
        "fatal" as const,
      ),
      ok: fc.constant(true),
      state: fc.constantFrom("FINISHED" as const, "CANCELED" as const, "FAILED" as const),
      code: fc.constantFrom("JOB_MAIN_FAILED", "FENCED", "STORAGE_UNAVAILABLE"),
      retry: fc.constantFrom("now" as const, "backoff" as const, "never" as const),
      log: fc.constantFrom<NonNullable<PodReportView["log"]>>(
        { kind: "none" },
        { kind: "absent" },
        exists(UID),
        exists("other"),
        exists(UID, "finished"),
      ),
    }),
    { nil: undefined },
  );
  const arbitraryEnd = fc.option(
    fc.record({
      exitCode: fc.constantFrom(0, 1, 137),
      reason: fc.constantFrom("Error", "OOMKilled", "Completed"),
      atMs: fc.constant(NOW),
      report: arbitraryReport,
    }),
    { nil: undefined },
  );
  const arbitraryPod = fc
    .record({
      component: fc.constantFrom("jobmanager" as const, "taskmanager" as const, "preflight" as const),
      attempt: attempts,
      index: fc.nat(4),
      uid: fc.uuid(),
      phase: fc.constantFrom("Pending" as const, "Running" as const, "Succeeded" as const, "Failed" as const),
      isDeleting: fc.boolean(),
      isNodeLost: fc.boolean(),
      restartCount: fc.nat(12),
      ended: arbitraryEnd,
      lastEnded: arbitraryEnd,
      podIp: fc.constantFrom(undefined, "10.0.0.1"),
      waiting: fc.constantFrom(
        undefined,
        { reason: "ImagePullBackOff", message: "" },
        { reason: "CrashLoopBackOff", message: "" },
      ),
    })
    .map(({ index, ...rest }) =>
      pod({
        ...rest,
        deletingSinceMs: rest.isDeleting ? NOW - 1_000 : undefined,
        name: podName({ job: "sum", component: rest.component, attempt: rest.attempt, index }),
      }),
    );
  const arbitraryOperation = fc.record(
    {
      id: fc.constantFrom(OP(), OP(1, 2), OP(2, 2)),
      kind: fc.constantFrom(
        "Deploy" as const,
        "Upgrade" as const,
        "Restart" as const,
        "Suspend" as const,
        "Delete" as const,
      ),
      step: fc.constantFrom(
        "Preflight" as const,
        "Stop" as const,
        "Fence" as const,
        "Deploy" as const,
        "Verify" as const,
      ),
      generation: fc.constantFrom(1, 2),
      hash: fc.constant("h"),
      tries: fc.integer({ min: 1, max: 5 }),
      mode: fc.constantFrom("Savepoint" as const, "LastState" as const, "Stateless" as const),
      startedAt: time,
      stepAt: time,
      deadline: time,
      triggerId: fc.constant("t".repeat(32)),
      isStopped: fc.boolean(),
      savepoint: fc.constant("s3://bucket/savepoint-4"),
      returns: fc.boolean(),
    },
    { requiredKeys: ["id", "kind", "step", "generation", "hash", "tries", "mode", "startedAt", "stepAt"] },
  );
  const arbitraryStatus = fc.record(
    {
      everStateful: fc.boolean(),
      jobId: fc.constant("a".repeat(32)),
      deployed: fc
        .record({
          attempt: attempts,
          ended: fc.constantFrom(
            undefined,
            "FINISHED" as const,
            "FAILED" as const,
            "STALLED" as const,
            "SUSPENDED" as const,
          ),
          runningAt: fc.option(time, { nil: undefined }),
          generation: fc.constantFrom(1, 2),
        })
        .map(({ ended: end, runningAt, ...rest }) => {
          const { runningAt: _, ...kept } = deployed(rest);
          return { ...kept, ...(end !== undefined && { ended: end }), ...(runningAt !== undefined && { runningAt }) };
        }),
      deployedSpec: fc.constantFrom(spec(), spec({ args: ["2"] })),
      op: arbitraryOperation,
      observedGeneration: fc.constantFrom(1, 2),
    },
    { requiredKeys: [] },
  );
  const arbitraryJobManager = fc.option(
    fc
      .record({
        state: fc.constantFrom(
          "CREATED" as const,
          "RUNNING" as const,
          "RESTARTING" as const,
          "FINISHED" as const,
          "FAILED" as const,
          "CANCELED" as const,
        ),
        restarts: fc.nat(5),
        completedCheckpoints: fc.nat(5),
      })
      .map((change) => jobManager({ ...change, isRunning: change.state === "RUNNING" })),
    { nil: undefined },
  );

  test("D1-D5: any status and any observation give a decision that keeps the rules", () => {
    fc.assert(
      fc.property(
        arbitraryStatus,
        fc.array(arbitraryPod, { maxLength: 6 }),
        arbitraryJobManager,
        fc.record({
          generation: fc.constantFrom(1, 2),
          isDeleting: fc.boolean(),
          hasFinalizer: fc.boolean(),
          state: fc.constantFrom("Running" as const, "Suspended" as const),
          upgradeMode: fc.constantFrom("Savepoint" as const, "LastState" as const, "Stateless" as const),
          args: fc.constantFrom([], ["2"]),
        }),
        fc.constantFrom<Observed["operation"]>(
          undefined,
          { type: "unknown" },
          { type: "running" },
          { type: "completed", location: "s3://b/s" },
          { type: "failed", message: "no" },
        ),
        fc.constantFrom<Observed["trial"]>(
          undefined,
          ...[OP(), OP(1, 2), OP(2, 2)].map((opId) => ({ opId, refused: undefined })),
          { opId: OP(1, 2), refused: { what: "Pod ns/x", status: 403, message: "no" } },
        ),
        (status, pods, jm, { state, upgradeMode, args, ...rest }, operationSeen, trial) => {
          const one = job({ ...rest, spec: spec({ state, upgradeMode, args }), status });
          const seen = observed({ pods, jobManager: jm, operation: operationSeen, trial });
          const decision = look({ job: one, seen });
          expect(look({ job: one, seen })).toEqual(decision); // D1
          expect(decision.requeueAfterMs).toBeGreaterThan(0);
          const made = decision.actions.flatMap((action) => (action.type === "createPod" ? [action.object] : []));
          const attemptsMade = new Set(
            made
              .filter(({ metadata }) => metadata.labels?.["sluice.dev/component"] !== "preflight")
              .map(({ metadata }) => metadata.labels?.["sluice.dev/attempt"]),
          );
          expect(attemptsMade.size).toBeLessThanOrEqual(1); // D5
          if (attemptsMade.size === 1) {
            expect([...attemptsMade]).toEqual([decision.status.deployed?.attempt]); // D2
            expect(
              made.filter(({ metadata }) => metadata.labels?.["sluice.dev/component"] === "jobmanager").length,
            ).toBeLessThanOrEqual(1);
          }
          // D3: what is newly deployed may create a log only if this decision is the one that writes everStateful, or nobody ever answered.
          const isNew = decision.status.deployed?.attempt !== status.deployed?.attempt;
          if (isNew && decision.status.deployed !== undefined) {
            expect(decision.status.everStateful).toBe(true);
            if (status.everStateful === true && status.jobId !== undefined && upgradeMode !== "Stateless")
              expect(decision.status.deployed.restore.mayCreate).toBe(false);
          }
          // D4: a stop is asked for only under an id that is in the status.
          for (const action of decision.actions)
            if (action.type === "stopWithSavepoint") expect(decision.status.op?.triggerId).toBe(action.triggerId);
          // D4, PF3: what leaves Preflight was taken by the API server.
          if (
            state === "Running" &&
            status.op?.step === "Preflight" &&
            decision.status.op?.id === status.op.id &&
            !one.isDeleting
          )
            if (decision.status.op.startedAt === status.op.startedAt && decision.status.op.step !== "Preflight")
              expect(trial).toEqual({ opId: status.op.id, refused: undefined });
          if (one.isDeleting) expect(made).toEqual([]);
        },
      ),
      { numRuns: 400, seed: 20 },
    );
  });
});
