// Tests of the job, by Node's own test runner: `npm test`, or one of them in a debugger; breakpoints in page-views.ts hold.

import assert from "node:assert/strict";
import { test } from "node:test";

import { GeneratorSource, Types } from "@sluice/runtime";
import { CollectSink, MiniCluster, oneInputTestHarness } from "@sluice/runtime/testing";

import { countViews } from "./page-views.ts";
import type { PageCount } from "./page-views.ts";

test("the operator: every page has its own count, and keeps it when it is restored", async () => {
  const harness = await oneInputTestHarness(Types.STRING(), countViews);
  harness.processElements("/", "/docs", "/");
  assert.deepEqual(harness.output, [
    { page: "/", views: 1 },
    { page: "/docs", views: 1 },
    { page: "/", views: 2 },
  ]);

  const restored = await oneInputTestHarness(Types.STRING(), countViews, { restore: await harness.snapshot() });
  restored.processElement("/");
  assert.deepEqual(restored.output, [{ page: "/", views: 3 }]);
});

test("the job: every view counts once, though a TaskManager and the JobManager are killed", async () => {
  const results = new CollectSink<PageCount>();
  const views = new GeneratorSource({
    count: 1_000,
    ratePerSecond: 1_000,
    generate: (i) => (i % 4 === 0 ? "/docs" : "/"),
    type: Types.STRING(),
  });
  await using cluster = await MiniCluster.start(
    (env) => {
      env.enableCheckpointing(50);
      countViews(env.fromSource(views).uid("page-views")).sinkTo(results).uid("results");
    },
    { parallelism: 2, taskManagers: 2 },
  );

  await cluster.waitUntil("some results", () => results.values().length > 100);
  cluster.killTaskManager(1);
  await cluster.waitUntil("the restart", ({ restarts, isRunning }) => restarts === 1 && isRunning);
  await cluster.waitUntil("more results", () => results.values().length > 400);
  cluster.killJobManager();
  await cluster.waitForEnd();

  const last = new Map(results.values().map(({ page, views: count }) => [page, count]));
  assert.equal(results.values().length, 1_000);
  assert.deepEqual(Object.fromEntries(last), { "/": 750, "/docs": 250 });
});
