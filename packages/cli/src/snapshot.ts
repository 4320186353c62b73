// `sluice snapshot`: looks into checkpoints and savepoints, without the job that wrote them.
//
// Invariants:
//   SN1. Nothing is ever written.
//   SN2. What the commands print is the same in text and in --json.
//
// Not here: reading snapshots (runtime: inspect/), whether a job can use one (snapshot-check.ts).

import { Failure, formatBytes } from "@sluice/kit";
import type { ObjectStore } from "@sluice/kit/env";
import { jobDirectories, readCommitHead } from "@sluice/runtime/internal/checkpoint";
import {
  describePart,
  describeState,
  diffSnapshots,
  findState,
  keyedDescription,
  listSnapshots,
  openSnapshot,
  parseKey,
  readKey,
  readOperatorItems,
  verifySnapshot,
} from "@sluice/runtime/internal/inspect";
import type {
  InspectProgress,
  KeyDifference,
  ListedSnapshot,
  StateDifference,
  StateFigures,
  StoredSnapshot,
  StoredState,
} from "@sluice/runtime/internal/inspect";

import { openStoreAt, uriOf } from "./open-store.ts";

export interface SnapshotPlace {
  /** URI or path: of a checkpoint or savepoint, of a job's directory (its newest), or of one above a single job. */
  readonly place: string;
  readonly define: Readonly<Record<string, string>>;
}

/** What a command found, as text for people and as JSON for programs. */
export interface SnapshotReport {
  readonly lines: readonly string[];
  readonly json: unknown;
  /** False: what was asked for is not so. Undefined: it is. */
  readonly ok?: boolean;
}

const METADATA = "_metadata";

/** A directory by the store that its parent is, and its name in there. */
function splitPlace(place: string): { readonly parent: string; readonly name: string } {
  const uri = uriOf(place).replace(/\/_metadata$/u, "");
  const at = uri.lastIndexOf("/");
  const last = uri.slice(at + 1);
  return { parent: uri.slice(0, at), name: uri.startsWith("file:") ? decodeURIComponent(last) : last };
}

/** True for what can be a store of its own: a directory below the root, a bucket. */
function isStoreUri(uri: string): boolean {
  return /^[a-z][a-z0-9+.-]*:\/\/.*[^/:]$/iu.test(uri);
}

/** The snapshot that a place means. Failure INPUT_NOT_FOUND says what there is instead. */
export async function openPlace({ place, define }: SnapshotPlace): Promise<StoredSnapshot> {
  const { parent, name } = splitPlace(place);
  if (isStoreUri(parent)) {
    const store = await openStoreAt(parent, define);
    if ((await store.stat(`${name}/${METADATA}`)) !== undefined) return await openSnapshot(store, name);
  }
  const here = await openStoreAt(uriOf(place), define);
  const listed = await here.list("");
  const isJob = listed.some(({ path }) => /^commits\/\d{12}$/u.test(path));
  const jobs = isJob ? [""] : [...jobDirectories(listed).jobs.keys()].sort();
  const [jobDir] = jobs;
  if (jobDir === undefined || jobs.length > 1) {
    throw new Failure("INPUT_NOT_FOUND", {
      retry: "never",
      message: `${here.uri} is no checkpoint or savepoint${jobs.length === 0 ? "" : `; there are ${jobs.length} jobs below it`}`,
      remedy:
        jobs.length === 0
          ? "Name a directory that holds a _metadata, or the directory of a job: sluice snapshot ls PLACE shows what there is."
          : `Name one of them: ${jobs.map((job) => `${here.uri}/${job}`).join(", ")}.`,
    });
  }
  return await openHead(uriOf(isJob ? place : `${here.uri}/${jobDir}`), define);
}

/** The newest checkpoint of the job in this directory. */
async function openHead(jobUri: string, define: SnapshotPlace["define"]): Promise<StoredSnapshot> {
  // Records name paths from the root of the store the job was started with: {root}/{namespace}/{name}.
  const parts = jobUri.split("/");
  const store = await openStoreAt(parts.slice(0, -2).join("/"), define);
  const jobDir = parts.slice(-2).map(decodeURIComponent).join("/");
  const record = await readCommitHead(store, jobDir);
  const head = record?.head ?? null;
  if (head !== null) return await openSnapshot(store, head.path.replace(/\/_metadata$/u, ""));
  throw new Failure("INPUT_NOT_FOUND", {
    retry: "never",
    message: `${store.uri}/${jobDir}: the job has no checkpoint`,
    remedy: "sluice snapshot ls shows what there is",
  });
}

