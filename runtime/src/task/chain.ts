// The operators of one task, wired head to tail, and the loop that feeds rows into the head.
//
// Invariants:
//   CH1. A record travels the whole chain by plain calls: no queue, no allocation, no await between chained operators.
//   CH2. Every failure that leaves the chain is a Failure that names the operator in which it happened.
//   CH3. The current key is set before the head of a keyed task sees a record of a keyed input, and only then: records of an input
//        without keys (a broadcast one) come without a current key.
//
// Each link is compiled by itself (`new Function`), so that every call site stays monomorphic; where code generation is
// disallowed the same text exists as ordinary closures.
//
// Not here: where rows come from (network/), when to run (task.ts).

import { AssertionError, Failure, isFailure } from "@sluice/kit";
import type { Collector, KeySelector, OneInputOperator, Operator, TwoInputOperator } from "../model/index.ts";

/** Rows of the frame that a channel has at its head (network/codec readers). */
export interface Rows {
  read(index: number): unknown;
  /** Canonical hash of the row's key; only on HASH edges. */
  hash(index: number): number;
}

/** What the loop needs of keyed state. */
export interface KeyScope {
  setCurrentKey(key: unknown, hash: number): void;
  clearCurrentKey(): void;
  /** True once looking up a batch of hashes ahead pays: the state is larger than the caches. */
  readonly isTouchWorthwhile: boolean;
  /** Loads the places of these hashes, so that the misses of a batch overlap. */
  touch(hashes: Int32Array, count: number): void;
}

/** Rows whose places are touched ahead in one go. */
const TOUCH_ROWS = 64;

/** Feeds rows [from, to) into the head of a chain. */
export interface HeadLoop {
  process(rows: Rows, from: number, to: number): void;
}

/** A collector that counts what passes. */
export interface CountingCollector extends Collector<unknown> {
  numRecords: number;
}

type Attribute = (thrown: unknown) => unknown;

/** Failures that name their operator already: the links before it pass them on. */
const attributed = new WeakSet<Failure>();

/** Turns what user code threw into a Failure that names the operator (CH2); other Failures and broken assertions pass. */
export function attributeTo(operator: { readonly name: string; readonly uid: string }): Attribute {
  return (thrown) => {
    if (thrown instanceof AssertionError) return thrown;
    if (isFailure(thrown)) return thrown.code === "TYPE_MISMATCH" ? namedMismatch(thrown, operator) : thrown;
    const message = thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : String(thrown);
    return new Failure("USER_FUNCTION_FAILED", {
      retry: "backoff",
      message: `operator "${operator.name}" (uid ${operator.uid}): ${message}`,
      remedy: "look at the stack below: the exception came out of the job's own code",
      cause: thrown,
    });
  };
}

/** A codec knows field and value, but not whose record it was. */
function namedMismatch(thrown: Failure, operator: { readonly name: string; readonly uid: string }): Failure {
  if (attributed.has(thrown)) return thrown;
  const { code, retry, remedy, stack = "" } = thrown;
  const message = `operator "${operator.name}" (uid ${operator.uid}): ${thrown.message}`;
  const named = new Failure(code, { retry, message, remedy, cause: thrown.cause });
  named.stack = stack.replace(thrown.message, () => message);
  attributed.add(named);
  return named;
}

let serial = 0;
let codeGenerationAllowed: boolean | undefined;

function compile<T>(parameters: readonly string[], body: string, values: readonly unknown[]): T | undefined {
  if (codeGenerationAllowed === false) return undefined;
  try {
    serial += 1; // unique text: V8 would share feedback between functions of equal source
    // oxlint-disable-next-line typescript/no-implied-eval -- the text is ours alone; user values come in as arguments
    const make = new Function(...parameters, `"use strict"; /* ${serial} */ ${body}`) as (
      ...args: readonly unknown[]
    ) => T;
    codeGenerationAllowed = true;
    return make(...values);
  } catch (thrown) {
    if (codeGenerationAllowed === true) throw thrown;
    codeGenerationAllowed = false;
    return undefined;
  }
}

