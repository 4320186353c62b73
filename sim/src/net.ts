// A simulated network: connections that deliver frames in order, late, or break.
//
// Invariants (those of the seam, N1 and N2 in kit/env/net.ts, and):
//   SN1. Frames of one direction keep their order whatever their delays; a partition holds them back, a break drops the rest.
//   SN2. A partition may be one-way; what cannot pass waits (a half-open connection), also the news of a close.

import { Failure } from "@sluice/kit";
import type { Conn, Listener, Net, Rng } from "@sluice/kit/env";
import type { EventLoop, EventOwner } from "./event-loop.ts";
import type { FaultPlan } from "./faults.ts";

const UNSENT_BYTES_HIGH = 64 * 1024;
const RETRY_MS = 40;

interface Endpoint {
  readonly owner: EventOwner;
  /** Name of the machine: partitions lie between machines, not between incarnations. */
  readonly machine: string;
}

interface Bound extends Endpoint {
  readonly onConn: (conn: Conn) => void;
}

/** The wires, shared by all nodes of a world. */
export class SimWires {
  faults: FaultPlan;
  readonly #loop: EventLoop;
  readonly #rng: Rng;
  readonly #listeners = new Map<string, Bound>();
  /** "from>to" of machines that cannot reach each other in that direction. */
  readonly #cuts = new Set<string>();
  readonly #conns = new Set<SimConn>();
  #portNext = 40_000;

  constructor(options: { readonly loop: EventLoop; readonly rng: Rng; readonly faults: FaultPlan }) {
    this.#loop = options.loop;
    this.#rng = options.rng;
    this.faults = options.faults;
  }

  net(owner: EventOwner, machine: string): Net {
    const endpoint = { owner, machine };
    return {
      listen: (address, onConn) => this.#listen(endpoint, address, onConn),
      connect: (address, signal) => this.#connect(endpoint, address, signal),
    };
  }

  cut(from: string, to: string): void {
    this.#cuts.add(`${from}>${to}`);
  }

  heal(): void {
    this.#cuts.clear();
  }

  isCut(from: string, to: string): boolean {
    return this.#cuts.has(`${from}>${to}`);
  }

  /** The incarnation died: its listeners vanish, its peers learn of it unless a partition hides it. */
  drop(owner: EventOwner): void {
    for (const [address, bound] of this.#listeners) if (bound.owner === owner) this.#listeners.delete(address);
    for (const conn of this.#conns) if (conn.local.owner === owner) conn.close();
  }

  delayMs(): number {
    const { delayMinMs, delayMaxMs } = this.faults.net;
    return delayMinMs + this.#rng.below(delayMaxMs - delayMinMs + 1);
  }

  /** A slow reader recovers when the world is healed. */
  get hasSlowReaders(): boolean {
    return this.faults.net.slowReaderProbability > 0;
  }

  breaks(): boolean {
    return this.#rng.chance(this.faults.net.breakProbability);
  }

  forget(conn: SimConn): void {
    this.#conns.delete(conn);
  }

  #listen(endpoint: Endpoint, address: string, onConn: (conn: Conn) => void): Promise<Listener> {
    const bound = address.endsWith(":0") ? `${address.slice(0, -1)}${(this.#portNext += 1)}` : address;
    const before = this.#listeners.get(bound);
    if (before?.owner.isAlive === true) {
      return Promise.reject(new Failure("ADDRESS_IN_USE", { retry: "backoff", message: `${bound} is taken` }));
    }
    const entry: Bound = { ...endpoint, onConn };
    this.#listeners.set(bound, entry);
    const close = (): void => {
      if (this.#listeners.get(bound) === entry) this.#listeners.delete(bound);
    };
    return Promise.resolve({ address: bound, close });
  }

  #connect(from: Endpoint, address: string, signal: AbortSignal): Promise<Conn> {
    return new Promise((resolve, reject) => {
      this.#loop.at(this.delayMs() * 2, from.owner, `connect ${address}`, () => {
        const to = this.#listeners.get(address);
        const isReachable =
          to !== undefined &&
          to.owner.isAlive &&
          !signal.aborted &&
          !this.isCut(from.machine, to.machine) &&
          !this.isCut(to.machine, from.machine);
        if (!isReachable) {
          reject(new Failure("PEER_LOST", { retry: "backoff", message: `${address} cannot be reached` }));
          return;
        }
        const slowness = this.#rng.chance(this.faults.net.slowReaderProbability) ? 10 : 1;
        const near = new SimConn(this, this.#loop, { local: from, remote: to, peer: address, slowness });
        const far = new SimConn(this, this.#loop, { local: to, remote: from, peer: from.machine, slowness });
        near.other = far;
        far.other = near;
        this.#conns.add(near).add(far);
        near.hold(); // what is sent meanwhile waits for somebody to read it
        this.#loop.at(this.delayMs(), to.owner, `accept ${from.machine}`, () => {
          to.onConn(far);
          near.release();
        });
        resolve(near);
      });
    });
  }
}

