// Public module of runtime/state: keyed state on the heap, its snapshots, and the binary formats of state.

export { HeapKeyedStateBackend } from "./backend.ts";
export type { KeyedStateBackend, RestoredPart } from "./backend.ts";
export { codecFor, decodeValue, encodeValue } from "./codec.ts";
export type { ValueCodec } from "./codec.ts";
export type { KeyedPartDescription, OperatorPartDescription, PartDescription, SectionType } from "./description.ts";
export { compareTypes, evolvingReader, incompatibleState } from "./evolution.ts";
export type { TypeChange, ValueReader } from "./evolution.ts";
export { blocksOf, PartReader, placeOf, PREAMBLE_BYTES, readBlock, readHeader, readPreamble } from "./format.ts";
export type { BlockRow, PartHeader, PartPreamble } from "./format.ts";
export { cellsToJson, keyPlacer, rowReader } from "./part-rows.ts";
export type { PartRow, RowCell } from "./part-rows.ts";
export type { KeyedSnapshot } from "./snapshot.ts";
export { decodeOperatorState, encodeOperatorState, readItems } from "./operator-state.ts";
