// A TCP connection as the socket source uses it. The only file of this folder that opens sockets.
//
// Invariants:
//   TS1. After `close` nothing is called any more.
//   TS2. While paused nothing is taken from the system: the peer feels it.
//
// Not here: lines, retries (socket-source.ts).

import { connect } from "node:net";

export interface TextSocketHandlers {
  onConnected(): void;
  onBytes(bytes: Uint8Array): void;
  /** The peer ended the connection, or it failed: `reason` tells which failure. */
  onClosed(reason: string | undefined): void;
}

export interface TextSocket {
  pause(): void;
  resume(): void;
  close(): void;
}

/** Connects; what happens comes through the handlers. */
export type OpenTextSocket = (
  address: { readonly host: string; readonly port: number },
  handlers: TextSocketHandlers,
) => TextSocket;

export const openTextSocket: OpenTextSocket = (address, handlers) => {
  const socket = connect(address);
  let isClosed = false;
  let failure: string | undefined;
  socket.on("connect", () => isClosed || handlers.onConnected());
  socket.on("data", (bytes: Buffer) => isClosed || handlers.onBytes(bytes));
  socket.on("error", (error: Error) => (failure = error.message));
  socket.on("close", () => {
    if (isClosed) return;
    isClosed = true;
    handlers.onClosed(failure);
  });
  return {
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
    close: () => {
      isClosed = true; // TS1
      socket.destroy();
    },
  };
};
