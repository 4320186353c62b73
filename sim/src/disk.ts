// A simulated scratch disk of one machine.
//
// Invariants (the seam's S4, and):
//   SD1. What was written and answered survives a crash of the process, unless the machine is lost; a write under way may be torn.

import { Failure } from "@sluice/kit";
import type { Disk, ObjectInfo, Rng } from "@sluice/kit/env";
import type { EventLoop, EventOwner } from "./event-loop.ts";
import type { FaultPlan } from "./faults.ts";

export class SimDisk {
  faults: FaultPlan;
  readonly #loop: EventLoop;
  readonly #rng: Rng;
  readonly #files = new Map<string, { readonly bytes: Uint8Array; readonly modifiedMs: number }>();
  readonly #underWay = new Map<string, Uint8Array>();

  constructor(options: { readonly loop: EventLoop; readonly rng: Rng; readonly faults: FaultPlan }) {
    this.#loop = options.loop;
    this.#rng = options.rng;
    this.faults = options.faults;
  }

  /** The seam, for one incarnation of the process on this machine. */
  client(owner: EventOwner): Disk {
    const later = <T>(label: string, run: () => T): Promise<T> =>
      new Promise((resolve, reject) => {
        this.#loop.at(this.#rng.below(4), owner, label, () => {
          try {
            resolve(run());
          } catch (thrown) {
            reject(thrown as Error);
          }
        });
      });
    return {
      read: (path) => later(`read ${path}`, () => this.#files.get(path)?.bytes.slice()),
      write: (path, bytes) => {
        this.#underWay.set(path, bytes.slice());
        return later(`write ${path}`, () => this.#finish(path));
      },
      list: (prefix) => later(`list ${prefix}`, () => this.#list(prefix)),
      remove: (path) => later(`remove ${path}`, () => void this.#files.delete(path)),
    };
  }

  /** The process died: what was being written is whole, torn, or was never there; sometimes the machine is gone. */
  crash(): void {
    const { tornProbability, lossProbability } = this.faults.disk;
    for (const [path, bytes] of this.#underWay) {
      if (!this.#rng.chance(tornProbability)) continue;
      this.#files.set(path, { bytes: bytes.slice(0, this.#rng.below(bytes.length + 1)), modifiedMs: this.#loop.nowMs });
    }
    this.#underWay.clear();
    if (this.#rng.chance(lossProbability)) this.#files.clear();
  }

  #finish(path: string): void {
    const bytes = this.#underWay.get(path);
    this.#underWay.delete(path);
    if (this.#rng.chance(this.faults.disk.fullProbability)) {
      throw new Failure("DISK_FULL", { retry: "backoff", message: `${path}: simulated ENOSPC` });
    }
    if (bytes !== undefined) this.#files.set(path, { bytes, modifiedMs: this.#loop.nowMs });
  }

  #list(prefix: string): readonly ObjectInfo[] {
    return [...this.#files]
      .filter(([path]) => path.startsWith(prefix))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([path, file]) => ({ path, sizeBytes: file.bytes.length, modifiedMs: file.modifiedMs }));
  }
}
