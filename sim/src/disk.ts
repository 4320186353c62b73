// A simulated scratch disk of one machine.
//
// Invariants (the seam's S4, and):
//   SD1. What was written and answered survives a crash of the process, unless the machine is lost; a write under way may be torn.

import { assert, Failure } from "@sluice/kit";
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
      read: (path) => later(`read ${path}`, () => this.#read(path)?.slice()),
      readRange: (path, { offset, lengthBytes }) =>
        later(`read ${path}`, () => this.#read(path)?.slice(offset, offset + lengthBytes)),
      write: (path, pieces) => {
        this.#underWay.set(path, new Uint8Array(Buffer.concat(pieces)));
        return later(`write ${path}`, () => this.#finish(path));
      },
      list: (prefix) => later(`list ${prefix}`, () => this.#list(prefix)),
      remove: (path) =>
        later(`remove ${path}`, () => {
          this.#maybeFail(path);
          this.#files.delete(path);
        }),
    };
  }

  /** Paths of all files below a prefix, ascending. */
  pathsOf(prefix: string): readonly string[] {
    return this.#list(prefix).map(({ path }) => path);
  }

  /** Changes the bytes of a file behind everybody's back; undefined removes it. */
  damage(path: string, change: (bytes: Uint8Array) => Uint8Array | undefined): void {
    const file = this.#files.get(path);
    assert(file !== undefined, "only a file that is there is damaged");
    const bytes = change(file.bytes);
    if (bytes === undefined) this.#files.delete(path);
    else this.#files.set(path, { ...file, bytes });
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

  #read(path: string): Uint8Array | undefined {
    this.#maybeFail(path);
    return this.#files.get(path)?.bytes;
  }

  #maybeFail(path: string): void {
    if (this.#rng.chance(this.faults.disk.failProbability))
      throw new Failure("DISK_FAILED", { retry: "backoff", message: `${path}: simulated EIO` });
  }

  #finish(path: string): void {
    const bytes = this.#underWay.get(path);
    this.#underWay.delete(path);
    this.#maybeFail(path);
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
