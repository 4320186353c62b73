// Watches the object store of a world and holds it against the invariants of the commit protocol.
//
// Invariants checked: CL1, CL3, CL4, CL5 (through `headId`), CL6, CL7, CL9, CL12 of runtime/checkpoint/types.ts, and
//   C9.  An intermediate savepoint is never the head; once complete it is whole.
//   C10. After the record of a stop its submission commits nothing and never becomes active again.
//   CUT. The parts of a committed checkpoint are one consistent cut: of every lane source position = records counted = records sunk.
//   LANES. Every lane is in it once per vertex, however the parallelism changed.

import { crc32c } from "@sluice/kit";
import {
  checkpointIdOfPath,
  commitSeq,
  type CommitRecord,
  readCheckpointMetadata,
  readCommitRecord,
} from "@sluice/runtime/internal/checkpoint";
import type { CheckpointMetadata, PartHandle } from "@sluice/runtime/internal/model";
import { createHash } from "node:crypto";
import type { EventOwner, World } from "../index.ts";
import type { PartContent } from "./pipeline.ts";

export class CommitChecks {
  /** The highest record: the truth. */
  truth: CommitRecord | undefined;
  commitCount = 0;
  stopCount = 0;
  savepointCount = 0;
  regressionCount = 0;
  /** Checkpoints that the world damaged behind everybody's back: CL3 says nothing about them any more. */
  readonly damaged = new Set<number>();
  /** Paths of `_metadata` of savepoints that were not asked for by a stop. */
  readonly intermediates = new Set<string>();
  readonly #world: World;
  readonly #jobDir: string;
  readonly #laneCount: number;
  readonly #stopping: () => void;
  readonly #appended: (record: CommitRecord, before: CommitRecord | undefined) => void;
  readonly #epochOf = new Map<EventOwner, number>();
  readonly #condemnedBy = new Map<number, Set<number>>();
  readonly #triggered = new Map<number, string>();
  readonly #headsSeen = new Set<number>();

  constructor(
    world: World,
    of: {
      readonly jobDir: string;
      readonly laneCount: number;
      /** A stop has become the head. */
      readonly stopping: () => void;
      /** Told of every record, after the checks of this file. */
      readonly appended?: (record: CommitRecord, before: CommitRecord | undefined) => void;
    },
  ) {
    this.#stopping = of.stopping;
    this.#appended = of.appended ?? (() => undefined);
    this.#world = world;
    this.#jobDir = of.jobDir;
    this.#laneCount = of.laneCount;
    world.observers.push({
      created: (path, bytes, by) => this.#created(path, bytes, by),
      removed: (path, by) => this.#removed(path, by),
    });
  }

  /** The newest committed checkpoint, 0 before the first. */
  get headId(): number {
    return this.truth?.head?.id ?? 0;
  }

  /** Whether checkpoint `id` was ever committed. */
  wasHead(id: number): boolean {
    return this.#headsSeen.has(id);
  }

  /** How far the head has come, by lane. */
  positions(): ReadonlyMap<number, number> {
    const positions = new Map<number, number>();
    const head = this.truth?.head;
    const bytes = this.#world.storage.objects.get(head?.path ?? "")?.bytes;
    const content = bytes === undefined ? undefined : readCheckpointMetadata(bytes);
    if (content?.type !== "ok" || head === undefined || head === null) return positions;
    const base = content.metadata.base === "self" ? directoryOf(head.path) : this.#jobDir;
    for (const { object } of partsOf(content.metadata)) {
      const part = this.#world.storage.objects.get(`${base}/${object}`)?.bytes;
      for (const { lane, position } of part === undefined ? [] : partContent(part).lanes) positions.set(lane, position);
    }
    return positions;
  }

  /** A JobManager triggers `id`: nobody else may ever have (CL4). */
  triggered(id: number, epoch: number, attempt: number): void {
    const by = `epoch ${epoch} attempt ${attempt}`;
    const before = this.#triggered.get(id);
    if (before !== undefined && before !== by)
      this.#world.violate(`CL4: checkpoint ${id} of ${before} is triggered again by ${by}`);
    this.#triggered.set(id, by);
  }

