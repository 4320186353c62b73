// Public module of runtime/state: keyed state on the heap, its snapshots, and the binary formats of state.

export { HeapKeyedStateBackend } from "./backend.ts";
export type { KeyedStateBackend, RestoredPart } from "./backend.ts";
export { codecFor, encodeValue } from "./codec.ts";
export type { ValueCodec } from "./codec.ts";
export type { KeyedPartDescription, OperatorPartDescription, PartDescription, SectionType } from "./description.ts";
export { compareTypes, evolvingReader, incompatibleState } from "./evolution.ts";
export type { TypeChange, ValueReader } from "./evolution.ts";
export { blocksOf, PartReader, placeOf, PREAMBLE_BYTES, readBlock, readHeader, readPreamble } from "./format.ts";
export type { BlockRow, PartHeader, PartPreamble } from "./format.ts";
export type { KeyedSnapshot } from "./snapshot.ts";
export { decodeOperatorState, encodeOperatorState } from "./operator-state.ts";
