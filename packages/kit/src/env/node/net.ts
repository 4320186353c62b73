// Frames over TCP: u32 length (little endian), then that many bytes.
//
// Invariants (besides N1 and N2 of ../net.ts):
//   T1. A frame is copied once on the way out (into the buffer that is written) and at most once on the way in (only when it
//       straddles two reads).
//   T2. All frames of one turn of the event loop leave in one writev.
//   T3. A length beyond the limit closes the connection before anything is allocated for it.
//   T4. After close() nothing is delivered any more; what was sent before still goes out.
//
// Not here: credit, heartbeats, TLS, meaning of frames.

import { connect, createServer } from "node:net";
import type { Server, Socket } from "node:net";

import { assert } from "../../assert.ts";
import { Failure } from "../../failure.ts";
import type { Conn, Listener, Net } from "../net.ts";

/** Longest frame in bytes. */
export const FRAME_BYTES_MAX = 64 * 1024 * 1024;
const HEADER_BYTES = 4;
/** Frames up to this size are gathered into one buffer; larger ones get a buffer of their own. */
const GATHER_BYTES_MAX = 16 * 1024;
const GATHER_BUFFER_BYTES = 64 * 1024;
/** A peer that does not answer our FIN is cut off after this time. */
const LINGER_MS = 5_000;
const CONNECT_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 30_000;

export interface NodeNetOptions {
  /** `send` answers false above this many unsent bytes; `onDrain` comes at half of it. Default 1 MiB. */
  readonly highWaterBytes?: number;
  /** `connect` gives up after this time. Default 10 s. */
  readonly connectTimeoutMs?: number;
}

export class NodeNet implements Net {
  readonly #highWaterBytes: number;
  readonly #connectTimeoutMs: number;

