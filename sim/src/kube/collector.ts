// Garbage collection by owner references, and of namespaces: what kube-controller-manager does for a real API server.
//
// Invariants:
//   GC1. An object whose owners are all gone is deleted, by its uid.
//   GC2. Foreground: the owner goes after the dependents that block it. Orphan: dependents lose the reference instead.
//   GC3. A namespace that is being deleted loses its objects, then goes.

import { NAMESPACES, isApiError } from "@sluice/controller/internal/kube";
import type { ResourceType } from "@sluice/controller/internal/kube";
import type { AnyObject, KubeState } from "./state.ts";

/** One pass; true when it changed something, so that another pass may find more. */
export function collectGarbage(state: KubeState): boolean {
  const before = state.version;
  const objects = state.everything();
  const byUid = new Map(objects.map(({ object }) => [object.metadata.uid, object]));
  for (const { type, object } of objects) {
    const owners = object.metadata.ownerReferences ?? [];
    if (owners.length > 0) {
      const living = owners.filter((owner) => byUid.has(owner.uid));
      const isLast = living.every((owner) => waitsForDependents(byUid.get(owner.uid)));
      if (isLast) remove(state, type, object); // GC1, and GC2: foreground
    }
    if (object.metadata.finalizers?.includes("foregroundDeletion") === true) {
      const blocked = objects.some(({ object: other }) =>
        other.metadata.ownerReferences?.some(
          (owner) => owner.uid === object.metadata.uid && owner.blockOwnerDeletion === true,
        ),
      );
      if (!blocked) dropFinalizer(state, type, object, "foregroundDeletion");
    }
    if (object.metadata.finalizers?.includes("orphan") === true) {
      for (const other of objects) abandon(state, other.type, other.object, object.metadata.uid);
      dropFinalizer(state, type, object, "orphan");
    }
  }
  for (const namespace of state.all(NAMESPACES)) {
    if (namespace.metadata.deletionTimestamp === undefined) continue;
    const inside = state.everything().filter(({ object }) => object.metadata.namespace === namespace.metadata.name);
    for (const { type, object } of inside) remove(state, type, object);
    if (inside.length === 0) dropFinalizer(state, NAMESPACES, namespace, "kubernetes"); // GC3
  }
  return state.version !== before;
}

function waitsForDependents(owner: AnyObject | undefined): boolean {
  return owner?.metadata.finalizers?.includes("foregroundDeletion") === true;
}

function remove(state: KubeState, type: ResourceType, object: AnyObject): void {
  if (object.metadata.deletionTimestamp !== undefined) return;
  quietly(() => state.execute({ verb: "delete", type, ...at(object), uid: object.metadata.uid }));
}

function dropFinalizer(state: KubeState, type: ResourceType, object: AnyObject, finalizer: string): void {
  quietly(() => {
    const finalizers = (object.metadata.finalizers ?? []).filter((name) => name !== finalizer);
    const body = { metadata: { finalizers: finalizers.length > 0 ? finalizers : null, uid: object.metadata.uid } };
    state.execute({ verb: "patch", type, ...at(object), patchType: "merge", body });
  });
}

function abandon(state: KubeState, type: ResourceType, object: AnyObject, ownerUid: string): void {
  const owners = object.metadata.ownerReferences ?? [];
  if (!owners.some((owner) => owner.uid === ownerUid)) return;
  const left = owners.filter((owner) => owner.uid !== ownerUid);
  const body = { metadata: { ownerReferences: left.length > 0 ? left : null, uid: object.metadata.uid } };
  quietly(() => state.execute({ verb: "patch", type, ...at(object), patchType: "merge", body }));
}

function at(object: AnyObject): { readonly namespace?: string; readonly name: string } {
  const { namespace, name } = object.metadata;
  return { name, ...(namespace !== undefined && { namespace }) };
}

/** Somebody else was faster: the next pass looks again. */
function quietly(run: () => unknown): void {
  try {
    run();
  } catch (thrown) {
    if (!isApiError(thrown)) throw thrown;
  }
}