function when(wallMs: number): string {
  return new Date(wallMs).toISOString();
}

function plural(count: number, noun: string): string {
  return `${count.toLocaleString("en-US")} ${noun}${count === 1 ? "" : "s"}`;
}

function sizeOf(snapshot: StoredSnapshot): number {
  return snapshot.states.reduce((sum, state) => sum + state.sizeBytes, snapshot.metadataBytes);
}

/** Checkpoints that commit logs keep, and savepoints, below a directory. */
export async function listPlace({ place, define }: SnapshotPlace): Promise<SnapshotReport> {
  const { store, prefix } = await storeAbove({ place, define });
  const listed = await listSnapshots(store, { prefix, wallMs: Date.now() });
  const lines: string[] = [];
  let heading: string | undefined;
  for (const snapshot of listed) {
    const title =
      snapshot.jobDir === undefined ? "savepoints and checkpoints that no log keeps" : `job ${snapshot.jobDir}`;
    if (title !== heading) lines.push(title);
    heading = title;
    lines.push(`  ${listedLine(snapshot)}`);
  }
  if (listed.length === 0) lines.push(`no checkpoint and no savepoint at ${uriOf(place)}`);
  return { lines, json: listed.map((snapshot) => listedJson(store, snapshot)) };
}

/** The store to list in, high enough that the paths in commit records fit, and what of it was asked for. */
async function storeAbove({
  place,
  define,
}: SnapshotPlace): Promise<{ readonly store: ObjectStore; readonly prefix: string }> {
  const here = await openStoreAt(uriOf(place), define);
  const names = (await here.list("")).map(({ path }) => path);
  const isJob = names.some((path) => /^commits\/\d{12}$/u.test(path));
  const isNamespace = !isJob && names.some((path) => /^[^/]+\/commits\/\d{12}$/u.test(path));
  const isSnapshot = names.includes(METADATA);
  const levels = isJob ? 2 : isNamespace || isSnapshot ? 1 : 0;
  if (levels === 0) return { store: here, prefix: "" };
  const parts = uriOf(place).split("/");
  const store = await openStoreAt(parts.slice(0, -levels).join("/"), define);
  return { store, prefix: `${parts.slice(-levels).map(decodeURIComponent).join("/")}/` };
}

function listedLine({ directory, reasons, content }: ListedSnapshot): string {
  const why = reasons.length === 0 ? "" : `  ${reasons.join(", ")}`;
  if ("unreadable" in content) return `${directory}${why}  UNREADABLE: ${content.unreadable}`;
  const { metadata, states } = content;
  const { kind, checkpointId, timestampMs } = metadata;
  const what = `${kind} ${checkpointId}`.padEnd(14);
  return `${what}  ${when(timestampMs)}  ${formatBytes(sizeOf(content))}  ${plural(states.length, "state")}  ${directory}${why}`;
}

function listedJson(store: ObjectStore, { directory, jobDir, reasons, content }: ListedSnapshot): unknown {
  const place = { uri: `${store.uri}/${directory}`, job: jobDir ?? null, reasons };
  if ("unreadable" in content) return { ...place, unreadable: content.unreadable };
  const { kind, checkpointId, timestampMs, lineage, isFinal } = content.metadata;
  const sizeBytes = sizeOf(content);
  return { ...place, kind, checkpointId, timestampMs, lineage, isFinal, sizeBytes, stateCount: content.states.length };
}

