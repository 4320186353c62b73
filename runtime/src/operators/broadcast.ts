// Operators of the broadcast state pattern: input 0 is the stream, keyed or not, input 1 the broadcast stream.
//
// Invariants: BF1, BF2 of model/broadcast-functions.ts, and
//   BO1. The states that `broadcast(...)` named are there from the start, also when nothing was broadcast: every checkpoint has them.
//
// Not here: the spreading of the broadcast stream (network/), the states (operator-state-store.ts).

import { assert, Failure } from "@sluice/kit";
import type {
  BroadcastContext,
  BroadcastProcessFunction,
  BroadcastState,
  KeyedBroadcastContext,
  KeyedBroadcastOnTimerContext,
  KeyedBroadcastProcessFunction,
  KeyedStateAccess,
  MapStateDescriptor,
  OperatorContext,
  OperatorFactory,
  ReadOnlyBroadcastContext,
  ReadOnlyBroadcastState,
  RestoredOperatorState,
  RichFunction,
  StateDescriptor,
  StateOf,
  SubtaskInfo,
  TimeDomain,
  TimerService,
  TimerTarget,
  TwoInputOperator,
} from "../model/index.ts";
import { FunctionContext } from "./function-context.ts";
import { FunctionOperator } from "./function-operator.ts";
import { HeapOperatorStateStore } from "./operator-state-store.ts";
import { instantiate, refusePromise, type FunctionOrSupplier } from "./user-function.ts";

type AnyState = BroadcastState<unknown, unknown>;
type Descriptors = readonly MapStateDescriptor<unknown, unknown>[];

/** The states of one operator by the name of their descriptor. */
class BroadcastStates {
  readonly #subtask: SubtaskInfo;
  readonly #states: ReadonlyMap<string, AnyState>;
  readonly #views: ReadonlyMap<string, ReadOnlyBroadcastState<unknown, unknown>>;

  constructor(subtask: SubtaskInfo, store: HeapOperatorStateStore, descriptors: Descriptors) {
    this.#subtask = subtask;
    this.#states = new Map(descriptors.map((one) => [one.name, store.getBroadcastState(one)])); // BO1
    this.#views = new Map([...this.#states].map(([name, state]) => [name, viewOf(state)]));
  }

  writable<K, V>(descriptor: MapStateDescriptor<K, V>): BroadcastState<K, V> {
    return this.#found(this.#states, descriptor.name) as AnyState as BroadcastState<K, V>;
  }

  readOnly<K, V>(descriptor: MapStateDescriptor<K, V>): ReadOnlyBroadcastState<K, V> {
    return this.#found(this.#views, descriptor.name) as ReadOnlyBroadcastState<K, V>;
  }

  #found<S>(states: ReadonlyMap<string, S>, name: string): S {
    const state = states.get(name);
    if (state !== undefined) return state;
    const { operatorName, uid } = this.#subtask;
    throw new Failure("STATE_ACCESS_INVALID", {
      retry: "never",
      message: `operator "${operatorName}" (uid ${uid}) asked for broadcast state "${name}", and its stream is broadcast with ${[...states.keys()].map((known) => `"${known}"`).join(", ")}`,
      remedy: "give the descriptor to broadcast(...)",
    });
  }
}

/** BF1: nothing to write with. */
function viewOf(state: AnyState): ReadOnlyBroadcastState<unknown, unknown> {
  return {
    get: (key) => state.get(key),
    contains: (key) => state.contains(key),
    immutableEntries: () => state.immutableEntries(),
  };
}

class ReadOnlyContext extends FunctionContext implements ReadOnlyBroadcastContext {
  readonly #states: BroadcastStates;

  constructor(context: OperatorContext, states: BroadcastStates) {
    super(context);
    this.#states = states;
  }

  getBroadcastState<K, V>(descriptor: MapStateDescriptor<K, V>): ReadOnlyBroadcastState<K, V> {
    return this.#states.readOnly(descriptor);
  }
}

class WritingContext extends FunctionContext implements BroadcastContext {
  readonly #states: BroadcastStates;

  constructor(context: OperatorContext, states: BroadcastStates) {
    super(context);
    this.#states = states;
  }

  getBroadcastState<K, V>(descriptor: MapStateDescriptor<K, V>): BroadcastState<K, V> {
    return this.#states.writable(descriptor);
  }
}

/** Of records with a key, and of timers. */
class KeyedReadOnlyContext extends ReadOnlyContext implements KeyedBroadcastOnTimerContext<unknown> {
  readonly #keyed: KeyedStateAccess;
  readonly #timers: TimerService;

  constructor(context: OperatorContext, states: BroadcastStates, keyed: KeyedStateAccess, target: TimerTarget) {
    super(context, states);
    this.#keyed = keyed;
    this.#timers = keyed.getTimerService(target);
  }

  timerService(): TimerService {
    return this.#timers;
  }

  timeDomain(): TimeDomain {
    return "PROCESSING_TIME";
  }

  getCurrentKey(): unknown {
    return this.#keyed.getCurrentKey();
  }
}

class KeyedWritingContext extends WritingContext implements KeyedBroadcastContext<unknown> {
  readonly #keyed: KeyedStateAccess;
  readonly #subtask: SubtaskInfo;

