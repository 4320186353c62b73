// The bridges of this TaskManager's attempts over its one listening address, with a secret of their own per attempt.
//
// Not here: frames, credit, authentication (network/).

import { createHmac } from "node:crypto";

import type { Failure } from "@sluice/kit";
import type { Clock, Net, Rng, Timers } from "@sluice/kit/env";
import type { AttemptNumber, Epoch } from "../model/index.ts";
import { AttemptBridge } from "../network/index.ts";
import type { Bell, DataServer, IncomingChannel, OutgoingChannel } from "../network/index.ts";

/** All TaskManagers are told to deploy at the same time; starting threads may take a while on a busy machine. */
const CONNECT_TIMEOUT_MS = 60_000;

export interface DataPlaneOptions {
  readonly env: { readonly clock: Clock; readonly timers: Timers; readonly rng: Rng };
  readonly net: Net;
  /** Started. */
  readonly server: DataServer;
  /** `host:port` for other TaskManagers. */
  readonly address: string;
  readonly taskManagerId: string;
  readonly secret: string;
}

export class DataPlane {
  readonly address: string;
  readonly #options: DataPlaneOptions;

  constructor(options: DataPlaneOptions) {
    this.#options = options;
    this.address = options.address;
  }

  /** Starts to connect the remote channels of an attempt. `onFailure` is called at most once. */
  open(attempt: {
    readonly epoch: Epoch;
    readonly attempt: AttemptNumber;
    readonly bell: Bell;
    readonly peers: ReadonlyMap<string, string>;
    readonly incoming: readonly IncomingChannel[];
    readonly outgoing: readonly OutgoingChannel[];
    readonly onFailure: (failure: Failure) => void;
  }): AttemptBridge {
    const { env, net, server, taskManagerId, secret } = this.#options;
    const derived = createHmac("sha256", secret).update(`data ${attempt.epoch}.${attempt.attempt}`).digest();
    const bridge = new AttemptBridge({
      ...env,
      ...attempt,
      server,
      net,
      taskManagerId,
      secret: derived,
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
      onBroken: attempt.onFailure,
    });
    bridge.start();
    return bridge;
  }
}
