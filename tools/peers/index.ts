// Public module of the peers: what tests and programs may use (as "@sluice/tools/peers").

import { minio } from "./minio.ts";
import type { Peer } from "./peer.ts";
import { promtool } from "./promtool.ts";

export { minio, startMinio } from "./minio.ts";
export type { MinioOptions, MinioServer } from "./minio.ts";
export { cacheFolder, findOnPath, peersRequired } from "./peer.ts";
export type { Peer, PeerState } from "./peer.ts";
export { checkMetrics, promtool } from "./promtool.ts";
export type { MetricsVerdict } from "./promtool.ts";

export const PEERS: readonly Peer[] = [minio, promtool];
