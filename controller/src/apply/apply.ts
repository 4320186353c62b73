// Carries out actions, one by one, in their order.
//
// Invariants:
//   AP1. What is there already, is gone already, or is another object of that name by now (uid) counts as done: the same actions
//        are carried out again after a crash.
//   AP2. The first action that fails ends the pass: later ones may need it. Its outcome, if unknown, is looked for next time.
//   AP3. A secret is made here and goes nowhere else.
//
// Not here: which actions (decide), calling this again (reconcile.ts).

import { unreachable } from "@sluice/kit";

import type { Action, JobView } from "../decide/index.ts";
import {
  CONFIG_MAPS,
  isAlreadyExists,
  isApiError,
  isConflict,
  isNotFound,
  isRejected,
  keyOf,
  PODS,
  SECRETS,
  SERVICES,
} from "../kube/index.ts";
import type { KubeClient, KubeObject, Pod, ResourceType, Stored } from "../kube/index.ts";
import { attemptSecret, FINALIZER, secretsOf } from "../objects/index.ts";
import { cancelRequest, stopRequest, unpinRequest } from "../observe/index.ts";
import type { JobManagerApi, PodTrial } from "../observe/index.ts";
import { STREAM_JOBS } from "./stream-jobs.ts";
import type { StreamJobObject } from "./stream-jobs.ts";

export interface ApplyContext {
  readonly client: KubeClient;
  readonly jobManagers: JobManagerApi;
  /** The controller's key, of which the secrets of all attempts are derived. */
  readonly key: Uint8Array;
  readonly signal: AbortSignal;
  /** Told what came of a dry run. */
  readonly onTrial: (trial: PodTrial) => void;
}

/** Carries out one action; throws ApiError when the API server refused it or its outcome is unknown. */
export async function applyAction(
  context: ApplyContext,
  job: JobView,
  object: Stored<StreamJobObject>,
  action: Action,
): Promise<void> {
  const { client, jobManagers, signal } = context;
  const { namespace, name, uid } = job;
  switch (action.type) {
    case "addFinalizer":
      return finalizers(context, object, (old) => (old.includes(FINALIZER) ? old : [...old, FINALIZER]));
    case "removeFinalizer":
      return finalizers(context, object, (old) => old.filter((one) => one !== FINALIZER));
    case "applyService":
      await client.apply(SERVICES, nameOf(action.object), { ...action.object }, { signal });
      return;
    case "createConfigMap":
      return create(context, CONFIG_MAPS, action.object);
    case "createPod":
      return create(context, PODS, action.object);
    case "createSecret": {
      const secrets = secretsOf(context.key, { uid, attempt: action.attempt });
      return create(context, SECRETS, attemptSecret({ uid, namespace, name }, action.attempt, secrets)); // AP3
    }
    case "tryPods":
      context.onTrial({ opId: action.opId, refused: await tryPods(context, action.objects) });
      return;
    case "deletePod":
      return tolerant(() => client.delete(PODS, { namespace, name: action.name }, { uid: action.uid, signal }));
    case "deleteConfigMap":
      return tolerant(() => client.delete(CONFIG_MAPS, { namespace, name: action.name }, { signal }));
    case "deleteSecret":
      return tolerant(() => client.delete(SECRETS, { namespace, name: action.name }, { signal }));
    case "stopWithSavepoint":
      await jobManagers.request({ ...action, uid }, stopRequest(action.jobId, action.triggerId), signal);
      return;
    case "cancelJob":
      await jobManagers.request({ ...action, uid }, cancelRequest(action.jobId, action.operationId), signal);
      return;
    case "unpin":
      await jobManagers.request({ ...action, uid }, unpinRequest(action.jobId, action.operationId), signal);
      return;
    default:
      return unreachable(action);
  }
}

function nameOf(object: KubeObject): { readonly namespace?: string; readonly name: string } {
  const { namespace, name = "" } = object.metadata;
  return { name, ...(namespace !== undefined && { namespace }) };
}

/** The first pod that the API server would not take; throws when it cannot say. */
async function tryPods(context: ApplyContext, pods: readonly Pod[]): Promise<PodTrial["refused"]> {
  for (const pod of pods) {
    try {
      await context.client.tryCreate(PODS, pod, { signal: context.signal });
    } catch (thrown) {
      if (isAlreadyExists(thrown)) continue;
      if (!isApiError(thrown) || !isRejected(thrown)) throw thrown;
      const { status, message } = thrown;
      return { what: `Pod ${keyOf(pod)}`, status, message };
    }
  }
  return undefined;
}

async function create<T extends KubeObject>(context: ApplyContext, type: ResourceType<T>, object: T): Promise<void> {
  try {
    await context.client.create(type, object, { signal: context.signal });
  } catch (thrown) {
    if (!isAlreadyExists(thrown)) throw thrown; // AP1
  }
}

/** AP1: gone, or another object by now. */
async function tolerant(call: () => Promise<void>): Promise<void> {
  try {
    await call();
  } catch (thrown) {
    if (!isNotFound(thrown) && !isConflict(thrown)) throw thrown;
  }
}

/** By merge patch on the newest object: finalizers of others are not lost, and a conflict is met again next time. */
async function finalizers(
  context: ApplyContext,
  object: Stored<StreamJobObject>,
  change: (old: readonly string[]) => readonly string[],
): Promise<void> {
  const { client, signal } = context;
  const at = nameOf(object);
  const current = await client.find(STREAM_JOBS, at, { signal });
  if (current === undefined || current.metadata.uid !== object.metadata.uid) return; // gone
  const old = current.metadata.finalizers ?? [];
  const wanted = change(old);
  if (wanted.length === old.length) return;
  const { resourceVersion, uid } = current.metadata;
  try {
    await client.mergePatch(STREAM_JOBS, at, { metadata: { finalizers: wanted, resourceVersion, uid } }, { signal });
  } catch (thrown) {
    if (!isNotFound(thrown)) throw thrown; // gone meanwhile
  }
}
