// One job, killed and started again at other parallelisms with `sluice run --parallelism N`, on real processes: file source, keyed
// sums, exactly-once file sink.
//
// Invariants:
//   RS1. However often the parallelism changes, the published output is that of a run without interruptions.
//   RS2. Nothing is left of subtasks that are no more: no hidden file, of nobody.
//   RS3. A refused start changes nothing: the next one goes on from where the job was.
//
// Not here: the formulas (runtime/src/checkpoint/assign.test.ts), other kinds of state (runtime/src/testing/rescale.test.ts).

import { afterEach, beforeEach, expect, test } from "@jest/globals";
import type { ObjectStore } from "@sluice/kit/env";
import { openObjectStore } from "@sluice/kit/env/node";
import { readdirSync } from "node:fs";

import { killAll, processesOf, type as typeCommand, until } from "../support/command-line.ts";
import type { Typed } from "../support/command-line.ts";
import { NUMBERS_JOB, NumbersRun } from "../support/numbers-run.ts";
import { headOf, newestMetadata } from "../support/store.ts";

const TIMEOUT_MS = 180_000;
const COUNT = 16_000;
/** Of each subtask: slow enough that every run is struck in its middle. */
const PER_SECOND = 700;

let run: NumbersRun;
let store: ObjectStore;
let typed: Typed | undefined;

beforeEach(async () => {
  run = new NumbersRun({ seed: 11, count: COUNT });
  store = await openObjectStore(run.storeUri);
});

afterEach(async () => {
  if (typed?.hasExited() === false) killAll(run.directory, typed);
  await gone();
  await run.dispose();
});

function gone(): Promise<void> {
  return until("all processes are gone", () => processesOf(run.directory).length === 0, { timeoutMs: 20_000 });
}

function start(parallelism: number, flags: readonly string[] = []): Typed {
  const configuration = ["execution.checkpointing.interval=150 ms", "heartbeat.timeout=10 s"];
  typed = typeCommand(
    [
      ...["run", NUMBERS_JOB, "--name", "sums", "--dir", run.storeUri, "--rest-port", "0"],
      ...["--parallelism", String(parallelism)],
      ...configuration.flatMap((pair) => ["-D", pair]),
      ...flags,
      ...["--", run.argument({ perSecond: PER_SECOND })],
    ],
    { directory: run.directory },
  );
  return typed;
}

/** Runs at this parallelism until more output is published, and kills everything. */
async function runAndKill(parallelism: number, flags: readonly string[] = []): Promise<void> {
  const before = run.publishedFileCount;
  const one = start(parallelism, flags);
  const isCheckpointed = async (): Promise<boolean> => {
    if (run.publishedFileCount < before + 2 * parallelism) return false;
    const { vertices } = await newestMetadata(store, "default/sums");
    return vertices.every((vertex) => vertex.parallelism === parallelism);
  };
  await until(`output at parallelism ${parallelism}`, isCheckpointed, { typed: one, timeoutMs: 60_000 });
  killAll(run.directory, one);
  await gone();
}

test(
  "RS1-RS3: 2 -> 3 -> 1 -> 2, killed with SIGKILL in between, a refused max parallelism among them",
  async () => {
    await runAndKill(2);
    await runAndKill(3, ["--task-managers", "2"]);
    const { head } = await headOf(store, "default/sums");
    const refused = start(1, ["-D", "pipeline.max-parallelism=64"]);
    expect(await refused.exit).not.toBe(0);
    expect(refused.text()).toMatch(
      /STATE_INCOMPATIBLE: .*operator "sum" has keyed state in 128 key groups, .*max parallelism 64/u,
    );
    expect((await headOf(store, "default/sums")).head).toEqual(head); // RS3
    await runAndKill(1);
    expect(run.audit().lostCount).toBeGreaterThan(0); // struck in its middle

    run.drain();
    const last = start(2);
    expect([await last.exit, last.text()]).toEqual([0, expect.stringMatching(/is FINISHED$/mu)]);
    expect(run.audit()).toMatchObject({ passed: true, problems: [], outputCount: COUNT }); // RS1
    expect(readdirSync(run.outputDirectory).filter((name) => !name.startsWith("part-"))).toEqual([]); // RS2
  },
  TIMEOUT_MS,
);
