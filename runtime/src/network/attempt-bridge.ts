// The bridge of one attempt on one TaskManager: all channels that leave or enter this process, driven by one bell on the main thread.
//
// Invariants (tests cite them by name):
//   AB1. Between two turns the event loop runs: a bell that rings all the time does not starve sockets and heartbeats.
//   AB2. The first loss ends the bridge and is reported once; nothing is sent again (protocols 1: the attempt fails).
//
// Not here: the halves (outgoing-bridge.ts, incoming-bridge.ts), the listener (data-server.ts), which outlives attempts.

import { assert, AssertionError, toFailure } from "@sluice/kit";
import type { Failure } from "@sluice/kit";
import type { Clock, Net, Rng, Timers } from "@sluice/kit/env";
import type { AttemptNumber, Epoch } from "../model/index.ts";
import type { Bell } from "./bell.ts";
import type { IncomingChannel, OutgoingChannel } from "./contracts.ts";
import type { DataServer } from "./data-server.ts";
import { IncomingBridge } from "./incoming-bridge.ts";
import { OutgoingBridge } from "./outgoing-bridge.ts";

const POLL_MS = 2;

export interface AttemptBridgeOptions {
  readonly server: DataServer;
  /** Best with a high-water mark of 64 KiB, so that the cap on unsent bytes coincides with the connection's own. */
  readonly net: Net;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly rng: Rng;
  /** Rung by slots that publish to outgoing channels or release slots of incoming ones; only this bridge waits on it. */
  readonly bell: Bell;
  readonly taskManagerId: string;
  readonly epoch: Epoch;
  readonly attempt: AttemptNumber;
  /** Secret of this attempt, shared by its TaskManagers. */
  readonly secret: Uint8Array;
  /** Data address by TaskManager id. */
  readonly peers: ReadonlyMap<string, string>;
  readonly outgoing: readonly OutgoingChannel[];
  readonly incoming: readonly IncomingChannel[];
  /** How long a peer may take to accept this attempt. */
  readonly connectTimeoutMs: number;
  /** Called at most once: PEER_LOST, PEER_REJECTED, FENCED, FORMAT_UNSUPPORTED or PROTOCOL_VIOLATION, naming the peer (AB2). */
  readonly onBroken: (failure: Failure) => void;
}

export class AttemptBridge {
  readonly #options: AttemptBridgeOptions;
  readonly #incoming: IncomingBridge;
  readonly #outgoing: OutgoingBridge;
  #state: "created" | "running" | "stopped" = "created";

  constructor(options: AttemptBridgeOptions) {
    this.#options = options;
    const onBroken = (failure: Failure): void => this.#break(failure);
    this.#incoming = new IncomingBridge({ ...options, channels: options.incoming, onBroken });
    this.#outgoing = new OutgoingBridge({
      ...options,
      channels: options.outgoing,
      onBroken,
      wake: () => options.bell.ring(),
    });
  }

  /** Accepts peers, begins to connect, and moves frames until `stop`. */
  start(): void {
    assert(this.#state === "created", "a bridge starts once");
    this.#state = "running";
    this.#options.server.register(this.#incoming);
    this.#outgoing.start();
    void this.#run();
  }

  /**
   * Ends on purpose; peers are told, so that they report no loss. Frames still in outgoing rings are dropped: after a success, wait for
   * `isDrained` first.
   */
  stop(): void {
    if (this.#state === "stopped") return;
    this.#state = "stopped";
    this.#options.server.unregister(this.#incoming);
    this.#outgoing.stop();
    this.#incoming.stop();
    this.#options.bell.ring();
  }

  /** Everything that local slots have published to other TaskManagers was handed to the network. */
  get isDrained(): boolean {
    return this.#outgoing.isDrained;
  }

  async #run(): Promise<void> {
    const { bell, timers } = this.#options;
    try {
      while (this.#state === "running") {
        const seen = bell.sequence();
        this.#outgoing.pump();
        this.#incoming.announceCredit();
        if (bell.sequence() === seen) await bell.waitPast(seen, this.#outgoing.needsPolling ? POLL_MS : Infinity);
        else await new Promise<void>((resolve) => void timers.after(0, "bridge turn", resolve)); // AB1
      }
    } catch (thrown) {
      if (thrown instanceof AssertionError) throw thrown; // a bug stops the process (kit AS1)
      this.#break(toFailure(thrown));
    }
  }

  #break(failure: Failure): void {
    if (this.#state === "stopped") return;
    this.stop();
    this.#options.onBroken(failure);
  }
}
