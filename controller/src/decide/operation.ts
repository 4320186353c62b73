// An operation as it is written down: begun, tried again, handed over to a newer generation.
//
// Invariants:
//   OP1. An operation's id is uid/generation/tries: what has a name derives from it, so a new try has fresh names.
//
// Not here: which operation is begun (begin.ts).

import { specHash } from "../objects/index.ts";
import type { Operation, OpKind, OpStep } from "../status/index.ts";
import type { Draft } from "./draft.ts";

const PREFLIGHT_DEADLINE_MS = 300_000;

/** Writes the operation down. `from`: one of an older generation whose work is taken over. */
export function startOperation(
  draft: Draft,
  of: {
    readonly kind: OpKind;
    readonly step: OpStep;
    readonly from: Operation | undefined;
    readonly returns?: boolean;
  },
): void {
  const { job } = draft;
  const tries = of.from !== undefined && of.from.generation === job.generation ? of.from.tries + 1 : 1;
  const { from } = of;
  draft.set({
    op: {
      id: draft.newOperationId(tries),
      kind: of.kind,
      step: of.step,
      generation: job.generation,
      hash: specHash(job.spec),
      tries,
      mode: of.kind === "Restart" ? "LastState" : job.spec.upgradeMode,
      startedAt: from?.startedAt ?? draft.now,
      stepAt: draft.now,
      ...(of.step === "Preflight" && {
        deadline: new Date(draft.nowMs + PREFLIGHT_DEADLINE_MS).toISOString(),
      }),
      ...(from?.isStopped === true && { isStopped: true }),
      ...(from?.savepoint !== undefined && { savepoint: from.savepoint }),
      ...(from?.slots !== undefined && { slots: from.slots }),
      ...(of.returns === true && { returns: true }),
    },
  });
}

/** The same operation under another number: its names are fresh. */
export function tryAgain(draft: Draft, step: OpStep): void {
  const { op } = draft;
  if (op === undefined) return;
  const { triggerId: _, ...kept } = op;
  const tries = op.tries + 1;
  draft.set({ op: { ...kept, id: draft.newOperationId(tries), tries, step, stepAt: draft.now } });
}

/** The old job is stopped, or being ended: the newest spec decides what comes of that. */
export function goOnWithNewest(draft: Draft, op: Operation): void {
  const suspends = draft.job.spec.state === "Suspended";
  startOperation(draft, {
    kind: suspends ? "Suspend" : op.kind === "Suspend" ? "Upgrade" : op.kind,
    step: suspends ? "Fence" : "Preflight",
    from: { ...op, isStopped: true },
  });
}
