// Values of the numeric types as typed tables store them: one f64, BOOLEAN as 0 or 1.
//
// Invariants:
//   NV1. What a table holds is a value of the declared type; an integral -0 is held as 0.
//
// Not here: the tables (number-table.ts, string-table.ts).

import { assert } from "@sluice/kit";
import type { ByteReader, ByteWriter, Failure } from "@sluice/kit";
import type { TypeDescriptor, ValueState } from "../model/index.ts";
import { codecFor, shortValue, writeDouble } from "./codec.ts";
import type { ValueCodec } from "./codec.ts";
import { valueMismatch } from "./table.ts";

/** True for types whose values fit a typed table. */
export function isNumberLike(type: TypeDescriptor): boolean {
  return (
    type.kind === "INT" ||
    type.kind === "LONG" ||
    type.kind === "INSTANT" ||
    type.kind === "DOUBLE" ||
    type.kind === "BOOLEAN"
  );
}

/** Checks, writes and reads the values of one state. */
export class NumericValues {
  readonly #where: { readonly uid: string; readonly stateName: string };
  readonly #codec: ValueCodec;
  readonly #kind: TypeDescriptor["kind"];
  readonly #isLong: boolean;
  readonly #isInt: boolean;

  constructor(options: { readonly uid: string; readonly stateName: string; readonly type: TypeDescriptor }) {
    assert(isNumberLike(options.type), "a typed table has numeric values");
    this.#where = { uid: options.uid, stateName: options.stateName };
    this.#codec = codecFor(options.type);
    this.#kind = options.type.kind;
    this.#isLong = this.#kind === "LONG" || this.#kind === "INSTANT";
    this.#isInt = this.#kind === "INT";
  }

  /** The value as it is stored (NV1); Failure TYPE_MISMATCH. Once per record. */
  checked(value: number): number {
    if (this.#isLong) {
      if (!Number.isSafeInteger(value)) throw this.mismatch(value);
      return value + 0;
    }
    if (typeof value !== "number") throw this.mismatch(value);
    if (!this.#isInt) return value;
    if ((value | 0) !== value) throw this.mismatch(value);
    return value + 0;
  }

  mismatch(value: unknown): Failure {
    return valueMismatch(this.#where, this.#codec.check(value) ?? `${shortValue(value)} is not a number`);
  }

  /** What user functions hold: the table itself, but for BOOLEAN. */
  handleOf(table: ValueState<number>): ValueState<unknown> {
    return this.#kind === "BOOLEAN" ? new BooleanState(table, this) : (table as ValueState<unknown>);
  }

  write(out: ByteWriter, value: number): void {
    writeNumber(out, this.#kind, value);
  }

  read(from: ByteReader): number {
    return Number(this.#codec.read(from));
  }
}

/** Appends a number as a value of this kind. */
export function writeNumber(out: ByteWriter, kind: TypeDescriptor["kind"], value: number): void {
  if (kind === "LONG" || kind === "INSTANT") out.long(value);
  else if (kind === "DOUBLE") writeDouble(out, value);
  else if (kind === "INT") out.i32(value);
  else out.bool(value === 1);
}

/** BOOLEAN values over a table of 0 and 1. */
class BooleanState implements ValueState<unknown> {
  readonly #table: ValueState<number>;
  readonly #values: NumericValues;

  constructor(table: ValueState<number>, values: NumericValues) {
    this.#table = table;
    this.#values = values;
  }

  value(): boolean | undefined {
    const value = this.#table.value();
    return value === undefined ? undefined : value === 1;
  }

  update(value: unknown): void {
    if (typeof value !== "boolean") throw this.#values.mismatch(value);
    this.#table.update(value ? 1 : 0);
  }

  clear(): void {
    this.#table.clear();
  }
}
