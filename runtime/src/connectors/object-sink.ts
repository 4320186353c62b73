// The exactly-once file sink on an object store. The protocol is in object-files.ts; this is the operator around it.

import type {
  Barrier,
  CheckpointId,
  OneInputOperator,
  OperatorContext,
  OperatorState,
  RestoredOperatorState,
  SubtaskInfo,
} from "../model/index.ts";
import type { RecordEncoder } from "./encoders.ts";
import { SINK_PENDING } from "./json-state.ts";
import { ObjectFiles } from "./object-files.ts";

interface ObjectSinkOptions {
  readonly subtask: SubtaskInfo;
  /** `s3://bucket/prefix`. */
  readonly uri: string;
  readonly encoder: RecordEncoder<unknown>;
}

export class ObjectSinkOperator implements OneInputOperator {
  readonly #options: ObjectSinkOptions;
  #objects: ObjectFiles | undefined;

  constructor(options: ObjectSinkOptions) {
    this.#options = options;
  }

  get isAvailable(): boolean {
    return this.#objects?.isAvailable ?? true;
  }

  async open(context: OperatorContext, restored: RestoredOperatorState | undefined): Promise<void> {
    const { subtask, uri, encoder } = this.#options;
    const { extension, header } = encoder;
    const { checkpointingEnabled } = context;
    const uploads = await context.openUploads(uri);
    const wake = (): void => context.wake();
    this.#objects = new ObjectFiles({ uploads, extension, header, subtask, checkpointingEnabled, wake });
    await this.#objects.open(restored);
  }

  processElement(record: unknown): void {
    (this.#objects as ObjectFiles).append(this.#options.encoder.encode(record));
  }

  snapshotState(barrier: Barrier): Promise<OperatorState> {
    return (this.#objects as ObjectFiles).snapshot(barrier).then((state) => new Map([[SINK_PENDING, state]]));
  }

  notifyCheckpointComplete(id: CheckpointId): Promise<void> {
    return (this.#objects as ObjectFiles).complete(id);
  }

  async close(succeeded: boolean): Promise<void> {
    await this.#objects?.close(succeeded);
  }
}
