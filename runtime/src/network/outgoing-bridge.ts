// The sending half of the bridge of one attempt: frames of local slots to other TaskManagers, one connection per peer.
//
// Invariants (tests cite them by name):
//   OB1. Never more frames of a channel are sent than granted: credit is the receiver's free slots.
//   OB2. Frames of a channel leave in the order of its ring; each leaves once. A broken connection is never resumed.
//   OB3. At most UNSENT_BYTES_MAX plus one frame wait in this process for the network: bytes in the kernel are FIFO (protocols 4), and
//        one turn of the event loop sends no more than that per peer.
//   OB4. Before the first connection is up nothing is lost: connecting is retried until its deadline.
//
// Not here: when to pump (attempt-bridge.ts), the other side (incoming-bridge.ts).

import { Failure, toFailure } from "@sluice/kit";
import type { Cancel, Clock, Conn, Net, Rng, Timers } from "@sluice/kit/env";
import type { AttemptNumber, Epoch } from "../model/index.ts";
import {
  DATA_PROTOCOL,
  DATA_PROTOCOL_VERSION,
  isProof,
  makeNonce,
  makeProof,
  MESSAGE_BYE,
  MESSAGE_CHALLENGE,
  MESSAGE_CREDIT,
  MESSAGE_DATA,
  MESSAGE_HELLO,
  MESSAGE_PROOF,
  MESSAGE_READY,
  MESSAGE_REJECT,
  messageType,
  readChallenge,
  readCredit,
  readReady,
  readReject,
  writeBye,
  writeJson,
} from "./bridge-messages.ts";
import type { Hello } from "./bridge-messages.ts";
import type { OutgoingChannel } from "./contracts.ts";
import { readFrameHeader, writeWire } from "./frame.ts";
import { RingConsumer } from "./ring.ts";

/** Protocols 4: what the network has not taken belongs to the sender's side of a barrier. */
export const UNSENT_BYTES_MAX = 64 * 1024;
const CONNECT_RETRY_MS = 100;
const HANDSHAKE_MS_MAX = 10_000;

export interface OutgoingBridgeOptions {
  readonly net: Net;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly rng: Rng;
  readonly taskManagerId: string;
  readonly epoch: Epoch;
  readonly attempt: AttemptNumber;
  readonly secret: Uint8Array;
  /** Data address by TaskManager id, for every peer of `channels`. */
  readonly peers: ReadonlyMap<string, string>;
  readonly channels: readonly OutgoingChannel[];
  /** How long a peer may take to be there. */
  readonly connectTimeoutMs: number;
  /** Asks for another turn of the attempt's loop. */
  readonly wake: () => void;
  /** Called once, with the first loss, refusal or violation: the attempt is over. */
  readonly onBroken: (failure: Failure) => void;
}

interface Outbound {
  readonly ring: RingConsumer;
  sent: number;
  granted: number;
}

/** One peer: its connection and the channels to it. */
class OutboundLink {
  readonly peer: string;
  #address = "";
  readonly #options: OutgoingBridgeOptions;
  readonly #keys: readonly string[];
  readonly #channels: readonly Outbound[];
  readonly #fail: (failure: Failure) => void;
  readonly #abort = new AbortController();
  #conn: Conn | undefined;
  #isReady = false;
  /** The connection asked to wait for onDrain. */
  #isStalled = false;
  #isOver = false;
  #wasChallenged = false;
  #next = 0;
  #cancelTimer: Cancel = () => {};