class SimConn implements Conn {
  readonly peer: string;
  readonly local: Endpoint;
  other: SimConn | undefined;
  onFrame: (frame: Uint8Array) => void = () => undefined;
  onDrain: () => void = () => undefined;
  onClose: (reason: string) => void = () => undefined;
  readonly #wires: SimWires;
  readonly #loop: EventLoop;
  readonly #remote: Endpoint;
  readonly #slowness: number;
  readonly #outgoing: (Uint8Array | "close")[] = [];
  #unsentBytes = 0;
  #isPumping = false;
  #isClosed = false;
  #wantsDrain = false;

  constructor(
    wires: SimWires,
    loop: EventLoop,
    options: { readonly local: Endpoint; readonly remote: Endpoint; readonly peer: string; readonly slowness: number },
  ) {
    this.#wires = wires;
    this.#loop = loop;
    this.local = options.local;
    this.#remote = options.remote;
    this.peer = options.peer;
    this.#slowness = options.slowness;
  }

  get unsentBytes(): number {
    return this.#unsentBytes;
  }

  /** Nothing is delivered before `release`: the other side has not accepted yet. */
  hold(): void {
    this.#isPumping = true;
  }

  release(): void {
    this.#isPumping = false;
    this.#pump();
  }

  send(frame: Uint8Array): boolean {
    if (this.#isClosed) return true; // ignored, as the seam says
    this.#outgoing.push(frame.slice());
    this.#unsentBytes += frame.length;
    this.#pump();
    this.#wantsDrain = this.#unsentBytes > UNSENT_BYTES_HIGH;
    return !this.#wantsDrain;
  }

  close(): void {
    this.#end("closed here");
    this.#outgoing.push("close"); // after what was sent before
    this.#pump();
  }

  /** Both ends hear of it, each when it can. */
  break(): void {
    this.#outgoing.length = 0;
    this.#loop.at(0, this.local.owner, "conn broken", () => this.#end("connection reset"));
    this.#outgoing.push("close");
    this.#pump();
  }

  #end(reason: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#wires.forget(this);
    this.#loop.at(0, this.local.owner, `closed: ${reason}`, () => this.onClose(reason)); // N2, never inside of close()
  }

  #pump(): void {
    if (this.#isPumping || this.#outgoing.length === 0) return;
    this.#isPumping = true;
    this.#loop.at(
      this.#wires.delayMs() * (this.#wires.hasSlowReaders ? this.#slowness : 1),
      this.#remote.owner,
      `frame from ${this.local.owner.name}`,
      () => {
        this.#isPumping = false;
        this.#deliver();
        this.#pump();
      },
    );
  }

  #deliver(): void {
    const { other } = this;
    if (other === undefined) return;
    if (this.#wires.isCut(this.local.machine, this.#remote.machine)) {
      this.#isPumping = true; // SN2: waits, the order stays
      this.#loop.at(RETRY_MS, this.#remote.owner, "held back", () => {
        this.#isPumping = false;
        this.#deliver();
        this.#pump();
      });
      return;
    }
    const frame = this.#outgoing.shift();
    if (frame === undefined) return;
    if (frame === "close") {
      other.#end("closed by peer");
      return;
    }
    this.#unsentBytes -= frame.length;
    if (this.#wantsDrain && this.#unsentBytes <= UNSENT_BYTES_HIGH / 2) {
      this.#wantsDrain = false;
      this.#loop.at(0, this.local.owner, "drain", () => this.onDrain());
    }
    if (other.#isClosed) return;
    if (this.#wires.breaks()) {
      other.#end("connection reset");
      this.break();
      return;
    }
    other.onFrame(frame);
  }
}
