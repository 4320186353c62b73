// One authenticated connection between two processes: messages, requests with replies, heartbeats in both directions.
//
// A frame is JSON (UTF-8): during the handshake see handshake.ts, afterwards
//   {"k":"m","body":..}            one-way message
//   {"k":"q","id":n,"body":..}     request
//   {"k":"r","id":n,"body":..}     reply
//   {"k":"e","id":n,"failure":..}  the request failed
//   {"k":"h","body":..}            heartbeat
//
// Invariants (tests cite them by name):
//   RP1. Messages arrive in the order sent, each at most once; none before the handshake is done.
//   RP2. `onClose` is called exactly once, and never before the handshake is done; afterwards no other handler is called.
//   RP3. Every request settles: by its reply, by its timeout, or by the end of the connection.
//   RP4. A peer from which nothing came for the heartbeat timeout is lost, also when its connection looks open.
//   RP5. A process that itself slept does not blame its peer for the silence: it listens for one more interval first.
//   RP6. Nonsense from the peer ends the connection with PROTOCOL_VIOLATION; it never throws into the event loop.
//
// Not here: what messages say (to-jobmanager.ts, to-taskmanager.ts).

import { assert, AssertionError, Failure, failureFromJson, failureToJson, toFailure } from "@sluice/kit";
import type { FailureJson } from "@sluice/kit";
import type { Cancel, Clock, Conn, Host, Listener, Log, Net, Rng, Timers } from "@sluice/kit/env";
import { failure as failureShape } from "./common.ts";
import { CalleeHandshake, CallerHandshake } from "./handshake.ts";
import type { HandshakeStep, PeerIdentity } from "./handshake.ts";
import { anything, count, optional, parse, record, text } from "./shape.ts";

/** DESIGN 9: shorter than Flink's 10 s / 50 s. */
export const DEFAULT_HEARTBEAT = { intervalMs: 1_000, timeoutMs: 5_000 } as const;
const HANDSHAKE_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 60_000;
const REQUESTS_MAX = 1_000;
/** A peer that takes this little is as good as lost. */
const UNSENT_BYTES_MAX = 256 * 1024 * 1024;

export interface RpcEnv {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly rng: Rng;
  readonly net: Net;
  readonly log: Log;
  readonly host: Host;
}

export interface RpcOptions {
  readonly env: RpcEnv;
  readonly self: PeerIdentity;
  readonly secret: string;
  readonly heartbeat: { readonly intervalMs: number; readonly timeoutMs: number };
}

/** What the owner of a connection does with what comes in. */
export interface RpcHandlers {
  onMessage(body: unknown): void;
  /** A rejection travels to the peer as a Failure. */
  onRequest(body: unknown): Promise<unknown>;
  onHeartbeat?(body: unknown): void;
  /** Goes with each heartbeat that this side sends. */
  heartbeatBody?(): unknown;
  onClose(failure: Failure): void;
}

interface Envelope {
  readonly k: string;
  readonly id?: number | undefined;
  readonly body?: unknown;
  readonly failure?: FailureJson | undefined;
}

const envelope = record<Envelope>({ k: text, id: optional(count()), body: anything, failure: optional(failureShape) });

interface Waiting {
  readonly resolve: (body: unknown) => void;
  readonly reject: (failure: Failure) => void;
  readonly cancelTimeout: Cancel;
}

/** The authenticated connection. */
export class RpcPeer {
  readonly identity: PeerIdentity;
  readonly #options: RpcOptions;
  readonly #conn: Conn;
  #handlers: RpcHandlers | undefined;
  readonly #waiting = new Map<number, Waiting>();
  #requestIdNext = 1;
  #lastSeenMs: number;
  #tickDueMs = 0;
  #cancelTick: Cancel | undefined;
  #isClosed = false;

  /** `conn` has just finished its handshake. */
  constructor(options: RpcOptions, conn: Conn, identity: PeerIdentity) {
    this.#options = options;
    this.#conn = conn;
    this.identity = identity;
    this.#lastSeenMs = options.env.clock.nowMs();
    conn.onFrame = (frame) => this.#onFrame(frame);
    conn.onDrain = () => {};
    conn.onClose = (reason) => this.#end(this.#lost(reason));
  }

