// What a job started from, while it runs: kept until there is an own checkpoint, then let go, and deleted if it was claimed.
//
// Invariants (tests cite them): OR1, OR2 of origin.ts, and
//   OX1. It may lie in a store that is away, and that holds up nothing else: no deletion, and the end of the job for LET_GO_MS only.
//   OX2. What fails is tried again with later commits, fewer and fewer of them; only FENCED ends the coordinator.
//   OX3. The pin is renewed as long as there is no own checkpoint.
//
// Not here: pins, claims and deletions themselves (origin.ts), what a claim becomes with a commit (commit-change.ts).

import { sleep } from "@sluice/kit";
import type { Cancel, Log, ObjectStore, Timers } from "@sluice/kit/env";
import type { CommitLog, CommitLogEnv } from "./commit-log.ts";
import type { CoordinatorLife } from "./coordinator-life.ts";
import type { StoreOpener } from "./location.ts";
import { deleteClaimed, ORIGIN_PIN_RENEWAL_MS, type OriginPlace, releaseOrigin, renewOrigin } from "./origin.ts";
import { withoutClaim } from "./start.ts";
import { storageFailure } from "./storage-retry.ts";
import type { RecordedClaim } from "./types.ts";

/** The end of a job waits so long for what it started from to be let go; pins end by themselves. */
const LET_GO_MS = 5_000;
/** OX2: tried at least with each of so many commits. */
const TRY_EVERY_COMMITS_MAX = 64;

export interface OriginReleaseOptions {
  readonly env: CommitLogEnv & { readonly timers: Timers; readonly log: Log };
  readonly store: ObjectStore;
  readonly openStore: StoreOpener;
  readonly commitLog: Pick<CommitLog, "jobDir" | "head" | "isFenced" | "append" | "verifyOwnership">;
  readonly life: Pick<CoordinatorLife, "isOver" | "signal" | "guard">;
}

export class OriginRelease {
  readonly #options: OriginReleaseOptions;
  readonly #claimTries = new SparseTries(TRY_EVERY_COMMITS_MAX);
  readonly #originTries = new SparseTries(TRY_EVERY_COMMITS_MAX);
  /** What the job started from and has not let go yet. */
  #held: string | null = null;
  #isLettingGo = false;
  #cancelRenewal: Cancel | undefined;
  /** One after the other (OX1). */
  #tasks: Promise<void> = Promise.resolve();

  constructor(options: OriginReleaseOptions) {
    this.#options = options;
  }

  /** OX3: a job that takes long to its first checkpoint keeps what it started from. */
  armRenewal(origin: string): void {
    const { env, commitLog, life } = this.#options;
    const renew = async (): Promise<void> => {
      const isNeeded = (): boolean => !life.isOver && commitLog.head.head === null;
      if (!isNeeded()) return;
      try {
        if (!(await renewOrigin(origin, this.#place()))) return;
      } catch (thrown) {
        const failure = storageFailure(thrown, origin);
        env.log.warn("what the job started from is not pinned anew: its owner may delete it", {
          failure: failure.message,
        });
      }
      if (isNeeded()) this.armRenewal(origin);
    };
    this.#cancelRenewal = env.timers.after(ORIGIN_PIN_RENEWAL_MS, "origin-pin", () => life.guard(renew()));
  }

  /** A checkpoint was committed. `before`: what the record before it named as origin, and had condemned of claims. */
  committed(before: { readonly origin: string | null; readonly condemned: readonly RecordedClaim[] }): void {
    this.#held ??= before.origin;
    this.#letOriginGo();
    // P6: a record before this one condemned it. Another job may need it for long.
    if (before.condemned.length > 0 && this.#claimTries.isDue()) {
      for (const claim of before.condemned) this.#try(() => this.#deleteClaimed(claim));
    }
  }

  /** OX1. */
  async settled(): Promise<void> {
    await Promise.race([this.#tasks, sleep(this.#options.env.timers, LET_GO_MS)]);
  }

  /** Nothing is renewed any more. */
  end(): void {
    this.#cancelRenewal?.();
  }

  /** OR1: there is an own checkpoint. */
  #letOriginGo(): void {
    const origin = this.#held;
    if (origin === null || this.#isLettingGo || !this.#originTries.isDue()) return;
    this.#cancelRenewal?.();
    this.#isLettingGo = true;
    this.#try(async () => {
      try {
        await releaseOrigin(origin, this.#place());
        this.#held = null;
      } finally {
        this.#isLettingGo = false;
      }
    });
  }

  /** OX2. */
  #try(act: () => Promise<void>): void {
    const { env, life } = this.#options;
    this.#tasks = this.#tasks.then(async () => {
      try {
        if (!life.isOver) await act();
      } catch (thrown) {
        const failure = storageFailure(thrown, "the state that the job started from");
        if (failure.code === "FENCED") throw failure;
        env.log.info("what the job started from is not let go yet", { failure: failure.message });
      }
    });
    life.guard(this.#tasks);
  }

  /** OR2. */
  async #deleteClaimed(claim: RecordedClaim): Promise<void> {
    const { commitLog, env, life } = this.#options;
    const mayDelete = (): boolean => !life.isOver && !commitLog.isFenced;
    const verifyOwnership = (): Promise<void> => commitLog.verifyOwnership(life.signal);
    if (!(await deleteClaimed(claim, { ...this.#place(), mayDelete, verifyOwnership }))) return;
    env.log.info("the claimed savepoint is deleted: own checkpoints have replaced it", { savepoint: claim.path });
    await commitLog.append((previous) => withoutClaim(previous, claim), life.signal);
  }

  #place(): OriginPlace {
    const { store, openStore, commitLog, env, life } = this.#options;
    return { store, openStore, env, jobDir: commitLog.jobDir, uid: commitLog.head.uid, signal: life.signal };
  }
}

/** What is tried with a commit, and may fail for long, is tried with fewer and fewer of them. */
export class SparseTries {
  readonly #commitsMax: number;
  #commits = 0;
  #dueCommits = 1;

  constructor(commitsMax: number) {
    this.#commitsMax = commitsMax;
  }

  isDue(): boolean {
    this.#commits += 1;
    if (this.#commits < this.#dueCommits) return false;
    this.#commits = 0;
    this.#dueCommits = Math.min(this.#commitsMax, this.#dueCommits * 2);
    return true;
  }
}
