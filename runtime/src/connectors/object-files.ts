// Exactly-once files on an object store: complete under a hidden name before the checkpoint is acknowledged, published by a copy inside the
// store when the checkpoint that holds them is durable (docs/design/0021-publishing-on-object-stores.md).
//
// A subtask writes one object per checkpoint, in parts of about PART_BYTES as they fill; what fits into one part is stored by one call.
//   {directory}/.staged-part-{lineage}-{uid}-{subtask}-{epoch}.{attempt}-{n}{extension}   whole, recorded in the state of its checkpoint
//   {directory}/part-{lineage}-{uid}-{subtask}-{epoch}.{attempt}-{n}{extension}           published
// The name says who wrote it, not for which checkpoint: that is not known when the upload begins, and no two attempts ever write one name.
//
// Invariants (tests cite them):
//   OF1. An object is published only by `complete(m)` with m >= its checkpoint, or by restoring a checkpoint whose state records it.
//   OF2. What the state records is stored whole before a snapshot's promise resolves, and stays in the state of every later checkpoint until
//        it is published: `complete` takes its time, and the next checkpoint does not wait for it.
//   OF3. State recorded under another lineage is a fork's: it is neither published nor deleted (protocols 1, invariant 11), unless this
//        job has claimed it: then it is published under the names that it records.
//   OF4. An object that is neither staged nor published is lost data: a failure, never skipped.
//   OF5. At most PARTS_WAITING_MAX parts wait for the store; then the operator is not available.
//   OF6. A published object is never hidden again: a job with such a sink does not go back by itself (canRetract is false).
//   OF7. No call whose end we do not know can destroy what a committed checkpoint needs: after the acknowledgement there are only copies
//        (SU5 of kit/env/uploads.ts), and the deletion of the staged object when its copy was answered.
//   OF8. Staged objects of attempts before the own one, of this lineage and uid, go with the first `complete` of an own checkpoint: by then
//        every subtask has published what it restored, whatever the parallelism was. What an older checkpoint records was published, too.
//
// Before OF7 the state recorded uploads, completed after the commit; those of old checkpoints still are (PendingUpload).
// Whatever else dead attempts left is listed and deleted by `sluice store purge --output` (checkpoint/incomplete-uploads.ts).
//
// Not here: calls and retries (kit/env/uploads.ts, retrying-uploads.ts), files on a local file system (pending-files.ts).

import { assert, Failure, toFailure } from "@sluice/kit";
import { UPLOAD_PARTS_MAX, type StagedUpload, type StagedUploads, type UploadedPart } from "@sluice/kit/env";
import type {
  Barrier,
  CheckpointId,
  OperatorStateContent,
  RestoredOperatorState,
  SubtaskInfo,
} from "../model/index.ts";
import { jsonState, jsonValues, SINK_PENDING } from "./json-state.ts";
import { escapeName } from "./pending-files.ts";

/** Above the smallest part that S3 takes; hashing one stops the task for some milliseconds. */
const PART_BYTES = 8 * 1024 * 1024;
const PARTS_WAITING_MAX = 4;
/** An object ends here and another one begins: far below what one copy takes (5 GiB), and a copy of it ends within a minute or two. */
const OBJECT_BYTES = 1024 * 1024 * 1024;
const STAGED = ".staged-";

/** One item of the operator state "sink-pending": an object that is whole under its hidden name. */
interface StagedObject {
  readonly lineage: string;
  /** Its published name; the hidden one is STAGED before it. */
  readonly name: string;
  readonly sizeBytes: number;
}

/** The same as releases before OF7 recorded it: an upload that nobody has completed. */
interface PendingUpload {
  readonly lineage: string;
  readonly upload: StagedUpload;
  readonly parts: readonly UploadedPart[];
}

/** The object being written, once its first part is full. */
interface OpenObject {
  readonly name: string;
  readonly upload: Promise<StagedUpload>;
  readonly parts: Promise<UploadedPart>[];
  sizeBytes: number;
}

interface Sealed {
  /** Undefined: full before its checkpoint came. */
  checkpointId: number | undefined;
  readonly content: Promise<StagedObject>;
}

