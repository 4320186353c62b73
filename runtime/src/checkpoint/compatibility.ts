// Whether a job can go on from a snapshot: every operator and state of both sides beside each other. Pure.
//
// Invariants:
//   CO1. The verdict is that of a restore: what is compatible here restores, what is not is refused there (assign.ts, evolution.ts).
//   CO2. What could not be found out is not called compatible.
//
// Not here: finding out what the job declares (task/declared-states.ts), reading the snapshot (inspect/).

import { isFailure } from "@sluice/kit";
import type { CheckpointMetadata, OperatorSchema, StateSchema, TypeDescriptor } from "../model/index.ts";
import { describeType, sameType } from "../model/index.ts";
import { compareTypes } from "../state/index.ts";
import { assignState } from "./assign.ts";
import type { CheckpointVertex } from "./types.ts";

/** From good to bad; an operator's is the worst of its own and its states'. */
export const VERDICTS = [
  "unchanged",
  "new",
  "evolves",
  "dropped",
  "unknown",
  "state without operator",
  "incompatible",
] as const;
export type Verdict = (typeof VERDICTS)[number];

export interface StateVerdict {
  readonly name: string;
  readonly verdict: Verdict;
  /** How it evolves, why it is incompatible, or what there is to know. */
  readonly details: readonly string[];
}

export interface OperatorVerdict {
  readonly uid: string;
  /** Undefined: the job has no such operator. */
  readonly name: string | undefined;
  readonly verdict: Verdict;
  readonly details: readonly string[];
  readonly states: readonly StateVerdict[];
}

export interface Compatibility {
  readonly compatible: boolean;
  readonly operators: readonly OperatorVerdict[];
}

export interface CompatibilityInput {
  readonly metadata: CheckpointMetadata;
  /** What the snapshot holds, by uid. */
  readonly stored: ReadonlyMap<string, readonly StateSchema[]>;
  /** Of the job's plan. */
  readonly vertices: readonly CheckpointVertex[];
  /** What the job declares, in the order of the plan. */
  readonly declared: readonly OperatorSchema[];
  /** "drop": state without an operator is given up, because the user said so. */
  readonly unclaimedState: "fail" | "drop";
}

/** CO1, CO2. */
export function compareJob(input: CompatibilityInput): Compatibility {
  const { stored, declared, unclaimedState } = input;
  const operators = declared.map((operator) => compareOperator(input, operator));
  for (const [uid, states] of stored) {
    if (states.length === 0 || declared.some((operator) => operator.uid === uid)) continue;
    const verdict = unclaimedState === "drop" ? "dropped" : "state without operator";
    const details =
      verdict === "dropped"
        ? ["its state is given up (--allow-non-restored-state)"]
        : [
            `the job has no operator with uid("${uid}"): give it to the operator that continues, or give its state up with ` +
              "--allow-non-restored-state",
          ];
    operators.push({
      uid,
      name: undefined,
      verdict,
      details,
      states: states.map(({ name }) => ({ name, verdict, details: [] })),
    });
  }
  const bad: readonly Verdict[] = ["unknown", "state without operator", "incompatible"];
  return { operators, compatible: !operators.some(({ verdict }) => bad.includes(verdict)) };
}

function compareOperator(input: CompatibilityInput, operator: OperatorSchema): OperatorVerdict {
  const { uid, name } = operator;
  const stored = input.stored.get(uid) ?? [];
  const details: string[] = [];
  const own: Verdict[] = [];
  if (stored.length === 0) {
    own.push("new");
    const isDeclaring = operator.states.length > 0 || operator.asked !== "opened";
    details.push(isDeclaring ? "the snapshot has no state of it: it starts empty" : "it has no state");
    if (operator.asked === "failed") details.push(`open() failed: ${operator.problem ?? ""}`);
    return { uid, name, verdict: "new", details, states: operator.states.map((state) => newState(state)) };
  }
  const misfit = misfitOf(input, uid);
  if (misfit !== undefined) {
    own.push("incompatible");
    details.push(misfit);
  }
  if (operator.asked === "failed") {
    own.push("unknown");
    details.push(`what it declares could not be found out: open() failed: ${operator.problem ?? ""}`);
  }
  const states = stored.map((state) => compareState(state, operator));
  for (const state of operator.states)
    if (!stored.some(({ name: known }) => known === state.name)) states.push(newState(state));
  const verdict = worst([...own, ...states.map((state) => state.verdict).filter((of) => of !== "new")]);
  return { uid, name, verdict, details, states };
}

