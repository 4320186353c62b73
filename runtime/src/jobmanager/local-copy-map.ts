// Which TaskManager has local copies of which objects of the checkpoints that may be restored.
//
// Told by registrations (also after a restart of the process with its directory, and to a new JobManager) and by acknowledgements
// of this epoch. A copy may be gone or damaged nevertheless: this decides where a slot goes, never what is restored.
//
// Invariants (tests cite them):
//   LM1. A TaskManager that is lost holds nothing until it registers again.
//   LM2. Bounded: objects of checkpoints below the completed one are forgotten.
//
// Not here: placing (placement.ts), reading (taskmanager/io).

import type { CheckpointId, PartHandle } from "../model/index.ts";

export class LocalCopyMap {
  /** TaskManager ids by path in the store. */
  readonly #holders = new Map<string, Set<string>>();

  /** Replaces whatever was known of it. */
  registered(taskManagerId: string, paths: readonly string[]): void {
    this.lost(taskManagerId);
    this.kept(taskManagerId, paths);
  }

  kept(taskManagerId: string, paths: readonly string[]): void {
    for (const path of paths) {
      const holders = this.#holders.get(path);
      if (holders === undefined) this.#holders.set(path, new Set([taskManagerId]));
      else holders.add(taskManagerId);
    }
  }

  /** LM1. */
  lost(taskManagerId: string): void {
    for (const [path, holders] of this.#holders) {
      if (holders.delete(taskManagerId) && holders.size === 0) this.#holders.delete(path);
    }
  }

  /** LM2: TaskManagers delete their copies of older checkpoints now. `idOf`: the checkpoint of a path, undefined for a foreign one. */
  completed(id: CheckpointId, idOf: (path: string) => CheckpointId | undefined): void {
    for (const path of this.#holders.keys()) if ((idOf(path) ?? -1) < id) this.#holders.delete(path);
  }

  isHeld(path: string): boolean {
    return this.#holders.has(path);
  }

  /** Bytes of these parts by TaskManager that has a copy of them. */
  bytesOf(dir: string, parts: readonly PartHandle[]): ReadonlyMap<string, number> {
    const bytes = new Map<string, number>();
    for (const { object, lengthBytes } of parts) {
      for (const id of this.#holders.get(`${dir}/${object}`) ?? []) bytes.set(id, (bytes.get(id) ?? 0) + lengthBytes);
    }
    return bytes;
  }
}
