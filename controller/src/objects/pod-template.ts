// Merges what users give in podTemplate under what the operator makes.
//
// Invariants:
//   PT1. Lists with names (containers, volumes, env, mounts, ports) are merged by name; the operator's entry of a name stands.
//   PT2. A field that the operator owns is taken from the operator. The schema refuses most of them; this does not rely on it.
//
// Not here: what may be written (packages/api/src/streamjob/pod-template.ts).

import { CONTAINER_NAME } from "@sluice/api";
import type { PodTemplate } from "@sluice/api";

import type { Container, PodSpec, Toleration } from "../kube/index.ts";

type Given = NonNullable<PodTemplate["spec"]>;
type GivenContainer = NonNullable<Given["containers"]>[number];

/** Of a pod's spec: what users cannot change. */
const OWN_FIELDS: readonly (keyof PodSpec)[] = [
  "restartPolicy",
  "automountServiceAccountToken",
  "enableServiceLinks",
  "activeDeadlineSeconds",
];

export function mergePodSpec(own: PodSpec, given: Given | undefined): PodSpec {
  if (given === undefined) return own;
  const { containers, volumes, tolerations, securityContext, affinity, ...rest } = given as Given & Partial<PodSpec>;
  const kept = Object.fromEntries(
    OWN_FIELDS.map((field) => [field, own[field]]).filter(([, value]) => value !== undefined),
  );
  const others = (containers ?? []).filter((one) => one.name !== CONTAINER_NAME);
  return {
    ...own,
    ...(rest as Partial<PodSpec>),
    ...kept,
    containers: [...own.containers, ...(others as unknown as readonly Container[])],
    volumes: byName(own.volumes ?? [], (volumes ?? []) as unknown as NonNullable<PodSpec["volumes"]>),
    tolerations: [...(own.tolerations ?? []), ...((tolerations ?? []) as readonly Toleration[])],
    securityContext: { ...own.securityContext, ...securityContext },
    ...((affinity ?? own.affinity) !== undefined && { affinity: affinity ?? own.affinity ?? {} }),
  };
}

export function mergeContainer(own: Container, given: GivenContainer | undefined): Container {
  if (given === undefined) return own;
  const theirs = given as unknown as Container;
  const { env = [], volumeMounts = [], ports = [], envFrom = [], securityContext, ...rest } = theirs;
  const paths = new Set((own.volumeMounts ?? []).map((mount) => mount.mountPath));
  const numbers = new Set((own.ports ?? []).map((port) => port.containerPort));
  return {
    ...rest,
    ...own,
    env: mergeEnvironment(own.env ?? [], env),
    envFrom: [...(own.envFrom ?? []), ...envFrom],
    volumeMounts: [...(own.volumeMounts ?? []), ...volumeMounts.filter((mount) => !paths.has(mount.mountPath))],
    ports: [...(own.ports ?? []), ...ports.filter((port) => !numbers.has(port.containerPort))],
    securityContext: { ...own.securityContext, ...securityContext },
  };
}

/** NODE_OPTIONS add up: the heap is ours, further flags are theirs. */
function mergeEnvironment(
  own: NonNullable<Container["env"]>,
  given: NonNullable<Container["env"]>,
): NonNullable<Container["env"]> {
  const options = given.find((one) => one.name === "NODE_OPTIONS")?.value;
  const merged = own.map((one) =>
    one.name === "NODE_OPTIONS" && options !== undefined
      ? { ...one, value: `${options} ${one.value ?? ""}`.trim() }
      : one,
  );
  return byName(merged, given);
}

function byName<T extends { readonly name: string }>(own: readonly T[], given: readonly T[]): readonly T[] {
  const names = new Set(own.map((one) => one.name));
  return [...own, ...given.filter((one) => !names.has(one.name))];
}