function newState({ name }: StateSchema): StateVerdict {
  return { name, verdict: "new", details: ["the snapshot does not have it: it starts empty"] };
}

/** What assigning the state to the subtasks of the plan says: parallelism, key groups, finished subtasks. */
function misfitOf({ metadata, vertices }: CompatibilityInput, uid: string): string | undefined {
  const vertex = vertices.find(({ uids }) => uids.includes(uid));
  if (vertex === undefined) return undefined;
  // Only this operator's state, so that the failure is about it.
  const only: CheckpointMetadata = {
    ...metadata,
    vertices: metadata.vertices
      .filter(({ uids }) => uids.includes(uid))
      .map((old) => ({
        ...old,
        subtasks: old.subtasks.map((subtask) => ({
          ...subtask,
          parts: subtask.parts.filter((part) => part.uid === uid),
        })),
      })),
  };
  try {
    assignState({ metadata: only, vertices: [vertex], unclaimedState: "drop" });
    return undefined;
  } catch (thrown) {
    if (!isFailure(thrown)) throw thrown;
    return thrown.message;
  }
}

function compareState(stored: StateSchema, operator: OperatorSchema): StateVerdict {
  const { name } = stored;
  const incompatible = (reason: string): StateVerdict => ({ name, verdict: "incompatible", details: [reason] });
  if (stored.kind !== "operator-list" && stored.keyType !== undefined) {
    const { keyType } = operator;
    if (keyType === null)
      return incompatible(`the snapshot has it keyed by ${describeType(stored.keyType)}, the operator has no key`);
    if (!sameType(stored.keyType, keyType)) {
      return incompatible(
        `the snapshot has it keyed by ${describeType(stored.keyType)}, the job keys by ${describeType(keyType)}; keys never change their type`,
      );
    }
  }
  const declared = operator.states.find((state) => state.name === name);
  if (declared === undefined) {
    if (operator.asked === "connector")
      return { name, verdict: "unchanged", details: ["its own format, which the connector reads"] };
    if (operator.asked === "failed") return { name, verdict: "unknown", details: [] };
    const details = stored.kind === "timers" ? [] : ["not declared in open(): kept as it is, or declared later"];
    return { name, verdict: "unchanged", details };
  }
  if (declared.kind !== stored.kind)
    return incompatible(`the snapshot holds a ${stored.kind} state, the job declares ${declared.kind}`);
  if (stored.kind !== "operator-list" && declared.kind !== "operator-list") {
    const change = changeOf(name, stored.valueType, declared.valueType);
    if ((stored.ttl === null) === (declared.ttl === null) || change.verdict === "incompatible") return change;
    const detail =
      declared.ttl === null
        ? "no time to live any more: what is there stays"
        : "a time to live: it begins for what is there when it is restored";
    return { name, verdict: "evolves", details: [...change.details, detail] };
  }
  if (stored.kind !== "operator-list" || declared.kind !== "operator-list")
    return incompatible("another kind of state");
  if (stored.mode !== declared.mode)
    return incompatible(`the snapshot holds ${stored.mode} state, the job declares ${declared.mode}`);
  if (stored.itemType === null || declared.itemType === null)
    return stored.itemType === declared.itemType
      ? { name, verdict: "unchanged", details: ["its own format"] }
      : incompatible("the snapshot holds data of the operator's own, the job declares a type, or the other way round");
  return changeOf(name, asMap(stored.mode, stored.itemType), asMap(declared.mode, declared.itemType));
}

/** Items of broadcast state are the entries of a map, whose keys never change their type. */
function asMap(mode: string, itemType: TypeDescriptor): TypeDescriptor {
  if (mode !== "broadcast" || itemType.kind !== "TUPLE") return itemType;
  const [key, value] = itemType.fields;
  return key === undefined || value === undefined ? itemType : { kind: "MAP", key, value };
}

function changeOf(name: string, stored: TypeDescriptor, declared: TypeDescriptor): StateVerdict {
  const change = compareTypes(stored, declared);
  switch (change.type) {
    case "same":
      return { name, verdict: "unchanged", details: [] };
    case "evolves":
      return { name, verdict: "evolves", details: change.changes };
    case "incompatible": {
      const where = change.path === "" ? "" : `field "${change.path}": `;
      return { name, verdict: "incompatible", details: [`${where}${change.reason}`] };
    }
  }
}

function worst(verdicts: readonly Verdict[]): Verdict {
  return VERDICTS[Math.max(0, ...verdicts.map((verdict) => VERDICTS.indexOf(verdict)))] ?? "unchanged";
}
