// What a TaskManager asks of its process: threads for slots, a thread for I/O, figures of the machine.
//
// Not here: the real ones (bin/run-taskmanager.ts), simulated ones (sim).

import type { SlotSpec } from "../model/index.ts";
import type { IoCommand } from "./io/index.ts";

/** Why a slot's thread is gone. */
export interface SlotExit {
  readonly code: number;
  /** The error that ended it, if any; `code` is Node's (ERR_WORKER_OUT_OF_MEMORY ...). */
  readonly error: { readonly code: string; readonly message: string; readonly stack: string } | undefined;
}

export interface SlotThread {
  /** Ends the thread whatever it does; `onExit` follows unless the thread hangs in native code. */
  terminate(): void;
}

export interface SlotHandlers {
  /** Whatever the thread posted: user code shares the thread, so it is checked. */
  onEvent(event: unknown): void;
  /** Exactly once, last. */
  onExit(exit: SlotExit): void;
}

export interface SlotHost {
  /** A fresh thread (SL1), connected with the I/O thread. */
  start(spec: SlotSpec, handlers: SlotHandlers): SlotThread;
}

/** The way to the I/O thread. */
export interface IoGate {
  post(command: IoCommand): void;
}

export interface MachineFigures {
  residentBytes(): number;
  freeMemoryBytes(): number;
  /** Figures of this process under Flink's names. */
  metrics(): Readonly<Record<string, number>>;
}
