// Exactly-once files: written under hidden names, published when the checkpoint that holds them is durable.
//
// Life of a file, all in one directory:
//   .pending-open-{lineage}-{uid}-{subtask}-{epoch}.{attempt}{ext}          being written, until the barrier of checkpoint c
//   .pending-part-{lineage}-{c}-{uid}-{subtask}-{n}{ext}~{epoch}.{attempt}  written and synced, recorded in the state of c
//   part-{lineage}-{c}-{uid}-{subtask}-{n}{ext}                             published: c, or a later one, is durable
//   .retracted-part-{lineage}-{c}-{uid}-{subtask}-{n}{ext}                  published once, hidden when the job went back below c
//
// Invariants (tests cite them):
//   PF1. A file is published only by `complete(m)` with m >= c, or by restoring a checkpoint whose state records it.
//   PF2. A published file never changes; publishing twice is publishing once.
//   PF3. After `open`, files of this lineage, uid and the own subtasks that no restorable state records are gone. After a change of
//        parallelism other subtasks hold some of the records: what lies at or below the restored checkpoint then goes with the first
//        `complete`, when every subtask has published what it holds.
//   PF4. A subtask owns what subtasks j with j % parallelism === its index have written (FLINK-23854), and touches
//        nothing else: no other lineage (protocols 1, invariant 11), no other uid.
//   PF5. State recorded under another lineage is a fork's: it is neither published nor deleted, unless this job has claimed it: then
//        it is published under the names that it records.
//   PF6. After a failed write or sync nothing more is accepted: which bytes are there cannot be known.
//   PF7. Only output of checkpoints in (restored, retractThrough] is ever hidden while checkpoints are taken: what lies above was
//        published by somebody who knows a newer head.
//   PF8. An attempt deletes only what attempts up to its own have written: one that was thought dead (its process stood still, or was
//        cut off) may open while a newer one runs, and what it takes for leftovers is that one's output.
//
// n counts the files of one checkpoint and subtask; there is one today.

import { assert, Failure, toFailure } from "@sluice/kit";
import type {
  Barrier,
  CheckpointId,
  OperatorStateContent,
  RestoredOperatorState,
  SubtaskInfo,
} from "../model/index.ts";
import { jsonState, jsonValues, SINK_PENDING } from "./json-state.ts";
import type { LocalFiles } from "./local-files.ts";

const PENDING = ".pending-";
const RETRACTED = ".retracted-";
/** Text is handed to the system in pieces of about this many characters. */
const BUFFER_CHARS = 64 * 1_024;

/** The item of one subtask in the operator state "sink-pending"; whoever is dealt it publishes its files. */
interface PendingState {
  readonly lineage: string;
  readonly parallelism: number;
  /** Final names, oldest first; each lies under its pending name unless it was published meanwhile. */
  readonly files: readonly string[];
}

export interface PublishedName {
  readonly lineage: string;
  readonly checkpointId: number;
  readonly uid: string;
  readonly subtaskIndex: number;
  readonly n: number;
}

/** Makes any text safe inside a file name: what is not a letter, digit, '_' or '.' becomes ~hex; '-' stays where told. */
export function escapeName(text: string, keepDash: boolean): string {
  const kept = keepDash ? /[^A-Za-z0-9_.-]/gu : /[^A-Za-z0-9_.]/gu;
  return text.replace(kept, (char) =>
    [...new TextEncoder().encode(char)].map((byte) => `~${byte.toString(16).padStart(2, "0")}`).join(""),
  );
}

/** `part-{lineage}-{checkpoint}-{uid}-{subtask}-{n}{extension}`. */
export function publishedName(name: PublishedName, extension: string): string {
  const { lineage, checkpointId, uid, subtaskIndex, n } = name;
  return `part-${escapeName(lineage, false)}-${checkpointId}-${escapeName(uid, true)}-${subtaskIndex}-${n}${extension}`;
}

/** Inverse of {@link publishedName} but for escapes: lineage and uid stay escaped. Undefined for any other name. */
export function parsePublishedName(fileName: string): PublishedName | undefined {
  const match = /^part-([^-]+)-(\d+)-(.+)-(\d+)-(\d+)(?:\.[A-Za-z]\w*)*$/.exec(fileName);
  if (match === null) return undefined;
  const [, lineage = "", checkpoint = "", uid = "", subtask = "", n = ""] = match;
  return { lineage, checkpointId: Number(checkpoint), uid, subtaskIndex: Number(subtask), n: Number(n) };
}

