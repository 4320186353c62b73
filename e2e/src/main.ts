// `npm run e2e [-- --only NAME ...]`: end-to-end tests on a real cluster; the last line is `N passed, N failed`.
//
// Invariants:
//   EE1. A scenario counts once, passed or failed; no scenario at all is a failure.
//   EE2. Whatever happens, children (watches, forwards) end with this process.

import { createHash } from "node:crypto";
import { parseArgs } from "node:util";

import { Progress, Stop } from "../cluster/index.ts";
import type { Cluster } from "../cluster/index.ts";
import { Timelines, Watch, openStorePort, removeLeftovers } from "./harness/index.ts";
import type { PodObject, StreamJobObject, World } from "./harness/index.ts";
import { Bucket, DAMAGES } from "./ledger/index.ts";
import { commitOf, keep, machineOf, report } from "./results.ts";
import type { RunResult } from "./results.ts";
import { runScenarios } from "./runner.ts";
import type { Scenario } from "./scenario.ts";
import { SCENARIOS } from "./scenarios/index.ts";
import { asItIs, IMAGE, OTHER_IMAGE, RELEASE, setUp, STORE_ACCESS } from "./setup.ts";

const USAGE = `npm run e2e [-- OPTIONS]
  --only NAME      this scenario; may be repeated
  --list           name all scenarios
  --no-setup       the cluster and the operator are used as they are
  --no-image       the image is not built anew
  --at-once N      scenarios that run beside each other (default 4)
  --keep           namespaces of scenarios that failed stay
  --control KIND   every audit sees a ledger with one record ${DAMAGES.join(", ")}: the run must fail`;

const OPTIONS = {
  only: { type: "string", multiple: true, default: [] as string[] },
  list: { type: "boolean", default: false },
  setup: { type: "boolean", default: true },
  image: { type: "boolean", default: true },
  "at-once": { type: "string", default: "4" },
  keep: { type: "boolean", default: false },
  control: { type: "string" },
  help: { type: "boolean", default: false },
} as const;

async function main(): Promise<number> {
  const { values } = parseArgs({ options: OPTIONS, allowNegative: true });
  if (values.help) return print(USAGE);
  if (values.list) return print(SCENARIOS.map(({ name, about }) => `${name.padEnd(20)} ${about}`).join("\n"));
  const scenarios = chosen(values.only);
  const control = DAMAGES.find((damage) => damage === values.control);
  if (values.control !== undefined && control === undefined)
    throw new Stop(`--control ${values.control} is not known`, `one of ${DAMAGES.join(", ")}`);
  const startMs = performance.now();
  const progress = new Progress();
  const commit = commitOf();
  const { cluster, parts } = values.setup
    ? await setUp(progress, { skipImage: !values.image })
    : { cluster: asItIs(), parts: [] };
  const { world, close } = await openWorld(cluster, progress);
  const seed = createHash("sha256").update(commit).digest().readUInt32BE(0);
  world.say(`run ${world.runId}, seed ${seed}, ${scenarios.length} scenarios`);
  try {
    await removeLeftovers(world);
    const results = await runScenarios(scenarios, {
      world,
      atOnce: Number(values["at-once"]),
      seed,
      control,
      keep: values.keep,
    });
    const result: RunResult = {
      commit,
      at: new Date().toISOString(),
      machine: machineOf(),
      seconds: (performance.now() - startMs) / 1_000,
      setup: parts,
      scenarios: results,
    };
    print(report(result));
    if (scenarios.length === SCENARIOS.length && control === undefined) keep(result);
    const passed = results.filter((one) => one.passed).length;
    const failed = Math.max(results.length - passed, results.length === 0 ? 1 : 0); // EE1
    print(`${passed} passed, ${failed} failed`);
    return failed === 0 ? 0 : 1;
  } finally {
    await close();
  }
}

function chosen(names: readonly string[]): readonly Scenario[] {
  const unknown = names.find((name) => !SCENARIOS.some((scenario) => scenario.name === name));
  if (unknown !== undefined) throw new Stop(`there is no scenario ${unknown}`, "npm run e2e -- --list names all");
  return names.length === 0 ? SCENARIOS : SCENARIOS.filter(({ name }) => names.includes(name));
}

async function openWorld(
  cluster: Cluster,
  progress: Progress,
): Promise<{ readonly world: World; readonly close: () => Promise<void> }> {
  const port = await openStorePort(cluster, STORE_ACCESS.service);
  const { accessKey, secretKey, bucket } = STORE_ACCESS;
  const timelines = new Timelines();
  const jobs = new Watch<StreamJobObject>(["streamjobs"], cluster.env, (type, job) => {
    if (type === "changed") timelines.see(job);
  });
  const pods = new Watch<PodObject>(["pods", "-l", "app.kubernetes.io/managed-by=sluice-controller"], cluster.env);
  jobs.start();
  pods.start();
  const world: World = {
    cluster,
    release: RELEASE,
    image: IMAGE,
    otherImage: OTHER_IMAGE,
    store: STORE_ACCESS,
    bucket: new Bucket({ endpoint: port.endpoint, accessKey, secretKey }, bucket),
    jobs,
    pods,
    timelines,
    runId: `run-${Date.now().toString(36)}`,
    say: progress.say,
  };
  const close = async (): Promise<void> => {
    jobs.stop();
    pods.stop();
    await port.stop();
  };
  return { world, close };
}

function print(text: string): number {
  console.log(text);
  return 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof Stop)) throw error;
  console.error(`${error.message}\nWhat to do: ${error.remedy}`);
  console.log("0 passed, 1 failed");
  process.exitCode = 1;
}
