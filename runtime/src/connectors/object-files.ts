// Exactly-once files on an object store: staged uploads, completed when the checkpoint that holds them is durable.
//
// A subtask writes one object per checkpoint, in parts of about PART_BYTES as they fill; the barrier stores the rest as the last part.
//   {directory}/part-{lineage}-{uid}-{subtask}-{epoch}.{attempt}-{n}{extension}
// Nothing of it is visible before `complete`, so readers need not know of hidden names, and there is nothing to rename. The name says
// who wrote it, not for which checkpoint: that is not known when the upload begins, and no two attempts ever write one name.
//
// Invariants (tests cite them):
//   OF1. An upload is completed only by `complete(m)` with m >= its checkpoint, or by restoring a checkpoint whose state records it.
//   OF2. What the state records is stored: parts are durable before a snapshot's promise resolves.
//   OF3. State recorded under another lineage is a fork's: it is neither completed nor aborted (protocols 1, invariant 11), unless this
//        job has claimed it: then it is completed under the names that it records.
//   OF4. An upload that cannot be completed and whose object is not there is lost data: a failure, never skipped.
//   OF5. At most PARTS_WAITING_MAX parts wait for the store; then the operator is not available.
//   OF6. A published object is never hidden again: a job with such a sink does not go back by itself (canRetract is false).
//
// Uploads of attempts that died are invisible; `sluice store purge --output` aborts them (checkpoint/incomplete-uploads.ts), or the store's
// own rule for incomplete uploads does (kit/env/uploads.ts).
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

/** One item of the operator state "sink-pending": an object that is stored and not yet visible. */
interface PendingObject {
  readonly lineage: string;
  readonly upload: StagedUpload;
  readonly parts: readonly UploadedPart[];
}

/** The object being written. */
interface OpenObject {
  readonly upload: Promise<StagedUpload>;
  readonly parts: Promise<UploadedPart>[];
}

interface Sealed {
  readonly checkpointId: number;
  readonly content: Promise<PendingObject>;
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
}

export class ObjectFiles {
  readonly #options: ObjectFilesOptions;
  readonly #partBytes: number;
  readonly #life = new AbortController();
  #texts: string[] = [];
  #textBytes = 0;
  #open: OpenObject | undefined;
  #objectCount = 0;
  #waiting = 0;
  #sealed: Sealed[] = [];
  #completing: Promise<void> = Promise.resolve();
  #failure: Failure | undefined;

  constructor(options: ObjectFilesOptions) {
    this.#options = options;
    this.#partBytes = options.partBytes ?? PART_BYTES;
  }

  /** OF5. */
  get isAvailable(): boolean {
    return this.#waiting < PARTS_WAITING_MAX;
  }

  /** Completes what the restored checkpoint holds (OF1), before the first record. */
  async open(restored: RestoredOperatorState | undefined): Promise<void> {
    const { lineage } = this.#options.subtask;
    const items = jsonValues<PendingObject>(restored?.states.get(SINK_PENDING) ?? { items: [] });
    const isTaken = (item: PendingObject): boolean =>
      item.lineage === lineage || item.lineage === restored?.claimedLineage; // OF3
    await Promise.all(items.filter(isTaken).map((item) => this.#complete(item)));
  }

  /** One encoded record, with its line end. */
  append(line: string): void {
    if (this.#failure !== undefined) throw this.#failure;
    this.#texts.push(line);
    this.#textBytes += line.length; // at least; exact for ASCII
    if (this.#textBytes >= this.#partBytes) this.#flush();
  }

  /** Seals the object for this checkpoint; the promise resolves when all of it is stored (OF2). */
  snapshot(barrier: Barrier): Promise<OperatorStateContent> {
    this.#seal(barrier.checkpointId);
    return Promise.all(this.#sealed.map(({ content }) => content)).then((items) => jsonState(items));
  }

  /** Checkpoint `id` and all below are durable. */
  complete(id: CheckpointId): Promise<void> {
    const due = this.#sealed.filter(({ checkpointId }) => checkpointId <= id);
    this.#sealed = this.#sealed.filter(({ checkpointId }) => checkpointId > id);
    this.#completing = this.#completing.then(async () => {
      for (const { content } of due) await this.#complete(await content);
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
    if (this.#texts.length > 0) this.#flush();
    const open = this.#open;
    if (open === undefined) return; // nothing was written since the barrier before
    this.#open = undefined;
    const { lineage } = this.#options.subtask;
    const content = Promise.all([open.upload, ...open.parts]).then(([upload, ...parts]): PendingObject => ({
      lineage,
      upload,
      parts,
    }));
    content.catch(() => undefined); // reported by whoever awaits it, and by the next write
    this.#sealed.push({ checkpointId, content });
  }

  /** Hands the collected text over as the next part. */
  #flush(): void {
    const { uploads, header } = this.#options;
    const open = (this.#open ??= this.#begin());
    const number = open.parts.length + 1;
    if (number > UPLOAD_PARTS_MAX) {
      throw new Failure("STORAGE_FULL", {
        retry: "never",
        message: `an object of ${UPLOAD_PARTS_MAX} parts is full before its checkpoint came`,
        remedy: "take checkpoints more often, or raise the parallelism of the sink",
      });
    }
    const bytes = Buffer.from((number === 1 ? header : "") + this.#texts.join(""));
    this.#texts = [];
    this.#textBytes = 0;
    this.#waiting += 1;
    const { signal } = this.#life;
    const stored = open.upload.then(async (upload) => {
      const part = await uploads.putPart(upload, { number, bytes }, signal);
      if (part !== "absent") return part;
      throw lost(`${uploads.uri}/${upload.path}`, "its upload was aborted while it was written");
    });
    stored
      .catch((thrown: unknown) => (this.#failure ??= toFailure(thrown, "STORAGE_UNAVAILABLE", uploads.uri)))
      .finally(() => {
        this.#waiting -= 1;
        this.#options.wake();
      });
    open.parts.push(stored);
  }

  #begin(): OpenObject {
    const { uploads, subtask, extension } = this.#options;
    const { lineage, uid, subtaskIndex, epoch, attempt } = subtask;
    const writer = `${epoch}.${attempt}-${this.#objectCount}`;
    this.#objectCount += 1;
    const name = `part-${escapeName(lineage, false)}-${escapeName(uid, true)}-${subtaskIndex}-${writer}${extension}`;
    const upload = uploads.begin(name, this.#life.signal);
    upload.catch(() => undefined); // its parts report it
    return { upload, parts: [] };
  }

  async #complete({ upload, parts }: PendingObject): Promise<void> {
    const { uploads } = this.#options;
    const { signal } = this.#life;
    if ((await uploads.complete(upload, parts, signal)) === "completed") return;
    if (await uploads.exists(upload.path, signal)) return; // an earlier try was ours, or another attempt restored the same
    throw lost(`${uploads.uri}/${upload.path}`, "its upload is not there any more, and neither is the object"); // OF4
  }
}

function lost(object: string, reason: string): Failure {
  return new Failure("STORAGE_CONFLICT", {
    retry: "never",
    message: `${object} is recorded in a checkpoint, but ${reason}`,
    remedy:
      "the store's rule for incomplete uploads deleted it (MinIO: 24 h), or somebody removed the published object. Put an object back " +
      "under this name (an empty one, if its content was taken over), then start again; let incomplete uploads live longer than a job stands still",
  });
}
