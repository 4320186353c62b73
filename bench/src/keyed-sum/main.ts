// `npm run bench -- keyed-sum`: records per CPU-second of the guide's KeyedSum, over all processes of the job (DESIGN 10, protocols 8).
//
// Invariants:
//   BK1. A round counts records and CPU time between the same two moments, both read from the running processes.
//   BK2. CPU time is that of the JobManager and all TaskManagers, children and threads included; the benchmark's own is left out.
//   BK3. A round in which no checkpoint completed, or in which a process was restarted, is an error, not a figure.
//
// Not here: the job (job.ts).

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { startLocalCluster, type LocalCluster } from "@sluice/cli";
import { freePort } from "@sluice/tools/peers";

const CLOCK_TICKS_PER_SECOND = 100;

interface Options {
  readonly keys: number;
  readonly parallelism: number;
  readonly keyKind: "long" | "string";
  readonly rounds: number;
  readonly warmUpSeconds: number;
  readonly roundSeconds: number;
  readonly intervalMs: number;
}

interface Reading {
  readonly atMs: number;
  readonly cpuSeconds: number;
  readonly records: number;
}

interface Round {
  readonly recordsPerCpuSecond: number;
  readonly recordsPerSecond: number;
}

function usage(): never {
  console.error(
    `usage: npm run bench -- keyed-sum [--keys 1000] [--parallelism 1|2] [--key-type long|string]
         [--rounds 5] [--warm-up 15] [--seconds 10] [--interval 10000]`,
  );
  process.exit(2);
}

function parse(argv: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...argv],
    strict: true,
    options: {
      keys: { type: "string", default: "1000" },
      parallelism: { type: "string", default: "1" },
      "key-type": { type: "string", default: "long" },
      rounds: { type: "string", default: "5" },
      "warm-up": { type: "string", default: "15" },
      seconds: { type: "string", default: "10" },
      interval: { type: "string", default: "10000" },
      help: { type: "boolean", default: false },
    },
  });
  const options: Options = {
    keys: Number(values.keys),
    parallelism: Number(values.parallelism),
    keyKind: values["key-type"] === "string" ? "string" : "long",
    rounds: Number(values.rounds),
    warmUpSeconds: Number(values["warm-up"]),
    roundSeconds: Number(values.seconds),
    intervalMs: Number(values.interval),
  };
  const numbers = [
    options.keys,
    options.parallelism,
    options.rounds,
    options.warmUpSeconds,
    options.roundSeconds,
    options.intervalMs,
  ];
  if (values.help || !numbers.every((n) => Number.isFinite(n) && n > 0)) usage();
  return options;
}

/** User and system time of a process with its threads, from the kernel's accounting. */
function cpuSecondsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS_PER_SECOND;
}

function rssBytesOf(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1024;
}

