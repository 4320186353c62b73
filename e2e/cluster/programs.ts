// The programs of the cluster that are compiled: kind, and what runs inside our own nodes. Kubernetes with etcd, and helm, are
// peers of @sluice/tools, which tests use without a cluster.

import { join } from "node:path";

import {
  buildInPlace,
  buildWithGo,
  findOnPath,
  goBuildKey,
  helm,
  isExecutable,
  kubernetes,
  whyNoGo,
} from "@sluice/tools/peers";
import type { GoBuild, Peer } from "@sluice/tools/peers";

import { cached } from "./places.ts";
import { Stop } from "./terminal.ts";
import type { Progress } from "./terminal.ts";
import { KIND_MODULE, KIND_VERSION } from "./versions.ts";

/** Progress tells already that a part is at work. */
const QUIET = (): void => undefined;

interface BuiltProgram {
  readonly what: string;
  readonly name: string;
  readonly build: GoBuild;
}

const KIND: BuiltProgram = {
  what: `kind ${KIND_VERSION}`,
  name: `kind-${KIND_VERSION}`,
  build: { programs: { kind: `${KIND_MODULE}@${KIND_VERSION}` } },
};

const NODE_PROGRAMS: BuiltProgram = {
  what: "what runs inside the nodes (CoreDNS, pod network, storage provisioner)",
  name: "node-programs",
  build: {
    moduleFolder: join(import.meta.dirname, "programs"),
    programs: {
      capabilities: "./capabilities",
      coredns: "./coredns",
      "local-path-provisioner": "github.com/rancher/local-path-provisioner",
      nodenet: "./nodenet",
      pause: "./pause",
    },
  },
};

function placeOf(program: BuiltProgram): string {
  return cached(`${program.name}-${goBuildKey(program.build)}`);
}

async function folderOf(program: BuiltProgram, progress: Progress): Promise<string> {
  const place = placeOf(program);
  const names = Object.keys(program.build.programs);
  if (names.every((name) => isExecutable(join(place, name)))) return place;
  if (whyNoGo() !== undefined)
    throw new Stop(`${program.what} is not in the cache, and ${whyNoGo()}`, "install Go and run the command again");
  return progress.part(`build ${program.what}`, async () => {
    const fill = (folder: string): Promise<void> => buildWithGo(program.build, folder);
    const reason = await buildInPlace({ what: program.what, place, say: QUIET, fill });
    if (reason !== undefined)
      throw new Stop(
        reason,
        "check the network (Go modules are downloaded) and run the command again: it goes on where it stopped",
      );
    return place;
  });
}

/** The path of kind: the one on PATH if any will do, else ours. */
export async function kindProgram(progress: Progress, anyWillDo: boolean): Promise<string> {
  const present = anyWillDo ? findOnPath("kind") : undefined;
  return present ?? join(await folderOf(KIND, progress), "kind");
}

/** The path of helm, which tests use too. */
export function helmProgram(progress: Progress): Promise<string> {
  return peerProgram(helm, progress);
}

/** Where what runs inside our own nodes is, or will be. */
export function nodeProgramsFolder(): string {
  return placeOf(NODE_PROGRAMS);
}

/** The folder with what runs inside our own nodes, and the runtime of our own engine. */
export function nodePrograms(progress: Progress): Promise<string> {
  return folderOf(NODE_PROGRAMS, progress);
}

/** The path of kube-apiserver, beside which all components of Kubernetes and etcd lie. */
export function kubernetesPrograms(progress: Progress): Promise<string> {
  return peerProgram(kubernetes, progress);
}

async function peerProgram(peer: Peer, progress: Progress): Promise<string> {
  const found = peer.find();
  if (found.available) return found.program;
  return progress.part(`build ${peer.name}`, async () => {
    const built = await peer.prepare(QUIET);
    if (built.available) return built.program;
    throw new Stop(
      built.reason,
      "install Go, check the network (Go modules are downloaded), and run the command again",
    );
  });
}
