// A simulated world and its nodes: machines on which one process at a time (or, for a moment, two) runs real code.
//
// Invariants:
//   SW1. An incarnation that crashed does nothing any more: its events, connections and timers are gone; objects stay.
//   SW2. A paused incarnation does nothing until it goes on; then it does what it would have done (a zombie).
//   SW3. The first violation ends the run; it names the invariant.
//
// Not here: what runs on the nodes (worlds/).

import { AssertionError, SeededRng } from "@sluice/kit";
import type { Clock, Env, Host, Log, LogFields, ObjectStore, Rng, Timers } from "@sluice/kit/env";
import { SimDisk } from "./disk.ts";
import { EventLoop, type EventOwner } from "./event-loop.ts";
import { type FaultPlan, HEALTHY } from "./faults.ts";
import { SimWires } from "./net.ts";
import { SimStorage, type StorageObserver } from "./store.ts";

/** All that a simulated process gets. */
export interface SimEnv extends Env {
  readonly store: ObjectStore;
}

/** A violation of an invariant, found by a checker; thrown out of the run. */
export class Violation extends Error {
  override readonly name = "Violation";
}

/** Thrown inside a node to end it; never leaves the world. */
class NodeCrashed extends Error {
  override readonly name = "NodeCrashed";
}

export interface WorldOptions {
  readonly seed: number;
  readonly faults: FaultPlan;
  readonly keepsTrace: boolean;
}

export class World {
  readonly loop: EventLoop;
  readonly rng: Rng;
  readonly storage: SimStorage;
  readonly wires: SimWires;
  readonly owner: EventOwner = { name: "world", isAlive: true, pausedUntilMs: 0 };
  readonly observers: Partial<StorageObserver>[] = [];
  readonly #disks: SimDisk[] = [];
  #faults: FaultPlan;
  #violation: string | undefined;

  constructor(options: WorldOptions) {
    this.rng = new SeededRng(options.seed);
    this.#faults = options.faults;
    this.loop = new EventLoop(this.rng.fork("ties"), { keepsTrace: options.keepsTrace });
    const { loop } = this;
    const observer: StorageObserver = {
      created: (path, bytes, by) => this.observers.forEach((o) => o.created?.(path, bytes, by)),
      removed: (path, by) => this.observers.forEach((o) => o.removed?.(path, by)),
      violation: (reason) => this.violate(reason),
    };
    this.storage = new SimStorage({ loop, rng: this.rng.fork("store"), faults: options.faults, observer });
    this.wires = new SimWires({ loop, rng: this.rng.fork("net"), faults: options.faults });
  }

  get faults(): FaultPlan {
    return this.#faults;
  }