  /** Begins to deliver; called once, in the same turn of the event loop as the constructor. */
  start(handlers: RpcHandlers): void {
    assert(this.#handlers === undefined, "a connection has one owner");
    this.#handlers = handlers;
    this.#heartbeat();
  }

  /** `host:port` of the other end. */
  get address(): string {
    return this.#conn.peer;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** One-way; after the end of the connection it goes nowhere. */
  send(body: object): void {
    this.#write({ k: "m", body });
  }

  /** Rejects with the peer's Failure, or PEER_LOST when no answer came. */
  request(body: object, timeoutMs: number = REQUEST_TIMEOUT_MS): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#isClosed) {
        reject(this.#lost("the connection is closed"));
        return;
      }
      assert(this.#waiting.size < REQUESTS_MAX, "a peer has not thousands of requests open");
      const id = this.#requestIdNext;
      this.#requestIdNext += 1;
      const cancelTimeout = this.#options.env.timers.after(timeoutMs, "rpc-request", () => {
        this.#waiting.delete(id);
        reject(this.#lost(`no answer to a request within ${timeoutMs} ms`));
      });
      this.#waiting.set(id, { resolve, reject, cancelTimeout });
      this.#write({ k: "q", id, body });
    });
  }

  /** Ends the connection; the owner is told like for any other end (RP2). */
  close(failure: Failure): void {
    this.#end(failure);
  }

  #lost(reason: string): Failure {
    const { role, id } = this.identity;
    return new Failure("PEER_LOST", {
      retry: "backoff",
      message: `${role} ${id} (${this.#conn.peer}) is lost: ${reason}`,
    });
  }

  #write(frame: Envelope): void {
    if (this.#isClosed) return;
    this.#conn.send(Buffer.from(JSON.stringify(frame)));
    if (this.#conn.unsentBytes > UNSENT_BYTES_MAX) this.#end(this.#lost("it does not take what it is sent"));
  }

  #heartbeat(): void {
    if (this.#isClosed) return;
    const { env, heartbeat } = this.#options;
    const nowMs = env.clock.nowMs();
    const sleptMs = this.#tickDueMs === 0 ? 0 : nowMs - this.#tickDueMs;
    // RP5: frames that came while this process slept are still to be read.
    if (sleptMs > heartbeat.timeoutMs / 2)
      this.#lastSeenMs = Math.max(this.#lastSeenMs, nowMs - heartbeat.timeoutMs + heartbeat.intervalMs);
    if (nowMs - this.#lastSeenMs >= heartbeat.timeoutMs) {
      this.#end(this.#lost(`no heartbeat for ${Math.round(nowMs - this.#lastSeenMs)} ms`)); // RP4
      return;
    }
    this.#write({ k: "h", body: this.#handlers?.heartbeatBody?.() ?? null });
    this.#tickDueMs = nowMs + heartbeat.intervalMs;
    this.#cancelTick = env.timers.after(heartbeat.intervalMs, "heartbeat", () => this.#heartbeat());
  }

  #onFrame(bytes: Uint8Array): void {
    if (this.#isClosed) return;
    this.#lastSeenMs = this.#options.env.clock.nowMs();
    const json = decode(bytes);
    const parsed = parse(envelope, json);
    if ("problem" in parsed) {
      this.violation(parsed.problem);
      return;
    }
    this.#guard(() => this.#deliver(parsed.ok));
  }

  #deliver(frame: Envelope): void {
    const handlers = this.#handlers;
    assert(handlers !== undefined, "RP1: frames come after start");
    switch (frame.k) {
      case "m":
        handlers.onMessage(frame.body);
        return;
      case "h":
        handlers.onHeartbeat?.(frame.body);
        return;
      case "q":
        if (frame.id === undefined) this.violation("a request without id");
        else this.#answer(frame.id, handlers.onRequest(frame.body));
        return;
      case "r":
      case "e": {
        const waiting = frame.id === undefined ? undefined : this.#waiting.get(frame.id);
        if (waiting === undefined || frame.id === undefined) return; // it came after its timeout
        this.#waiting.delete(frame.id);
        waiting.cancelTimeout();
        if (frame.k === "r") waiting.resolve(frame.body);
        else
          waiting.reject(
            frame.failure === undefined ? this.#lost("it failed without saying why") : failureFromJson(frame.failure),
          );
        return;
      }
      default:
        this.violation(`unknown kind of frame ${frame.k}`);
    }
  }

  #answer(id: number, result: Promise<unknown>): void {
    result.then(
      (body) => this.#write({ k: "r", id, body }),
      (thrown: unknown) => {
        if (thrown instanceof AssertionError) this.#options.env.host.crash(thrown.message);
        this.#write({ k: "e", id, failure: failureToJson(toFailure(thrown)) });
      },
    );
  }

  /** The owner found nonsense in a body (RP6). */
  violation(problem: string): void {
    const { role, id } = this.identity;
    this.#end(
      new Failure("PROTOCOL_VIOLATION", { retry: "backoff", message: `${role} ${id} sent nonsense: ${problem}` }),
    );
  }

  /** A broken assertion in a handler ends the process, never only the connection. */
  #guard(run: () => void): void {
    try {
      run();
    } catch (thrown) {
      if (thrown instanceof AssertionError) this.#options.env.host.crash(thrown.message);
      this.#end(toFailure(thrown));
    }
  }

  #end(failure: Failure): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#cancelTick?.();
    this.#conn.onClose = () => {};
    this.#conn.close();
    for (const waiting of this.#waiting.values()) {
      waiting.cancelTimeout();
      waiting.reject(failure);
    }
    this.#waiting.clear();
    this.#handlers?.onClose(failure);
  }
}