  constructor(
    peer: string,
    channels: readonly OutgoingChannel[],
    options: OutgoingBridgeOptions,
    fail: (failure: Failure) => void,
  ) {
    this.peer = peer;
    this.#options = options;
    this.#fail = fail;
    this.#keys = channels.map((channel) => channel.channelKey);
    this.#channels = channels.map((channel) => ({
      ring: new RingConsumer(channel.ring, channel.slotBell),
      sent: 0,
      granted: 0,
    }));
  }

  start(): void {
    this.#address = this.#options.peers.get(this.peer) ?? "";
    if (this.#address === "") {
      this.#over(
        new Failure("PEER_LOST", { retry: "backoff", message: `the address of TaskManager ${this.peer} is not known` }),
      );
      return;
    }
    void this.#connect(this.#options.clock.nowMs() + this.#options.connectTimeoutMs);
  }

  stop(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#abort.abort();
    this.#cancelTimer();
    if (this.#isReady) this.#conn?.send(writeBye());
    this.#conn?.close();
  }

  /** Nothing is left in the rings or on the way to the network. */
  get isDrained(): boolean {
    if (this.#isOver) return true; // the peer has ended: nobody is left to send to
    return this.#channels.every((channel) => channel.ring.filled === 0) && (this.#conn?.unsentBytes ?? 0) === 0;
  }

  /** True while only time can tell when to go on: the cap is reached, but the connection promised no onDrain. */
  get needsPolling(): boolean {
    return this.#isReady && !this.#isOver && !this.#isStalled && (this.#conn?.unsentBytes ?? 0) >= UNSENT_BYTES_MAX;
  }

  /** Sends what credit and the cap allow, channels taking turns (OB1, OB3). */
  pump(): void {
    const conn = this.#conn;
    if (!this.#isReady || this.#isOver || this.#isStalled || conn === undefined) return;
    const count = this.#channels.length;
    let idle = 0;
    while (idle < count && conn.unsentBytes < UNSENT_BYTES_MAX) {
      const number = this.#next;
      this.#next = number + 1 === count ? 0 : number + 1;
      const channel = this.#channels[number] as Outbound;
      const slot = channel.sent === channel.granted ? -1 : channel.ring.peek();
      if (slot < 0) {
        idle += 1;
        continue;
      }
      idle = 0;
      const { memory } = channel.ring;
      const offset = channel.ring.offsetOf(slot);
      writeWire(memory, offset, MESSAGE_DATA, number);
      const { byteLength } = readFrameHeader(memory, offset);
      const goesOn = conn.send(memory.u8.subarray(offset, offset + byteLength));
      channel.sent = (channel.sent + 1) >>> 0;
      channel.ring.release(); // the connection has copied the bytes
      if (!goesOn) {
        this.#isStalled = true;
        return;
      }
    }
  }

  /** Outside of the attempt's loop, which may sleep until its bell rings. */
  #pumpFromCallback(): void {
    this.pump();
    if (this.needsPolling) this.#options.wake();
  }

  async #connect(deadlineMs: number): Promise<void> {
    let conn: Conn;
    try {
      conn = await this.#options.net.connect(this.#address, this.#abort.signal);
    } catch (thrown) {
      this.#retryOrFail(deadlineMs, toFailure(thrown, "PEER_LOST", `connecting to TaskManager ${this.peer}`));
      return;
    }
    if (this.#isOver) {
      conn.onFrame = () => {};
      conn.close();
      return;
    }
    this.#conn = conn;
    this.#handshake(conn, deadlineMs);
  }

  #handshake(conn: Conn, deadlineMs: number): void {
    const hello = this.#hello();
    const giveUp = (failure: Failure): void => {
      this.#cancelTimer();
      conn.onFrame = () => {};
      conn.onClose = () => {};
      conn.close();
      this.#conn = undefined;
      this.#retryOrFail(deadlineMs, failure);
    };
    const lost = (reason: string): Failure =>
      new Failure("PEER_LOST", {
        retry: "backoff",
        message: `handshake with TaskManager ${this.peer} at ${this.#address}: ${reason}`,
      });
    this.#cancelTimer = this.#options.timers.after(HANDSHAKE_MS_MAX, "data handshake", () =>
      giveUp(lost("no answer in time")),
    );
    conn.onClose = (reason) => giveUp(lost(reason));
    conn.onFrame = (message) => {
      const type = messageType(message);
      if (type === MESSAGE_REJECT) {
        const reject = readReject(message);
        giveUp(
          new Failure(reject?.code ?? "PEER_REJECTED", {
            retry: reject?.retry ?? "never",
            message: `TaskManager ${this.peer} refused the data connection: ${reject?.message ?? "no reason given"}`,
          }),
        );
        return;
      }
      const problem =
        type === MESSAGE_CHALLENGE ? this.#onChallenge(conn, hello, message) : this.#onReady(conn, type, message);
      if (problem !== undefined) {
        giveUp(
          new Failure("PEER_REJECTED", {
            retry: "never",
            message: `TaskManager ${this.peer} at ${this.#address}: ${problem}`,
          }),
        );
      }
    };
    conn.send(writeJson(MESSAGE_HELLO, hello));
  }

  #hello(): Hello {
    const { epoch, attempt, taskManagerId, rng } = this.#options;
    return {
      protocol: DATA_PROTOCOL,
      version: DATA_PROTOCOL_VERSION,
      epoch,
      attempt,
      from: taskManagerId,
      to: this.peer,
      nonce: makeNonce(rng),
    };
  }

  #onChallenge(conn: Conn, hello: Hello, message: Uint8Array): string | undefined {
    const challenge = readChallenge(message);
    if (challenge === undefined) return "sent a malformed challenge";
    const { secret } = this.#options;
    if (!isProof(makeProof(secret, "receiver", hello, challenge.nonce), challenge.proof))
      return "does not know the secret of this attempt";
    conn.send(
      writeJson(MESSAGE_PROOF, { proof: makeProof(secret, "sender", hello, challenge.nonce), channels: this.#keys }),
    );
    this.#wasChallenged = true;
    return undefined;
  }

  #onReady(conn: Conn, type: number, message: Uint8Array): string | undefined {
    const ready = type === MESSAGE_READY && this.#wasChallenged ? readReady(message) : undefined;
    if (ready === undefined || ready.slots.length !== this.#channels.length)
      return `sent an unexpected message of type ${type}`;
    this.#cancelTimer();
    ready.slots.forEach((slots, i) => {
      (this.#channels[i] as Outbound).granted = slots >>> 0;
    });
    conn.onFrame = (next) => this.#onMessage(next);
    conn.onDrain = () => {
      this.#isStalled = false;
      this.#pumpFromCallback();
    };
    conn.onClose = (reason) => {
      this.#over(
        new Failure("PEER_LOST", {
          retry: "backoff",
          message: `the connection to TaskManager ${this.peer} broke: ${reason}`,
        }),
      );
    };
    this.#isReady = true;
    this.#pumpFromCallback();
    return undefined;
  }

  #onMessage(message: Uint8Array): void {
    const type = messageType(message);
    if (type === MESSAGE_CREDIT) {
      const problem = this.#onCredit(message);
      if (problem === undefined) this.#pumpFromCallback();
      else
        this.#over(
          new Failure("PROTOCOL_VIOLATION", { retry: "never", message: `TaskManager ${this.peer} sent ${problem}` }),
        );
    } else if (type === MESSAGE_BYE) {
      this.#isOver = true;
    } else {
      this.#over(
        new Failure("PROTOCOL_VIOLATION", {
          retry: "never",
          message: `TaskManager ${this.peer} sent a message of type ${type}`,
        }),
      );
    }
  }

  #onCredit(message: Uint8Array): string | undefined {
    const grants = readCredit(message);
    if (grants === undefined) return "a malformed credit announcement";
    for (const [number, granted] of grants) {
      const channel = this.#channels[number];
      if (channel === undefined) return `credit for channel ${number}, which does not exist`;
      if (((granted - channel.granted) | 0) < 0) return `credit that shrinks on channel ${number}`;
      channel.granted = granted;
    }
    return undefined;
  }

  /** OB4: what may go away by itself is tried again until the deadline. */
  #retryOrFail(deadlineMs: number, failure: Failure): void {
    if (this.#isOver) return;
    this.#wasChallenged = false;
    const { clock, timers, connectTimeoutMs } = this.#options;
    if (failure.retry === "never") {
      this.#over(failure);
    } else if (clock.nowMs() + CONNECT_RETRY_MS > deadlineMs) {
      const message = `TaskManager ${this.peer} at ${this.#address} was not there within ${connectTimeoutMs} ms: ${failure.message}`;
      this.#over(new Failure("PEER_LOST", { retry: "backoff", message, cause: failure }));
    } else {
      this.#cancelTimer = timers.after(CONNECT_RETRY_MS, "data connect", () => void this.#connect(deadlineMs));
    }
  }

  #over(failure: Failure): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#cancelTimer();
    this.#conn?.close();
    this.#fail(failure);
  }
}

export class OutgoingBridge {
  readonly #links: readonly OutboundLink[];
  #over = false;

  constructor(options: OutgoingBridgeOptions) {
    const byPeer = Map.groupBy(options.channels, (channel) => channel.peer);
    const fail = (failure: Failure): void => {
      if (this.#over) return;
      this.stop();
      options.onBroken(failure);
    };
    this.#links = [...byPeer].map(([peer, channels]) => new OutboundLink(peer, channels, options, fail));
  }

  /** Begins to connect to all peers. */
  start(): void {
    for (const link of this.#links) link.start();
  }

  /** Ends on purpose: peers are told. What is still in the rings is dropped; see `isDrained`. */
  stop(): void {
    this.#over = true;
    for (const link of this.#links) link.stop();
  }

  /** Everything that slots have published was handed to the network. */
  get isDrained(): boolean {
    return this.#links.every((link) => link.isDrained);
  }

  /** True while a turn should follow soon although no bell will ring. */
  get needsPolling(): boolean {
    return this.#links.some((link) => link.needsPolling);
  }

  /** Sends what can be sent; bounded work (OB3). Called after the bridge's bell rang. */
  pump(): void {
    for (const link of this.#links) link.pump();
  }
}