/** A file that waits for its checkpoint: its final name, and who wrote it. */
function parseSealedName(
  fileName: string,
): { readonly name: string; readonly epoch: number; readonly attempt: number } | undefined {
  const match = /^\.pending-(part-.+)~(\d+)\.(\d+)$/.exec(fileName);
  if (match === null) return undefined;
  const [, name = "", epoch = "", attempt = ""] = match;
  return { name, epoch: Number(epoch), attempt: Number(attempt) };
}

/** What this subtask was dealt, of this lineage. */
interface Restored {
  readonly files: ReadonlySet<string>;
  /** The parallelism is what it was: this subtask was dealt exactly its own item. */
  readonly isOwn: boolean;
}

interface Sealed {
  readonly checkpointId: number;
  readonly name: string;
  readonly durable: Promise<void>;
}

export interface PendingFilesOptions {
  readonly files: LocalFiles;
  readonly directory: string;
  /** With its dot. */
  readonly extension: string;
  /** First line of every file, with its line end; "": none. */
  readonly header: string;
  readonly subtask: SubtaskInfo;
  /** False: what was written is published by `finish`. */
  readonly checkpointingEnabled: boolean;
}

export class PendingFiles {
  readonly #options: PendingFilesOptions;
  readonly #lineage: string;
  readonly #uid: string;
  #text = "";
  #descriptor: number | undefined;
  #sealed: Sealed[] = [];
  #publishing: Promise<void> = Promise.resolve();
  #failure: Failure | undefined;
  /** PF3: set while files up to this checkpoint may be leftovers, or another subtask's. */
  #sweepThrough: CheckpointId | undefined;

  constructor(options: PendingFilesOptions) {
    this.#options = options;
    this.#lineage = escapeName(options.subtask.lineage, false);
    this.#uid = escapeName(options.subtask.uid, true);
  }

  /** Publishes what the restored checkpoint holds, hides what it does not know, removes leftovers (PF3). */
  open(restored: RestoredOperatorState | undefined): void {
    const { files, directory, subtask } = this.#options;
    files.makeDirectory(directory);
    const held = this.#restoredState(restored);
    const recorded = held.files;
    const fileNames = files.list(directory);
    for (const fileName of fileNames) {
      const sealed = parseSealedName(fileName);
      if (sealed !== undefined && recorded.has(sealed.name)) this.#publish(sealed.name, fileName);
    }
    for (const name of recorded) this.#checkPublished(name);
    for (const fileName of fileNames) {
      if (fileName.startsWith(PENDING)) {
        if (this.#isLeftover(fileName, held, restored)) files.remove(this.#path(fileName));
      } else if (this.#mustHide(fileName, restored)) {
        this.#hide(fileName);
      }
    }
    files.syncDirectory(directory);
    if (restored !== undefined && !held.isOwn) this.#sweepThrough = restored.checkpointId;
    assert(subtask.subtaskIndex < subtask.parallelism, "a subtask is one of its operator's");
  }

  /** Hot path: one encoded record, with its line end. */
  append(line: string): void {
    this.#text += line;
    if (this.#text.length >= BUFFER_CHARS) this.#flush();
  }

  /**
   * Seals the open file for this checkpoint. In the synchronous part the bytes reach the system and the file gets its
   * name (OP2; throws when that fails); the returned promise resolves when both are durable.
   */
  snapshot(barrier: Barrier): Promise<OperatorStateContent> {
    const sealed = this.#seal(barrier.checkpointId);
    const state: PendingState = {
      lineage: this.#options.subtask.lineage,
      parallelism: this.#options.subtask.parallelism,
      files: sealed.map(({ name }) => name),
    };
    return Promise.all(sealed.map(({ durable }) => durable)).then(() => jsonState([state]));
  }

  /** Checkpoint `id` and all below are durable: publishes their files (PF1). */
  complete(id: CheckpointId): Promise<void> {
    const due = this.#sealed.filter(({ checkpointId }) => checkpointId <= id);
    this.#sealed = this.#sealed.filter(({ checkpointId }) => checkpointId > id);
    this.#publishing = this.#publishing.then(async () => {
      for (const { name, durable } of due) {
        await durable;
        this.#publish(name, this.#sealedName(name));
      }
      this.#sweep(id);
      if (due.length > 0) this.#options.files.syncDirectory(this.#options.directory);
    });
    return this.#publishing;
  }