  /** A savepoint was reported as complete. */
  savepointTaken(path: string): void {
    this.savepointCount += 1;
    const violate = (reason: string): void => this.#world.violate(`C9: ${reason}`);
    const bytes = this.#world.storage.objects.get(path)?.bytes;
    if (bytes === undefined) return violate(`savepoint ${path} is not there`);
    const metadata = this.#verify(path, createHash("sha256").update(bytes).digest("hex"), violate);
    if (metadata !== undefined) this.#checkCut(metadata, directoryOf(path), violate);
  }

  /** A sink publishes what belongs to checkpoint `id`, or was told that `id` completed (CL5). */
  sideEffect(id: number, what: string): void {
    // A cancellation that deletes its checkpoints takes back no side effect of them.
    const override = this.truth?.override;
    const committedId = override?.type === "state-deleted" ? Math.max(override.fromId, this.headId) : this.headId;
    if (id > committedId) this.#world.violate(`CL5: ${what} for checkpoint ${id} while the head is ${this.headId}`);
  }

  #created(path: string, bytes: Uint8Array, by: EventOwner): void {
    const seq = commitSeq(this.#jobDir, path);
    if (seq === undefined) return;
    const violate = (reason: string): void => this.#world.violate(`${reason} (record ${seq} by ${by.name})`);
    const content = readCommitRecord(bytes);
    if (content.type !== "ok") return violate("CL1: a commit record cannot be read");
    const { record } = content;
    const before = this.truth;
    if (seq !== (before?.seq ?? 0) + 1) violate(`CL1: the log went from record ${before?.seq ?? 0} to ${seq}`);
    if (record.epoch < (before?.epoch ?? 0))
      violate(`CL1: epoch ${record.epoch} appended after epoch ${before?.epoch ?? 0}`);
    if (record.idHigh < (before?.idHigh ?? 0)) violate("CL4: the ids given out decreased");
    if (before?.closed === true && record.override?.type !== "new-lineage" && !isAftermath(record, before))
      violate("CL12: an append after the end of a lineage");
    const headBefore = before?.head?.id ?? 0;
    const head = record.head?.id ?? 0;
    if (head < headBefore) this.regressionCount += 1;
    const isDeletion = head === 0 && record.override?.type === "state-deleted";
    if (head < headBefore && record.override?.type !== "head-regression" && !isDeletion)
      violate(`CL6: the head went from ${headBefore} to ${head}`);
    this.#checkStop(record, before, violate);
    this.truth = record;
    this.#epochOf.set(by, record.epoch);
    const condemned = this.#condemnedBy.get(record.epoch) ?? new Set();
    for (const id of record.condemned) condemned.add(id);
    this.#condemnedBy.set(record.epoch, condemned);
    if (record.retained.some((ref) => record.condemned.includes(ref.id)))
      violate("CL7: a retained checkpoint is condemned");
    const stopped = record.head?.kind === "savepoint" ? [record.head] : [];
    for (const ref of [...record.retained, ...record.pins.map((pin) => pin.ref), ...stopped]) {
      if (this.damaged.has(ref.id)) continue;
      const metadata = this.#verify(ref.path, ref.sha256, violate);
      if (metadata === undefined || ref.id !== head || head <= headBefore) continue;
      if (this.#headsSeen.has(head)) violate(`CL4: checkpoint ${head} became the head twice`);
      this.#headsSeen.add(head);
      this.commitCount += 1;
      if (metadata.epoch !== record.epoch) violate(`CL9: checkpoint ${head} was taken in epoch ${metadata.epoch}`);
      this.#checkCut(metadata, metadata.base === "self" ? directoryOf(ref.path) : this.#jobDir, violate);
    }
    this.#appended(record, before);
  }

  #checkStop(record: CommitRecord, before: CommitRecord | undefined, violate: (reason: string) => void): void {
    const path = record.head?.path ?? "";
    if (this.intermediates.has(path)) violate(`C9: the intermediate savepoint ${path} is the head`);
    const isStopping = record.jobState === "stopping" || record.jobState === "draining";
    if (isStopping && before?.jobState === "active") {
      this.stopCount += 1;
      this.#stopping();
    }
    if (before === undefined || before.submission !== record.submission) return;
    if (before.jobState === "active" || before.jobState === "failed" || before.jobState === "cancelled") return;
    if (record.jobState === "active") violate("C10: the job goes on after it was stopped");
    if ((record.head?.id ?? 0) > (before.head?.id ?? 0)) violate("C10: something was committed after the stop");
  }

