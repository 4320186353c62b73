// The exactly-once file sink. The protocol is in pending-files.ts; this is the operator around it.

import type {
  Barrier,
  CheckpointId,
  OneInputOperator,
  OperatorContext,
  OperatorState,
  RestoredOperatorState,
  SubtaskInfo,
} from "../model/index.ts";
import { optionInvalid, type Sink } from "../operators/index.ts";
import type { RecordEncoder } from "./encoders.ts";
import { SINK_PENDING } from "./json-state.ts";
import { localFiles, type LocalFiles } from "./local-files.ts";
import { directoryOf } from "./paths.ts";
import { ObjectSinkOperator } from "./object-sink.ts";
import { PendingFiles } from "./pending-files.ts";

/**
 * Writes records as lines of text files in one directory, exactly once: output of a checkpoint becomes visible as
 * `part-{lineage}-{checkpoint}-{uid}-{subtask}-{n}` when the checkpoint is durable. Readers ignore names that begin with a
 * dot. Without checkpointing files appear at the end of input. Flink: FileSink with OnCheckpointRollingPolicy.
 *
 * In a directory `s3://bucket/prefix` it writes whole objects under hidden names, which are copied to
 * `part-{lineage}-{uid}-{subtask}-{epoch}.{attempt}-{n}` inside the store; see object-files.ts for what differs. The
 * credentials need get, put, delete and list there.
 */
export class FileSink<T> implements Sink<T> {
  readonly name = "file sink";
  readonly stateful = true;
  /** Objects of a store are never hidden again. */
  readonly canRetract: boolean;
  readonly #directory: string;
  readonly #encoder: RecordEncoder<T>;
  readonly #files: LocalFiles;

  private constructor(directory: string, encoder: RecordEncoder<T>, files: LocalFiles) {
    this.#directory = directory;
    this.canRetract = !isObjectStore(directory);
    this.#encoder = encoder;
    this.#files = files;
  }

  /**
   * `directory`: a path or a file:// URL, which is created when missing, or s3://bucket/prefix of an existing bucket. `files` is for
   * tests that make the disk fail.
   */
  static forRowFormat<T>(directory: string, encoder: RecordEncoder<T>, files: LocalFiles = localFiles): FileSink<T> {
    if (directory === "") throw optionInvalid("FileSink: the directory is empty", "name the directory for the output");
    return new FileSink(isObjectStore(directory) ? directory : directoryOf(directory), encoder, files);
  }

  createOperator(subtask: SubtaskInfo): OneInputOperator {
    const encoder = this.#encoder as RecordEncoder<unknown>;
    if (isObjectStore(this.#directory)) return new ObjectSinkOperator({ subtask, uri: this.#directory, encoder });
    return new FileSinkOperator({
      subtask,
      directory: this.#directory,
      encoder,
      files: this.#files,
    });
  }
}

function isObjectStore(directory: string): boolean {
  return /^s3[ap]?:/i.test(directory);
}

interface FileSinkOptions {
  readonly subtask: SubtaskInfo;
  readonly directory: string;
  readonly encoder: RecordEncoder<unknown>;
  readonly files: LocalFiles;
}

class FileSinkOperator implements OneInputOperator {
  readonly #options: FileSinkOptions;
  #pending!: PendingFiles;

  constructor(options: FileSinkOptions) {
    this.#options = options;
  }

  open(context: OperatorContext, restored: RestoredOperatorState | undefined): void {
    const { subtask, directory, encoder, files } = this.#options;
    const { extension, header } = encoder;
    const { checkpointingEnabled } = context;
    this.#pending = new PendingFiles({ files, directory, extension, header, subtask, checkpointingEnabled });
    this.#pending.open(restored);
  }

  processElement(record: unknown): void {
    this.#pending.append(this.#options.encoder.encode(record));
  }

  snapshotState(barrier: Barrier): Promise<OperatorState> {
    return this.#pending.snapshot(barrier).then((state) => new Map([[SINK_PENDING, state]]));
  }

  notifyCheckpointComplete(id: CheckpointId): Promise<void> {
    return this.#pending.complete(id);
  }

  finish(): void {
    this.#pending.finish();
  }

  async close(succeeded: boolean): Promise<void> {
    await (this.#pending as PendingFiles | undefined)?.close(succeeded);
  }
}
