// Harnesses around single functions, by Flink's names, for tests that have no stream at hand.
//
// Not here: the harnesses (operator-harness.ts).

import { Types } from "../model/index.ts";
import type {
  CoProcessFunction,
  KeyedCoProcessFunction,
  KeyedProcessFunction,
  KeySelector,
  ProcessFunction,
  TypeInformation,
} from "../model/index.ts";
import type { FunctionOrSupplier } from "../operators/index.ts";
import { oneInputTestHarness, twoInputTestHarness } from "./operator-harness.ts";
import type { OneInputTestHarness, TestHarnessOptions, TwoInputTestHarness } from "./operator-harness.ts";

/** Flink: ProcessFunctionTestHarnesses. Each gives an opened harness; what `open` throws rejects. */
export const ProcessFunctionTestHarnesses = {
  forProcessFunction<I, O>(
    fn: FunctionOrSupplier<ProcessFunction<I, O>>,
    options?: TestHarnessOptions,
  ): Promise<OneInputTestHarness<I, O>> {
    return oneInputTestHarness(Types.GENERIC<I>(), (stream) => stream.process(fn, Types.GENERIC<O>()), options);
  },

  forCoProcessFunction<I1, I2, O>(
    fn: FunctionOrSupplier<CoProcessFunction<I1, I2, O>>,
    options?: TestHarnessOptions,
  ): Promise<TwoInputTestHarness<I1, I2, O>> {
    return twoInputTestHarness(
      [Types.GENERIC<I1>(), Types.GENERIC<I2>()],
      (first, second) => first.connect(second).process(fn, Types.GENERIC<O>()),
      options,
    );
  },

  forKeyedProcessFunction<K, I, O>(
    fn: FunctionOrSupplier<KeyedProcessFunction<K, I, O>>,
    keySelector: KeySelector<I, K>,
    keyType: TypeInformation<K>,
    options?: TestHarnessOptions,
  ): Promise<OneInputTestHarness<I, O>> {
    return oneInputTestHarness(
      Types.GENERIC<I>(),
      (stream) => stream.keyBy(keySelector, keyType).process(fn, Types.GENERIC<O>()),
      options,
    );
  },

  forKeyedCoProcessFunction<K, I1, I2, O>(
    fn: FunctionOrSupplier<KeyedCoProcessFunction<K, I1, I2, O>>,
    keySelectors: readonly [first: KeySelector<I1, K>, second: KeySelector<I2, K>],
    keyType: TypeInformation<K>,
    options?: TestHarnessOptions,
  ): Promise<TwoInputTestHarness<I1, I2, O>> {
    const [one, two] = keySelectors;
    return twoInputTestHarness(
      [Types.GENERIC<I1>(), Types.GENERIC<I2>()],
      (first, second) => first.keyBy(one, keyType).connect(second.keyBy(two, keyType)).process(fn, Types.GENERIC<O>()),
      options,
    );
  },
} as const;