export interface ObjectFilesOptions {
  readonly uploads: StagedUploads;
  /** With its dot. */
  readonly extension: string;
  /** First line of every object, with its line end; "": none. */
  readonly header: string;
  readonly subtask: SubtaskInfo;
  /** False: what was written becomes visible when the sink is closed after the end of input. */
  readonly checkpointingEnabled: boolean;
  /** Called when parts that waited were stored, or failed. */
  readonly wake: () => void;
  /** For tests; default 8 MiB. */
  readonly partBytes?: number;
  /** For tests; default 1 GiB. */
  readonly objectBytes?: number;
}

export class ObjectFiles {
  readonly #options: ObjectFilesOptions;
  readonly #partBytes: number;
  readonly #objectBytes: number;
  readonly #life = new AbortController();
  #texts: string[] = [];
  #textBytes = 0;
  #open: OpenObject | undefined;
  #objectCount = 0;
  #waiting = 0;
  /** In the order of writing; until published (OF2). */
  #sealed: Sealed[] = [];
  #completing: Promise<void> = Promise.resolve();
  #isCleaned = false;
  #failure: Failure | undefined;

  constructor(options: ObjectFilesOptions) {
    this.#options = options;
    this.#partBytes = options.partBytes ?? PART_BYTES;
    this.#objectBytes = options.objectBytes ?? OBJECT_BYTES;
  }

  /** OF5. */
  get isAvailable(): boolean {
    return this.#waiting < PARTS_WAITING_MAX;
  }

