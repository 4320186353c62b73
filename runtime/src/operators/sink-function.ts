// The operator around a user's sink function.
//
// Invariants: FO1, FO2 of function-operator.ts, and
//   SU1. A function that makes functions is refused at its first record: taken for the sink itself it would drop every record.

import { Failure } from "@sluice/kit";
import {
  RichFunction,
  type OneInputOperator,
  type OperatorContext,
  type OperatorFactory,
  type RestoredOperatorState,
  type RichSinkFunction,
  type SinkContext,
  type SinkFunction,
  type SubtaskInfo,
} from "../model/index.ts";
import { FunctionOperator } from "./function-operator.ts";
import { instantiate, refusePromise } from "./user-function.ts";

class SinkFunctionOperator extends FunctionOperator implements OneInputOperator {
  readonly #invoke: SinkFunction<unknown>;
  readonly #function: RichSinkFunction<unknown> | undefined;
  #context!: SinkContext;

  constructor(invoke: SinkFunction<unknown>, subtask: SubtaskInfo, rich?: RichSinkFunction<unknown>) {
    super(subtask, rich);
    this.#invoke = invoke;
    this.#function = rich;
  }

  override open(context: OperatorContext, restored: RestoredOperatorState | undefined): void {
    const { clock } = context;
    this.#context = { currentProcessingTime: () => clock.wallMs() };
    super.open(context, restored);
  }

  processElement(record: unknown): void {
    const invoke = this.#invoke; // a call through the private field would pass this operator as `this`
    const result = invoke(record, this.#context) as unknown;
    if (result === undefined) return;
    refusePromise(result, this.subtask);
    if (result instanceof RichFunction) throw givesFunctions(this.subtask);
  }

  finish(): void {
    refusePromise(this.#function?.finish() as unknown, this.subtask);
  }
}

/** SU1. */
function givesFunctions({ operatorName, uid }: SubtaskInfo): Failure {
  return new Failure("JOB_GRAPH_INVALID", {
    retry: "never",
    message: `sink "${operatorName}" (uid ${uid}) was given a function that returns a sink function`,
    remedy: "pass the object itself: addSink(new MySink())",
  });
}

export function sinkFunctionFactory(sink: SinkFunction<unknown> | RichSinkFunction<unknown>): OperatorFactory {
  return {
    kind: "sink",
    create: (subtask) => {
      if (!(sink instanceof RichFunction)) return new SinkFunctionOperator(sink, subtask);
      const rich = instantiate(sink, subtask);
      return new SinkFunctionOperator((value, ctx) => rich.invoke(value, ctx), subtask, rich);
    },
  };
}
