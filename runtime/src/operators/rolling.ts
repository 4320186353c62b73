// Rolling results per key: reduce, and sum, min, max, minBy, maxBy, which are reductions over one field.
//
// Invariants (tests cite them):
//   RO1. One record out for each record in: the first of a key as it is, then what the function makes of the last result and it.
//   RO2. sum, min and max keep the other fields of the key's first record, minBy and maxBy give whole records (Flink's rules).
//   RO3. A result that was emitted is not changed afterwards: aggregates make new rows.
//   RO4. A sum that its type cannot hold is a failure, not a wrong number.
//
// Not here: where the last result lives (keyed state).

import { assert, Failure } from "@sluice/kit";
import {
  containsGeneric,
  describeType,
  TypeInformation,
  ValueStateDescriptor,
  type OneInputOperator,
  type OperatorContext,
  type OperatorFactory,
  type ReduceFunction,
  type SubtaskInfo,
  type TypeDescriptor,
  type TypeKind,
  type ValueState,
} from "../model/index.ts";
import { NOWHERE } from "./function-operator.ts";
import { isThenable, refusePromise } from "./user-function.ts";

/** Flink's name of the state of its rolling operators. */
const STATE_NAME = "_op_state";

export type Aggregation = "sum" | "min" | "max" | "minBy" | "maxBy";

class RollingOperator implements OneInputOperator {
  readonly #reduce: ReduceFunction<unknown>;
  readonly #type: TypeDescriptor;
  readonly #subtask: SubtaskInfo;
  #output = NOWHERE;
  #last!: ValueState<unknown>;

  constructor(reduce: ReduceFunction<unknown>, type: TypeDescriptor, subtask: SubtaskInfo) {
    this.#reduce = reduce;
    this.#type = type;
    this.#subtask = subtask;
  }

  open(context: OperatorContext): void {
    assert(context.keyed !== undefined, "a rolling operator runs in a keyed task");
    this.#output = context.output;
    this.#last = context.keyed.getState(new ValueStateDescriptor(STATE_NAME, new TypeInformation(this.#type)));
  }

