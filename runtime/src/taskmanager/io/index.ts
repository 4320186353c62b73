// Public module of taskmanager/io: snapshots to the store and back.

export { IoService } from "./io-service.ts";
export type { IoServiceOptions, SlotOrigin } from "./io-service.ts";
export { LocalCopies } from "./local-copies.ts";
export type { IoCommand, IoEvent } from "./messages.ts";
export { OpenPack, PACK_BYTES, partBytes } from "./pack.ts";
export type { ClosedPack, PackEntry } from "./pack.ts";
export { planReads, SnapshotReader } from "./snapshot-reader.ts";
export type { ReadRange } from "./snapshot-reader.ts";
export { LINGER_MS, SnapshotUploads } from "./uploads.ts";