  /** CL3: everything that the metadata reaches is there, with its checksum. */
  #verify(path: string, sha256: string, violate: (reason: string) => void): CheckpointMetadata | undefined {
    const bytes = this.#world.storage.objects.get(path)?.bytes;
    const content = bytes === undefined ? undefined : readCheckpointMetadata(bytes);
    if (bytes === undefined || content?.type !== "ok") {
      violate(`CL3: ${path} is not there or damaged`);
      return undefined;
    }
    if (createHash("sha256").update(bytes).digest("hex") !== sha256) violate(`CL3: ${path} has another sha256`);
    const base = content.metadata.base === "self" ? directoryOf(path) : this.#jobDir;
    for (const part of partsOf(content.metadata)) {
      const stored = this.#world.storage.objects.get(`${base}/${part.object}`)?.bytes;
      const slice = stored?.subarray(part.offset, part.offset + part.lengthBytes);
      if (slice?.length !== part.lengthBytes || crc32c(slice) !== part.crc32c)
        violate(`CL3: ${part.object} is not there or damaged`);
    }
    return content.metadata;
  }

  #checkCut(metadata: CheckpointMetadata, base: string, violate: (reason: string) => void): void {
    const positions = new Map<number, Set<number>>();
    for (const vertex of metadata.vertices) {
      const lanes: number[] = [];
      for (const subtask of vertex.subtasks) {
        if (subtask.parts.length === 0)
          violate(`CK1: checkpoint ${metadata.checkpointId} lacks ${vertex.vertexId}/${subtask.subtaskIndex}`);
        for (const part of subtask.parts) {
          const bytes = this.#world.storage.objects.get(`${base}/${part.object}`)?.bytes;
          if (bytes === undefined) continue; // reported by CL3
          const content = partContent(bytes);
          const isOwn =
            content.id === metadata.checkpointId &&
            content.epoch === metadata.epoch &&
            content.attempt === metadata.attempt;
          if (!isOwn) {
            violate(
              `CL9: checkpoint ${metadata.checkpointId} of attempt ${metadata.attempt} holds a part of ${content.id}, attempt ${content.attempt}`,
            );
          }
          for (const { lane, position } of content.lanes) {
            lanes.push(lane);
            positions.set(lane, (positions.get(lane) ?? new Set()).add(position));
          }
        }
      }
      const sorted = lanes.toSorted((a, b) => a - b);
      if (sorted.some((lane, i) => lane !== i) || sorted.length !== this.#laneCount)
        violate(`LANES: checkpoint ${metadata.checkpointId}, ${vertex.vertexId} has lanes ${sorted.join(", ")}`);
    }
    for (const [lane, seen] of positions) {
      if (seen.size > 1)
        violate(`CUT: checkpoint ${metadata.checkpointId}, lane ${lane} is at positions ${[...seen].join(", ")}`);
    }
  }

  #removed(path: string, by: EventOwner): void {
    const id = checkpointIdOfPath(this.#jobDir, path);
    if (id === undefined) return;
    const truth = this.truth;
    const isKept = [...(truth?.retained ?? []), ...(truth?.pins ?? []).map((pin) => pin.ref)].some(
      (ref) => ref.id === id,
    );
    if (isKept) this.#world.violate(`CL3: ${by.name} deleted ${path}, which is retained`);
    const epoch = this.#epochOf.get(by);
    if (epoch === undefined || this.#condemnedBy.get(epoch)?.has(id) !== true) {
      this.#world.violate(`CL7: ${by.name} deleted ${path}, which no record of its epoch condemned`);
    }
  }
}

/** The writer of the last record of a lineage says what it has deleted since. */
function isAftermath(record: CommitRecord, before: CommitRecord): boolean {
  const isSame =
    record.epoch === before.epoch && record.jobState === before.jobState && record.head?.id === before.head?.id;
  return isSame && record.closed && record.condemned.length <= before.condemned.length;
}

function directoryOf(metadataPath: string): string {
  return metadataPath.slice(0, metadataPath.lastIndexOf("/"));
}

function partContent(bytes: Uint8Array): PartContent {
  return JSON.parse(new TextDecoder().decode(bytes)) as PartContent;
}

function partsOf(metadata: CheckpointMetadata): readonly PartHandle[] {
  return metadata.vertices.flatMap((vertex) => vertex.subtasks.flatMap((subtask) => subtask.parts));
}
