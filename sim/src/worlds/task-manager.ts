// A TaskManager of the coordinator world: runs pipelines of model tasks (pipeline.ts) as its JobManager says, in the messages of this world.
//
// Not here: what tasks do (pipeline.ts), a TaskManager that speaks the real protocol (operations/task-manager.ts).

import type { Conn } from "@sluice/kit/env";
import { decode, encode, type ToJobManager, type ToTaskManager } from "./messages.ts";
import { Pipeline, type PipelineOptions, sleep } from "./pipeline.ts";

export interface TaskManagerOptions extends PipelineOptions {
  readonly heartbeatTimeoutMs: number;
  /** Where the newest JobManager listens; empty while there is none. */
  readonly jobManagerAddress: () => string;
  readonly notified: (id: number) => void;
}

const HEARTBEAT_MS = 150;

export class SimTaskManager {
  readonly #options: TaskManagerOptions;
  #conn: Conn | undefined;
  #lastHeardMs = 0;
  #epochSeen = 0;
  #pipelines: Pipeline[] = [];

  constructor(options: TaskManagerOptions) {
    this.#options = options;
  }

  async run(): Promise<void> {
    const { env } = this.#options;
    for (;;) {
      const address = this.#options.jobManagerAddress();
      if (address !== "" && this.#conn === undefined) await this.#connect(address);
      await sleep(env, HEARTBEAT_MS, "tm-heartbeat");
      const conn = this.#conn;
      if (conn === undefined) continue;
      conn.send(encode({ type: "heartbeat" }));
      const isSilent = env.clock.nowMs() - this.#lastHeardMs > this.#options.heartbeatTimeoutMs;
      const isSuperseded = this.#options.jobManagerAddress() !== conn.peer && env.rng.chance(0.2);
      if (isSilent || isSuperseded) conn.close();
    }
  }

  send(message: ToJobManager): void {
    this.#conn?.send(encode(message));
  }

  async #connect(address: string): Promise<void> {
    const { env } = this.#options;
    try {
      const conn = await env.net.connect(address, new AbortController().signal);
      this.#conn = conn;
      this.#lastHeardMs = env.clock.nowMs();
      conn.onClose = () => {
        if (this.#conn === conn) this.#conn = undefined; // tasks run on until a JobManager says otherwise, as zombies do
      };
      conn.onFrame = (frame) => {
        if (this.#conn === conn) this.#receive(decode<ToTaskManager>(frame));
      };
      this.send({ type: "register", taskManager: this.#options.name });
    } catch {
      // PEER_LOST: the loop tries again
    }
  }

  #receive(message: ToTaskManager): void {
    this.#lastHeardMs = this.#options.env.clock.nowMs();
    switch (message.type) {
      case "heartbeat":
        return;
      case "deploy": {
        if (message.epoch < this.#epochSeen) return;
        this.#epochSeen = message.epoch;
        for (const pipeline of this.#pipelines) pipeline.stop();
        const indexes = new Set(message.subtasks.map((s) => s.subtaskIndex));
        this.#pipelines = [...indexes].map(
          (subtaskIndex) => new Pipeline(this.#options, this, { ...message, subtaskIndex }),
        );
        for (const pipeline of this.#pipelines) void pipeline.start(message);
        return;
      }
      case "trigger":
        for (const p of this.#pipelines)
          if (p.subtaskIndex === message.subtask.subtaskIndex) p.trigger(message.trigger);
        return;
      case "complete":
        this.#options.notified(message.id);
        for (const pipeline of this.#pipelines) pipeline.complete(message);
        return;
      case "aborted":
        for (const pipeline of this.#pipelines) pipeline.aborted(message);
        return;
    }
  }
}
