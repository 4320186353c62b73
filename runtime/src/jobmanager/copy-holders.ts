// The TaskManagers' local copies, asked for and put back; and waiting for the TaskManagers that a job needs.
//
// Invariants:
//   CH1. A TaskManager that does not answer holds nothing: that is a line in the log, not a failure.
//
// Not here: when copies are needed (restore.ts), where they lie (local-copy-map.ts).

import { Failure, toFailure } from "@sluice/kit";
import type { Log } from "@sluice/kit/env";
import { objectsReply, parse } from "../rpc/index.ts";
import type { JobManagerRequest } from "../rpc/index.ts";
import type { CopyHolders } from "./restore.ts";
import type { TaskManagers } from "./task-managers.ts";

const LOCAL_COPIES_TIMEOUT_MS = 60_000;

export interface CopyHoldersOptions {
  readonly taskManagers: TaskManagers;
  readonly jobDir: string;
  readonly log: Log;
  /** Resolves once the TaskManagers that the job needs are there. */
  readonly enoughSlots: (signal: AbortSignal) => Promise<void>;
}

/** Local copies on all registered TaskManagers. */
export function copyHolders({ taskManagers, jobDir, log, enoughSlots }: CopyHoldersOptions): CopyHolders {
  const ask = async (message: JobManagerRequest, id: string): Promise<readonly string[]> => {
    try {
      const reply = parse(objectsReply, await taskManagers.get(id)?.peer.request(message, LOCAL_COPIES_TIMEOUT_MS));
      return "ok" in reply ? reply.ok.objects : [];
    } catch (thrown) {
      const failure = toFailure(thrown);
      log.warn("a TaskManager did not answer about local copies", { taskManager: id, failure: failure.message }); // CH1
      return [];
    }
  };
  const holders = new Map<string, string>();
  return {
    find: async (objects, signal) => {
      await enoughSlots(signal);
      const ids = taskManagers.all().map(({ registration }) => registration.taskManagerId);
      const answers = await Promise.all(
        ids.map(async (id) => ({ id, held: await ask({ type: "findLocalCopies", jobDir, objects }, id) })),
      );
      for (const { id, held } of answers) for (const object of held) holders.set(object, id);
      return new Set(holders.keys());
    },
    repair: async (objects) => {
      const byHolder = Map.groupBy(objects, (object) => holders.get(object) ?? "");
      const repaired = await Promise.all(
        [...byHolder].map(([id, of]) => ask({ type: "repairObjects", jobDir, objects: of }, id)),
      );
      return repaired.flat();
    },
  };
}

/** Lets somebody wait until there are enough slots. */
export class SlotsWatch {
  #change = Promise.withResolvers<void>();

  /** The slots that there are, or those that are needed, have changed. */
  changed(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers<void>();
  }

  /** Rejects with CANCELED when `signal` is aborted before. */
  async until(isEnough: () => boolean, signal: AbortSignal): Promise<void> {
    const aborted = Promise.withResolvers<never>();
    const onAbort = (): void =>
      aborted.reject(new Failure("CANCELED", { retry: "never", message: "the JobManager ends" }));
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      while (!isEnough()) await Promise.race([this.#change.promise, aborted.promise]);
    } finally {
      signal.removeEventListener("abort", onAbort);
      aborted.promise.catch(() => {}); // nobody may be waiting any more
    }
  }
}
