// Conditions as kstatus reads them, and the list of decisions.
//
// Invariants:
//   CO1. lastTransitionTime changes with `status` only.
//   CO2. Every condition says the generation that it speaks of.
//   CO3. Reconciling and Stalled are the names that kstatus (kubectl wait, helm --wait, Argo CD, Flux) knows; Reconciling is there
//        only while it is True.
//
// Not here: when which condition holds (decide).

import type { Condition, Decision as DecisionRecord } from "@sluice/api";

const DECISIONS_MAX = 10;
const MESSAGE_CHARS_MAX = 2048;

export interface ConditionDraft {
  readonly type: string;
  readonly status: "True" | "False" | "Unknown";
  readonly reason: string;
  readonly message: string;
}

/** `conditions` with one of them set. */
export function withCondition(
  conditions: readonly Condition[],
  wanted: ConditionDraft,
  at: { readonly now: string; readonly generation: number },
): readonly Condition[] {
  const old = conditions.find((one) => one.type === wanted.type);
  const next: Condition = {
    ...wanted,
    message: shortened(wanted.message),
    lastTransitionTime: old !== undefined && old.status === wanted.status ? old.lastTransitionTime : at.now,
    observedGeneration: at.generation,
  };
  return old === undefined ? [...conditions, next] : conditions.map((one) => (one === old ? next : one));
}

/** `conditions` without one of them. */
export function withoutCondition(conditions: readonly Condition[], type: string): readonly Condition[] {
  return conditions.filter((one) => one.type !== type);
}

/** Newest last, ten of them. */
export function withDecision(
  decisions: readonly DecisionRecord[],
  decision: DecisionRecord,
): readonly DecisionRecord[] {
  return [...decisions, { ...decision, reason: shortened(decision.reason) }].slice(-DECISIONS_MAX);
}

/** Texts of pods and users are cut: a status has a limit. */
export function shortened(text: string): string {
  return text.length <= MESSAGE_CHARS_MAX ? text : `${text.slice(0, MESSAGE_CHARS_MAX - 1)}…`;
}
