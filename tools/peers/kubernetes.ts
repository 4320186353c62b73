// Kubernetes and etcd, built from their Go modules: the real API server that the controller is tested against, and the
// programs of the test cluster (e2e/cluster), which are the same files.
//
//   kubernetes          every component in one program; kube-apiserver, kubectl, kubelet ... are links to it
//   etcd                the version that this Kubernetes pins
//
// Invariants:
//   KP1. All versions are pinned by kubernetes/go.mod and go.sum; the rest is KUBERNETES_VERSION. Other sources or
//        versions are another folder of the cache.
//   KP2. Built once for everybody: whoever needs a component takes it from the folder of this peer.
//
// Not here: starting an API server (api-server.ts), a cluster (e2e/cluster).

import { symlinkSync } from "node:fs";
import { join } from "node:path";

import { buildInPlace, buildWithGo, goBuildKey, whyNoGo } from "./go.ts";
import type { GoBuild } from "./go.ts";
import { cacheFolder, isExecutable } from "./peer.ts";
import type { Peer, PeerState } from "./peer.ts";

export const KUBERNETES_VERSION = "v1.34.4";

export const KUBERNETES_COMPONENTS = [
  "kube-apiserver",
  "kube-controller-manager",
  "kube-scheduler",
  "kube-proxy",
  "kubelet",
  "kubeadm",
  "kubectl",
] as const;

const VERSION_PACKAGE = "k8s.io/component-base/version";

const BUILD: GoBuild = {
  moduleFolder: join(import.meta.dirname, "kubernetes"),
  programs: { kubernetes: ".", etcd: "go.etcd.io/etcd/server/v3" },
  linkerVariables: {
    [`${VERSION_PACKAGE}.gitVersion`]: KUBERNETES_VERSION,
    [`${VERSION_PACKAGE}.gitMajor`]: "1",
    [`${VERSION_PACKAGE}.gitMinor`]: KUBERNETES_VERSION.split(".")[1] ?? "",
    [`${VERSION_PACKAGE}.gitTreeState`]: "clean",
    [`${VERSION_PACKAGE}.gitCommit`]: "0".repeat(40),
    [`${VERSION_PACKAGE}.buildDate`]: "2026-01-01T00:00:00Z",
  },
};

export const kubernetes: Peer = { name: "Kubernetes", find: findKubernetes, prepare: prepareKubernetes };

/** Where the programs are, or will be: kubernetes, etcd, and a link for every component. */
export function kubernetesFolder(): string {
  return join(cacheFolder(), "cluster", `kubernetes-${KUBERNETES_VERSION}-${goBuildKey(BUILD)}`);
}

function findKubernetes(): PeerState {
  const program = join(kubernetesFolder(), "kube-apiserver");
  if (isExecutable(program)) return { available: true, program, version: KUBERNETES_VERSION };
  const remedy = whyNoGo() ?? "npm run peers builds it";
  return { available: false, reason: `Kubernetes ${KUBERNETES_VERSION} is not in ${cacheFolder()}; ${remedy}` };
}

async function prepareKubernetes(say: (line: string) => void): Promise<PeerState> {
  const state = findKubernetes();
  if (state.available || whyNoGo() !== undefined) return state;
  const reason = await buildInPlace({
    what: `Kubernetes ${KUBERNETES_VERSION} and etcd from their Go modules`,
    place: kubernetesFolder(),
    say,
    fill: async (folder) => {
      await buildWithGo(BUILD, folder);
      for (const component of KUBERNETES_COMPONENTS) symlinkSync("kubernetes", join(folder, component));
    },
  });
  return reason === undefined ? findKubernetes() : { available: false, reason };
}
