// Users of the operations world: they ask JobManagers for operations, lose answers, ask again under the same id, and look for outcomes.
//
// Invariants:
//   US1. A user asks until it was told that the operation is accepted or refused; it looks until it knows the outcome.
//   US2. One operation keeps its id: whoever is asked again, also another JobManager, gets the same words.
//   US3. A user who was told an outcome asks once more now and then: the answer is the same (OS2).
//
// Not here: what is right (operation-checks.ts).

import type { Failure } from "@sluice/kit";
import type { Rng } from "@sluice/kit/env";
import type { OperationRequest, ResourceRequirements } from "@sluice/runtime/internal/checkpoint";
import type { EventOwner, World } from "../../index.ts";
import { VERTICES } from "../pipeline.ts";
import type { Answer, JobManagerProcess } from "./job-manager.ts";
import type { OperationChecks } from "./operation-checks.ts";

/** An answer that takes longer is taken for lost. */
const PATIENCE_MS = 3_000;
const DELAY_MS = 30;
const LOOK_MS = 250;
/** Ids of 32 hex digits, as REST takes them. */
const ID_DIGITS = 32;

/** How often each kind is asked for, in relation to the others. */
export type Wishes = Readonly<
  Record<"savepoint" | "checkpoint" | "stop" | "drain" | "cancel" | "rescale" | "dispose", number>
>;

/** A JobManager, as somebody outside knows it. */
export interface Reachable {
  readonly owner: EventOwner;
  readonly jobManager: JobManagerProcess;
  readonly epoch: number;
}

export interface UsersOptions {
  readonly world: World;
  readonly rng: Rng;
  readonly checks: OperationChecks;
  readonly wishes: Wishes;
  readonly countMax: number;
  readonly lossProbability: number;
  readonly slotCount: number;
  /** Newest last; paused and superseded ones are among them. */
  readonly jobManagers: () => readonly Reachable[];
  readonly savepointDirectory: string;
  readonly storeUri: string;
}

interface Asked {
  readonly id: string;
  readonly request: OperationRequest;
  /** Counts what is under way: an answer to an older question is late. */
  turn: number;
  isAccepted: boolean;
  /** It is refused, or its outcome is known. */
  isOver: boolean;
}

export class Users {
  readonly counts = { asked: 0, repeated: 0, refused: 0, lost: 0 };
  readonly #options: UsersOptions;
  readonly #all: Asked[] = [];

  constructor(options: UsersOptions) {
    this.#options = options;
  }

  /** Operations whose user waits. */
  get waiting(): readonly string[] {
    return this.#all.filter(({ isOver }) => !isOver).map(({ id, request }) => `${request.kind} ${id.slice(0, 8)}`);
  }

  /** Somebody wants something. */
  wish(): void {
    if (this.#all.length >= this.#options.countMax) return;
    const request = this.#draw();
    if (request === undefined) return;
    const asked: Asked = { id: this.#drawId(), request, turn: 0, isAccepted: false, isOver: false };
    this.#all.push(asked);
    this.counts.asked += 1;
    this.#ask(asked);
  }

  #draw(): OperationRequest | undefined {
    const { rng, wishes, savepointDirectory, checks, storeUri } = this.#options;
    const entries = Object.entries(wishes) as [keyof Wishes, number][];
    let left = rng.below(entries.reduce((sum, [, weight]) => sum + weight, 0));
    const kind = entries.find(([, weight]) => (left -= weight) < 0)?.[0] ?? "checkpoint";
    const at = { targetDirectory: rng.chance(0.7) ? null : savepointDirectory, formatType: "CANONICAL" } as const;
    switch (kind) {
      case "savepoint":
        return { kind, ...at, cancelsJob: rng.chance(wishes.cancel > 0 ? 0.15 : 0) };
      case "checkpoint":
        return { kind, checkpointType: "CONFIGURED" };
      case "stop":
      case "drain":
        return { kind: "stop", ...at, drain: kind === "drain" };
      case "cancel":
        return { kind };
      case "rescale":
        return { kind, requirements: this.#requirements() };
      case "dispose": {
        const directory = checks.disposable[rng.below(Math.max(1, checks.disposable.length))];
        if (directory === undefined) return undefined;
        checks.disposing(directory);
        return { kind, savepointPath: `${storeUri}/${directory}` };
      }
    }
  }

  /** Mostly what there are slots for; sometimes more, sometimes nonsense. */
  #requirements(): ResourceRequirements {
    const { rng, slotCount } = this.#options;
    const upperBound = 1 + rng.below(slotCount);
    const lowerBound = 1 + rng.below(upperBound);
    const draw = rng.below(10);
    const parallelism =
      draw === 0
        ? { lowerBound: slotCount + 1, upperBound: slotCount + 2 }
        : draw === 1
          ? { lowerBound: 2, upperBound: 1 }
          : { lowerBound, upperBound };
    return Object.fromEntries(VERTICES.map((vertex) => [vertex, { parallelism }]));
  }

  #drawId(): string {
    let id = "";
    while (id.length < ID_DIGITS) id += this.#options.rng.u32().toString(16).padStart(8, "0");
    return id;
  }

