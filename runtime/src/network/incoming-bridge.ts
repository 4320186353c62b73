// The receiving half of the bridge of one attempt: frames from other TaskManagers into the rings of local slots.
//
// Invariants (tests cite them by name):
//   IB1. A frame that arrives has a free slot waiting: the sender had credit. One that has not is a protocol violation.
//   IB2. Frames enter a ring in the order of their sequence numbers without a gap; anything else breaks the connection.
//   IB3. Whatever a peer sends, nothing but this attempt fails: no assertion depends on foreign bytes.
//
// Not here: authentication (data-server.ts).

import { Failure } from "@sluice/kit";
import type { Conn } from "@sluice/kit/env";
import type { AttemptNumber, Epoch } from "../model/index.ts";
import { MESSAGE_BYE, MESSAGE_DATA, messageType, readU32, writeBye, writeCredit } from "./bridge-messages.ts";
import type { IncomingChannel } from "./contracts.ts";
import { FRAME_HEADER_BYTES, writeWire } from "./frame.ts";
import { RingProducer } from "./ring.ts";

interface Inbound {
  readonly channelKey: string;
  readonly peer: string;
  readonly ring: RingProducer;
  sequence: number;
  /** What the sender was told it may have sent in total, modulo 2^32. */
  granted: number;
}

interface InboundLink {
  readonly conn: Conn;
  readonly peer: string;
  /** In the order of the sender's numbers. */
  readonly channels: readonly Inbound[];
  saidBye: boolean;
}

export interface IncomingBridgeOptions {
  readonly epoch: Epoch;
  readonly attempt: AttemptNumber;
  readonly secret: Uint8Array;
  readonly channels: readonly IncomingChannel[];
  /** Called once, with the first loss or violation: the attempt is over. */
  readonly onBroken: (failure: Failure) => void;
}

export class IncomingBridge {
  readonly epoch: Epoch;
  readonly attempt: AttemptNumber;
  readonly secret: Uint8Array;
  readonly #channels: readonly Inbound[];
  readonly #links = new Map<string, InboundLink>();
  readonly #onBroken: (failure: Failure) => void;
  #over = false;

  constructor(options: IncomingBridgeOptions) {
    this.epoch = options.epoch;
    this.attempt = options.attempt;
    this.secret = options.secret;
    this.#onBroken = options.onBroken;
    this.#channels = options.channels.map((channel): Inbound => {
      const ring = new RingProducer(channel.ring, channel.slotBell);
      return { channelKey: channel.channelKey, peer: channel.peer, ring, sequence: 0, granted: ring.slotCount };
    });
  }

  /** Takes over an authenticated connection. A text: why it cannot be. Otherwise the initial grants, in the order of `channelKeys`. */
  attach(conn: Conn, peer: string, channelKeys: readonly string[]): string | readonly number[] {
    if (this.#over) return "this attempt has ended here";
    if (this.#links.has(peer)) return `there already was a connection from ${peer} in this attempt`;
    const expected = new Map(
      this.#channels.filter((channel) => channel.peer === peer).map((channel) => [channel.channelKey, channel]),
    );
    const channels: Inbound[] = [];
    for (const key of channelKeys) {
      const channel = expected.get(key);
      if (channel === undefined) return `channel ${key} from ${peer} is not expected here`;
      expected.delete(key);
      channels.push(channel);
    }
    if (expected.size > 0) return `channels from ${peer} are missing: ${[...expected.keys()].slice(0, 3).join(", ")}`;
    const link: InboundLink = { conn, peer, channels, saidBye: false };
    this.#links.set(peer, link);
    conn.onFrame = (message) => this.#onMessage(link, message);
    conn.onClose = (reason) => {
      if (!link.saidBye) this.#break(link, `the connection from ${peer} broke: ${reason}`);
    };
    for (const channel of channels) channel.ring.notifyRelease(); // the bridge may sleep when the first slot is released
    return channels.map((channel) => channel.ring.slotCount);
  }

  /** Tells senders of slots that were released. Called after the bridge's bell rang. */
  announceCredit(): void {
    for (const link of this.#links.values()) {
      if (link.saidBye) continue;
      const grants: (readonly [number, number])[] = [];
      link.channels.forEach((channel, i) => {
        // First ask to hear of the next release, then look: a release in between rings again.
        channel.ring.notifyRelease();
        const granted = (channel.ring.released + channel.ring.slotCount) >>> 0;
        if (granted === channel.granted) return;
        channel.granted = granted;
        grants.push([i, granted]);
      });
      if (grants.length > 0) link.conn.send(writeCredit(grants));
    }
  }

  /** Ends on purpose: senders are told, no loss is reported any more. */
  stop(): void {
    this.#over = true;
    for (const link of this.#links.values()) {
      if (!link.saidBye) link.conn.send(writeBye());
      link.saidBye = true;
      link.conn.close();
    }
  }

  #onMessage(link: InboundLink, message: Uint8Array): void {
    if (this.#over) return;
    const type = messageType(message);
    if (type === MESSAGE_DATA) {
      const problem = this.#accept(link, message);
      if (problem !== undefined) this.#violate(link, problem);
    } else if (type === MESSAGE_BYE) {
      link.saidBye = true;
    } else {
      this.#violate(link, `an unexpected message of type ${type}`);
    }
  }

  /** Puts a frame into its ring; a text says what is wrong with it (IB1-IB3). */
  #accept(link: InboundLink, message: Uint8Array): string | undefined {
    if (message.length < FRAME_HEADER_BYTES) return "a frame shorter than its header";
    const number = readU32(message, 4);
    const channel = link.channels[number];
    if (channel === undefined) return `a frame for channel ${number}, which does not exist`;
    if (readU32(message, 20) !== message.length)
      return `a frame of ${message.length} bytes that says it has ${readU32(message, 20)}`;
    if (message.length > channel.ring.slotBytes)
      return `a frame of ${message.length} bytes for slots of ${channel.ring.slotBytes}`;
    const sequence = readU32(message, 8);
    if (sequence !== channel.sequence)
      return `frame ${sequence} of ${channel.channelKey} where ${channel.sequence} is due`;
    const slot = channel.ring.reserve();
    if (slot < 0) return `frame ${sequence} of ${channel.channelKey} without credit`;
    channel.sequence = (sequence + 1) >>> 0;
    const offset = channel.ring.offsetOf(slot);
    channel.ring.memory.u8.set(message, offset);
    writeWire(channel.ring.memory, offset, 0, 0);
    channel.ring.publish();
    return undefined;
  }

  #violate(link: InboundLink, problem: string): void {
    this.#fail(
      link,
      new Failure("PROTOCOL_VIOLATION", {
        retry: "never",
        message: `TaskManager ${link.peer} sent ${problem}`,
        remedy: "Run all processes of the job with the same version of Sluice; if they are, this is a bug to report.",
      }),
    );
  }

  #break(link: InboundLink, message: string): void {
    this.#fail(link, new Failure("PEER_LOST", { retry: "backoff", message }));
  }

  #fail(link: InboundLink, failure: Failure): void {
    if (this.#over) return;
    this.#over = true;
    link.saidBye = true;
    for (const other of this.#links.values()) other.conn.close();
    this.#onBroken(failure);
  }
}
