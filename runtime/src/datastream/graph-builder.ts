// The transformations of one environment while `main` runs.

import { Failure } from "@sluice/kit";
import type { StreamGraph, Transformation } from "../graph/index.ts";
import type { RichFunction } from "../model/index.ts";
import type { FunctionOrSupplier } from "../operators/index.ts";

/** What adding a transformation takes: what users may change later begins as Flink's default. */
export type NewTransformation = Omit<
  Transformation,
  "id" | "description" | "chaining" | "bufferTimeoutMs" | "sideOutputs"
>;

export class GraphBuilder {
  readonly #transformations: Transformation[] = [];
  readonly #functions = new Map<RichFunction, string>();

  /** Adds a transformation; its id is its place. */
  add(transformation: NewTransformation): Transformation {
    const added: Transformation = {
      ...transformation,
      id: this.#transformations.length,
      description: undefined,
      chaining: "ALWAYS",
      bufferTimeoutMs: undefined,
      sideOutputs: new Map(),
    };
    this.#transformations.push(added);
    return added;
  }

  /** One object belongs to one operator (UF2): its fields would be shared otherwise. */
  claimFunction(fn: FunctionOrSupplier<RichFunction>, operatorName: string): void {
    if (typeof fn === "function") return;
    const other = this.#functions.get(fn);
    if (other !== undefined) {
      throw new Failure("JOB_GRAPH_INVALID", {
        retry: "never",
        message: `operators "${other}" and "${operatorName}" were given the same function object`,
        remedy: "make a new object for each",
      });
    }
    this.#functions.set(fn, operatorName);
  }

  build(options: {
    readonly jobName: string;
    readonly args: readonly string[];
    readonly parameters: StreamGraph["parameters"];
    readonly environment: StreamGraph["environment"];
    readonly configuration: ReadonlyMap<string, string>;
  }): StreamGraph {
    return {
      jobName: options.jobName,
      arguments: [...options.args],
      ...(options.parameters === undefined ? {} : { parameters: options.parameters }),
      ...(options.environment === undefined ? {} : { environment: options.environment }),
      configuration: Object.fromEntries([...options.configuration].sort(([a], [b]) => (a < b ? -1 : 1))),
      transformations: [...this.#transformations],
    };
  }
}
