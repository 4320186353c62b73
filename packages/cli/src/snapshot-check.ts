// `sluice snapshot check`: whether a job can go on from a snapshot, before anybody tries.
//
// The job's `main` runs, and its functions are opened once (not its sources and sinks), in a process of its own without credentials. What
// open() does to the world it does here, too.
//
// Not here: the comparison (runtime: checkpoint/compatibility.ts).

import { compareJob, checkpointVertices } from "@sluice/runtime/internal/checkpoint";
import type { Compatibility, OperatorVerdict, Verdict } from "@sluice/runtime/internal/checkpoint";
import { runStatesProcess } from "@sluice/runtime/internal/bin";
import { describeState } from "@sluice/runtime/internal/inspect";
import type { StoredSnapshot } from "@sluice/runtime/internal/inspect";
import { parseConfiguration, runtimeSettings } from "@sluice/runtime/internal/model";
import type { StateSchema } from "@sluice/runtime/internal/model";

import { openPlace } from "./snapshot.ts";
import type { SnapshotPlace, SnapshotReport } from "./snapshot.ts";
import { baseName, findModule } from "./submission.ts";

export interface CheckRequest {
  readonly job: string;
  readonly arguments: readonly string[];
  readonly allowNonRestoredState: boolean;
}

export async function checkPlace(place: SnapshotPlace, request: CheckRequest): Promise<SnapshotReport> {
  const snapshot = await openPlace(place);
  const moduleUrl = findModule(request.job);
  const configuration = parseConfiguration(
    Object.entries(place.define).map(([key, value]) => ({ key, value, origin: "command line" as const })),
  );
  const { plan, operators: declared } = await runStatesProcess({
    moduleUrl,
    arguments: request.arguments,
    configuration: configuration.toRecord(),
    jobName: baseName(moduleUrl),
    timeoutMs: runtimeSettings(configuration).planTimeoutMs,
  });
  const compatibility = compareJob({
    metadata: snapshot.metadata,
    stored: await storedStates(snapshot),
    vertices: checkpointVertices(plan),
    declared,
    unclaimedState: request.allowNonRestoredState ? "drop" : "fail",
  });
  return reportOf(snapshot, request.job, compatibility);
}

async function storedStates(snapshot: StoredSnapshot): Promise<ReadonlyMap<string, readonly StateSchema[]>> {
  const stored = new Map<string, StateSchema[]>();
  for (const state of snapshot.states) {
    const description = await describeState(state);
    const { stateName: name } = description;
    const schema: StateSchema =
      description.section === "operator-list"
        ? { name, kind: "operator-list", mode: description.mode, itemType: description.itemType }
        : {
            name,
            kind: description.stateKind,
            valueType: description.valueType,
            keyType: description.keyType,
            ttl: description.ttl,
          };
    stored.set(state.uid, [...(stored.get(state.uid) ?? []), schema]);
  }
  return stored;
}

function reportOf(snapshot: StoredSnapshot, job: string, compatibility: Compatibility): SnapshotReport {
  const { compatible, operators } = compatibility;
  const uri = `${snapshot.store.uri}/${snapshot.directory}`;
  const lines = [uri, ...operators.flatMap(operatorLines)];
  lines.push(compatible ? `${job} can go on from it` : `${job} CANNOT go on from it`);
  return { lines, json: { uri, job, ...compatibility }, ok: compatible };
}

const WORDS = {
  unchanged: "unchanged",
  new: "new",
  evolves: "evolves",
  dropped: "dropped",
  unknown: "NOT CHECKED",
  "state without operator": "STATE WITHOUT OPERATOR",
  incompatible: "INCOMPATIBLE",
} as const satisfies Record<Verdict, string>;

function operatorLines({ uid, name, verdict, details, states }: OperatorVerdict): readonly string[] {
  const who = name === undefined || name === uid ? uid : `${uid} ("${name}")`;
  return [
    `  ${who}: ${WORDS[verdict]}`,
    ...details.map((detail) => `    ${detail}`),
    ...states.flatMap((state) => [
      `    state "${state.name}": ${WORDS[state.verdict]}`,
      ...state.details.map((detail) => `      ${detail}`),
    ]),
  ];
}
