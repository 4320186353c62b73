// Helm, which packages and installs the chart: any on PATH will do for tests, else a pinned version is built from its Go module.
//
// Not here: the chart (charts/sluice), its tests (tools/chart).

import { join } from "node:path";

import { buildInPlace, buildWithGo, goBuildKey, whyNoGo } from "./go.ts";
import type { GoBuild } from "./go.ts";
import { cacheFolder, findOnPath, isExecutable } from "./peer.ts";
import type { Peer, PeerState } from "./peer.ts";

export const HELM_VERSION = "v3.22.0";

const BUILD: GoBuild = { programs: { helm: `helm.sh/helm/v3/cmd/helm@${HELM_VERSION}` } };

export const helm: Peer = { name: "Helm", find: findHelm, prepare: prepareHelm };

function placeOf(): string {
  return join(cacheFolder(), "cluster", `helm-${HELM_VERSION}-${goBuildKey(BUILD)}`);
}

function findHelm(): PeerState {
  const built = join(placeOf(), "helm");
  if (isExecutable(built)) return { available: true, program: built, version: HELM_VERSION };
  const onPath = findOnPath("helm");
  if (onPath !== undefined) return { available: true, program: onPath, version: "of this machine" };
  const remedy = whyNoGo() ?? "npm run peers builds it";
  return { available: false, reason: `Helm ${HELM_VERSION} is neither on PATH nor in ${cacheFolder()}; ${remedy}` };
}

async function prepareHelm(say: (line: string) => void): Promise<PeerState> {
  const state = findHelm();
  if (state.available || whyNoGo() !== undefined) return state;
  const reason = await buildInPlace({
    what: `Helm ${HELM_VERSION} from its Go module`,
    place: placeOf(),
    say,
    fill: (folder) => buildWithGo(BUILD, folder),
  });
  return reason === undefined ? findHelm() : { available: false, reason };
}
