// One life of a part that would be a process of its own in production: from its start to its end or its killing.
//
// Invariants (tests cite them):
//   LI1. After its end nothing of a life happens any more: no timer, no frame, no answer of a store reaches it. What it had
//        asked of a store before may still happen there, as with a killed process.
//   LI2. An error that nobody expected ends the cluster, as it would end the process.

import type { Cancel, Disk, ObjectStore, Timers } from "@sluice/kit/env";

export class Life {
  readonly name: string;
  readonly #onBroken: (thrown: unknown) => void;
  readonly #ends: (() => void)[] = [];
  #isAlive = true;

  constructor(name: string, onBroken: (thrown: unknown) => void) {
    this.name = name;
    this.#onBroken = onBroken;
  }

  get isAlive(): boolean {
    return this.#isAlive;
  }

  /** Called once, at the end. */
  onEnd(run: () => void): void {
    this.#ends.push(run);
  }

  end(): void {
    if (!this.#isAlive) return;
    this.#isAlive = false;
    for (const run of this.#ends) run();
  }

  /** LI2. */
  broken(thrown: unknown): void {
    if (this.#isAlive) this.#onBroken(thrown);
  }

  /** Runs now, if it lives (LI1, LI2). */
  run(action: () => void): void {
    if (!this.#isAlive) return;
    try {
      action();
    } catch (thrown) {
      this.broken(thrown);
    }
  }

  /** Runs in a later turn of the event loop. */
  soon(action: () => void): void {
    setImmediate(() => this.run(action));
  }

  /** Runs the whole of a life; a rejection is LI2. */
  begin(main: () => Promise<void>): void {
    main().catch((thrown: unknown) => this.broken(thrown));
  }

  timers(timers: Timers): Timers {
    return { after: (delayMs, label, run): Cancel => timers.after(delayMs, label, () => this.run(run)) };
  }

  store(store: ObjectStore): ObjectStore {
    return {
      uri: store.uri,
      get: (path, signal) => this.#answer(() => store.get(path, signal)),
      getRange: (path, range, signal) => this.#answer(() => store.getRange(path, range, signal)),
      put: (path, bytes, signal) => this.#answer(() => store.put(path, bytes, signal)),
      putIfAbsent: (path, bytes, signal) => this.#answer(() => store.putIfAbsent(path, bytes, signal)),
      stat: (path, signal) => this.#answer(() => store.stat(path, signal)),
      list: (prefix, signal) => this.#answer(() => store.list(prefix, signal)),
      remove: (path, signal) => this.#answer(() => store.remove(path, signal)),
    };
  }

  disk(disk: Disk): Disk {
    return {
      read: (path) => this.#answer(() => disk.read(path)),
      readRange: (path, range) => this.#answer(() => disk.readRange(path, range)),
      write: (path, pieces) => this.#answer(() => disk.write(path, pieces)),
      list: (prefix) => this.#answer(() => disk.list(prefix)),
      remove: (path) => this.#answer(() => disk.remove(path)),
    };
  }

  /** The answer, if it still reaches this life; one that does not never settles. */
  #answer<T>(ask: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      if (!this.#isAlive) return;
      ask().then(
        (answer) => this.#isAlive && resolve(answer),
        (thrown: unknown) => this.#isAlive && reject(thrown as Error),
      );
    });
  }
}
