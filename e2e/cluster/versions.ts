// Every version that the test cluster is made of, in one place. Three more are pinned elsewhere because tests use
// them without a cluster: Kubernetes with etcd, helm and MinIO (tools/peers/kubernetes.ts, helm.ts, minio.ts). The Go modules
// below programs/ hold those of CoreDNS and the storage provisioner.

/** https://kind.sigs.k8s.io: makes the nodes, and brings the files that turn a Debian root into one. */
export const KIND_MODULE = "sigs.k8s.io/kind";
export const KIND_VERSION = "v0.33.0";

/** The node image that kind publishes for this release of kind and the minor version of Kubernetes that we build ourselves. */
export const PUBLIC_NODE_IMAGE =
  "kindest/node:v1.34.11@sha256:44e222ee2132dab25ff87301682f89eb82c7880ea3a1bf543bfe9708fd08d67d";

/** What the programs of our own image run on where it can be pulled. */
export const PUBLIC_NODE_JS_IMAGE = "node:24-bookworm-slim";

/** The distribution whose packages our own node image is made of, and what of it. Its systemd still runs on cgroup v1. */
export const DEBIAN_SUITE = "bookworm";
export const DEBIAN_NODE_PACKAGES: readonly string[] = [
  "bash",
  "busybox-static",
  "ca-certificates",
  "conntrack",
  "containerd",
  "containernetworking-plugins",
  "e2fsprogs",
  "ethtool",
  "hostname",
  "iproute2",
  "iptables",
  "kmod",
  "libseccomp2",
  "mount",
  "procps",
  "runc",
  "systemd",
  "util-linux",
];

/** What a machine without a container engine gets installed. */
export const ENGINE_PACKAGES: readonly string[] = ["docker.io", "iptables", "debootstrap"];
