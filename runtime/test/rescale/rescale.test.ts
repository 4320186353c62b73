// One job, killed or stopped and started again at other parallelisms with `sluice run --parallelism N`, on real processes: file source,
// keyed sums, exactly-once file sink.
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
import { readdirSync, readFileSync } from "node:fs";

import { killAll, processesOf, type as typeCommand, until } from "../support/command-line.ts";
import type { Typed } from "../support/command-line.ts";
import type { NumbersOptions } from "../support/numbers-options.ts";
import { NUMBERS_JOB, NumbersRun } from "../support/numbers-run.ts";
import { publishedText } from "../support/published.ts";
import { headOf, newestMetadata } from "../support/store.ts";

const TIMEOUT_MS = 300_000;
const COUNT = 150_000;
/** Of each subtask: the input outlasts all that is done to the job, on a slow machine too; drained at full speed. */
const PER_SECOND = 500;

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

interface Start {
  readonly parallelism: number;
  readonly flags?: readonly string[];
  readonly name?: string;
  readonly job?: Partial<NumbersOptions>;
}

function start({ parallelism, flags = [], name = "sums", job = {} }: Start): Typed {
  const configuration = ["execution.checkpointing.interval=150 ms", "heartbeat.timeout=10 s"];
  typed = typeCommand(
    [
      ...["run", NUMBERS_JOB, "--name", name, "--dir", run.storeUri, "--rest-port", "0"],
      ...["--parallelism", String(parallelism)],
      ...configuration.flatMap((pair) => ["-D", pair]),
      ...flags,
      ...["--", run.argument({ perSecond: PER_SECOND, ...job })],
    ],
    { directory: run.directory },
  );
  return typed;
}

/** Runs at this parallelism until more output is published. */
async function runOn(options: Start): Promise<Typed> {
  const { parallelism } = options;
  const before = run.publishedFileCount;
  const one = start(options);
  const isCheckpointed = async (): Promise<boolean> => {
    if (run.publishedFileCount < before + 2 * parallelism) return false;
    const { vertices } = await newestMetadata(store, "default/sums");
    return vertices.every((vertex) => vertex.parallelism === parallelism);
  };
  await until(`output at parallelism ${parallelism}`, isCheckpointed, { typed: one, timeoutMs: 60_000 });
  return one;
}

async function runAndKill(options: Start): Promise<void> {
  killAll(run.directory, await runOn(options));
  await gone();
}

/** `sluice stop NAME --savepoint DIR`; returns the savepoint's directory. */
async function stopWithSavepoint(running: Typed): Promise<string> {
  const stopping = typeCommand(["stop", "sums", "--savepoint", run.at("savepoints")], { directory: run.directory });
  expect([await stopping.exit, stopping.text()]).toEqual([0, expect.stringContaining("savepoint-")]);
  await running.exit;
  await gone();
  const savepoint = readdirSync(run.at("savepoints")).find((name) => name.startsWith("savepoint-")) ?? "";
  return run.at("savepoints", savepoint);
}

const REFUSED =
  /STATE_INCOMPATIBLE: .*operator "sum" has keyed state in 128 key groups, .*max parallelism 64.*\n {2}What to do: set max parallelism 128/u;

test(
  "RS1-RS3: 2 -> 3 -> 1 -> 2, by SIGKILL and by savepoint; a changed max parallelism is refused, state of a renamed operator dropped",
  async () => {
    await runAndKill({ parallelism: 2 });
    await runAndKill({ parallelism: 3, flags: ["--task-managers", "2"] });
    const { head } = await headOf(store, "default/sums");
    const refused = start({ parallelism: 1, flags: ["-D", "pipeline.max-parallelism=64"] });
    expect([await refused.exit, refused.text()]).toEqual([1, expect.stringMatching(REFUSED)]);
    expect((await headOf(store, "default/sums")).head).toEqual(head); // RS3

    const savepoint = await stopWithSavepoint(await runOn({ parallelism: 1 }));
    const { outputCount } = run.audit();
    expect(outputCount).toBeLessThan(COUNT); // struck in its middle

    run.drain();
    const last = start({ parallelism: 2 });
    expect([await last.exit, last.text()]).toEqual([0, expect.stringMatching(/is FINISHED$/mu)]);
    expect(run.audit()).toMatchObject({ passed: true, problems: [], outputCount: COUNT }); // RS1
    expect(readdirSync(run.outputDirectory).filter((name) => !name.startsWith("part-"))).toEqual([]); // RS2

    const job = { sumUid: "total", outputDirectory: run.at("other") };
    const flags = ["--from", savepoint, "--allow-non-restored-state"];
    const dropped = start({ name: "other", parallelism: 3, job, flags });
    expect([await dropped.exit, dropped.text()]).toEqual([0, expect.stringMatching(/is FINISHED$/mu)]);
    expect(publishedText(run.at("other")).split("\n").length - 1).toBe(COUNT - outputCount);
    const log = readFileSync(run.at(".sluice", "other", "logs", "jobmanager.log"), "utf8");
    expect(log).toMatch(/state that no operator takes is dropped.* uid=sum /u);
  },
  TIMEOUT_MS,
);