  constructor(options: NodeNetOptions = {}) {
    this.#connectTimeoutMs = options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS;
    this.#highWaterBytes = options.highWaterBytes ?? 1024 * 1024;
    assert(this.#highWaterBytes > 0, "the high-water mark is positive");
  }

  async listen(address: string, onConn: (conn: Conn) => void): Promise<Listener> {
    const { host, port } = parseAddress(address);
    const server = createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS }, (socket) => {
      onConn(new NodeConn(socket, this.#highWaterBytes));
    });
    return await new Promise((resolve, reject) => {
      server.once("error", (error) => reject(listenFailure(address, error)));
      server.listen({ host, port }, () => {
        server.removeAllListeners("error");
        // A failed accept (too many open files) is this connection's loss, not the listener's end.
        server.on("error", () => {});
        resolve({ address: boundAddress(server, host), close: () => void server.close() });
      });
    });
  }

  async connect(address: string, signal: AbortSignal): Promise<Conn> {
    const { host, port } = parseAddress(address);
    if (signal.aborted) throw peerLost(address, "the caller gave up before connecting");
    return await new Promise((resolve, reject) => {
      const socket = connect({ host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS });
      const onAbort = (): void => fail("the caller gave up while connecting");
      const onTimeout = (): void => fail(`no answer within ${this.#connectTimeoutMs / 1000} s`);
      const onError = (error: Error): void => fail(error.message, error);
      const forget = (): void => {
        signal.removeEventListener("abort", onAbort);
        socket.setTimeout(0);
        socket.off("timeout", onTimeout).off("error", onError);
      };
      const fail = (reason: string, cause?: unknown): void => {
        forget();
        socket.on("error", () => {}); // the destroyed socket may still complain
        socket.destroy();
        reject(peerLost(address, reason, cause));
      };
      signal.addEventListener("abort", onAbort, { once: true });
      socket.setTimeout(this.#connectTimeoutMs);
      socket.once("timeout", onTimeout).once("error", onError);
      socket.once("connect", () => {
        forget();
        resolve(new NodeConn(socket, this.#highWaterBytes));
      });
    });
  }
}

class NodeConn implements Conn {
  readonly peer: string;
  onFrame: (frame: Uint8Array) => void = () => assert(false, "the owner of a connection sets onFrame");
  onDrain: () => void = () => {};
  onClose: (reason: string) => void = () => {};

  readonly #socket: Socket;
  readonly #highWaterBytes: number;
  readonly #lowWaterBytes: number;

  #closed = false;
  #closeReported = false;
  #errorMessage = "";

  #gathered: Buffer | undefined;
  #gatheredBytes = 0;
  #flushScheduled = false;
  #blocked = false;

  /** A header that straddles two reads. */
  readonly #header = new Uint8Array(HEADER_BYTES);
  #headerBytes = 0;
  /** A frame that straddles two reads. */
  #partial: Uint8Array | undefined;
  #partialBytes = 0;

  constructor(socket: Socket, highWaterBytes: number) {
    this.#socket = socket;
    this.#highWaterBytes = highWaterBytes;
    this.#lowWaterBytes = highWaterBytes >>> 1;
    this.peer = `${socket.remoteAddress ?? "?"}:${socket.remotePort ?? 0}`;
    socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    socket.on("error", (error) => {
      this.#errorMessage = error.message;
    });
    // The peer will send no more; whatever it sent is parsed. Half-open use is not part of the contract: close our half too.
    socket.on("end", () => this.#finish("closed by the peer"));
    socket.on("close", () => this.#finish(this.#errorMessage === "" ? "closed by the peer" : this.#errorMessage));
  }

  get unsentBytes(): number {
    return this.#gatheredBytes + this.#socket.writableLength;
  }

  send(frame: Uint8Array): boolean {
    const length = frame.length;
    assert(length <= FRAME_BYTES_MAX, "a frame is at most 64 MiB");
    if (this.#closed) return true;
    if (!this.#flushScheduled) {
      this.#flushScheduled = true;
      this.#socket.cork(); // T2
      process.nextTick(this.#flush);
    }
    const needed = HEADER_BYTES + length;
    if (length <= GATHER_BYTES_MAX) {
      if (this.#gathered === undefined || this.#gatheredBytes + needed > this.#gathered.length) {
        this.#writeGathered();
        this.#gathered = Buffer.allocUnsafe(GATHER_BUFFER_BYTES);
      }
      putFrame(this.#gathered, this.#gatheredBytes, frame);
      this.#gatheredBytes += needed;
    } else {
      this.#writeGathered();
      const own = Buffer.allocUnsafe(needed);
      putFrame(own, 0, frame);
      this.#socket.write(own, this.#written);
    }
    if (this.unsentBytes <= this.#highWaterBytes) return true;
    this.#blocked = true;
    return false;
  }

  close(): void {
    this.#shut("closed by this side");
  }

  readonly #flush = (): void => {
    this.#flushScheduled = false;
    this.#writeGathered();
    this.#socket.uncork();
  };

  #writeGathered(): void {
    if (this.#gatheredBytes === 0) return;
    const full = this.#gathered!;
    const used = this.#gatheredBytes;
    // The rest of the buffer serves the next frames when it is worth it; the part in flight is never touched again.
    this.#gathered = full.length - used > GATHER_BYTES_MAX + HEADER_BYTES ? full.subarray(used) : undefined;
    this.#gatheredBytes = 0;
    this.#socket.write(full.subarray(0, used), this.#written);
  }

  readonly #written = (): void => {
    if (!this.#blocked || this.#closed || this.unsentBytes > this.#lowWaterBytes) return;
    this.#blocked = false;
    this.onDrain();
  };

  #receive(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length && !this.#closed) {
      if (this.#partial !== undefined) {
        const take = Math.min(this.#partial.length - this.#partialBytes, chunk.length - at);
        this.#partial.set(chunk.subarray(at, at + take), this.#partialBytes);
        this.#partialBytes += take;
        at += take;
        if (this.#partialBytes < this.#partial.length) return;
        const frame = this.#partial;
        this.#partial = undefined;
        this.onFrame(frame);
        continue;
      }
      if (this.#headerBytes > 0 || chunk.length - at < HEADER_BYTES) {
        this.#header[this.#headerBytes] = chunk[at]!;
        this.#headerBytes += 1;
        at += 1;
        if (this.#headerBytes < HEADER_BYTES) continue;
        this.#headerBytes = 0;
        at = this.#frame(chunk, at, readU32(this.#header, 0));
      } else {
        at = this.#frame(chunk, at + HEADER_BYTES, readU32(chunk, at));
      }
    }
  }

  /** Delivers the frame that starts at `at`, or keeps its first part; returns where to go on. */
  #frame(chunk: Buffer, at: number, length: number): number {
    if (length > FRAME_BYTES_MAX) {
      this.#shut(`the peer announced a frame of ${length} bytes, more than the limit: not one of ours?`); // T3
      return chunk.length;
    }
    if (length <= chunk.length - at) {
      this.onFrame(chunk.subarray(at, at + length));
      return at + length;
    }
    this.#partial = new Uint8Array(length);
    this.#partial.set(chunk.subarray(at), 0);
    this.#partialBytes = chunk.length - at;
    return chunk.length;
  }

  /** This side closes: flushes, says goodbye, and tells the owner in a later turn (N2). */
  #shut(reason: string): void {
    if (this.#closed) return;
    this.#writeGathered();
    this.#closed = true;
    this.#socket.end();
    this.#socket.resume();
    this.#socket.setTimeout(LINGER_MS, () => this.#socket.destroy());
    process.nextTick(() => this.#report(reason));
  }

  /** The other side, or the network, closed. */
  #finish(reason: string): void {
    this.#closed = true;
    this.#gathered = undefined;
    this.#gatheredBytes = 0;
    this.#partial = undefined;
    if (!this.#socket.destroyed) this.#socket.destroy();
    this.#report(reason);
  }

  #report(reason: string): void {
    if (this.#closeReported) return;
    this.#closeReported = true;
    this.onClose(reason);
  }
}

function putFrame(into: Buffer, at: number, frame: Uint8Array): void {
  const length = frame.length;
  into[at] = length & 0xff;
  into[at + 1] = (length >>> 8) & 0xff;
  into[at + 2] = (length >>> 16) & 0xff;
  into[at + 3] = length >>> 24;
  into.set(frame, at + HEADER_BYTES);
}

function readU32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

/** `host:port`, `[v6]:port`; an empty host means all interfaces when listening. */
function parseAddress(address: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([0-9a-fA-F:.%]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(address);
  const port = Number(match?.[3]);
  if (match === null || port > 65535) {
    throw new Failure("CONFIG_INVALID", {
      retry: "never",
      message: `${JSON.stringify(address)} is not a network address`,
      remedy: 'Write host:port, for example "127.0.0.1:6123", "jobmanager:6123" or "[::1]:6123".',
    });
  }
  const host = match[1] ?? match[2] ?? "";
  return { host: host === "" ? "0.0.0.0" : host, port };
}

function boundAddress(server: Server, host: string): string {
  const bound = server.address();
  assert(bound !== null && typeof bound === "object", "a listening TCP server has an address");
  return host.includes(":") ? `[${host}]:${bound.port}` : `${host}:${bound.port}`;
}

function listenFailure(address: string, error: Error): Failure {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === "EADDRINUSE") {
    return new Failure("ADDRESS_IN_USE", {
      retry: "backoff",
      message: `${address} is already in use`,
      remedy: "Stop the process that listens there, or choose another port (0 takes any free one).",
      cause: error,
    });
  }
  return new Failure("CONFIG_INVALID", {
    retry: "never",
    message: `cannot listen on ${address}: ${error.message}`,
    remedy: "Use an address of this machine and a port above 1023.",
    cause: error,
  });
}

function peerLost(address: string, reason: string, cause?: unknown): Failure {
  return new Failure("PEER_LOST", { retry: "backoff", message: `cannot connect to ${address}: ${reason}`, cause });
}