  /** US1, US2. */
  #ask(asked: Asked): void {
    const { world, rng, lossProbability, checks } = this.#options;
    asked.turn += 1;
    const { turn, id, request } = asked;
    const again = (): void => {
      if (asked.turn === turn && !asked.isAccepted && !asked.isOver) this.#ask(asked);
    };
    const target = this.#target();
    world.after(PATIENCE_MS, "user asks again", again);
    if (target === undefined) return;
    const answered = (answer: Answer): void => {
      if (rng.chance(lossProbability)) {
        this.counts.lost += 1;
        return;
      }
      if (answer === "accepted") checks.accepted(id, request.kind);
      world.after(1 + rng.below(DELAY_MS), "user is answered", () => {
        if (asked.turn === turn) this.#answered(asked, answer);
      });
    };
    world.loop.at(1 + rng.below(DELAY_MS), target.owner, `asked for ${request.kind} ${id.slice(0, 8)}`, () => {
      void target.jobManager.ask(id, request).then((answer) => {
        if (target.owner.isAlive) answered(answer);
      });
    });
  }

  #answered(asked: Asked, answer: Answer): void {
    const { world, rng } = this.#options;
    const { id, request } = asked;
    if (answer === "accepted") {
      asked.isAccepted = true;
      if (rng.chance(0.4)) this.#askBeside(asked);
      this.#look(asked);
      return;
    }
    if (answer === "refused" || isTooLate(answer)) {
      this.counts.refused += 1;
      asked.isOver = true;
      return;
    }
    // FENCED, CANCELED: that JobManager ends; another one is asked when patience is over.
    if (answer.code === "FENCED" || answer.code === "CANCELED") return;
    if (answer.retry === "never")
      return world.violate(
        `OS1: ${request.kind} ${id.slice(0, 8)} was answered with ${answer.code}: ${answer.message}`,
      );
    world.after(rng.below(LOOK_MS) + 50, "user asks again soon", () => {
      if (!asked.isAccepted && !asked.isOver) this.#ask(asked);
    });
  }

  /** The same again, while it runs or after it: nothing new begins. */
  #askBeside(asked: Asked): void {
    const { world, rng } = this.#options;
    const target = this.#target();
    if (target === undefined) return;
    this.counts.repeated += 1;
    world.loop.at(rng.below(DELAY_MS * 4), target.owner, `asked again for ${asked.id.slice(0, 8)}`, () => {
      void target.jobManager.ask(asked.id, asked.request);
    });
  }

  #look(asked: Asked): void {
    const { world, rng, checks } = this.#options;
    world.after(20 + rng.below(LOOK_MS), "user looks", () => {
      const target = this.#target();
      if (asked.isOver) return;
      if (target === undefined) {
        // As the operator does when no JobManager is there: whoever reads the log.
        const outcome = checks.outcomeOf(asked.id);
        if (outcome === null || outcome === undefined) return this.#look(asked);
        asked.isOver = true;
        return;
      }
      world.loop.at(rng.below(DELAY_MS), target.owner, `looked for ${asked.id.slice(0, 8)}`, () => {
        const outcome = target.jobManager.find(asked.id)?.outcome;
        checks.rescaled(target.epoch, target.jobManager.master.job().rescaleCount);
        // A cancellation that was begun without a record has come to its end with the job.
        if (outcome === undefined && asked.request.kind === "cancel" && target.jobManager.hasEnded) asked.isOver = true;
        if (outcome === null || outcome === undefined) return;
        checks.told(asked.id, asked.request.kind, outcome);
        asked.isOver = true;
        if (rng.chance(0.3)) this.#askBeside(asked); // US3
      });
      this.#look(asked);
    });
  }

  /** Mostly the newest; sometimes one that a newer one has replaced. */
  #target(): Reachable | undefined {
    const { rng, jobManagers } = this.#options;
    const all = jobManagers();
    return rng.chance(0.1) ? all[rng.below(Math.max(1, all.length))] : all.at(-1);
  }
}

/** OJ5: the job has ended, which the JobManager did not know when it was asked. */
function isTooLate({ code, message }: Failure): boolean {
  return code === "OPERATION_CONFLICT" && message.includes("has ended");
}
