// Connections between the parts of one process, without sockets.
//
// Invariants: N1 and N2 of the seam (kit/env/net.ts), and
//   MN1. Handlers are called from the event loop, never from inside `send`, `close` or `connect`.
//   MN2. The end of a life closes its connections for the others; frames on their way are lost, as with a killed process.

import { Failure } from "@sluice/kit";
import type { Conn, Listener, Net } from "@sluice/kit/env";
import type { Life } from "./life.ts";

const UNSENT_BYTES_HIGH = 64 * 1024;

interface Bound {
  readonly life: Life;
  readonly onConn: (conn: Conn) => void;
}

export class MemoryNet {
  readonly #bound = new Map<string, Bound>();
  readonly #conns = new Set<MemoryConn>();
  #portNext = 40_000;

  /** The network as one part sees it. */
  of(life: Life): Net {
    life.onEnd(() => this.#drop(life));
    return {
      listen: (address, onConn) => this.#listen(life, address, onConn),
      connect: (address, signal) => this.#connect(life, address, signal),
    };
  }

  #listen(life: Life, address: string, onConn: (conn: Conn) => void): Promise<Listener> {
    const bound = address.endsWith(":0") ? `${address.slice(0, -1)}${(this.#portNext += 1)}` : address;
    if (this.#bound.has(bound)) {
      return Promise.reject(new Failure("ADDRESS_IN_USE", { retry: "backoff", message: `${bound} is taken` }));
    }
    const entry: Bound = { life, onConn };
    this.#bound.set(bound, entry);
    const close = (): void => {
      if (this.#bound.get(bound) === entry) this.#bound.delete(bound);
    };
    return Promise.resolve({ address: bound, close });
  }

  #connect(life: Life, address: string, signal: AbortSignal): Promise<Conn> {
    return new Promise((resolve, reject) => {
      life.soon(() => {
        const to = this.#bound.get(address);
        if (to === undefined || signal.aborted) {
          reject(new Failure("PEER_LOST", { retry: "backoff", message: `${address} cannot be reached` }));
          return;
        }
        const forget = (conn: MemoryConn): void => void this.#conns.delete(conn);
        const near = new MemoryConn(life, address, forget);
        const far = new MemoryConn(to.life, life.name, forget);
        near.join(far);
        this.#conns.add(near).add(far);
        to.life.soon(() => to.onConn(far));
        resolve(near);
      });
    });
  }

  /** MN2. */
  #drop(life: Life): void {
    for (const [address, bound] of this.#bound) if (bound.life === life) this.#bound.delete(address);
    for (const conn of this.#conns) if (conn.life === life) conn.break();
  }
}

class MemoryConn implements Conn {
  readonly peer: string;
  readonly life: Life;
  onFrame: (frame: Uint8Array) => void = () => {};
  onDrain: () => void = () => {};
  onClose: (reason: string) => void = () => {};
  readonly #forget: (conn: MemoryConn) => void;
  readonly #outgoing: Uint8Array[] = [];
  #other: MemoryConn | undefined;
  #unsentBytes = 0;
  #isPumping = false;
  #wantsDrain = false;
  #isClosed = false;

  constructor(life: Life, peer: string, forget: (conn: MemoryConn) => void) {
    this.life = life;
    this.peer = peer;
    this.#forget = forget;
  }

  join(other: MemoryConn): void {
    this.#other = other;
    other.#other = this;
  }

  get unsentBytes(): number {
    return this.#unsentBytes;
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
    if (this.#isClosed) return;
    this.#end("closed here");
    this.#pump(); // what was sent before arrives, then the end
  }

  /** Without what was sent last. */
  break(): void {
    this.#outgoing.length = 0;
    this.close();
  }

  #end(reason: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#forget(this);
    this.life.soon(() => this.onClose(reason)); // MN1
  }

  #pump(): void {
    if (this.#isPumping) return;
    this.#isPumping = true;
    setImmediate(() => {
      this.#isPumping = false;
      this.#deliver();
    });
  }

  #deliver(): void {
    const other = this.#other;
    for (const frame of this.#outgoing.splice(0)) {
      this.#unsentBytes -= frame.length;
      if (other !== undefined && !other.#isClosed) other.life.run(() => other.onFrame(frame));
    }
    if (this.#isClosed) {
      if (other !== undefined) other.#end("closed by the peer");
      return;
    }
    if (!this.#wantsDrain || this.#unsentBytes > UNSENT_BYTES_HIGH / 2) return;
    this.#wantsDrain = false;
    this.life.run(() => this.onDrain());
  }
}
