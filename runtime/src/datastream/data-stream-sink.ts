// The end of a stream, as users see it.

import type { Transformation } from "../graph/index.ts";
import { setParallelism, setUid } from "./operator-settings.ts";

/** The end of a stream. */
export class DataStreamSink {
  readonly #transformation: Transformation;

  constructor(transformation: Transformation) {
    this.#transformation = transformation;
  }

  /** Shown in REST, metrics and messages. */
  name(name: string): this {
    this.#transformation.name = name;
    return this;
  }

  /** A longer text than the name, shown in the job's plan. */
  setDescription(description: string): this {
    this.#transformation.description = description;
    return this;
  }

  /** Identity of the sink's state and output: unique in the job and the same for its whole life. */
  uid(uid: string): this {
    setUid(this.#transformation, uid);
    return this;
  }

  setParallelism(parallelism: number): this {
    setParallelism(this.#transformation, parallelism);
    return this;
  }

  /** Shares its task with no other operator. */
  disableChaining(): this {
    this.#transformation.chaining = "NEVER";
    return this;
  }
}
