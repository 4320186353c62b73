// A TaskManager without slots: it speaks the real protocol over real connections, says of every task that it runs, and acknowledges
// every checkpoint with parts of an object that it has really stored.
//
// Not here: what a TaskManager does besides (runtime/src/taskmanager).

import { Backoff, sleep } from "@sluice/kit";
import type { Clock, Host, Log, Net, ObjectStore, Rng, Timers } from "@sluice/kit/env";
import type { CheckpointAck, CheckpointId, PartHandle, SubtaskId } from "@sluice/runtime/internal/model";
import { connectRpc } from "@sluice/runtime/internal/rpc";
import type { DeployRequest, JobManagerMessage, RpcPeer, TaskManagerMessage } from "@sluice/runtime/internal/rpc";
import { RECONNECT } from "@sluice/runtime/internal/taskmanager";

const PART_BYTES = 64;
const PARTS_PER_TASK = 2;
const STATS = { startDelayMs: 1, alignmentMs: 1, syncMs: 1, asyncMs: 1, stateSizeBytes: PART_BYTES * PARTS_PER_TASK };

export interface SimulatedOptions {
  readonly env: {
    readonly clock: Clock;
    readonly timers: Timers;
    readonly rng: Rng;
    readonly net: Net;
    readonly log: Log;
    readonly host: Host;
  };
  readonly id: string;
  readonly slots: number;
  readonly secret: string;
  readonly address: string;
  readonly store: ObjectStore;
  readonly onDeployed: (request: DeployRequest) => void;
}

export class SimulatedTaskManager {
  readonly #options: SimulatedOptions;
  readonly #life = new AbortController();
  readonly #copies = new Set<string>();
  #deployed: DeployRequest | undefined;
  #peer: RpcPeer | undefined;

  constructor(options: SimulatedOptions) {
    this.#options = options;
  }

  /** Stays registered until `stop`. */
  async run(): Promise<void> {
    const { env } = this.#options;
    const { signal } = this.#life;
    const backoff = new Backoff(RECONNECT, env.rng);
    while (!signal.aborted) {
      const startedMs = env.clock.nowMs();
      await this.#session().catch(() => undefined); // no JobManager: it is tried again
      if (env.clock.nowMs() - startedMs > 2 * RECONNECT.maxMs) backoff.reset();
      await sleep(env.timers, backoff.nextDelayMs(env.clock.nowMs()), signal).catch(() => undefined);
    }
  }

  stop(): void {
    this.#life.abort();
  }

  async #session(): Promise<void> {
    const { env, id, secret, address, slots } = this.#options;
    const closed = Promise.withResolvers<void>();
    const heartbeat = { intervalMs: 1_000, timeoutMs: 10_000 };
    let peer: RpcPeer | undefined;
    await connectRpc(
      { env, self: { role: "taskmanager", id }, secret, heartbeat },
      address,
      this.#life.signal,
      (opened) => {
        peer = opened;
        opened.start({
          onMessage: (body) => this.#onMessage(body as JobManagerMessage),
          onRequest: (body) => Promise.resolve(this.#onRequest(body as DeployRequest)),
          heartbeatBody: () => this.#heartbeat(),
          onClose: () => closed.resolve(),
        });
      },
    );
    this.#peer = peer;
    this.#deployed = undefined;
    await peer?.request({
      type: "register",
      taskManagerId: id,
      instanceId: "1",
      slotCount: slots,
      dataAddress: `127.0.0.1:${1_000 + Number(id.slice(3))}`,
      metricsAddress: "127.0.0.1:1",
      processId: 1,
      localCopies: [...this.#copies],
      hardware: { cpuCores: 2, physicalMemoryBytes: 1e9, heapLimitBytes: 1e9 },
    });
    await closed.promise;
  }

  #heartbeat(): unknown {
    const running =
      this.#deployed === undefined ? null : { epoch: this.#deployed.epoch, attempt: this.#deployed.attempt };
    const tasks = this.#subtasks().map((subtask) => ({ subtask, counters: { numRecordsIn: 1, busyTimeMs: 1 } }));
    return { running, tasks, stuck: [], residentBytes: 1, freeMemoryBytes: 1, metrics: {} };
  }

  #subtasks(): readonly SubtaskId[] {
    return this.#deployed?.slots.flatMap(({ tasks }) => tasks.map(({ subtask }) => subtask)) ?? [];
  }

  #send(message: TaskManagerMessage): void {
    this.#peer?.send(message);
  }

  #onRequest(request: DeployRequest | { readonly type: string }): unknown {
    if (request.type !== "deploy") return { objects: [] };
    const deployed = request as DeployRequest;
    this.#deployed = deployed;
    this.#options.onDeployed(deployed);
    const { epoch, attempt } = deployed;
    for (const subtask of this.#subtasks()) {
      this.#send({ type: "taskState", epoch, attempt, subtask, state: "INITIALIZING" });
      this.#send({ type: "taskState", epoch, attempt, subtask, state: "RUNNING" });
    }
    return {};
  }

  #onMessage(message: JobManagerMessage): void {
    if (message.type === "shutdown") this.stop();
    // Sources are triggered one by one; the first trigger is the barrier of all tasks here.
    if (message.type === "triggerCheckpoint") void this.#acknowledge(message.barrier.checkpointId);
  }

  readonly #acknowledged = new Set<number>();

  async #acknowledge(checkpointId: CheckpointId): Promise<void> {
    const deployed = this.#deployed;
    if (deployed === undefined || this.#acknowledged.has(checkpointId)) return;
    this.#acknowledged.add(checkpointId);
    const { epoch, attempt, jobDir } = deployed;
    const subtasks = this.#subtasks();
    const object = `chk-${checkpointId}/x-${this.#options.id}`;
    await this.#options.store.put(`${jobDir}/${object}`, new Uint8Array(subtasks.length * PARTS_PER_TASK * PART_BYTES));
    this.#copies.add(`${jobDir}/${object}`);
    subtasks.forEach((subtask, i) => {
      const ack: CheckpointAck = {
        checkpointId,
        epoch,
        attempt,
        subtask,
        parts: partsOf(deployed, subtask, { object, firstPart: i * PARTS_PER_TASK }),
        finished: false,
        stats: STATS,
      };
      this.#send({ type: "acknowledgeCheckpoint", ack });
    });
  }
}

/** One keyed part over the subtask's key groups and one of its operator. */
function partsOf(
  { plan }: DeployRequest,
  { vertexId, subtaskIndex }: SubtaskId,
  at: { readonly object: string; readonly firstPart: number },
): readonly PartHandle[] {
  const vertex = plan.vertices.find(({ id }) => id === vertexId);
  const uid = vertex?.chain[0]?.uid ?? "";
  const { parallelism = 1, maxParallelism = 1 } = vertex ?? {};
  const keyGroups = [
    Math.ceil((subtaskIndex * maxParallelism) / parallelism),
    Math.floor(((subtaskIndex + 1) * maxParallelism - 1) / parallelism),
  ] as const;
  const part = (n: number): Pick<PartHandle, "object" | "offset" | "lengthBytes" | "crc32c"> => ({
    object: at.object,
    offset: (at.firstPart + n) * PART_BYTES,
    lengthBytes: PART_BYTES,
    crc32c: 0,
  });
  const operator: PartHandle = { uid, stateName: "offsets", kind: "operator", mode: "split", itemCount: 1, ...part(0) };
  if (vertex?.keyType === undefined) return [operator];
  return [operator, { uid, stateName: "sum", kind: "keyed", keyGroups, itemCount: 1, ...part(1) }];
}
