// Our own node image for kind, made where no registry can be reached. It is a Debian root with the files that kind's own
// node image is made of, the programs that we compiled, and the images of the system pods already in its image store.
//
// Invariants:
//   NI1. The tag holds a key over everything that the image is made of; an image under that tag is complete.
//   NI2. Nothing is downloaded but packages of the distribution, through the machine's own package sources.
//
// All system pods run from one layer that holds every program; their images differ in name and entry point only. Workers
// unpack it once, and it is stored once.

import { createHash } from "node:crypto";
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  globSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { basename, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { KUBERNETES_COMPONENTS, KUBERNETES_VERSION, makeInPlace } from "@sluice/tools/peers";

import type { Engine } from "./engine.ts";
import { cached } from "./places.ts";
import { attempt, run, Stop } from "./terminal.ts";
import type { Progress } from "./terminal.ts";
import { DEBIAN_NODE_PACKAGES, DEBIAN_SUITE, KIND_MODULE, KIND_VERSION } from "./versions.ts";

const MANIFESTS = join(import.meta.dirname, "manifests/node");
const CONTAINERD_TIMEOUT_MS = 20_000;
const CNI_PLUGINS = ["host-local", "loopback", "ptp", "portmap"];
/** What is only read by people, and nobody reads it in a node. */
const NOT_NEEDED = ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/lib/apt/lists"];
const SHELL_TOOLS = ["sh", "cat", "chmod", "cp", "echo", "env", "id", "ls", "mkdir", "rm", "sleep", "wget", "nslookup"];

const SYSTEM_IMAGE = "localhost/sluice-system:1";
/** Names by which our own manifests ask for it. */
const OWN_IMAGES = ["localhost/nodenet:1", "localhost/local-path-provisioner:1", "localhost/shell:1"];

export interface NodeImageParts {
  /** Folder of the peer "kubernetes". */
  readonly kubernetes: string;
  /** Folder of the programs that run inside the nodes. */
  readonly programs: string;
}

/** NI1. The name under which the image of these parts is, or will be. */
export function nodeImageTag(parts: NodeImageParts): string {
  const hash = createHash("sha256").update(basename(parts.kubernetes)).update(basename(parts.programs));
  hash.update(`${KIND_VERSION} ${debianKey()}`).update(readFileSync(import.meta.filename));
  for (const name of readdirSync(MANIFESTS).toSorted()) hash.update(name).update(readFileSync(join(MANIFESTS, name)));
  return `localhost/sluice-node:${KUBERNETES_VERSION}-${hash.digest("hex").slice(0, 10)}`;
}

function debianKey(): string {
  return createHash("sha256")
    .update(`${DEBIAN_SUITE} ${DEBIAN_NODE_PACKAGES.join(" ")}`)
    .digest("hex")
    .slice(0, 10);
}

/** The Debian root without anything of ours: the slowest part but for the compiler, and it depends on neither. */
export async function debianRoot(progress: Progress): Promise<string> {
  const place = cached(`debian-${DEBIAN_SUITE}-${debianKey()}`);
  if (existsSync(place)) return place;
  return progress.part("unpack a Debian root for the nodes", async () => {
    const mirror = await debianMirror();
    await makeInPlace(place, async (folder) => {
      const include = `--include=${DEBIAN_NODE_PACKAGES.join(",")}`;
      await run(["debootstrap", "--variant=minbase", include, DEBIAN_SUITE, join(folder, "root"), mirror], {
        remedy: "check the network and that the mirror has this suite; SLUICE_DEBIAN_MIRROR names another mirror",
      });
      for (const name of NOT_NEEDED) rmSync(join(folder, "root", name), { recursive: true, force: true });
      for (const file of globSync("root/var/cache/apt/archives/*.deb", { cwd: folder })) rmSync(join(folder, file));
    });
    return place;
  });
}

/** The mirror that this machine's own package manager uses. */
async function debianMirror(): Promise<string> {
  const chosen = process.env["SLUICE_DEBIAN_MIRROR"];
  if (chosen !== undefined && chosen !== "") return chosen;
  const format = "$(REPO_URI) $(CODENAME)";
  const { output } = await attempt(["apt-get", "indextargets", "--format", format, "Identifier: Packages"]);
  const lines = output.split("\n").map((line) => line.split(" "));
  const found = lines.find(([, suite]) => suite === DEBIAN_SUITE) ?? lines.find(([uri]) => uri?.endsWith("/debian/"));
  if (found?.[0] !== undefined) return found[0];
  throw new Stop(
    `this machine's package sources name no mirror of Debian ${DEBIAN_SUITE}`,
    "set SLUICE_DEBIAN_MIRROR to one, or use a container engine where images can be pulled",
  );
}

/** Makes the image and leaves it in the engine under its tag. */
export async function makeNodeImage(
  options: NodeImageParts & { readonly debian: string; readonly engine: Engine; readonly progress: Progress },
): Promise<void> {
  const { kubernetes, programs, debian, engine, progress } = options;
  const tag = nodeImageTag({ kubernetes, programs });
  mkdirSync(cached(), { recursive: true });
  const work = mkdtempSync(cached("node-image.partial-"));
  try {
    await progress.part("make the node image", async () => {
      const root = join(work, "root");
      await run(["cp", "-a", join(debian, "root"), root]);
      await addKindFiles(root);
      await prepareSystemd(root);
      await addRuntime(root);
      for (const component of ["kubelet", "kubeadm", "kubectl"] as const)
        symlinkSync("kubernetes", join(root, "usr/bin", component));
      copyFileSync(join(kubernetes, "kubernetes"), join(root, "usr/bin/kubernetes"));
      writeFileSync(join(root, "kind/version"), KUBERNETES_VERSION);
      cpSync(MANIFESTS, join(root, "kind/manifests"), { recursive: true });

      const wanted = await imagesOfKubeadm(kubernetes);
      const pause = wanted.find((name) => name.includes("/pause:")) ?? "";
      configureContainerd(root, pause);
      const archive = join(work, "images.tar");
      await makeSystemImages({ root, kubernetes, programs, wanted, engine, archive, work });
      await importImages(root, archive, work);
      await commit(root, tag, engine, work);
    });
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

async function addKindFiles(root: string): Promise<void> {
  const module = await run(["go", "mod", "download", "-json", `${KIND_MODULE}@${KIND_VERSION}`], { cwd: "/" });
  const { Dir: folder } = JSON.parse(module) as { readonly Dir: string };
  const files = join(folder, "images/base/files");
  for (const file of globSync("**/*", { cwd: files, withFileTypes: true })) {
    if (!file.isFile()) continue;
    const from = join(file.parentPath, file.name);
    const to = join(root, from.slice(files.length));
    mkdirSync(dirname(to), { recursive: true });
    copyFileSync(from, to);
    // Files of a Go module have lost their modes.
    chmodSync(to, /\/bin\//u.test(to) ? 0o755 : 0o644);
  }
}

/** A container needs no devices, consoles or mounts set up; what kind's own image leaves out as well. */
async function prepareSystemd(root: string): Promise<void> {
  const wants = [
    "lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
    "lib/systemd/system/multi-user.target.wants/*",
    "etc/systemd/system/*.wants/*",
    "lib/systemd/system/local-fs.target.wants/*",
    "lib/systemd/system/basic.target.wants/*",
    "lib/systemd/system/sockets.target.wants/*udev*",
    "lib/systemd/system/sockets.target.wants/*initctl*",
  ];
  for (const file of globSync(wants, { cwd: root })) rmSync(join(root, file));
  appendFileSync(join(root, "etc/systemd/journald.conf"), "ReadKMsg=no\n");
  rmSync(join(root, "sbin/init"), { force: true });
  symlinkSync("/usr/lib/systemd/systemd", join(root, "sbin/init"));
  rmSync(join(root, "dev"), { recursive: true });
  mkdirSync(join(root, "dev"));
  const units = ["kubelet.service", "containerd.service", "undo-mount-hacks.service"];
  await run(["chroot", root, "systemctl", "enable", ...units]);
  await run(["chroot", root, "systemctl", "mask", "systemd-binfmt.service"]);
}

/** Debian's runtime and network plugins, at the places where kind's files expect them. */
async function addRuntime(root: string): Promise<void> {
  for (const name of ["containerd", "ctr", "containerd-shim-runc-v2"])
    symlinkSync(join("/usr/bin", name), join(root, "usr/local/bin", name));
  symlinkSync("/usr/sbin/runc", join(root, "usr/local/sbin/runc"));
  for (const folder of ["opt/cni/bin", "etc/cni/net.d", "etc/kubernetes/manifests"])
    mkdirSync(join(root, folder), { recursive: true });
  for (const plugin of CNI_PLUGINS) copyFileSync(join(root, "usr/lib/cni", plugin), join(root, "opt/cni/bin", plugin));
  // kind's containerd starts every container from this specification; limits come from Kubernetes.
  const spec = JSON.parse(await run(["chroot", root, "ctr", "oci", "spec"])) as { process: { rlimits?: unknown } };
  delete spec.process.rlimits;
  writeFileSync(join(root, "etc/containerd/cri-base.json"), JSON.stringify(spec));
}

function configureContainerd(root: string, pause: string): void {
  const path = join(root, "etc/containerd/config.toml");
  const text = readFileSync(path, "utf8")
    .replace(/sandbox_image = .*/u, `sandbox_image = "${pause}"`)
    // Lowering an OOM score takes a capability (SYS_RESOURCE) that not every machine gives to root.
    .replace("restrict_oom_score_adj = false", "restrict_oom_score_adj = true");
  if (!text.includes(`"${pause}"`) || !text.includes("restrict_oom_score_adj = true"))
    throw new Stop("kind's containerd configuration has changed its form", `${import.meta.filename} must follow it`);
  writeFileSync(path, text);
}

/** The images that kubeadm will ask for, by the names it asks for. */
async function imagesOfKubeadm(kubernetes: string): Promise<readonly string[]> {
  const kubeadm = join(kubernetes, "kubeadm");
  const text = await run([kubeadm, "config", "images", "list", "--kubernetes-version", KUBERNETES_VERSION]);
  return text.split("\n").filter((line) => /^[\w./-]+:v?[\d.-]+$/u.test(line));
}

async function makeSystemImages(options: {
  readonly root: string;
  readonly kubernetes: string;
  readonly programs: string;
  readonly wanted: readonly string[];
  readonly engine: Engine;
  readonly archive: string;
  readonly work: string;
}): Promise<void> {
  const { root, kubernetes, programs, wanted, engine, archive, work } = options;
  const context = join(work, "system");
  const bin = join(context, "files/usr/local/bin");
  mkdirSync(bin, { recursive: true });
  for (const name of ["kubernetes", "etcd"]) copyFileSync(join(kubernetes, name), join(bin, name));
  for (const component of KUBERNETES_COMPONENTS) symlinkSync("kubernetes", join(bin, component));
  for (const name of readdirSync(programs)) copyFileSync(join(programs, name), join(bin, name));
  copyFileSync(join(root, "bin/busybox"), join(bin, "busybox"));
  for (const tool of SHELL_TOOLS) symlinkSync("busybox", join(bin, tool));
  const files = join(context, "files");
  for (const folder of ["tmp", "etc", "bin", "var/lib"]) mkdirSync(join(files, folder), { recursive: true });
  chmodSync(join(files, "tmp"), 0o1777);
  symlinkSync("/usr/local/bin/busybox", join(files, "bin/sh"));
  cpSync(join(root, "etc/ssl/certs/ca-certificates.crt"), join(files, "etc/ssl/certs/ca-certificates.crt"));
  await addIptables(root, files);

  const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  writeFileSync(join(context, "Dockerfile"), `FROM scratch\nCOPY files/ /\nENV PATH=${path}\n`);
  await engine.docker(["build", "-q", "-t", SYSTEM_IMAGE, context]);
  const names = [...wanted, ...OWN_IMAGES];
  for (const name of names) {
    const entry = ["coredns", "pause"].find((program) => name.includes(`/${program}:`));
    if (entry === undefined) await engine.docker(["tag", SYSTEM_IMAGE, name]);
    else await engine.docker(["build", "-q", "-t", name, "-"], `FROM ${SYSTEM_IMAGE}\nENTRYPOINT ["${entry}"]\n`);
  }
  await engine.docker(["save", "-o", archive, ...names]);
  await engine.docker(["rmi", ...names, SYSTEM_IMAGE]);
}

/** kube-proxy runs iptables, in both of its forms, with all of its plugins and the libraries that they need. */
async function addIptables(root: string, files: string): Promise<void> {
  const put = (path: string): void => {
    const from = lstatSync(join(root, path)).isSymbolicLink() ? insideRoot(root, path) : join(root, path);
    const to = join(files, path);
    if (existsSync(to)) return;
    mkdirSync(dirname(to), { recursive: true });
    copyFileSync(from, to);
  };
  const programs = ["/usr/sbin/xtables-nft-multi", "/usr/sbin/xtables-legacy-multi"];
  const plugins = globSync("usr/lib/*/xtables/*.so", { cwd: root }).map((path) => `/${path}`);
  const libraries = await run(["chroot", root, "ldd", ...programs, ...plugins]);
  for (const path of [...programs, ...plugins]) put(path);
  for (const [, path] of libraries.matchAll(/(?:=> |^\s+)(\/\S+) \(0x/gmu)) if (path !== undefined) put(path);
  for (const suffix of ["", "-nft", "-legacy"]) {
    const program = suffix === "-legacy" ? "xtables-legacy-multi" : "xtables-nft-multi";
    for (const family of ["iptables", "ip6tables"])
      for (const action of ["", "-save", "-restore"])
        symlinkSync(program, join(files, "usr/sbin", `${family}${suffix}${action}`));
  }
}

/** Where a link of the root leads; an absolute one means a place inside the root. */
function insideRoot(root: string, path: string): string {
  const real = realpathSync(join(root, path));
  return real.startsWith(`${root}/`) ? real : join(root, real);
}

/** Puts images into the node's store as they are; a node unpacks what it needs when it needs it. */
async function importImages(root: string, archive: string, work: string): Promise<void> {
  const socket = join(work, "containerd.sock");
  const store = join(root, "var/lib/containerd");
  const log = join(work, "containerd.log");
  const args = ["--root", store, "--state", join(work, "containerd"), "-a", socket, "-c", "/dev/null"];
  const containerd = spawn("containerd", args, { stdio: "ignore" });
  const ended = once(containerd, "exit");
  try {
    const deadlineMs = performance.now() + CONTAINERD_TIMEOUT_MS;
    while ((await attempt(["ctr", "-a", socket, "version"])).code !== 0) {
      if (performance.now() > deadlineMs)
        throw new Stop(`containerd does not answer at ${socket}`, `run it by hand: ${log}`);
      await sleep(100);
    }
    await run(["ctr", "-a", socket, "-n", "k8s.io", "images", "import", "--no-unpack", archive]);
  } finally {
    containerd.kill("SIGTERM");
    await ended;
  }
}

/** One layer with everything; what `docker import` cannot say goes on with a build that changes nothing else. */
async function commit(root: string, tag: string, engine: Engine, work: string): Promise<void> {
  const layer = join(work, "root.tar");
  await run(["tar", "--numeric-owner", "-C", root, "-cf", layer, "."]);
  rmSync(root, { recursive: true });
  const bare = `${tag}-bare`;
  await engine.docker(["import", layer, bare]);
  const dockerfile = [
    `FROM ${bare}`,
    "ENV container=docker",
    "STOPSIGNAL SIGRTMIN+3",
    'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]',
  ];
  await engine.docker(["build", "-q", "-t", tag, "-"], `${dockerfile.join("\n")}\n`);
  await engine.docker(["rmi", bare]);
}
