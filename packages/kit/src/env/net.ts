// Connections that carry whole frames, in order, until they break.
//
// Invariants:
//   N1. Frames arrive whole, once, in the order sent, or the connection closes: never a gap.
//   N2. `onClose` is called exactly once, on both ends, unless a partition hides it (half-open): heartbeats find that.

export interface Conn {
  /** The peer, for messages. */
  readonly peer: string;
  /**
   * Queues one frame; the bytes are copied or written before it returns control to the event loop, so the caller may
   * reuse the buffer only when `send` copied (it does). False means: stop sending until `onDrain`. After close: ignored.
   */
  send(frame: Uint8Array): boolean;
  /** Bytes accepted by `send` and not yet handed to the operating system. */
  readonly unsentBytes: number;
  close(): void;
  /** Set by the owner before it returns to the event loop. The frame is valid during the call only. */
  onFrame: (frame: Uint8Array) => void;
  onDrain: () => void;
  onClose: (reason: string) => void;
}

export interface Listener {
  /** `host:port` as bound (port 0 in the request becomes the real one). */
  readonly address: string;
  close(): void;
}

export interface Net {
  /** Listens on `host:port`. Rejects with Failure ADDRESS_IN_USE. */
  listen(address: string, onConn: (conn: Conn) => void): Promise<Listener>;
  /** Connects, or rejects with Failure PEER_LOST (retry: backoff). */
  connect(address: string, signal: AbortSignal): Promise<Conn>;
}
