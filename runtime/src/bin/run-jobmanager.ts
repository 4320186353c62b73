// A JobManager process, from its configuration to its exit.
//
// SIGTERM or the end of its standard input suspends the job: the next JobManager continues it from its newest checkpoint.
// After the job's end it stays for clients that wait for an answer, and for as long as execution.shutdown-on-application-finish says.
//
// Not here: everything that a JobManager does (jobmanager/), where the configuration comes from (jobmanager.ts, packages/cli/src/pod).

import { setTimeout as sleep } from "node:timers/promises";

import { plantBugs } from "@sluice/kit";
import { NodeClock, NodeHost, NodeNet, nodeRng, NodeTimers } from "@sluice/kit/env/node";
import { cachedOpener } from "../checkpoint/index.ts";
import { Awaited, claimJob, jobIdOf, JobMaster, startRestServer, storeOf } from "../jobmanager/index.ts";
import { observeProcess, processMetricValues } from "../metrics/index.ts";
import { configurationOf, runtimeSettings } from "../model/configuration/index.ts";
import type { CheckpointId, EndOfLog, JobManagerConfig, JobPlan } from "../model/index.ts";
import { allocateCollections, countCollections } from "./collections.ts";
import { installFaultSwitch } from "./fault-switch.ts";
import {
  exitCodeOf,
  exitSoon,
  fatal,
  LogTail,
  onStop,
  openStore,
  printEvent,
  processLog,
  readJson,
  requireTokenBeyondLoopback,
  takeRestToken,
  takeSecret,
  tellEnd,
  type EndEvent,
} from "./process-shell.ts";

/** Longest time that the end of a job waits for clients that have not heard of it. */
const LINGER_MAX_MS = 10_000;
const LINGER_LOOK_MS = 25;

function endOf({ uid, lineage, submission, seq, jobState, closed, head }: EndOfLog): EndOfLog {
  return { uid, lineage, submission, seq, jobState, closed, head };
}

/** Resolves when nobody waits for an answer any more. */
async function linger(awaited: Awaited): Promise<void> {
  const untilMs = performance.now() + LINGER_MAX_MS;
  while (awaited.isAwaited && performance.now() < untilMs) await sleep(LINGER_LOOK_MS);
}

/**
 * `plan`: in the place of the file that the configuration names. `onClaimed`: called when this process owns a commit log, so that
 * there is one. Runs in {@link runProcess}; resolves when the job has begun.
 */
export async function runJobManager(
  config: JobManagerConfig,
  given: { readonly plan?: JobPlan; readonly onClaimed?: () => void } = {},
): Promise<void> {
  const secret = takeSecret();
  plantBugs(config.plantedBugs);
  const plan = given.plan ?? readJson<JobPlan>(config.planPath, "the plan");
  const settings = runtimeSettings(configurationOf(config.configuration));
  const token = takeRestToken();
  requireTokenBeyondLoopback(config.restAddress, token);
  const tail = new LogTail();
  const log = processLog({ process: "jobmanager" }, tail);
  installFaultSwitch(log);
  for (const warning of settings.warnings) log.warn(warning);
  const host = new NodeHost({ log });
  const env = { clock: new NodeClock(), timers: new NodeTimers(), rng: nodeRng(), net: new NodeNet(), log, host };
  const storeConfig = storeOf(config, settings);
  const store = storeConfig === undefined ? undefined : await openStore(storeConfig);
  const jobId = jobIdOf(config);
  const awaited = new Awaited(env.clock);
  let ended: { readonly code: number; readonly lingering: Promise<void> } | undefined;
  const allowReplay = config.start.allowReplay ?? settings.allowReplay;

  const onEnded = (state: "FINISHED" | "CANCELED" | "FAILED", message: string): void => {
    const log = master.log();
    const event: EndEvent = { event: "jobEnded", state, message, ...(log === undefined ? {} : { log: endOf(log) }) };
    printEvent(event);
    const code = exitCodeOf(event);
    const lingering = linger(awaited);
    ended = { code, lingering };
    if (settings.shutsDownOnFinish) void lingering.then(() => exitSoon(code));
  };

  const master = new JobMaster({
    env,
    rpc: {
      self: { role: "jobmanager", id: host.name },
      secret,
      heartbeat: { intervalMs: settings.heartbeatIntervalMs, timeoutMs: settings.heartbeatTimeoutMs },
    },
    jobId,
    plan,
    moduleUrl: config.moduleUrl,
    settings,
    configuration: config.configuration,
    lineage: config.start.lineage,
    allowReplay: allowReplay === undefined ? undefined : (allowReplay as CheckpointId),
    onEnded,
    onFatal: fatal,
  });
  const rpcAddress = await master.listen(config.rpcAddress);
  const claiming = new AbortController();
  const leave = async (endsTaskManagers: boolean): Promise<void> => {
    claiming.abort();
    if (ended !== undefined) {
      await ended.lingering;
      exitSoon(ended.code);
      return;
    }
    await master.suspend({ endsTaskManagers });
    exitSoon(tellEnd({ event: "stopped", message: `job ${config.jobName} is suspended and can be continued` }));
  };
  const collections = countCollections(allocateCollections());
  const readProcess = observeProcess(() => [collections]);
  const rest = await startRestServer({
    address: config.restAddress,
    source: {
      view: master,
      own: {
        metrics: () => processMetricValues(readProcess()),
        environment: { version: `Node.js ${process.version}`, arch: process.arch, options: process.execArgv },
        log: () => ({ name: "jobmanager.log", ...tail.read() }),
        shutDown: () => {
          printEvent({ event: "stopped", message: `job ${config.jobName} was stopped over REST and can be continued` });
          leave(true).catch(fatal);
        },
      },
    },
    readProcess: observeProcess(() => [collections]),
    token,
    awaited,
    log,
  });
  onStop(() => leave(false));
  printEvent({ event: "listening", rpcAddress, restAddress: rest.address });

  if (store === undefined) {
    master.start(undefined);
    return;
  }
  const openOther = cachedOpener((uri) => openStore({ uri, ...settings.s3 }));
  const signal = claiming.signal;
  const started = await claimJob({ config, plan, settings, store, openStore: openOther, env, signal });
  if (started.type === "ended") {
    log.info("an earlier JobManager of this submission has recorded the end of the job", { state: started.state });
    const { state, record } = started;
    master.endedBefore(state, store, record);
    awaited.expect(record);
    onEnded(state, `the job was ${state} before`);
    return;
  }
  const { storage } = started;
  const { epoch, seq, lineage, head, override } = storage.log.head;
  given.onClaimed?.();
  log.info("commit log claimed", { epoch, seq, lineage, head: head?.id ?? null, job: jobId });
  if (override?.type === "state-deleted")
    log.warn("the job starts empty: its checkpoints were deleted when it was cancelled", { until: override.fromId });
  master.start(storage);
}