/** Rows that the KeyedSum task has read, live from the TaskManager's own page. */
async function recordsRead(metricsPort: number): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${metricsPort}/metrics`);
  let sum = 0;
  let seen = 0;
  for (const line of (await response.text()).split("\n")) {
    if (!line.startsWith("flink_taskmanager_job_task_numRecordsIn{") || !line.includes('task_name="KeyedSum')) continue;
    sum += Number(line.slice(line.lastIndexOf(" ") + 1));
    seen += 1;
  }
  if (seen === 0) throw new Error("the TaskManager's metrics show no KeyedSum task");
  return sum;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

function millions(value: number): string {
  return `${(value / 1e6).toFixed(2)} M`;
}

async function main(options: Options): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "sluice-bench-"));
  const metricsPort = await freePort();
  let cluster: LocalCluster | undefined;
  try {
    cluster = await startLocalCluster({
      job: join(import.meta.dirname, "job.ts"),
      arguments: [String(options.keys), options.keyKind, folder],
      name: "keyed-sum",
      workDir: join(folder, "work"),
      taskManagers: 1,
      slots: options.parallelism,
      configuration: {
        "parallelism.default": String(options.parallelism),
        "execution.checkpointing.interval": `${options.intervalMs} ms`,
        "execution.checkpointing.dir": `file://${join(folder, "checkpoints")}`,
        "metrics.reporter.prom.port": String(metricsPort),
      },
    });
    await measure(cluster, metricsPort, options, folder);
  } finally {
    await cluster?.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function measure(cluster: LocalCluster, metricsPort: number, options: Options, folder: string): Promise<void> {
  await cluster.until("records flow", async () => (await recordsRead(metricsPort)) > 0, { timeoutMs: 60_000 });
  const pids = cluster.processes().map(({ id, pid }) => {
    if (pid === undefined) throw new Error(`${id} is not running`);
    return pid;
  });
  const read = async (): Promise<Reading> => {
    const records = await recordsRead(metricsPort);
    return { atMs: performance.now(), cpuSeconds: pids.reduce((sum, pid) => sum + cpuSecondsOf(pid), 0), records };
  };
  console.log(
    `KeyedSum, ${options.keys} ${options.keyKind} keys, heap, parallelism ${options.parallelism}, exactly-once, a checkpoint every ${options.intervalMs} ms; warming up ${options.warmUpSeconds} s`,
  );
  await sleep(options.warmUpSeconds * 1_000);
  const measuredFromMs = Date.now();
  const rounds: Round[] = [];
  let rssBytes = 0;
  let before = await read();
  for (let round = 0; round < options.rounds; round += 1) {
    await sleep(options.roundSeconds * 1_000);
    const after = await read();
    const records = after.records - before.records;
    rounds.push({
      recordsPerCpuSecond: records / (after.cpuSeconds - before.cpuSeconds),
      recordsPerSecond: (records * 1_000) / (after.atMs - before.atMs),
    });
    rssBytes = Math.max(
      rssBytes,
      pids.reduce((sum, pid) => sum + rssBytesOf(pid), 0),
    );
    before = after;
  }
  const checkpoints = (await cluster.rest.checkpoints()).history.filter(
    (c) => c.status === "COMPLETED" && c.trigger_timestamp >= measuredFromMs,
  );
  if (checkpoints.length === 0)
    throw new Error("BK3: no checkpoint completed while measuring; lengthen --seconds or shorten --interval");
  if (cluster.processes().some(({ starts }) => starts !== 1))
    throw new Error("BK3: a process was restarted while measuring");
  const gaps = gapsOf(folder, measuredFromMs);
  report({ options, rounds, checkpoints, gaps, rssBytes });
}

/** All gaps after the warm-up. */
function gapsOf(folder: string, fromWallMs: number): readonly number[] {
  const gaps: number[] = [];
  for (const name of readdirSync(folder)) {
    if (!/^gaps-\d+\.json$/.test(name)) continue;
    const pairs = JSON.parse(readFileSync(join(folder, name), "utf8")) as [number, number][];
    for (const [atMs, gapMs] of pairs) if (atMs >= fromWallMs) gaps.push(gapMs);
  }
  return gaps;
}

function report(figures: {
  readonly options: Options;
  readonly rounds: readonly Round[];
  readonly checkpoints: readonly { readonly end_to_end_duration: number; readonly state_size: number }[];
  readonly gaps: readonly number[];
  readonly rssBytes: number;
}): void {
  const { options, rounds, checkpoints, gaps, rssBytes } = figures;
  const perCpu = rounds.map((round) => round.recordsPerCpuSecond);
  const perSecond = rounds.map((round) => round.recordsPerSecond);
  const durations = checkpoints.map((checkpoint) => checkpoint.end_to_end_duration);
  const maxGapMs = Math.max(0, ...gaps);
  const line = (name: string, values: readonly number[], format: (value: number) => string): string =>
    `  ${name.padEnd(24)} ${format(Math.min(...values)).padStart(10)} ${format(median(values)).padStart(10)} ${format(Math.max(...values)).padStart(10)}`;
  console.log(`  ${"".padEnd(24)} ${"min".padStart(10)} ${"median".padStart(10)} ${"max".padStart(10)}`);
  console.log(line("records per CPU-second", perCpu, millions));
  console.log(line("records per second", perSecond, millions));
  console.log(line("checkpoint ms", durations, (ms) => ms.toFixed(0)));
  console.log(
    `  largest gap between records ${maxGapMs.toFixed(1)} ms; resident ${(rssBytes / 2 ** 20).toFixed(0)} MiB over all processes`,
  );
  console.log(
    JSON.stringify({
      benchmark: "keyed-sum",
      keys: options.keys,
      keyType: options.keyKind,
      parallelism: options.parallelism,
      backend: "hashmap",
      recordsPerCpuSecond: Math.round(median(perCpu)),
      recordsPerCpuSecondRange: [Math.round(Math.min(...perCpu)), Math.round(Math.max(...perCpu))],
      recordsPerSecond: Math.round(median(perSecond)),
      checkpointMs: { p50: median(durations), max: Math.max(...durations) },
      checkpointBytes: checkpoints[0]?.state_size ?? 0,
      maxGapMs: Number(maxGapMs.toFixed(1)),
      rssBytes,
      rounds: rounds.length,
    }),
  );
}

await main(parse(process.argv.slice(2)));