/** The collector in front of a chained operator. */
export function linkTo(operator: OneInputOperator, attribute: Attribute): CountingCollector {
  const compiled = compile<CountingCollector>(
    ["operator", "attribute"],
    `return { numRecords: 0, collect(record) {
       this.numRecords += 1;
       try { operator.processElement(record); } catch (thrown) { throw attribute(thrown); }
     } };`,
    [operator, attribute],
  );
  return (
    compiled ?? {
      numRecords: 0,
      collect(record) {
        this.numRecords += 1;
        try {
          operator.processElement(record);
        } catch (thrown) {
          throw attribute(thrown);
        }
      },
    }
  );
}

/** Where records of an output edge go. */
export interface RecordEmitter {
  emit(record: unknown): void;
}

/** The collector at the end of a chain: every record to every output edge; a sink's chain ends in nothing. */
export function tailOf(writers: readonly RecordEmitter[]): CountingCollector {
  const only = writers.length === 1 ? writers[0] : undefined;
  if (only !== undefined) {
    const compiled = compile<CountingCollector>(
      ["writer"],
      `return { numRecords: 0, collect(record) { this.numRecords += 1; writer.emit(record); } };`,
      [only],
    );
    if (compiled !== undefined) return compiled;
  }
  return {
    numRecords: 0,
    collect(record) {
      this.numRecords += 1;
      for (let i = 0; i < writers.length; i += 1) (writers[i] as RecordEmitter).emit(record);
    },
  };
}

/** The loop over rows for one input of the head. `scope`: of a keyed task; without a `keySelector` its key is cleared (CH3). */
export function headLoop(options: {
  readonly operator: Operator;
  readonly method: "processElement" | "processElement1" | "processElement2";
  readonly attribute: Attribute;
  readonly keySelector: KeySelector<unknown, unknown> | undefined;
  readonly scope: KeyScope | undefined;
}): HeadLoop {
  const { operator, method, attribute, keySelector, scope } = options;
  const keyed = keySelector !== undefined && scope !== undefined;
  const hashes = new Int32Array(TOUCH_ROWS);
  const perRow = keyed ? "scope.setCurrentKey(select(record), rows.hash(i));" : "";
  const atFirst = scope === undefined ? "" : "scope.clearCurrentKey();";
  const loop = `for (let i = from; i < to; i += 1) { const record = rows.read(i); ${perRow} operator.${method}(record); }`;
  const compiled = compile<HeadLoop>(
    ["operator", "attribute", "select", "scope", "hashes"],
    keyed
      ? `function run(rows, from, to) { ${loop} }
         return { process(rows, from, to) {
           try {
             if (!scope.isTouchWorthwhile) { run(rows, from, to); return; }
             for (let start = from; start < to; start += ${TOUCH_ROWS}) {
               const end = Math.min(to, start + ${TOUCH_ROWS});
               for (let i = start; i < end; i += 1) hashes[i - start] = rows.hash(i);
               scope.touch(hashes, end - start);
               run(rows, start, end);
             }
           } catch (thrown) { throw attribute(thrown); }
         } };`
      : `return { process(rows, from, to) {
           try { ${atFirst} ${loop} } catch (thrown) { throw attribute(thrown); }
         } };`,
    [operator, attribute, keySelector, scope, hashes],
  );
  if (compiled !== undefined) return compiled;
  const call =
    method === "processElement"
      ? (record: unknown): void => (operator as OneInputOperator).processElement(record)
      : method === "processElement1"
        ? (record: unknown): void => (operator as TwoInputOperator).processElement1(record)
        : (record: unknown): void => (operator as TwoInputOperator).processElement2(record);
  return {
    process(rows, from, to) {
      try {
        if (!keyed) scope?.clearCurrentKey();
        for (let i = from; i < to; i += 1) {
          const record = rows.read(i);
          if (keyed) scope.setCurrentKey(keySelector(record), rows.hash(i));
          call(record);
        }
      } catch (thrown) {
        throw attribute(thrown);
      }
    },
  };
}
