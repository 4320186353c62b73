// The states of one operator by name: what was declared, what was restored, and the table that holds it.
//
// Invariants:
//   HB2. A state that was restored is written again in every snapshot, whether or not the job asks for it.
//   HB3. A state name means one kind of state with one type once it was declared. What was restored has the type of the snapshot
//        until then, and becomes the declared one when that may follow it (evolution.ts).
//
// Not here: the current key and snapshots (backend.ts), layouts (the tables).

import { assert, Failure } from "@sluice/kit";
import type { Clock } from "@sluice/kit/env";
import { containsGeneric, describeType, sameType } from "../model/index.ts";
import type { StateDescriptor, StateTtlConfig, StoredStateKind, TypeDescriptor } from "../model/index.ts";
import type { KeyScope } from "./keys.ts";
import { compareTypes, incompatibleState } from "./evolution.ts";
import { ListTable } from "./list-table.ts";
import { MapTable } from "./map-table.ts";
import { NumberTable } from "./number-table.ts";
import { isNumberLike } from "./numeric-values.ts";
import { ObjectTable } from "./object-table.ts";
import { StringTable } from "./string-table.ts";
import type { StateTable, TableOptions } from "./table.ts";
import { PROCESSING_TIMERS, TIMER_STATE_PREFIX, TimerTable } from "./timer-table.ts";
import { Ttl, ttlConfigOf } from "./ttl.ts";

/** A state as its descriptor or its part in a snapshot names it. */
export interface DeclaredState {
  readonly name: string;
  readonly kind: StoredStateKind;
  /** Of the whole: LIST and MAP for lists and maps. */
  readonly valueType: TypeDescriptor;
  readonly ttl: Required<StateTtlConfig> | null;
}

const TIMERS: DeclaredState = {
  name: PROCESSING_TIMERS,
  kind: "timers",
  valueType: { kind: "INSTANT" },
  ttl: null,
};

/** What a descriptor says, without what is not stored. */
export function declaredBy(descriptor: StateDescriptor, uid: string): DeclaredState {
  const { name, kind } = descriptor;
  const ttl = ttlConfigOf(descriptor.ttl, `operator uid ${uid}, state "${name}"`);
  switch (kind) {
    case "list":
      return { name, kind, valueType: { kind: "LIST", element: descriptor.elementType.descriptor }, ttl };
    case "map": {
      const { keyType, valueType } = descriptor;
      return { name, kind, valueType: { kind: "MAP", key: keyType.descriptor, value: valueType.descriptor }, ttl };
    }
    case "aggregating":
      return { name, kind, valueType: descriptor.accumulatorType.descriptor, ttl };
    default:
      return { name, kind, valueType: descriptor.type.descriptor, ttl };
  }
}

interface RegisteredState {
  readonly table: StateTable;
  /** False until somebody asked for it (HB2). */
  isDeclared: boolean;
}

export class KeyedStates {
  readonly #uid: string;
  readonly #scope: KeyScope;
  readonly #clock: Pick<Clock, "wallMs">;
  readonly #states = new Map<string, RegisteredState>();
  /** The tables with a layout that is worth touching. */
  readonly touched: (NumberTable | StringTable)[] = [];
  #tables: readonly StateTable[] = [];
  #timers: TimerTable | undefined = undefined;

  /** `clock`: its wall clock is what times to live go by. */
  constructor(scope: KeyScope, clock: Pick<Clock, "wallMs">) {
    this.#uid = scope.uid;
    this.#scope = scope;
    this.#clock = clock;
  }

  /** What the job has declared so far. */
  get declared(): readonly DeclaredState[] {
    return [...this.#states.values()].flatMap(({ table, isDeclared }) => (isDeclared ? [stateOf(table)] : []));
  }

  get tables(): readonly StateTable[] {
    return this.#tables;
  }

  /**
   * The table of a state that the job declares; `reload` fills a new one when the type has evolved, or when rows get times, or lose
   * them: both are allowed. Rows that had none begin their life then, rows that lose theirs live on, also those that had expired.
   * @throws Failure TYPE_MISMATCH for types that cannot be stored, STATE_INCOMPATIBLE when the snapshot has another kind or type,
   * STATE_ACCESS_INVALID when the job does.
   */
  declare(state: DeclaredState, interval: number, reload: (table: StateTable) => void): StateTable {
    if (containsGeneric(state.valueType)) {
      throw new Failure("TYPE_MISMATCH", {
        retry: "never",
        message: `operator uid ${this.#uid}, state "${state.name}": ${describeType(state.valueType)} contains GENERIC, which cannot be stored`,
        remedy: "declare the state with concrete types, e.g. Types.ROW({...}) or Types.LIST(...)",
      });
    }
    if (state.name.startsWith(TIMER_STATE_PREFIX)) {
      throw new Failure("STATE_ACCESS_INVALID", {
        retry: "never",
        message: `operator uid ${this.#uid}, state "${state.name}": names that begin with ${TIMER_STATE_PREFIX} are those of timers`,
        remedy: "give the state another name",
      });
    }
    const registered = this.#states.get(state.name) ?? this.#register(state, interval);
    const { table } = registered;
    if (!isSame(table, state)) {
      if (registered.isDeclared || table.stateKind !== state.kind) throw this.#otherType(registered, state);
      this.#checkEvolution(table, state);
    } else if (registered.isDeclared && !isSameTtl(table, state)) {
      throw this.#otherTtl(state.name);
    }
    const isRelaid = !isSame(table, state) || (table.ttl === undefined) !== (state.ttl === null);
    const declared = isRelaid ? this.#replace(table, { state, interval, reload }) : registered;
    declared.isDeclared = true;
    if (state.ttl !== null) declared.table.ttl?.declare(state.ttl);
    return declared.table;
  }

  #otherTtl(name: string): Failure {
    return new Failure("STATE_ACCESS_INVALID", {
      retry: "never",
      message: `operator uid ${this.#uid}, state "${name}": declared twice with different times to live`,
      remedy: "use one descriptor per state name",
    });
  }

