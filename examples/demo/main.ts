// `npm run demo`: a checkpointed job over three million real flights, a TaskManager and the JobManager killed while it
// runs, and the committed output compared with a single-threaded computation.
//
// Invariants:
//   DM1. The last line is the verdict, and the exit code agrees with it: 0 PASSED, 1 anything else.
//   DM2. No process outlives the demo: not after an error, not after Ctrl-C.
//   DM3. No fixed port, nothing written outside of the work directory; what a run leaves there the next one replaces.
//
// Not here: the job (job.ts), the faults (faults.ts), the comparison (audit.ts).

import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

import { startLocalCluster } from "@sluice/cli";
import type { LocalCluster } from "@sluice/cli";
import { describeFailure, Failure, formatBytes, formatDuration, toFailure } from "@sluice/kit";

import { compare, computeModel } from "./audit.ts";
import type { Model, Verdict } from "./audit.ts";
import { rowsReadInAll, strike } from "./faults.ts";
import type { Fault, Stage } from "./faults.ts";
import { Output } from "./output.ts";
import { grouped, Screen, table } from "./screen.ts";
import { Watch } from "./watch.ts";
import type { Picture } from "./watch.ts";

const HELP = `npm run demo [-- options]

  --rate N      rows per second of the whole source (default 160000: about 20 s of input)
  --input FILE  other flights: .parquet or .ndjson with the columns origin and delay
  --dir DIR     work directory (default .sluice/demo)
  --verify      run nothing, compare the output of the last run again`;

const JOB_NAME = "delay-per-airport";
const TOP_COUNT = 5;
/** A jump of checkpoint ids that needs a word. */
const IDS_TAKEN_TOGETHER_MIN = 10;
/** Marks a directory as ours to delete. */
const MARK = ".sluice-demo";

interface Options {
  readonly input: string;
  readonly ratePerSecond: number;
  readonly workDir: string;
  readonly verifyOnly: boolean;
}

const screen = new Screen();
let cluster: LocalCluster | undefined;
let isStopping = false;

function parseOptions(): Options | undefined {
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        rate: { type: "string", default: "160000" },
        input: { type: "string" },
        dir: { type: "string", default: join(".sluice", "demo") },
        verify: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    }));
  } catch (thrown) {
    throw wrongOption((thrown as Error).message);
  }
  if (values.help) return undefined;
  const ratePerSecond = Number(values.rate);
  if (!(ratePerSecond >= 1 && Number.isFinite(ratePerSecond))) throw wrongOption(`--rate ${values.rate} is no rate`);
  const input = resolve(values.input ?? flightsPath());
  if (!existsSync(input)) throw wrongOption(`there is no file ${input}`);
  return { input, ratePerSecond, workDir: resolve(values.dir), verifyOnly: values.verify };
}

function wrongOption(message: string): Failure {
  return new Failure("CONFIG_INVALID", {
    retry: "never",
    message,
    remedy: "npm run demo -- --help tells what there is",
  });
}

/** The data come with a package. */
function flightsPath(): string {
  return join(dirname(fileURLToPath(import.meta.resolve("vega-datasets"))), "..", "data", "flights-3m.parquet");
}

async function run(options: Options): Promise<number> {
  const { input, ratePerSecond, workDir, verifyOnly } = options;
  const output = new Output(join(workDir, "output"));
  const faults: Fault[] = [];
  if (verifyOnly) {
    if (output.files().length === 0) throw wrongOption(`${output.directory} holds no output of a run`);
  } else {
    prepareWorkDir(workDir);
    screen.print(
      [
        "A running sum of delays per origin airport over real flights, with exactly-once checkpoints every 2 s.",
        `The sources are limited to ${grouped(ratePerSecond)} rows per second, so that there is something to watch.`,
        "A TaskManager and the JobManager will be killed on the way. Ctrl-C ends everything.",
        "",
      ].join("\n"),
    );
    faults.push(...(await runJob({ ...options, output })));
  }
  screen.say("computing the same sums in one thread, and comparing");
  const model = await computeModel(input);
  const verdict = compare(model, output.files());
  report({ model, verdict, faults, options, output });
  return verdict.differences.length === 0 ? 0 : 1;
}

