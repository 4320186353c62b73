// The seams: everything that a part of Sluice may ask of the outside world.
//
// Invariants:
//   E1. Core code reaches time, chance, network, storage, processes and logs only through these interfaces.
//   E2. Every interface has a real implementation (./node) and a simulated one (the sim workspace).
//
// Not here: any implementation of them.

export type { Cancel, Clock, Rng, Timers } from "./time.ts";
export type { Conn, Listener, Net } from "./net.ts";
export { FaultInjectingStore, writesFailing } from "./faults.ts";
export type { StoreFaults, StruckFaults } from "./faults.ts";
export { checkPath, PATH_BYTES_MAX } from "./paths.ts";
export { COPY_BYTES_MAX, UPLOAD_PART_BYTES_MIN, UPLOAD_PARTS_MAX } from "./uploads.ts";
export type { IncompleteUpload, StagedUpload, StagedUploads, UploadedPart } from "./uploads.ts";
export { CONDITIONAL_BYTES_MAX } from "./storage.ts";
export type { Disk, ObjectInfo, ObjectStore, PutOutcome, PutIfAbsentOutcome } from "./storage.ts";
export type { Log, LogFields, LogLevel } from "./log.ts";
export type { Env, Host } from "./env.ts";