  /** Publishes what the restored checkpoint holds (OF1), before the first record. */
  async open(restored: RestoredOperatorState | undefined): Promise<void> {
    const { lineage } = this.#options.subtask;
    const items = jsonValues<StagedObject | PendingUpload>(restored?.states.get(SINK_PENDING) ?? { items: [] });
    const isTaken = (item: { readonly lineage: string }): boolean =>
      item.lineage === lineage || item.lineage === restored?.claimedLineage; // OF3
    await Promise.all(
      items
        .filter(isTaken)
        .map((item) => ("upload" in item ? this.#completeUpload(item) : this.#publish(item, { isRepeated: true }))),
    );
  }

  /** One encoded record, with its line end. */
  append(line: string): void {
    if (this.#failure !== undefined) throw this.#failure;
    this.#texts.push(line);
    this.#textBytes += line.length; // at least; exact for ASCII
    if (this.#textBytes < this.#partBytes) return;
    this.#flush();
    if ((this.#open?.sizeBytes ?? 0) >= this.#objectBytes) this.#finish(undefined);
  }

  /** Seals the object for this checkpoint; the promise resolves when all of it is stored (OF2). */
  snapshot(barrier: Barrier): Promise<OperatorStateContent> {
    this.#seal(barrier.checkpointId);
    return Promise.all(this.#sealed.map(({ content }) => content)).then((items) => jsonState(items));
  }

  /** Checkpoint `id` and all below are durable. */
  complete(id: CheckpointId): Promise<void> {
    this.#completing = this.#completing.then(async () => {
      const due = this.#sealed.filter(({ checkpointId }) => checkpointId !== undefined && checkpointId <= id);
      for (const sealed of due) {
        await this.#publish(await sealed.content, {
          onPublished: () => void (this.#sealed = this.#sealed.filter((other) => other !== sealed)),
        });
      }
      await this.#cleanUp();
    });
    return this.#completing;
  }

  /** Nothing is left half done: after the end of input without checkpoints all of it becomes visible here. */
  async close(succeeded: boolean): Promise<void> {
    if (succeeded && !this.#options.checkpointingEnabled) {
      this.#seal(0);
      await this.complete(0 as CheckpointId);
    }
    if (succeeded) {
      await this.#completing;
      assert(this.#open === undefined && this.#texts.length === 0, "OF1: the final checkpoint sealed all output");
    }
    this.#life.abort();
    this.#abandonOpen();
  }

  /** The upload that no snapshot knows; best effort, nobody waits for it. */
  #abandonOpen(): void {
    const open = this.#open;
    this.#open = undefined;
    this.#texts = [];
    if (open === undefined) return;
    open.upload.then((upload) => this.#options.uploads.abort(upload)).catch(() => undefined); // it stays invisible
  }

  #seal(checkpointId: number): void {
    if (this.#failure !== undefined) throw this.#failure;
    for (const sealed of this.#sealed) sealed.checkpointId ??= checkpointId;
    if (this.#open !== undefined) {
      if (this.#texts.length > 0) this.#flush();
      this.#finish(checkpointId);
    } else if (this.#texts.length > 0) {
      const bytes = this.#takeText(true);
      const name = this.#nextName();
      this.#stage(checkpointId, this.#put(name, bytes));
    } // else nothing was written since the barrier before
  }

  #stage(checkpointId: number | undefined, stored: Promise<Omit<StagedObject, "lineage">>): void {
    const { lineage } = this.#options.subtask;
    const content = stored.then((object) => ({ lineage, ...object }));
    this.#watch(content);
    this.#sealed.push({ checkpointId, content });
  }

  /** Its failure is reported by whoever awaits it, and by the next write. */
  #watch(storing: Promise<unknown>): void {
    storing.catch(
      (thrown: unknown) => (this.#failure ??= toFailure(thrown, "STORAGE_UNAVAILABLE", this.#options.uploads.uri)),
    );
  }

  /** OF5: counts until the store has answered. */
  async #counted<T>(call: Promise<T>): Promise<T> {
    this.#waiting += 1;
    try {
      return await call;
    } finally {
      this.#waiting -= 1;
      this.#options.wake();
    }
  }

  async #put(name: string, bytes: Uint8Array): Promise<Omit<StagedObject, "lineage">> {
    await this.#counted(this.#options.uploads.put(STAGED + name, bytes, this.#life.signal));
    return { name, sizeBytes: bytes.length };
  }

  /** Hands the open object over to the store as a whole. */
  #finish(checkpointId: number | undefined): void {
    const open = this.#open;
    assert(open !== undefined, "an object is open");
    this.#open = undefined;
    this.#stage(checkpointId, this.#assemble(open));
  }

  /** Before any checkpoint knows the object: a completion that breaks fails its checkpoint, and nothing is lost. */
  async #assemble({ name, upload, parts, sizeBytes }: OpenObject): Promise<Omit<StagedObject, "lineage">> {
    const { uploads } = this.#options;
    const { signal } = this.#life;
    const [begun, ...stored] = await Promise.all([upload, ...parts]);
    const isThere =
      (await uploads.complete(begun, stored, signal)) === "completed" ||
      (await uploads.sizeOf(STAGED + name, signal)) === sizeBytes; // an earlier try whose answer was lost
    if (!isThere) throw abortedWhileWritten(`${uploads.uri}/${STAGED}${name}`);
    return { name, sizeBytes };
  }

  #takeText(isFirst: boolean): Uint8Array {
    const bytes = Buffer.from((isFirst ? this.#options.header : "") + this.#texts.join(""));
    this.#texts = [];
    this.#textBytes = 0;
    return bytes;
  }

  /** Hands the collected text over as the next part. */
  #flush(): void {
    const { uploads } = this.#options;
    const open = (this.#open ??= this.#begin());
    const number = open.parts.length + 1;
    assert(number <= UPLOAD_PARTS_MAX, "an object is full long before it has too many parts");
    const bytes = this.#takeText(number === 1);
    open.sizeBytes += bytes.length;
    const { signal } = this.#life;
    const stored = open.upload.then(async (upload) => {
      const part = await uploads.putPart(upload, { number, bytes }, signal);
      if (part !== "absent") return part;
      throw abortedWhileWritten(`${uploads.uri}/${upload.path}`);
    });
    const counted = this.#counted(stored);
    this.#watch(counted);
    open.parts.push(counted);
  }

  #nextName(): string {
    const { subtask, extension } = this.#options;
    const { subtaskIndex, epoch, attempt } = subtask;
    const writer = `${epoch}.${attempt}-${this.#objectCount}`;
    this.#objectCount += 1;
    return `${this.#namesBefore}${subtaskIndex}-${writer}${extension}`;
  }

  /** How the names of all subtasks begin. */
  get #namesBefore(): string {
    const { lineage, uid } = this.#options.subtask;
    return `part-${escapeName(lineage, false)}-${escapeName(uid, true)}-`;
  }

  #begin(): OpenObject {
    const name = this.#nextName();
    const upload = this.#options.uploads.begin(STAGED + name, this.#life.signal);
    upload.catch(() => undefined); // its parts report it
    return { name, upload, parts: [], sizeBytes: 0 };
  }