  /** End of input. Without checkpoints nothing else will publish: the file counts as checkpoint 0's. */
  finish(): void {
    if (this.#options.checkpointingEnabled) return;
    const { files, directory } = this.#options;
    this.#flush();
    if (this.#descriptor === undefined) return;
    files.syncNow(this.#descriptor, this.#openPath());
    files.close(this.#descriptor);
    this.#descriptor = undefined;
    files.rename(this.#openPath(), this.#path(this.#nameFor(0)));
    files.syncDirectory(directory);
  }

  /** Gives descriptors back. Pending files stay: the next attempt decides (PF3). */
  async close(succeeded: boolean): Promise<void> {
    if (succeeded) {
      await this.#publishing;
      assert(this.#descriptor === undefined && this.#text === "", "PF1: the final checkpoint sealed all output");
    }
    this.#text = "";
    if (this.#descriptor === undefined) return;
    this.#options.files.close(this.#descriptor);
    this.#descriptor = undefined;
  }

  #path(fileName: string): string {
    return `${this.#options.directory}/${fileName}`;
  }

  #openPath(): string {
    const { subtask, extension } = this.#options;
    const writer = `${subtask.epoch}.${subtask.attempt}`;
    return this.#path(`${PENDING}open-${this.#lineage}-${this.#uid}-${subtask.subtaskIndex}-${writer}${extension}`);
  }

  #sealedName(name: string): string {
    const { epoch, attempt } = this.#options.subtask;
    return `${PENDING}${name}~${epoch}.${attempt}`;
  }

  #nameFor(checkpointId: number): string {
    const { subtask, extension } = this.#options;
    const { lineage, uid, subtaskIndex } = subtask;
    return publishedName({ lineage, checkpointId, uid, subtaskIndex, n: 0 }, extension);
  }

  #flush(): void {
    if (this.#failure !== undefined) throw this.#failure; // PF6
    if (this.#text === "") return;
    const { files, header } = this.#options;
    let text = this.#text;
    if (this.#descriptor === undefined) {
      this.#descriptor = files.create(this.#openPath());
      text = header + text;
    }
    try {
      files.write(this.#descriptor, Buffer.from(text), this.#openPath());
    } catch (thrown) {
      this.#failure = toFailure(thrown, "DISK_FAILED", this.#openPath()); // perhaps half of it was written
      throw this.#failure;
    }
    this.#text = "";
  }

  /** Everything sealed and not yet published, oldest first, the open file included. */
  #seal(checkpointId: number): readonly Sealed[] {
    this.#flush();
    const descriptor = this.#descriptor;
    if (descriptor === undefined) return [...this.#sealed];
    this.#descriptor = undefined;
    const { files, directory } = this.#options;
    const name = this.#nameFor(checkpointId);
    const path = this.#path(this.#sealedName(name));
    files.rename(this.#openPath(), path);
    const durable = files
      .sync(descriptor, path)
      .then(() => files.syncDirectory(directory))
      .catch((thrown: unknown) => {
        this.#failure = toFailure(thrown, "DISK_FAILED", path); // PF6
        throw this.#failure;
      })
      .finally(() => files.close(descriptor));
    durable.catch(() => undefined); // reported by whoever awaits it, and by the next write
    this.#sealed.push({ checkpointId, name, durable });
    return [...this.#sealed];
  }

  /** PF2. Somebody else may publish it at the same moment: an attempt that ends late, or one that restores. */
  #publish(name: string, sealedName: string): void {
    const { files } = this.#options;
    try {
      files.rename(this.#path(sealedName), this.#path(name));
    } catch (thrown) {
      if (files.exists(this.#path(sealedName))) throw thrown;
      this.#checkPublished(name);
    }
  }

  /** Two attempts that go back to the same checkpoint may hide the same files at the same moment. */
  #hide(fileName: string): void {
    const { files } = this.#options;
    try {
      files.rename(this.#path(fileName), this.#path(RETRACTED + fileName));
    } catch (thrown) {
      if (files.exists(this.#path(fileName))) throw thrown;
    }
  }

  #checkPublished(name: string): void {
    if (this.#options.files.exists(this.#path(name))) return;
    throw new Failure("DISK_FAILED", {
      retry: "never",
      message: `${this.#path(name)} is recorded in a checkpoint, but neither it nor its pending file exists`,
      remedy:
        "somebody moved or deleted it: put it back under this name (an empty file, if its content was taken over), then start again",
    });
  }

  #restoredState(restored: RestoredOperatorState | undefined): Restored {
    const { lineage, parallelism } = this.#options.subtask;
    const states = jsonValues<PendingState>(restored?.states.get(SINK_PENDING));
    const own = states.filter((state) => state.lineage === lineage);
    const claimed = states.filter((state) => state.lineage !== lineage && state.lineage === restored?.claimedLineage);
    return {
      files: new Set([...own, ...claimed].flatMap(({ files }) => files)), // PF5
      isOwn: own.length === 1 && own[0]?.parallelism === parallelism,
    };
  }

  /** PF3, after a change of parallelism. */
  #sweep(completedId: CheckpointId): void {
    const through = this.#sweepThrough;
    if (through === undefined || completedId <= through) return; // one of this attempt's: every subtask has opened

    this.#sweepThrough = undefined;
    const { files, directory } = this.#options;
    for (const fileName of files.list(directory)) {
      const pending = this.#ownPending(fileName);
      if (pending !== undefined && pending.checkpointId <= through) files.remove(this.#path(fileName));
    }
  }

  /** PF4. */
  #owns(subtaskIndex: number): boolean {
    const { subtask } = this.#options;
    return subtaskIndex % subtask.parallelism === subtask.subtaskIndex;
  }

  /** PF8: written by an attempt after the own one. Without checkpoints attempts count from 0 again in every JobManager. */
  #isNewer(epoch: number, attempt: number): boolean {
    const { subtask, checkpointingEnabled } = this.#options;
    return checkpointingEnabled && (epoch > subtask.epoch || (epoch === subtask.epoch && attempt > subtask.attempt));
  }

  /** PF4, PF8: a file that waits for its checkpoint and may be removed by this subtask, if nobody holds it. */
  #ownPending(fileName: string): PublishedName | undefined {
    const sealed = parseSealedName(fileName);
    if (sealed === undefined || this.#isNewer(sealed.epoch, sealed.attempt)) return undefined;
    const parsed = parsePublishedName(sealed.name);
    if (parsed === undefined || parsed.lineage !== this.#lineage || parsed.uid !== this.#uid) return undefined;
    return this.#owns(parsed.subtaskIndex) ? parsed : undefined;
  }

  #isLeftover(fileName: string, held: Restored, restored: RestoredOperatorState | undefined): boolean {
    const openPrefix = `${PENDING}open-${this.#lineage}-${this.#uid}-`;
    if (fileName.startsWith(openPrefix)) {
      const match = /^(\d+)-(\d+)\.(\d+)/.exec(fileName.slice(openPrefix.length));
      return match !== null && this.#owns(Number(match[1])) && !this.#isNewer(Number(match[2]), Number(match[3]));
    }
    const pending = this.#ownPending(fileName);
    if (pending === undefined || held.files.has(parseSealedName(fileName)?.name ?? "")) return false;
    return restored === undefined || pending.checkpointId > restored.checkpointId || held.isOwn; // PF3
  }

  /** Published files that the restored point does not contain. Without checkpoints a new attempt writes everything again. */
  #mustHide(fileName: string, restored: RestoredOperatorState | undefined): boolean {
    const through = restored?.retractThrough;
    const all = restored === undefined && !this.#options.checkpointingEnabled;
    if (through === undefined && !all) return false;
    const parsed = parsePublishedName(fileName);
    if (parsed === undefined || parsed.lineage !== this.#lineage || parsed.uid !== this.#uid) return false;
    if (!this.#owns(parsed.subtaskIndex)) return false;
    if (restored === undefined || through === undefined) return all;
    return parsed.checkpointId > restored.checkpointId && parsed.checkpointId <= through; // PF7
  }
}