function decode(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8"));
  } catch {
    return undefined;
  }
}

function drawNonce(rng: Rng): string {
  let text = "";
  for (let i = 0; i < 4; i += 1) text += rng.u32().toString(16).padStart(8, "0");
  return text;
}

/** Runs one side of a handshake; resolves with the peer's name, rejects with PEER_REJECTED or PEER_LOST. */
function shakeHands(
  options: RpcOptions,
  conn: Conn,
  handshake: { onFrame(body: unknown): HandshakeStep },
  adopt: (peer: PeerIdentity) => void,
): Promise<void> {
  const { env } = options;
  return new Promise((resolve, reject) => {
    let isSettled = false;
    const fail = (failure: Failure): void => {
      if (isSettled) return;
      isSettled = true;
      cancel();
      conn.onClose = () => {};
      conn.close();
      reject(failure);
    };
    const cancel = env.timers.after(HANDSHAKE_TIMEOUT_MS, "rpc-handshake", () =>
      fail(new Failure("PEER_LOST", { retry: "backoff", message: `${conn.peer} did not finish the handshake` })),
    );
    conn.onDrain = () => {};
    conn.onClose = (reason) =>
      fail(
        new Failure("PEER_LOST", {
          retry: "backoff",
          message: `${conn.peer} went away during the handshake: ${reason}`,
        }),
      );
    conn.onFrame = (bytes) => {
      const step = handshake.onFrame(decode(bytes));
      if (step.type === "send") {
        conn.send(Buffer.from(JSON.stringify(step.frame)));
        return;
      }
      if (step.type === "refused") {
        if (step.tell !== undefined) conn.send(Buffer.from(JSON.stringify(step.tell)));
        fail(
          new Failure("PEER_REJECTED", {
            retry: "backoff",
            message: `${conn.peer}: ${step.reason}`,
            remedy: "start both processes from the same release, for the same job, with the same SLUICE_SECRET",
          }),
        );
        return;
      }
      isSettled = true;
      cancel();
      if (step.frame !== undefined) conn.send(Buffer.from(JSON.stringify(step.frame)));
      adopt(step.peer); // RP1: takes over the connection before its next frame
      resolve();
    };
  });
}

/** Connects and authenticates. `adopt` gets the connection in the turn in which it opened, and must start it. */
export async function connectRpc(
  options: RpcOptions,
  address: string,
  signal: AbortSignal,
  adopt: (peer: RpcPeer) => void,
): Promise<void> {
  const conn = await options.env.net.connect(address, signal);
  const { self, secret, env } = options;
  const handshake = new CallerHandshake({ self, secret, nonce: drawNonce(env.rng) });
  const done = shakeHands(options, conn, handshake, (peer) => adopt(new RpcPeer(options, conn, peer)));
  conn.send(Buffer.from(JSON.stringify(handshake.hello())));
  await done;
}

/** Listens; connections that prove the secret go to `adopt`, which must start them. Refusals are logged. */
export function listenRpc(options: RpcOptions, address: string, adopt: (peer: RpcPeer) => void): Promise<Listener> {
  const { env, self, secret } = options;
  return env.net.listen(address, (conn) => {
    const handshake = new CalleeHandshake({ self, secret, nonce: drawNonce(env.rng) });
    shakeHands(options, conn, handshake, (peer) => adopt(new RpcPeer(options, conn, peer))).catch((thrown: unknown) => {
      if (thrown instanceof AssertionError) env.host.crash(thrown.message);
      const failure = toFailure(thrown);
      env.log.warn("a connection was refused", { code: failure.code, reason: failure.message });
    });
  });
}