  /**
   * OF7. Every step may be repeated, by this attempt or another. `isRepeated`: it may have been published before, then it is not copied once
   * more under its readers.
   */
  async #publish(
    { name, sizeBytes }: StagedObject,
    { isRepeated = false, onPublished }: { readonly isRepeated?: boolean; readonly onPublished?: () => void },
  ): Promise<void> {
    const { uploads } = this.#options;
    const { signal } = this.#life;
    const isPublished = async (): Promise<boolean> => (await uploads.sizeOf(name, signal)) === sizeBytes;
    if (!(isRepeated && (await isPublished()))) {
      const copied = await uploads.copy(STAGED + name, name, sizeBytes, signal);
      if (copied === "absent" && !(await isPublished()))
        throw lost(`${uploads.uri}/${name}`, `neither it nor ${STAGED}${name} is there`); // OF4
    }
    onPublished?.();
    await uploads.remove(STAGED + name, signal);
  }

  /** The way of releases before OF7. */
  async #completeUpload({ upload, parts }: PendingUpload): Promise<void> {
    const { uploads } = this.#options;
    const { signal } = this.#life;
    if ((await uploads.complete(upload, parts, signal)) === "completed") return;
    if ((await uploads.sizeOf(upload.path, signal)) !== undefined) return; // an earlier try was ours, or another attempt restored the same
    throw lost(`${uploads.uri}/${upload.path}`, "its upload is not there any more, and neither is the object"); // OF4
  }

  /** OF8; a courtesy: what it cannot delete costs space. */
  async #cleanUp(): Promise<void> {
    if (this.#isCleaned || !this.#options.checkpointingEnabled) return;
    this.#isCleaned = true;
    const { uploads, subtask } = this.#options;
    const { signal } = this.#life;
    const before = STAGED + this.#namesBefore;
    try {
      for (const { path } of await uploads.listObjects(before, signal)) {
        const writer = /^(\d+)-(\d+)\.(\d+)-\d+(?:\.|$)/u.exec(path.slice(before.length));
        if (writer === null) continue; // of another uid, which begins like ours
        const [subtaskIndex = 0, epoch = 0, attempt = 0] = writer.slice(1).map(Number);
        if (subtaskIndex % subtask.parallelism !== subtask.subtaskIndex) continue;
        if (epoch < subtask.epoch || (epoch === Number(subtask.epoch) && attempt < subtask.attempt))
          await uploads.remove(path, signal);
      }
    } catch {
      this.#isCleaned = false; // with the next checkpoint again
    }
  }
}

/** The attempt ends, and the next one writes it again: no checkpoint records it yet. */
function abortedWhileWritten(object: string): Failure {
  return new Failure("STORAGE_UNAVAILABLE", {
    retry: "backoff",
    message: `${object}: its upload was aborted or destroyed while it was written`,
    remedy:
      "The job goes on from its last checkpoint. If it happens again, see who aborts uploads there: a rule of the store, or somebody.",
  });
}

function lost(object: string, reason: string): Failure {
  return new Failure("STORAGE_CONFLICT", {
    retry: "never",
    message: `${object} is recorded in a checkpoint, but ${reason}`,
    remedy:
      "somebody, or a rule of the store, deleted it (uploads of older releases: MinIO after 24 h). Put an object back " +
      "under this name (an empty one, if its content was taken over), then start again; do not delete names that begin with .staged-",
  });
}
