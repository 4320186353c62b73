// Public module of rpc/: authenticated connections between JobManager and TaskManagers, and what is said on them.

export { RPC_VERSION } from "./common.ts";
export type { PeerIdentity, PeerRole } from "./handshake.ts";
export { connectRpc, DEFAULT_HEARTBEAT, listenRpc, RpcPeer } from "./peer.ts";
export type { RpcEnv, RpcHandlers, RpcOptions } from "./peer.ts";
export { parse } from "./shape.ts";
export type { Shape } from "./shape.ts";
export { registerRequest, taskManagerMessage, taskManagerReport } from "./to-jobmanager.ts";
export type { RegisterRequest, TaskManagerMessage, TaskManagerReport, TaskReport } from "./to-jobmanager.ts";
export { jobManagerMessage, jobManagerRequest, objectsReply } from "./to-taskmanager.ts";
export type {
  DeployRequest,
  FindLocalCopiesRequest,
  JobManagerMessage,
  JobManagerRequest,
  ObjectsReply,
  RepairObjectsRequest,
  SlotOwner,
} from "./to-taskmanager.ts";
