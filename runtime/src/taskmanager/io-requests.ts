// Questions of the main thread to the I/O thread, and their answers.

import { failureFromJson } from "@sluice/kit";
import type { IoEvent } from "./io/index.ts";
import type { IoGate } from "./seams.ts";

type Reply = Extract<IoEvent, { readonly requestId: number }>;

export class IoRequests {
  readonly #gate: IoGate;
  readonly #waiting = new Map<number, PromiseWithResolvers<readonly string[]>>();
  #idNext = 1;

  constructor(gate: IoGate) {
    this.#gate = gate;
  }

  /** What lies here, by its path in the store; not verified. */
  localCopies(): Promise<readonly string[]> {
    return this.#ask((requestId) => this.#gate.post({ type: "listLocalCopies", requestId }));
  }

  /** Which of these objects lie here in a verified copy. */
  find(jobDir: string, objects: readonly string[]): Promise<readonly string[]> {
    return this.#ask((requestId) => this.#gate.post({ type: "findLocalCopies", requestId, jobDir, objects }));
  }

  /** Puts these objects back into the store; resolves with those that were. */
  repair(jobDir: string, objects: readonly string[]): Promise<readonly string[]> {
    return this.#ask((requestId) => this.#gate.post({ type: "repairObjects", requestId, jobDir, objects }));
  }

  onReply(reply: Reply): void {
    const waiting = this.#waiting.get(reply.requestId);
    if (waiting === undefined) return;
    this.#waiting.delete(reply.requestId);
    if (reply.type === "objects") waiting.resolve(reply.objects);
    else waiting.reject(failureFromJson(reply.failure));
  }

  #ask(post: (requestId: number) => void): Promise<readonly string[]> {
    const requestId = this.#idNext;
    this.#idNext += 1;
    const waiting = Promise.withResolvers<readonly string[]>();
    this.#waiting.set(requestId, waiting);
    post(requestId);
    return waiting.promise;
  }
}
