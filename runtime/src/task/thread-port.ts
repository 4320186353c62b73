// The slot's port over threads: commands from the shared mailbox, events to the TaskManager's main thread, snapshots to its I/O thread.
//
// Invariants:
//   TP1. A submitted snapshot is out of the slot's reach: its buffers are transferred or copied.
//   TP2. Every fetch is answered once; answers carry the request's id.
//
// Not here: the threads themselves (bin/slot-worker.ts, taskmanager/).

import { failureFromJson, type FailureJson } from "@sluice/kit";
import { NOTHING_READ } from "../model/index.ts";
import type {
  FetchedParts,
  PartHandle,
  SlotCommand,
  SlotEvent,
  SlotPort,
  SlotSpec,
  SnapshotSubmission,
} from "../model/index.ts";
import { MailboxReader } from "../network/index.ts";

/** What a slot thread is started with (`workerData`), beside `ioPort`, its MessagePort to the I/O thread. */
export interface SlotWorkerData {
  readonly spec: SlotSpec;
  readonly logLevel: "debug" | "info" | "warn" | "error";
}

/** The part of a message port that is used here; the real one is given by the process shell. */
export interface PostingPort {
  postMessage(message: unknown, transfer?: readonly ArrayBuffer[]): void;
}

/** Slot thread to I/O thread. */
export type IoRequest =
  | { readonly type: "submit"; readonly submission: SnapshotSubmission }
  | { readonly type: "fetch"; readonly requestId: number; readonly parts: readonly PartHandle[] };

/** I/O thread to slot thread. */
export type IoReply =
  | { readonly type: "fetched"; readonly requestId: number; readonly fetched: FetchedParts }
  | { readonly type: "fetchFailed"; readonly requestId: number; readonly failure: FailureJson };

interface Fetch {
  readonly resolve: (fetched: FetchedParts) => void;
  readonly reject: (reason: unknown) => void;
}

export class ThreadSlotPort implements SlotPort {
  readonly #mailbox: MailboxReader;
  readonly #io: PostingPort;
  readonly #main: PostingPort;
  readonly #decoder = new TextDecoder();
  readonly #fetches = new Map<number, Fetch>();
  #nextRequestId = 1;

  constructor(options: { readonly mailbox: SharedArrayBuffer; readonly io: PostingPort; readonly main: PostingPort }) {
    this.#mailbox = new MailboxReader(options.mailbox);
    this.#io = options.io;
    this.#main = options.main;
  }

  poll(): SlotCommand | undefined {
    const message = this.#mailbox.poll();
    return message === undefined ? undefined : (JSON.parse(this.#decoder.decode(message)) as SlotCommand);
  }

  send(event: SlotEvent): void {
    this.#main.postMessage(event);
  }

  submitSnapshot(submission: SnapshotSubmission): void {
    const transfer = new Set<ArrayBuffer>();
    for (const part of submission.parts) {
      for (const chunk of part.chunks) {
        // A view into a larger buffer (Node's pool) is copied: transferring would take the rest of the buffer away from others.
        if (chunk.buffer instanceof ArrayBuffer && chunk.byteLength === chunk.buffer.byteLength)
          transfer.add(chunk.buffer);
      }
    }
    this.#io.postMessage({ type: "submit", submission } satisfies IoRequest, [...transfer]); // TP1
  }

  fetchParts(parts: readonly PartHandle[]): Promise<FetchedParts> {
    if (parts.length === 0) return Promise.resolve({ contents: [], read: NOTHING_READ });
    const requestId = this.#nextRequestId;
    this.#nextRequestId += 1;
    return new Promise((resolve, reject) => {
      this.#fetches.set(requestId, { resolve, reject });
      this.#io.postMessage({ type: "fetch", requestId, parts } satisfies IoRequest);
    });
  }

  /** To be called with every message of the I/O port. */
  onIoReply(reply: IoReply): void {
    const waiting = this.#fetches.get(reply.requestId);
    if (waiting === undefined) return;
    this.#fetches.delete(reply.requestId); // TP2
    if (reply.type === "fetched") waiting.resolve(reply.fetched);
    else waiting.reject(failureFromJson(reply.failure));
  }
}
