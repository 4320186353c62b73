// The shapes of the data plane that the rest of the runtime sees: bells, rows, output edges, input channels.
//
// Invariants:
//   NC1. Nothing here blocks and nothing here awaits; waiting is done by whoever holds the bell.
//   NC2. A value that crosses this boundary is a plain record; frames, slots and rings stay inside network/.
//
// Not here: any behaviour.

import type { Barrier, Partitioner, Partitioning, TypeDescriptor } from "../model/index.ts";
import type { Bell } from "./bell.ts";
import type { RingConsumer, RingProducer } from "./ring.ts";

/** Rows of the frame at the head of a channel. */
export interface RowReader {
  /** Row `row` as a fresh value. */
  read(row: number): unknown;
  /** Canonical key hash (kit/hash.ts, signed 32 bits) that the sender computed; 0 on edges without keys. */
  hash(row: number): number;
}

/** What lies at the head of an input channel. */
export type HeadKind = "RECORDS" | "BARRIER" | "END_OF_DATA";

/** The head of a channel; the object stays the same for the life of the gate, its content changes with each frame. */
export interface ChannelHead {
  readonly channel: number;
  /** Which input of a two-input operator this channel feeds. */
  readonly inputIndex: 0 | 1;
  readonly kind: HeadKind;
  /** Set when `kind` is BARRIER. */
  readonly barrier: Barrier | undefined;
  /** Valid when `kind` is RECORDS, until `consume`. */
  readonly reader: RowReader;
  /** Rows of a RECORDS frame; 0 otherwise. */
  readonly rowCount: number;
  /** The next row to process; the task advances it and may stop in the middle. */
  cursor: number;
}

export interface GateChannel {
  readonly ring: RingConsumer;
  readonly inputIndex: 0 | 1;
  /** Type of the edge's records. */
  readonly type: TypeDescriptor;
  /** Channels of one edge share generated code; any text that is equal for the channels of an edge. */
  readonly edge: string;
  /** For messages: which channel this is. */
  readonly name: string;
}

export interface RecordWriterOptions {
  /** By target subtask. FORWARD: exactly one; RESCALE: those of the group. */
  readonly channels: readonly RingProducer[];
  readonly partitioning: Partitioning;
  readonly type: TypeDescriptor;
  /** HASH and CUSTOM only. */
  readonly keySelector?: (record: unknown) => unknown;
  /** HASH only: type of the selected key. */
  readonly keyType?: TypeDescriptor;
  /** CUSTOM only. */
  readonly partitioner?: Partitioner<unknown>;
  readonly maxParallelism: number;
  /** The sending subtask: REBALANCE, RESCALE and SHUFFLE start differently for each. */
  readonly subtaskIndex: number;
  /** For messages: `"map" -> "sum"`. */
  readonly edge: string;
}

/** One outgoing channel to a subtask on another TaskManager. */
export interface OutgoingChannel {
  /** The same text on both sides: `edge/sourceSubtask/targetSubtask`. */
  readonly channelKey: string;
  /** The slot writes this ring; the bridge empties it. Its producer's doorbell is `slotBell`, its consumer's the bridge's. */
  readonly ring: SharedArrayBuffer;
  readonly slotBell: Bell;
  readonly peer: string;
}

/** One incoming channel from a subtask on another TaskManager. */
export interface IncomingChannel {
  readonly channelKey: string;
  /** The bridge fills this ring; the slot reads it. Its consumer's doorbell is `slotBell`, its producer's the bridge's. */
  readonly ring: SharedArrayBuffer;
  readonly slotBell: Bell;
  readonly peer: string;
}
