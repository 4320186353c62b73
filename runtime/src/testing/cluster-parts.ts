// The JobManager and the TaskManagers of a MiniCluster: the code of the processes over seams in memory.
//
// Not here: when they start and die (mini-cluster.ts).

import { AssertionError } from "@sluice/kit";
import type { Log, Net, ObjectStore, Rng } from "@sluice/kit/env";
import { openObjectStore } from "@sluice/kit/env/node";
import type { StoreOpener } from "../checkpoint/index.ts";
import type { JobMain } from "../datastream/index.ts";
import { claimJob, jobIdOf, JobMaster } from "../jobmanager/index.ts";
import type { RuntimeSettings } from "../model/configuration/index.ts";
import type { JobManagerConfig, JobPlan } from "../model/index.ts";
import { DataServer } from "../network/index.ts";
import { DataPlane, IoService, TaskManager } from "../taskmanager/index.ts";
import { InlineSlots } from "./inline-slots.ts";
import type { Life } from "./life.ts";
import type { MemoryDisk } from "./memory-store.ts";
import type { SteadyClock } from "./steady-clock.ts";

const JOB_MANAGER_ADDRESS = "jobmanager:6123";
const NAMESPACE = "test";
/** Connections stay in this process. */
const SECRET = "in one process nobody listens";

/** What all parts of one cluster share. */
export interface ClusterSetup {
  readonly job: string | JobMain;
  readonly plan: JobPlan;
  readonly settings: RuntimeSettings;
  readonly configuration: Readonly<Record<string, string>>;
  /** Undefined: the job takes no checkpoints. */
  readonly store: ObjectStore | undefined;
  readonly lineage: string;
  readonly clock: SteadyClock;
  readonly log: Log;
  /** Of the variables that the job declares, secrets among them. */
  readonly environment: Readonly<Record<string, string>>;
}

interface PartEnv {
  readonly life: Life;
  readonly net: Net;
  readonly rng: Rng;
}

export type EndState = "FINISHED" | "CANCELED" | "FAILED";

function envOf(setup: ClusterSetup, { life, net, rng }: PartEnv) {
  const { clock, log } = setup;
  return {
    clock,
    timers: life.timers(clock),
    rng,
    net,
    log: log.with({ process: life.name }),
    host: {
      name: life.name,
      crash: (reason: string): never => {
        const error = new AssertionError(`${life.name}: ${reason}`);
        life.broken(error);
        throw error;
      },
    },
  };
}

/** Starts a JobManager; it claims the log, or learns that the job has ended before. */
export async function startJobManager(
  setup: ClusterSetup,
  part: PartEnv,
  on: {
    readonly started: (master: JobMaster) => void;
    readonly ended: (as: EndState, message: string) => void;
    readonly fatal: (thrown: unknown) => void;
  },
): Promise<void> {
  const { plan, settings, configuration, lineage, store } = setup;
  const env = envOf(setup, part);
  const config: JobManagerConfig = {
    jobName: plan.jobName,
    namespace: NAMESPACE,
    uid: "mini-cluster",
    moduleUrl: moduleUrlOf(setup.job),
    planPath: "",
    configuration,
    store: undefined,
    rpcAddress: JOB_MANAGER_ADDRESS,
    restAddress: "",
    start: { lineage, newLineage: false, from: undefined, allowReplay: undefined },
    plantedBugs: [],
  };
  const master = new JobMaster({
    env,
    rpc: {
      self: { role: "jobmanager", id: part.life.name },
      secret: SECRET,
      heartbeat: { intervalMs: settings.heartbeatIntervalMs, timeoutMs: settings.heartbeatTimeoutMs },
    },
    jobId: jobIdOf(config),
    plan,
    moduleUrl: config.moduleUrl,
    settings,
    configuration,
    lineage,
    allowReplay: undefined,
    onEnded: on.ended,
    onFatal: on.fatal,
  });
  await master.listen(JOB_MANAGER_ADDRESS);
  if (store === undefined) {
    master.start(undefined);
    on.started(master);
    return;
  }
  const { signal } = new AbortController();
  const own = part.life.store(store);
  const claimed = await claimJob({ config, plan, settings, store: own, openStore: openerOf(part.life), env, signal });
  if (claimed.type === "ended") {
    on.ended(claimed.state, `job ${plan.jobName} is ${claimed.state}`);
    return;
  }
  master.start(claimed.storage);
  on.started(master);
}

/** Stores of savepoints in other places. */
function openerOf(life: Life): StoreOpener {
  return async (uri) => life.store(await openObjectStore(uri));
}

/** Starts a TaskManager; resolves when it has stopped. */
export async function startTaskManager(
  setup: ClusterSetup,
  part: PartEnv,
  options: {
    readonly id: string;
    readonly slots: number;
    readonly disk: MemoryDisk;
    readonly started: (manager: TaskManager) => void;
  },
): Promise<void> {
  const { settings, store } = setup;
  const { id, slots, disk } = options;
  const { life, net } = part;
  const env = envOf(setup, part);
  const dataAddress = `${id}:6121`;
  const server = new DataServer({ ...env, listenAddress: dataAddress, taskManagerId: id });
  await server.start();
  const io = new IoService({
    env,
    store: store === undefined ? undefined : life.store(store),
    openStore: openerOf(life),
    localCopies: { ...settings.localCopies, disks: settings.localCopies.enabled ? [life.disk(disk)] : [] },
    send: (event) => life.soon(() => taskManager.onIoEvent(event)),
  });
  const taskManager: TaskManager = new TaskManager({
    env,
    id,
    secret: SECRET,
    jobManagerAddress: JOB_MANAGER_ADDRESS,
    slotCount: slots,
    metricsAddress: "",
    processId: 1,
    hardware: { cpuCores: 1, physicalMemoryBytes: 1, heapLimitBytes: 1 },
    settings,
    plantedBugs: [],
    slotHost: new InlineSlots({
      life,
      job: setup.job,
      clock: setup.clock,
      log: env.log,
      io,
      environment: setup.environment,
    }),
    dataPlane: new DataPlane({ env, net, server, address: dataAddress, taskManagerId: id, secret: SECRET }),
    io: { post: (command) => life.soon(() => io.onCommand(command)) },
    machine: { residentBytes: () => 0, freeMemoryBytes: () => 0, metrics: () => ({}) },
    onShutdown: (reason) => life.begin(() => taskManager.stop(reason)),
  });
  options.started(taskManager);
  await taskManager.run();
}

function moduleUrlOf(job: string | JobMain): string {
  return typeof job === "string" ? job : "memory:main";
}