/** Operators, states, types, sizes of one snapshot. */
export async function showPlace(place: SnapshotPlace): Promise<SnapshotReport> {
  const snapshot = await openPlace(place);
  const { metadata, store, directory } = snapshot;
  const { kind, checkpointId, timestampMs, lineage, epoch, attempt, isFinal, base, planDigest } = metadata;
  const objects = new Set(snapshot.states.flatMap((state) => state.parts.map((part) => part.path)));
  const what = `${kind} ${checkpointId} of ${when(timestampMs)}${isFinal ? ", final" : ""}`;
  const relative = base === "self" ? "self-contained" : "its objects lie in the directory of its job";
  const lines = [
    `${store.uri}/${directory}`,
    `  ${what}; lineage ${lineage}, epoch ${epoch}, attempt ${attempt}, plan ${planDigest.slice(0, 12)}`,
    `  ${formatBytes(sizeOf(snapshot))} in ${plural(objects.size, "object")}; ${relative}`,
  ];
  const vertices: unknown[] = [];
  for (const vertex of metadata.vertices) {
    const { vertexId, parallelism, maxParallelism, uids, subtasks } = vertex;
    const finished = subtasks.filter((subtask) => subtask.finished).length;
    const ended = finished === 0 ? "" : `, ${finished} finished`;
    lines.push(`  operators ${uids.join(" -> ")}: parallelism ${parallelism} of at most ${maxParallelism}${ended}`);
    const states = snapshot.states.filter((state) => uids.includes(state.uid));
    const described = await Promise.all(
      states.map(async (state) => ({ state, description: await describeState(state) })),
    );
    for (const { state, description } of described) lines.push(`    ${stateLine(state, describePart(description))}`);
    if (states.length === 0) lines.push("    no state");
    vertices.push({
      vertexId,
      parallelism,
      maxParallelism,
      uids,
      finishedSubtasks: finished,
      states: described.map(({ state, description }) => ({ ...description, ...figuresJson(state) })),
    });
  }
  const scalars = { kind, checkpointId, timestampMs, lineage, epoch, attempt, isFinal, base, planDigest };
  const json = { uri: `${store.uri}/${directory}`, ...scalars, sizeBytes: sizeOf(snapshot), vertices };
  return { lines, json };
}

function stateLine(state: StoredState, what: string): string {
  const noun =
    state.kind === "keyed" ? (state.itemCount === 1 ? "entry" : "entries") : state.itemCount === 1 ? "item" : "items";
  const count = state.itemCount === undefined ? "" : `${state.itemCount.toLocaleString("en-US")} ${noun}, `;
  return `${state.uid} "${state.stateName}": ${what}; ${count}${formatBytes(state.sizeBytes)} in ${plural(state.parts.length, "part")}`;
}

function figuresJson({ parallelism, maxParallelism, sizeBytes, itemCount, parts }: StoredState): object {
  return { parallelism, maxParallelism, sizeBytes, itemCount: itemCount ?? null, partCount: parts.length };
}

/** What a key has in a keyed state, or all items of an operator state. */
export async function getFromPlace(
  place: SnapshotPlace,
  wanted: { readonly uid: string; readonly stateName: string; readonly key: string | undefined },
): Promise<SnapshotReport> {
  const state = findState(await openPlace(place), wanted);
  if (state.kind === "operator" && wanted.key === undefined) return await itemsOf(state);
  const description = await keyedDescription(state);
  if (wanted.key === undefined) {
    throw new Failure("CONFIG_INVALID", {
      retry: "never",
      message: `state "${state.stateName}" of operator uid ${state.uid} is keyed: ${describePart(description)}`,
      remedy: "Say which key: --key K, as plain text for STRING, as JSON for other types.",
    });
  }
  const { key, keyGroup, found } = await readKey(state, description, parseKey(description.keyType, wanted.key));
  const { uid, stateName } = state;
  const json = { uid, stateName, stateKind: description.stateKind, key, keyGroup, found: found !== undefined };
  if (found === undefined) {
    const line = `operator uid ${uid}, state "${stateName}": key ${JSON.stringify(key)} has no entry`;
    return { lines: [line], json, ok: false };
  }
  const times = found.timesMs === null ? {} : { timesMs: found.timesMs };
  return { lines: [JSON.stringify(found.value)], json: { ...json, value: found.value, ...times } };
}

async function itemsOf(state: StoredState): Promise<SnapshotReport> {
  const { uid, stateName } = state;
  const description = await describeState(state);
  const subtasks: { readonly subtaskIndex: number; readonly items: readonly unknown[] }[] = [];
  for (const part of state.parts)
    subtasks.push({ subtaskIndex: part.subtaskIndex, items: await readOperatorItems(part) });
  const lines = subtasks.flatMap(({ subtaskIndex, items }) =>
    items.map((item) => `subtask ${subtaskIndex}: ${JSON.stringify(item)}`),
  );
  const mode = "mode" in description ? description.mode : null;
  return { lines: lines.length === 0 ? ["no items"] : lines, json: { uid, stateName, mode, subtasks } };
}