  node(name: string): SimNode {
    const disk = new SimDisk({ loop: this.loop, rng: this.rng.fork(`disk ${name}`), faults: this.#faults });
    this.#disks.push(disk);
    return new SimNode(this, name, disk);
  }

  /** Something of the world itself happens after `delayMs`. */
  after(delayMs: number, label: string, run: () => void): void {
    this.loop.at(delayMs, this.owner, label, run);
  }

  /** A checker found a broken invariant: the run ends after this event (SW3). */
  violate(reason: string): void {
    this.loop.note("world", `VIOLATION ${reason}`);
    this.#violation ??= reason;
  }

  /** The first broken invariant, if any. */
  get violation(): string | undefined {
    return this.#violation;
  }

  /** Ends all faults: from now on the world is slow but healthy. */
  heal(): void {
    this.loop.note("world", "heal");
    this.#faults = HEALTHY;
    this.storage.faults = HEALTHY;
    this.wires.faults = HEALTHY;
    this.wires.heal();
    for (const disk of this.#disks) disk.faults = HEALTHY;
  }

  /** Runs until `done`; throws the first Violation. */
  async runUntil(
    done: () => boolean,
    limits: { readonly virtualMs: number; readonly events: number },
  ): Promise<"done" | "limit"> {
    for (;;) {
      if (this.#violation !== undefined) throw new Violation(this.#violation);
      if (done()) return "done";
      if (this.loop.nowMs > limits.virtualMs || this.loop.eventCount > limits.events) return "limit";
      if (!(await this.loop.runOne())) return "limit";
    }
  }
}

/** One machine. Each start is a new incarnation with its own environment; the disk stays with the machine. */
export class SimNode {
  readonly name: string;
  readonly #world: World;
  readonly disk: SimDisk;
  #incarnation = 0;
  #current: EventOwner | undefined;

  constructor(world: World, name: string, disk: SimDisk) {
    this.name = name;
    this.#world = world;
    this.disk = disk;
  }

  get isUp(): boolean {
    return this.#current?.isAlive === true;
  }

  /** Starts an incarnation; the one before must be down. `main` is the process: a rejection or a broken assertion is a violation. */
  start(main: (env: SimEnv) => Promise<void>): EventOwner {
    this.#incarnation += 1;
    const owner: EventOwner = { name: `${this.name}.${this.#incarnation}`, isAlive: true, pausedUntilMs: 0 };
    this.#current = owner;
    const env = this.#env(owner);
    this.#world.loop.at(0, owner, "start", () => {
      main(env).catch((thrown: unknown) => {
        if (thrown instanceof NodeCrashed || !owner.isAlive) return;
        this.#world.violate(`${owner.name} ended: ${describe(thrown)}`);
      });
    });
    return owner;
  }

  crash(reason: string): void {
    const owner = this.#current;
    if (owner?.isAlive !== true) return;
    this.#world.loop.note(owner.name, `crash: ${reason}`);
    owner.isAlive = false;
    this.disk.crash();
    this.#world.wires.drop(owner);
  }

  /** The process stands still (garbage collection, SIGSTOP). */
  pause(durationMs: number): void {
    const owner = this.#current;
    if (owner?.isAlive !== true) return;
    this.#world.loop.note(owner.name, `pause ${durationMs}`);
    owner.pausedUntilMs = Math.max(owner.pausedUntilMs, this.#world.loop.nowMs + durationMs);
  }

  get isPaused(): boolean {
    return (this.#current?.pausedUntilMs ?? 0) > this.#world.loop.nowMs;
  }

  #env(owner: EventOwner): SimEnv {
    const world = this.#world;
    const rng = world.rng.fork(owner.name);
    const skew = {
      startMs: rng.below(100_000),
      wallMs: 1_700_000_000_000 + rng.below(7_200_000),
      rate: 0.98 + rng.below(40) / 1_000,
    };
    const clock: Clock = {
      nowMs: () => skew.startMs + world.loop.nowMs * skew.rate,
      wallMs: () => Math.floor(skew.wallMs + world.loop.nowMs),
    };
    const timers: Timers = {
      after: (delayMs, label, run) => world.loop.at(delayMs / skew.rate, owner, label, () => this.#guarded(owner, run)),
    };
    const host: Host = {
      name: owner.name,
      crash: (reason) => {
        world.violate(`${owner.name} crashed itself: ${reason}`);
        this.crash(reason);
        throw new NodeCrashed(reason);
      },
    };
    return {
      clock,
      timers,
      rng,
      net: world.wires.net(owner, this.name),
      disk: this.disk.client(owner),
      log: traceLog(world, owner, {}),
      host,
      store: world.storage.client(owner),
    };
  }

  #guarded(owner: EventOwner, run: () => void): void {
    try {
      run();
    } catch (thrown) {
      if (thrown instanceof NodeCrashed || !owner.isAlive) return;
      this.#world.violate(`${owner.name}: ${describe(thrown)}`);
    }
  }
}

function describe(thrown: unknown): string {
  if (thrown instanceof AssertionError) return `assertion: ${thrown.message}`;
  return thrown instanceof Error ? `${thrown.name}: ${thrown.message} ${thrown.stack ?? ""}` : String(thrown);
}

function traceLog(world: World, owner: EventOwner, base: LogFields): Log {
  const write = (level: string) => (message: string, fields?: LogFields) => {
    const all = Object.entries({ ...base, ...fields }).map(([key, value]) => ` ${key}=${String(value)}`);
    world.loop.note(owner.name, `[${level}] ${message}${all.join("")}`);
  };
  return {
    debug: write("debug"),
    info: write("info"),
    warn: write("warn"),
    error: write("error"),
    with: (fields) => traceLog(world, owner, { ...base, ...fields }),
  };
}
