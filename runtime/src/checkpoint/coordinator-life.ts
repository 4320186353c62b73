// The life of a coordinator's shell, as its parts see it: whether it may still do something, and where their failures go.
//
// Invariants (tests cite them):
//   CS2. (coordinator-shell.ts) After its end nothing is sent and nothing is deleted: parts ask `isOver` after each await.
//   CS3. (coordinator-shell.ts) No promise floats: what a part starts is guarded, and a rejection ends the coordinator, once.
//   CE1. A broken assertion ends the process, also after the end.
//
// Not here: what ends with it (coordinator-shell.ts).

import { AssertionError, type Failure, toFailure } from "@sluice/kit";
import type { Host } from "@sluice/kit/env";

export class CoordinatorLife {
  readonly #host: Pick<Host, "crash">;
  readonly #onFailed: (failure: Failure) => void;
  readonly #over = new AbortController();

  /** `onFailed`: the coordinator cannot go on; has to call `end`. */
  constructor(options: { readonly host: Pick<Host, "crash">; readonly onFailed: (failure: Failure) => void }) {
    this.#host = options.host;
    this.#onFailed = options.onFailed;
  }

  /** CS2. */
  get isOver(): boolean {
    return this.#over.signal.aborted;
  }

  /** Aborts at the end. */
  get signal(): AbortSignal {
    return this.#over.signal;
  }

  end(): void {
    this.#over.abort();
  }

  /** CS3: takes what `task` rejects with. A cancellation is somebody's wish, and no failure. */
  guard(task: Promise<void>): void {
    task.catch((thrown: unknown) => {
      if (thrown instanceof AssertionError) this.#host.crash(thrown.message);
      const failure = toFailure(thrown);
      if (this.isOver || failure.code === "CANCELED") return;
      this.#onFailed(failure);
    });
  }
}