  /** The table of a state that a snapshot holds. Failure STATE_INCOMPATIBLE when another part of it is of another type. */
  restore(state: DeclaredState, interval: number): StateTable {
    const registered = this.#states.get(state.name) ?? this.#register(state, interval);
    if (!isSame(registered.table, state)) {
      const declared = stateOf(registered.table);
      throw this.#incompatible(state.name, { stored: state, declared });
    }
    return registered.table;
  }

  #register(state: DeclaredState, interval: number): RegisteredState {
    const table = this.#newTable(state, interval);
    this.#tables = [...this.#tables, table];
    return this.#enter(table);
  }

  #newTable({ name, kind, valueType, ttl }: DeclaredState, interval: number): StateTable {
    const life = ttl === null ? undefined : new Ttl(ttl, this.#clock);
    return this.#makeTable({ stateName: name, stateKind: kind, valueType, interval, ttl: life });
  }

  #enter(table: StateTable): RegisteredState {
    if (table instanceof NumberTable || table instanceof StringTable) this.touched.push(table);
    if (table instanceof TimerTable && table.stateName === PROCESSING_TIMERS) this.#timers = table;
    const registered = { table, isDeclared: false };
    this.#states.set(table.stateName, registered);
    return registered;
  }

  /** The timers of the operator; a table of its own comes into being with the first one. */
  timers(interval: number): TimerTable {
    this.#timers ??= this.restore(TIMERS, interval) as TimerTable;
    return this.#timers;
  }

  /** The timers, if there ever were any. */
  get existingTimers(): TimerTable | undefined {
    return this.#timers;
  }

  #checkEvolution(table: StateTable, { name, valueType }: DeclaredState): void {
    const types = { stored: table.valueType, declared: valueType };
    if (compareTypes(types.stored, types.declared).type !== "incompatible") return;
    throw incompatibleState(`operator uid ${this.#uid}, state "${name}"`, types);
  }

  /** A table of the declared type in the place of a restored one, which stays if the new one cannot be filled. */
  #replace(
    old: StateTable,
    by: { readonly state: DeclaredState; readonly interval: number; readonly reload: (table: StateTable) => void },
  ): RegisteredState {
    const table = this.#newTable(by.state, by.interval);
    by.reload(table);
    this.#tables = this.#tables.map((other) => (other === old ? table : other));
    const place = this.touched.findIndex((other) => other === old);
    if (place >= 0) this.touched.splice(place, 1);
    return this.#enter(table);
  }

  #makeTable(options: TableOptions): StateTable {
    const { valueType } = options;
    if (options.stateKind === "timers") return new TimerTable(this.#scope, options);
    if (options.stateKind === "list") {
      assert(valueType.kind === "LIST", "a list state has a LIST type");
      return new ListTable(this.#scope, { ...options, elementType: valueType.element });
    }
    if (options.stateKind === "map") {
      assert(valueType.kind === "MAP", "a map state has a MAP type");
      return new MapTable(this.#scope, { ...options, rowKeyType: valueType.key, rowValueType: valueType.value });
    }
    const { form } = this.#scope;
    // Typed tables have no room for times.
    if (form === "encoded" || !isNumberLike(valueType) || options.ttl !== undefined)
      return new ObjectTable(this.#scope, options);
    return form === "string" ? new StringTable(this.#scope, options) : new NumberTable(this.#scope, options);
  }

  #otherType(registered: RegisteredState, declared: DeclaredState): Failure {
    const stored = stateOf(registered.table);
    if (!registered.isDeclared) return this.#incompatible(declared.name, { stored, declared });
    return new Failure("STATE_ACCESS_INVALID", {
      retry: "never",
      message: `operator uid ${this.#uid}, state "${declared.name}": declared twice, as ${describeState(stored)} and as ${describeState(declared)}`,
      remedy: "use one kind of state and one type per state name",
    });
  }

  #incompatible(name: string, states: { readonly stored: DeclaredState; readonly declared: DeclaredState }): Failure {
    const stored = describeState(states.stored);
    return new Failure("STATE_INCOMPATIBLE", {
      retry: "never",
      message: `operator uid ${this.#uid}, state "${name}": the snapshot holds ${stored}, the job declares ${describeState(states.declared)}`,
      remedy: `declare ${stored}, or give the new state another name`,
    });
  }
}

function stateOf(table: StateTable): DeclaredState {
  return {
    name: table.stateName,
    kind: table.stateKind,
    valueType: table.valueType,
    ttl: table.ttl?.config ?? null,
  };
}

function isSame(table: StateTable, state: DeclaredState): boolean {
  return table.stateKind === state.kind && sameType(table.valueType, state.valueType);
}

function isSameTtl(table: StateTable, { ttl }: DeclaredState): boolean {
  return JSON.stringify(table.ttl?.config ?? null) === JSON.stringify(ttl);
}

function describeState({ kind, valueType }: DeclaredState): string {
  return kind === "value" ? describeType(valueType) : `${kind} state of ${describeType(valueType)}`;
}
