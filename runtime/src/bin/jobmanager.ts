// Entry of a JobManager process.
//
// SIGTERM or the end of its standard input suspends the job: the next JobManager continues it from its newest checkpoint.
//
// Not here: everything that a JobManager does (jobmanager/).

import { plantBugs } from "@sluice/kit";
import { NodeClock, NodeHost, NodeNet, nodeRng, NodeTimers } from "@sluice/kit/env/node";
import { cachedOpener } from "../checkpoint/index.ts";
import { claimJob, jobIdOf, JobMaster, startRestServer, storeOf } from "../jobmanager/index.ts";
import { observeProcess } from "../metrics/index.ts";
import { configurationOf, runtimeSettings } from "../model/configuration/index.ts";
import type { CheckpointId, JobManagerConfig, JobPlan } from "../model/index.ts";
import {
  exitSoon,
  fatal,
  onStop,
  openStore,
  printEvent,
  processLog,
  readConfig,
  readJson,
  runProcess,
  takeSecret,
} from "./process-shell.ts";

runProcess(async () => {
  const config = readConfig<JobManagerConfig>();
  const secret = takeSecret();
  plantBugs(config.plantedBugs);
  const plan = readJson<JobPlan>(config.planPath, "the plan");
  const settings = runtimeSettings(configurationOf(config.configuration));
  const log = processLog({ process: "jobmanager" });
  for (const warning of settings.warnings) log.warn(warning);
  const host = new NodeHost({ log });
  const env = { clock: new NodeClock(), timers: new NodeTimers(), rng: nodeRng(), net: new NodeNet(), log, host };
  const storeConfig = storeOf(config, settings);
  const store = storeConfig === undefined ? undefined : await openStore(storeConfig);
  const jobId = jobIdOf(config);
  const allowReplay = config.start.allowReplay ?? settings.allowReplay;

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
    onEnded: (state, message) => {
      printEvent({ event: "jobEnded", state, message });
      exitSoon(state === "FAILED" ? 1 : 0);
    },
    onFatal: fatal,
  });
  const rpcAddress = await master.listen(config.rpcAddress);
  const rest = await startRestServer({ address: config.restAddress, view: master, readProcess: observeProcess(), log });
  const claiming = new AbortController();
  onStop(async () => {
    claiming.abort();
    await master.suspend();
    exitSoon(0);
  });
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
    printEvent({ event: "jobEnded", state: started.state, message: `the job was ${started.state} before` });
    exitSoon(started.state === "FAILED" ? 1 : 0);
    return;
  }
  const { storage } = started;
  const { epoch, seq, lineage, head, override } = storage.log.head;
  log.info("commit log claimed", { epoch, seq, lineage, head: head?.id ?? null, job: jobId });
  if (override?.type === "state-deleted")
    log.warn("the job starts empty: its checkpoints were deleted when it was cancelled", { until: override.fromId });
  master.start(storage);
});