/** DM3: deletes what an earlier demo has left, and nothing else. */
function prepareWorkDir(workDir: string): void {
  const mark = join(workDir, MARK);
  if (existsSync(workDir) && readdirSync(workDir).length > 0) {
    if (!existsSync(mark)) throw wrongOption(`${workDir} holds something that is not of the demo; give an empty --dir`);
    const pid = Number(readFileSync(mark, "utf8").split("\n")[0]);
    if (isAlive(pid)) throw wrongOption(`a demo runs in ${workDir} already (process ${pid}); give another --dir`);
  }
  rmSync(workDir, { recursive: true, force: true });
  mkdirSync(workDir, { recursive: true });
  writeFileSync(mark, `${process.pid}\nnpm run demo deletes this directory when it runs again\n`);
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

async function runJob(options: Options & { readonly output: Output }): Promise<readonly Fault[]> {
  const { input, ratePerSecond, workDir, output } = options;
  screen.say("planning the job, starting a JobManager and two TaskManagers");
  const checkpointUri = pathToFileURL(join(workDir, "checkpoints")).href;
  cluster = await startLocalCluster({
    job: fileURLToPath(new URL("./job.ts", import.meta.url)),
    arguments: [input, output.directory, checkpointUri, String(ratePerSecond)],
    name: JOB_NAME,
    taskManagers: 2,
    slots: 1,
    workDir,
    // fresher counters on the screen: they come with heartbeats
    configuration: { "heartbeat.interval": "250 ms" },
  });
  const url = cluster.restUrl() ?? "";
  screen.say(`the JobManager answers; while the job runs, look at\n${restPages(url, await cluster.rest.jobId())}`);

  const stage: Stage & { readonly cluster: LocalCluster } = {
    cluster,
    output,
    screen,
    toldCheckpointId: 0,
    watch: new Watch(cluster, (picture) => show(picture)),
  };
  const show = narrator(stage);
  await stage.watch.until("running tasks", (picture) => picture?.areAllTasksRunning);
  screen.say("all tasks run, on both TaskManagers");

  const faults = [
    await strike(stage, { kind: "taskmanager", index: 1 }, ratePerSecond),
    await strike(stage, { kind: "jobmanager", index: 0 }, ratePerSecond),
  ];
  const outcome = await cluster.waitForEnd();
  await stage.watch.stop();
  screen.endLive();
  if (outcome.state !== "FINISHED") {
    throw new Failure("INTERNAL", { retry: "never", message: `the job did not finish: ${outcome.message}` });
  }
  const { rows, checkpointId } = output.committed();
  screen.say(`the job is FINISHED: checkpoint ${checkpointId} was its last, ${grouped(rows)} rows are committed`);
  return faults;
}

function restPages(url: string, jobId: string): string {
  return [
    `${url}/jobs/${jobId}`,
    `${url}/jobs/${jobId}/checkpoints`,
    `${url}/jobs/${jobId}/exceptions`,
    `${url}/metrics`,
  ].join("\n");
}

/** Tells of each checkpoint once its output is there, and keeps the live line. */
function narrator(stage: Stage): (picture: Picture) => void {
  return (picture) => {
    const { rows, checkpointId } = stage.output.committed();
    const completed = picture.checkpoints.latest.completed;
    if (completed !== null && completed.id > stage.toldCheckpointId && checkpointId >= completed.id) {
      const skipped = completed.id - stage.toldCheckpointId > IDS_TAKEN_TOGETHER_MIN;
      stage.toldCheckpointId = completed.id;
      const { id, end_to_end_duration: durationMs, state_size: sizeBytes } = completed;
      screen.say(
        `checkpoint ${id} complete (${formatBytes(sizeBytes)} in ${formatDuration(durationMs)}): ${grouped(rows)} rows committed` +
          (skipped ? "\n(a new JobManager leaves out the ids that its predecessor may have given out)" : ""),
      );
    }
    const read = Math.max(rows, rowsReadInAll(picture, stage.output)); // counters are a heartbeat old
    screen.live(`${picture.job.state}, ${grouped(read)} rows read, ${grouped(rows)} committed`);
  };
}

interface Report {
  readonly model: Model;
  readonly verdict: Verdict;
  readonly faults: readonly Fault[];
  readonly options: Options;
  readonly output: Output;
}

function report({ model, verdict, faults, options, output }: Report): void {
  const top = [...model].toSorted(([, a], [, b]) => b.flights - a.flights).slice(0, TOP_COUNT);
  screen.print("");
  screen.print(
    table([
      ["airport", "flights", "sum of delays, minutes"],
      ...top.map(([name, { flights, sum }]) => [name, grouped(flights), grouped(sum)]),
      [`... ${verdict.airports} in all`, grouped(verdict.rowsExpected), ""],
    ]),
  );
  if (faults.length > 0) {
    screen.print("");
    screen.print(
      table([
        ["killed", "detected after", "restored", "after", "first new row after", "rows replayed, at least"],
        ...faults.map((fault) => [
          `${fault.name} (process ${fault.pid})`,
          formatDuration(fault.detectedMs),
          `checkpoint ${fault.restoredCheckpointId}`,
          formatDuration(fault.restoredMs),
          formatDuration(fault.firstRowMs),
          grouped(fault.replayedAtLeast),
        ]),
      ]),
    );
  }
  const shown = (path: string): string => relative("", path);
  screen.print("");
  screen.print(
    table(
      [
        ["output", `${shown(output.directory)}/part-*.csv (origin, delay, sum so far)`],
        ["checkpoints", `${shown(join(options.workDir, "checkpoints"))} (the newest are kept)`],
        ["logs", shown(join(options.workDir, "logs"))],
        ["job", shown(fileURLToPath(new URL("./job.ts", import.meta.url)))],
      ].map(([what = "", where = ""]) => [`${what.padEnd(12)}${where}`]),
    ),
  );
  screen.print("");
  const { rowsCommitted, rowsExpected, differences } = verdict;
  if (differences.length === 0) {
    const kills = faults.length === 0 ? "" : ` through ${faults.length} kills`;
    screen.print(`PASSED: ${grouped(rowsCommitted)} flights, each counted exactly once${kills}`);
    return;
  }
  screen.print(differences.map((difference) => `  ${difference}`).join("\n"));
  screen.print(`FAILED: ${grouped(rowsCommitted)} rows committed, ${grouped(rowsExpected)} expected, and they differ`);
}

/** DM2. One Ctrl-C may arrive more than once: npm passes on what the terminal has sent to us already. */
function onSignal(exitCode: number): void {
  if (isStopping) return;
  isStopping = true;
  screen.endLive();
  if (cluster === undefined) process.exit(exitCode);
  screen.say("stopping: all processes of the demo are killed");
  void cluster.stop(0).then(() => process.exit(exitCode));
}

process.on("SIGINT", () => onSignal(130));
process.on("SIGTERM", () => onSignal(143));
process.on("SIGHUP", () => onSignal(129));
try {
  const options = parseOptions();
  if (options === undefined) screen.print(HELP);
  else process.exitCode = await run(options);
} catch (thrown) {
  if (!isStopping) await fail(toFailure(thrown));
}

async function fail(failure: Failure): Promise<void> {
  screen.endLive();
  await cluster?.stop(0);
  const logs = cluster === undefined ? "" : `\n  Logs: ${cluster.workDir}/logs`;
  screen.print(`FAILED: ${describeFailure(failure)}${logs}`);
  process.exitCode = 1;
}
