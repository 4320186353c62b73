// Functions of operators without keys of their own, as classes with a life cycle (Flink's names).
//
// On a keyed stream the same classes may ask their runtime context for keyed state.
//
// Invariants: UF1, UF2 of functions.ts.

import { RichFunction, type Collector, type SideOutputContext } from "./functions.ts";

/** Flink: RichMapFunction. */
export abstract class RichMapFunction<I, O> extends RichFunction {
  abstract map(value: I): O;
}

/** Flink: RichFilterFunction. */
export abstract class RichFilterFunction<T> extends RichFunction {
  abstract filter(value: T): boolean;
}

/** Emits any number of records for one (Flink: FlatMapFunction). */
export type FlatMapFunction<I, O> = (value: I, out: Collector<O>) => void;

/** Flink: RichFlatMapFunction. */
export abstract class RichFlatMapFunction<I, O> extends RichFunction {
  abstract flatMap(value: I, out: Collector<O>): void;
}

/** Two inputs, one record out for each record in (Flink: CoMapFunction). */
export abstract class CoMapFunction<I1, I2, O> extends RichFunction {
  abstract map1(value: I1): O;
  abstract map2(value: I2): O;
}

/** Two inputs, any number of records out (Flink: CoFlatMapFunction). */
export abstract class CoFlatMapFunction<I1, I2, O> extends RichFunction {
  abstract flatMap1(value: I1, out: Collector<O>): void;
  abstract flatMap2(value: I2, out: Collector<O>): void;
}

/** Two inputs without keys (Flink: CoProcessFunction). */
export abstract class CoProcessFunction<I1, I2, O> extends RichFunction {
  abstract processElement1(value: I1, ctx: SideOutputContext, out: Collector<O>): void;
  abstract processElement2(value: I2, ctx: SideOutputContext, out: Collector<O>): void;
}