  processElement(record: unknown): void {
    const last = this.#last.value();
    const reduce = this.#reduce;
    const result = last === undefined ? record : reduce(last, record); // RO1
    if (isThenable(result)) refusePromise(result, this.#subtask);
    this.#last.update(result);
    this.#output.collect(result);
  }

  close(): void {}
}

/** `type`: of the stream's records; `what` names the call in failures. */
export function reduceFactory(reduce: ReduceFunction<unknown>, type: TypeDescriptor, what = "reduce"): OperatorFactory {
  if (containsGeneric(type)) {
    throw new Failure("JOB_GRAPH_INVALID", {
      retry: "never",
      message: `${what} of a stream of ${describeType(type)}: its last result is state, whose type is declared`,
      remedy: "declare the output type of the operator before keyBy, for example .map(fn, Types.TUPLE(...))",
    });
  }
  return { kind: "oneInput", create: (subtask) => new RollingOperator(reduce, type, subtask) };
}

/** `field`: a name in a ROW, a position in a TUPLE, undefined for plain values. `first`: which of equal records minBy and maxBy keep. */
export function aggregateFactory(options: {
  readonly aggregation: Aggregation;
  readonly type: TypeDescriptor;
  readonly field: string | number | undefined;
  readonly first: boolean;
}): OperatorFactory {
  const { aggregation, type, first } = options;
  const field = fieldOf(options);
  return reduceFactory(aggregation === "sum" ? sumOf(field) : extremeOf(field, aggregation, first), type, aggregation);
}

interface Field {
  readonly kind: TypeKind;
  /** For messages. */
  readonly name: string;
  get(record: unknown): unknown;
  /** The record with another value in this field (RO3). */
  with(record: unknown, value: unknown): unknown;
}

const SUMMABLE: readonly TypeKind[] = ["INT", "LONG", "DOUBLE"];
const COMPARABLE: readonly TypeKind[] = ["INT", "LONG", "DOUBLE", "INSTANT", "STRING", "BOOLEAN"];

function fieldOf(options: {
  readonly aggregation: Aggregation;
  readonly type: TypeDescriptor;
  readonly field: string | number | undefined;
}): Field {
  const { aggregation, type, field } = options;
  const allowed = aggregation === "sum" ? SUMMABLE : COMPARABLE;
  const call = `${aggregation}(${field === undefined ? "" : JSON.stringify(field)}) of a stream of ${describeType(type)}`;
  const refuse = (why: string, remedy: string): Failure =>
    new Failure("JOB_GRAPH_INVALID", { retry: "never", message: `${call}: ${why}`, remedy });
  const checked = (found: Field): Field => {
    if (allowed.includes(found.kind)) return found;
    throw refuse(`${found.name} is ${found.kind}`, `choose a field of type ${allowed.join(", ")}`);
  };
  if (type.kind === "ROW") {
    const index = type.names.indexOf(String(field));
    const fieldType = type.fields[index];
    if (typeof field !== "string" || fieldType === undefined)
      throw refuse("no such field", `name one of ${type.names.join(", ")}`);
    return checked({
      kind: fieldType.kind,
      name: `field "${field}"`,
      get: (record) => (record as Record<string, unknown>)[field],
      with: (record, value) => ({ ...(record as object), [field]: value }),
    });
  }
  if (type.kind === "TUPLE") {
    const fieldType = typeof field === "number" ? type.fields[field] : undefined;
    if (typeof field !== "number" || fieldType === undefined)
      throw refuse("no such field", `give a position from 0 to ${type.fields.length - 1}`);
    return checked({
      kind: fieldType.kind,
      name: `field ${field}`,
      get: (record) => (record as readonly unknown[])[field],
      with: (record, value) => (record as readonly unknown[]).with(field, value),
    });
  }
  if (type.kind === "GENERIC")
    throw refuse(
      "nothing is known about its records",
      "declare the output type of the operator before keyBy, for example .map(fn, Types.TUPLE(...))",
    );
  if (field !== undefined) throw refuse("its records have no fields", `call ${aggregation}() without a field`);
  return checked({ kind: type.kind, name: "a record", get: (record) => record, with: (_, value) => value });
}

/** RO2, RO4. */
function sumOf(field: Field): ReduceFunction<unknown> {
  const { kind, name } = field;
  return (last, record) => {
    const sum = (field.get(last) as number) + (field.get(record) as number);
    if (kind === "INT" ? (sum | 0) !== sum : kind === "LONG" && !Number.isSafeInteger(sum)) {
      throw new Failure("TYPE_MISMATCH", {
        retry: "never",
        message: `the sum of ${name} is ${sum}, which ${kind} cannot hold`,
        remedy: kind === "INT" ? "declare the field as LONG" : "declare the field as DOUBLE, which is not exact",
      });
    }
    return field.with(last, sum);
  };
}

/** RO2. */
function extremeOf(field: Field, aggregation: Aggregation, first: boolean): ReduceFunction<unknown> {
  const sign = aggregation === "max" || aggregation === "maxBy" ? 1 : -1;
  const isBy = aggregation === "minBy" || aggregation === "maxBy";
  return (last, record) => {
    const order = compareValues(field.get(record), field.get(last)) * sign;
    if (isBy) return order > 0 || (order === 0 && !first) ? record : last;
    return order > 0 ? field.with(last, field.get(record)) : last;
  };
}

/** As Java compares: NaN is above every number and equal to itself, strings go by code units. */
function compareValues(a: unknown, b: unknown): number {
  const [left, right] = [a as number, b as number];
  if (left < right) return -1;
  if (left > right) return 1;
  if (left === right) return 0;
  return Number(Number.isNaN(left)) - Number(Number.isNaN(right));
}