  constructor(context: OperatorContext, states: BroadcastStates, keyed: KeyedStateAccess) {
    super(context, states);
    this.#keyed = keyed;
    this.#subtask = context.subtask;
  }

  applyToKeyedState<D>(descriptor: D, fn: (key: unknown, state: StateOf<D>) => void): void {
    const named = descriptor as StateDescriptor;
    const state = handleOf(this.#keyed, named) as StateOf<D>;
    this.#keyed.forEachKey(named, (key) => {
      refusePromise(fn(key, state) as unknown, this.#subtask);
    });
  }
}

function handleOf(keyed: KeyedStateAccess, descriptor: StateDescriptor): unknown {
  switch (descriptor.kind) {
    case "value":
      return keyed.getState(descriptor);
    case "list":
      return keyed.getListState(descriptor);
    case "map":
      return keyed.getMapState(descriptor);
    case "reducing":
      return keyed.getReducingState(descriptor);
    case "aggregating":
      return keyed.getAggregatingState(descriptor);
  }
}

abstract class BroadcastOperator extends FunctionOperator implements TwoInputOperator {
  readonly #descriptors: Descriptors;

  constructor(fn: RichFunction, subtask: SubtaskInfo, descriptors: Descriptors) {
    super(subtask, fn);
    this.#descriptors = descriptors;
  }

  abstract processElement1(record: unknown): void;
  abstract processElement2(record: unknown): void;
  protected abstract begin(context: OperatorContext, states: BroadcastStates): void;

  override open(context: OperatorContext, restored: RestoredOperatorState | undefined): void {
    super.open(context, restored);
    const { store } = this;
    assert(store !== undefined, "BO1: a broadcast operator has operator state");
    this.begin(context, new BroadcastStates(this.subtask, store, this.#descriptors));
  }

  protected override stateOf(
    _fn: RichFunction | undefined,
    restored: RestoredOperatorState | undefined,
  ): HeapOperatorStateStore {
    return new HeapOperatorStateStore({ subtask: this.subtask, restored });
  }
}

class BroadcastProcessOperator extends BroadcastOperator {
  readonly #function: BroadcastProcessFunction<unknown, unknown, unknown>;
  #reading!: ReadOnlyContext;
  #writing!: WritingContext;

  constructor(fn: BroadcastProcessFunction<unknown, unknown, unknown>, subtask: SubtaskInfo, descriptors: Descriptors) {
    super(fn, subtask, descriptors);
    this.#function = fn;
  }

  protected override begin(context: OperatorContext, states: BroadcastStates): void {
    this.#reading = new ReadOnlyContext(context, states);
    this.#writing = new WritingContext(context, states);
  }

  processElement1(record: unknown): void {
    const result = this.#function.processElement(record, this.#reading, this.output) as unknown;
    if (result !== undefined) refusePromise(result, this.subtask);
  }

  processElement2(record: unknown): void {
    const result = this.#function.processBroadcastElement(record, this.#writing, this.output) as unknown;
    if (result !== undefined) refusePromise(result, this.subtask);
  }
}

class KeyedBroadcastProcessOperator extends BroadcastOperator implements TimerTarget {
  readonly #function: KeyedBroadcastProcessFunction<unknown, unknown, unknown, unknown>;
  #reading!: KeyedReadOnlyContext;
  #writing!: KeyedWritingContext;

  constructor(
    fn: KeyedBroadcastProcessFunction<unknown, unknown, unknown, unknown>,
    subtask: SubtaskInfo,
    descriptors: Descriptors,
  ) {
    super(fn, subtask, descriptors);
    this.#function = fn;
  }

  protected override begin(context: OperatorContext, states: BroadcastStates): void {
    const { keyed } = context;
    assert(keyed !== undefined, "a keyed broadcast operator runs in a keyed task");
    this.#reading = new KeyedReadOnlyContext(context, states, keyed, this);
    this.#writing = new KeyedWritingContext(context, states, keyed);
  }

  processElement1(record: unknown): void {
    const result = this.#function.processElement(record, this.#reading, this.output) as unknown;
    if (result !== undefined) refusePromise(result, this.subtask);
  }

  onProcessingTime(timestampMs: number): void {
    const result = this.#function.onTimer(timestampMs, this.#reading, this.output) as unknown;
    if (result !== undefined) refusePromise(result, this.subtask);
  }

  /** BF2: the task has cleared the current key. */
  processElement2(record: unknown): void {
    const result = this.#function.processBroadcastElement(record, this.#writing, this.output) as unknown;
    if (result !== undefined) refusePromise(result, this.subtask);
  }
}

export function broadcastProcessFactory(
  fn: FunctionOrSupplier<BroadcastProcessFunction<unknown, unknown, unknown>>,
  descriptors: Descriptors,
): OperatorFactory {
  return {
    kind: "twoInput",
    create: (subtask) => new BroadcastProcessOperator(instantiate(fn, subtask), subtask, descriptors),
  };
}

export function keyedBroadcastProcessFactory(
  fn: FunctionOrSupplier<KeyedBroadcastProcessFunction<unknown, unknown, unknown, unknown>>,
  descriptors: Descriptors,
): OperatorFactory {
  return {
    kind: "twoInput",
    create: (subtask) => new KeyedBroadcastProcessOperator(instantiate(fn, subtask), subtask, descriptors),
  };
}
