// The states of one operator by name: what was declared, what was restored, and the table that holds it.
//
// Invariants:
//   HB2. A state that was restored is written again in every snapshot, whether or not the job asks for it.
//   HB3. A state name means one kind of state with one type once it was declared. What was restored has the type of the snapshot
//        until then, and becomes the declared one when that may follow it (evolution.ts).
//
// Not here: the current key and snapshots (backend.ts), layouts (the tables).

import { assert, Failure } from "@sluice/kit";
import { containsGeneric, describeType, sameType } from "../model/index.ts";
import type { StateDescriptor, StoredStateKind, TypeDescriptor } from "../model/index.ts";
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

/** A state as its descriptor or its part in a snapshot names it. */
export interface DeclaredState {
  readonly name: string;
  readonly kind: StoredStateKind;
  /** Of the whole: LIST and MAP for lists and maps. */
  readonly valueType: TypeDescriptor;
}

const TIMERS: DeclaredState = { name: PROCESSING_TIMERS, kind: "timers", valueType: { kind: "INSTANT" } };

/** What a descriptor says, without what is not stored. */
export function declaredBy(descriptor: StateDescriptor): DeclaredState {
  const { name, kind } = descriptor;
  switch (kind) {
    case "list":
      return { name, kind, valueType: { kind: "LIST", element: descriptor.elementType.descriptor } };
    case "map": {
      const { keyType, valueType } = descriptor;
      return { name, kind, valueType: { kind: "MAP", key: keyType.descriptor, value: valueType.descriptor } };
    }
    case "aggregating":
      return { name, kind, valueType: descriptor.accumulatorType.descriptor };
    default:
      return { name, kind, valueType: descriptor.type.descriptor };
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
  readonly #states = new Map<string, RegisteredState>();
  /** The tables with a layout that is worth touching. */
  readonly touched: (NumberTable | StringTable)[] = [];
  #tables: readonly StateTable[] = [];
  #timers: TimerTable | undefined = undefined;

  constructor(scope: KeyScope) {
    this.#uid = scope.uid;
    this.#scope = scope;
  }

  get tables(): readonly StateTable[] {
    return this.#tables;
  }

  /**
   * The table of a state that the job declares; `reload` fills a new one when the type has evolved.
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
    if (!isSame(registered.table, state)) {
      if (registered.isDeclared || registered.table.stateKind !== state.kind) throw this.#otherType(registered, state);
      this.#checkEvolution(registered.table, state);
      const evolved = this.#replace(registered.table, state, interval);
      reload(evolved);
      return evolved;
    }
    registered.isDeclared = true;
    return registered.table;
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
    const { name, kind, valueType } = state;
    const table = this.#makeTable({ stateName: name, stateKind: kind, valueType, interval });
    if (table instanceof NumberTable || table instanceof StringTable) this.touched.push(table);
    if (table instanceof TimerTable && name === PROCESSING_TIMERS) this.#timers = table;
    const registered = { table, isDeclared: false };
    this.#states.set(name, registered);
    this.#tables = [...this.#tables, table];
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

  /** A new, empty table of the declared type in the place of a restored one. */
  #replace(old: StateTable, state: DeclaredState, interval: number): StateTable {
    this.#states.delete(state.name);
    this.#tables = this.#tables.filter((table) => table !== old);
    const place = this.touched.findIndex((table) => table === old);
    if (place >= 0) this.touched.splice(place, 1);
    const registered = this.#register(state, interval);
    registered.isDeclared = true;
    return registered.table;
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
    if (form === "encoded" || !isNumberLike(valueType)) return new ObjectTable(this.#scope, options);
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
  return { name: table.stateName, kind: table.stateKind, valueType: table.valueType };
}

function isSame(table: StateTable, state: DeclaredState): boolean {
  return table.stateKind === state.kind && sameType(table.valueType, state.valueType);
}

function describeState({ kind, valueType }: DeclaredState): string {
  return kind === "value" ? describeType(valueType) : `${kind} state of ${describeType(valueType)}`;
}