/** Reads every byte and checks everything that can be checked without the job. */
export async function verifyPlace(
  place: SnapshotPlace,
  onProgress: (progress: InspectProgress) => void,
): Promise<SnapshotReport> {
  const snapshot = await openPlace(place);
  const outcome = await verifySnapshot(snapshot, onProgress);
  const { partCount, blockCount, entryCount, sizeBytes, problems } = outcome;
  const uri = `${snapshot.store.uri}/${snapshot.directory}`;
  const counts = `${plural(partCount, "part")}, ${plural(blockCount, "block")}, ${plural(entryCount, "row")}, ${formatBytes(sizeBytes)}`;
  const json = { uri, ok: problems.length === 0, partCount, blockCount, entryCount, sizeBytes, problems };
  if (problems.length === 0) {
    return { lines: [uri, `  whole: ${counts}; every checksum, value and key is as it must be`], json };
  }
  const lines = [
    uri,
    `  DAMAGED: ${plural(problems.length, "problem")} in ${counts}`,
    ...problems.map((p) => `  ${p}`),
  ];
  lines.push("  Restore from another checkpoint or savepoint, or put the damaged objects back from a copy.");
  return { lines, json, ok: false };
}

/** What is different in `after`. */
export async function diffPlaces(
  before: SnapshotPlace,
  after: SnapshotPlace,
  options: {
    readonly keysMax: number | undefined;
    readonly onProgress: (progress: InspectProgress) => void;
  },
): Promise<SnapshotReport> {
  const [a, b] = [await openPlace(before), await openPlace(after)];
  const differences = await diffSnapshots({ before: a, after: b, ...options });
  const lines = [`- ${a.store.uri}/${a.directory}`, `+ ${b.store.uri}/${b.directory}`];
  for (const difference of differences) lines.push(...differenceLines(difference));
  if (differences.length === 0) lines.push("  neither has state");
  return {
    lines,
    json: { before: `${a.store.uri}/${a.directory}`, after: `${b.store.uri}/${b.directory}`, states: differences },
  };
}

function differenceLines(difference: StateDifference): readonly string[] {
  const { uid, stateName, before, after, keys, keysNotCompared } = difference;
  const name = `${uid} "${stateName}"`;
  if (before === undefined && after !== undefined) return [`+ ${name}: ${figuresText(after)}`];
  if (after === undefined && before !== undefined) return [`- ${name}: ${figuresText(before)}`];
  if (before === undefined || after === undefined) return [];
  const lines =
    before.type === after.type && before.parallelism === after.parallelism
      ? [`  ${name}: ${after.type}; ${countChange(before, after)}`]
      : [`- ${name}: ${figuresText(before)}`, `+ ${name}: ${figuresText(after)}`];
  if (keysNotCompared !== undefined) lines.push(`    keys are not compared: ${keysNotCompared}`);
  if (keys === undefined) return lines;
  const { added, removed, changed, same, listed } = keys;
  lines.push(`    keys: ${added} added, ${removed} removed, ${changed} changed, ${same} the same`);
  lines.push(...listed.map(keyLine));
  const hidden = added + removed + changed - listed.length;
  if (hidden > 0) lines.push(`    ... and ${plural(hidden, "more key")} (--keys N shows more)`);
  return lines;
}

function figuresText({ type, itemCount, sizeBytes, parallelism }: StateFigures): string {
  const count = itemCount === undefined ? "" : `${itemCount.toLocaleString("en-US")} rows, `;
  return `${type}; ${count}${formatBytes(sizeBytes)}, parallelism ${parallelism}`;
}

function countChange(before: StateFigures, after: StateFigures): string {
  const counts = [before.itemCount, after.itemCount];
  const sizes = `${formatBytes(before.sizeBytes)} -> ${formatBytes(after.sizeBytes)}`;
  const [old, now] = counts;
  if (old === undefined || now === undefined) return sizes;
  return `${old.toLocaleString("en-US")} -> ${now.toLocaleString("en-US")} rows, ${sizes}`;
}

function keyLine({ key, change, before, after }: KeyDifference): string {
  const text = JSON.stringify(key);
  if (change === "added") return `    + ${text}: ${JSON.stringify(after)}`;
  if (change === "removed") return `    - ${text}: ${JSON.stringify(before)}`;
  return `    ~ ${text}: ${JSON.stringify(before)} -> ${JSON.stringify(after)}`;
}
