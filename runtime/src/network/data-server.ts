// Where other TaskManagers connect to: authenticates a connection, then hands it to the bridge of its attempt.
//
// Invariants (tests cite them by name):
//   DS1. A connection reaches a bridge only after it has proven the secret of that very attempt (bridge-messages.ts).
//   DS2. A connection that does not finish its handshake in time is closed.
//   DS3. An attempt that is not known yet is refused for now, one older than the newest known is refused for good.
//
// Not here: data (incoming-bridge.ts).

import { assert } from "@sluice/kit";
import type { Conn, Listener, Net, Rng, Timers } from "@sluice/kit/env";
import {
  DATA_PROTOCOL,
  DATA_PROTOCOL_VERSION,
  isProof,
  makeNonce,
  makeProof,
  MESSAGE_CHALLENGE,
  MESSAGE_HELLO,
  MESSAGE_PROOF,
  MESSAGE_READY,
  MESSAGE_REJECT,
  messageType,
  readHello,
  readProof,
  writeJson,
} from "./bridge-messages.ts";
import type { Hello, Reject } from "./bridge-messages.ts";
import type { IncomingBridge } from "./incoming-bridge.ts";

const HANDSHAKE_MS_MAX = 10_000;
/** Connections in handshake: more than any job has TaskManagers is not one of ours. */
const HANDSHAKES_MAX = 4096;

export interface DataServerOptions {
  readonly net: Net;
  /** `host:port`, port 0 for any. */
  readonly listenAddress: string;
  readonly taskManagerId: string;
  readonly timers: Timers;
  readonly rng: Rng;
}

export class DataServer {
  readonly #options: DataServerOptions;
  readonly #attempts = new Map<string, IncomingBridge>();
  readonly #handshakes = new Set<Conn>();
  #listener: Listener | undefined;

  constructor(options: DataServerOptions) {
    this.#options = options;
  }

  /** Listens; returns the address as bound. Rejects with ADDRESS_IN_USE. */
  async start(): Promise<string> {
    assert(this.#listener === undefined, "a server starts once");
    const listener = await this.#options.net.listen(this.#options.listenAddress, (conn) => this.#onConn(conn));
    this.#listener = listener;
    return listener.address;
  }

  stop(): void {
    this.#listener?.close();
    for (const conn of this.#handshakes) conn.close();
    this.#handshakes.clear();
  }

  /** Connections of this attempt are accepted from now on. */
  register(bridge: IncomingBridge): void {
    this.#attempts.set(attemptKey(bridge), bridge);
  }

  unregister(bridge: IncomingBridge): void {
    if (this.#attempts.get(attemptKey(bridge)) === bridge) this.#attempts.delete(attemptKey(bridge));
  }

  #onConn(conn: Conn): void {
    if (this.#handshakes.size >= HANDSHAKES_MAX) {
      conn.onFrame = () => {};
      conn.close();
      return;
    }
    this.#handshakes.add(conn);
    const cancelTimeout = this.#options.timers.after(HANDSHAKE_MS_MAX, "data handshake", () => conn.close()); // DS2
    const done = (): void => {
      cancelTimeout();
      this.#handshakes.delete(conn);
    };
    conn.onClose = done;
    conn.onFrame = (message) => this.#onHello(conn, message, done);
  }

  #onHello(conn: Conn, message: Uint8Array, done: () => void): void {
    const hello = messageType(message) === MESSAGE_HELLO ? readHello(message) : undefined;
    if (hello === undefined || hello.protocol !== DATA_PROTOCOL) {
      conn.close();
      return;
    }
    const refusal = this.#refusal(hello);
    if (refusal !== undefined) {
      this.#reject(conn, refusal);
      return;
    }
    const bridge = this.#attempts.get(attemptKey(hello)) as IncomingBridge;
    const nonce = makeNonce(this.#options.rng);
    const expected = makeProof(bridge.secret, "sender", hello, nonce);
    conn.onFrame = (answer) => this.#onProof({ conn, hello, bridge, expected, done }, answer);
    conn.send(writeJson(MESSAGE_CHALLENGE, { nonce, proof: makeProof(bridge.secret, "receiver", hello, nonce) }));
  }

  #onProof(
    at: {
      readonly conn: Conn;
      readonly hello: Hello;
      readonly bridge: IncomingBridge;
      readonly expected: string;
      readonly done: () => void;
    },
    message: Uint8Array,
  ): void {
    const proof = messageType(message) === MESSAGE_PROOF ? readProof(message) : undefined;
    if (proof === undefined || !isProof(at.expected, proof.proof)) {
      this.#reject(at.conn, {
        code: "PEER_REJECTED",
        message: "the proof of the attempt's secret is wrong",
        retry: "never",
      });
      return;
    }
    at.done();
    const answer = at.bridge.attach(at.conn, at.hello.from, proof.channels);
    if (typeof answer === "string") this.#reject(at.conn, { code: "PEER_REJECTED", message: answer, retry: "never" });
    else at.conn.send(writeJson(MESSAGE_READY, { slots: answer }));
  }

  /** DS3. */
  #refusal(hello: Hello): Reject | undefined {
    const { taskManagerId } = this.#options;
    if (hello.version !== DATA_PROTOCOL_VERSION) {
      const message = `data protocol version ${hello.version} is not ${DATA_PROTOCOL_VERSION}, the version of ${taskManagerId}`;
      return { code: "FORMAT_UNSUPPORTED", message, retry: "never" };
    }
    if (hello.to !== taskManagerId) {
      return {
        code: "PEER_REJECTED",
        message: `this is TaskManager ${taskManagerId}, not ${hello.to}`,
        retry: "backoff",
      };
    }
    if (this.#attempts.has(attemptKey(hello))) return undefined;
    for (const known of this.#attempts.values()) {
      if (known.epoch > hello.epoch || (known.epoch === hello.epoch && known.attempt > hello.attempt)) {
        const message = `attempt ${hello.epoch}.${hello.attempt} was superseded by ${known.epoch}.${known.attempt} on ${taskManagerId}`;
        return { code: "FENCED", message, retry: "never" };
      }
    }
    const message = `attempt ${hello.epoch}.${hello.attempt} is not known on ${taskManagerId} yet`;
    return { code: "PEER_REJECTED", message, retry: "backoff" };
  }

  #reject(conn: Conn, reject: Reject): void {
    conn.onFrame = () => {};
    conn.send(writeJson(MESSAGE_REJECT, reject));
    conn.close();
  }
}

function attemptKey(of: { readonly epoch: number; readonly attempt: number }): string {
  return `${of.epoch}.${of.attempt}`;
}
