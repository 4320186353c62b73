// The real world: the only part of Sluice that touches the system. Composition roots import it; core code must not.

export { NodeDisk } from "./disk.ts";
export { FileObjectStore } from "./file-store.ts";
export { startFaultProxy } from "./fault-proxy.ts";
export type { FaultProxy, FaultProxyOptions, ProxyFaults, StruckProxyFaults, WriteFault } from "./fault-proxy.ts";
export { CRASH_EXIT_CODE, NodeHost } from "./host.ts";
export { NodeLog } from "./log.ts";
export type { NodeLogOptions } from "./log.ts";
export { FRAME_BYTES_MAX, NodeNet } from "./net.ts";
export type { NodeNetOptions } from "./net.ts";
export { NodeClock, nodeRng, NodeTimers } from "./time.ts";
export { openObjectStore, openStagedUploads } from "./stores.ts";
export type { OpenStoreOptions } from "./stores.ts";
export type { S3StoreOptions } from "./s3-calls.ts";
