// Where checkpoints and savepoints lie: in the job's own store, or in any other that a URI names.
//
// The log names a `_metadata` by its path in the job's store, or by a URI when it lies in another one. Of a foreign one the store is
// opened above its directory, so that the objects of all parts are below it, whatever they are relative to.
//
// Invariants:
//   LO1. A place says everything that is needed to read a checkpoint; nothing is looked for anywhere else.
//   LO2. What lies below the job's store is reached through it, however it was named.
//   LO3. Nothing is written above the directory that was named for savepoints: it may be a mounted volume, and what lies above it another
//        file system, or read-only.
//
// Not here: reading (recovery.ts), opening stores (the process shells).

import { assert, Failure } from "@sluice/kit";
import type { ObjectStore } from "@sluice/kit/env";
import { pathToFileURL } from "node:url";
import type { CheckpointMetadata } from "../model/index.ts";

/** Opens the store of a URI with what the process knows of endpoints and credentials. Rejects with CONFIG_*. */
export type StoreOpener = (uri: string) => Promise<ObjectStore>;

/** Store of a checkpoint and where in it. */
export interface CheckpointPlace {
  readonly store: ObjectStore;
  /** To open the store by; undefined: it is the job's own. */
  readonly storeUri: string | undefined;
  /** Of `_metadata`, in `store`. */
  readonly metadataPath: string;
}

const METADATA_NAME = "_metadata";
const CHECKPOINT_DIRECTORY = /\/chk-\d+$/u;
const OPEN_STORES_MAX = 16;

/** Finds what a user or a commit record names: a path in the job's store, a plain path of this machine, or a URI (LO2). */
export async function placeOf(
  name: string,
  options: { readonly store: ObjectStore | undefined; readonly openStore: StoreOpener },
): Promise<CheckpointPlace> {
  const { store, openStore } = options;
  const uri = name.startsWith("/") ? pathToFileURL(name).href : name;
  if (store !== undefined && !isUri(uri)) return { store, storeUri: undefined, metadataPath: withMetadata(uri) };
  const own = store === undefined ? undefined : pathBelow(store.uri, uri);
  if (store !== undefined && own !== undefined) return { store, storeUri: undefined, metadataPath: withMetadata(own) };
  const metadata = withMetadata(uri);
  const directory = parentOf(metadata);
  const above = parentOf(directory);
  // A checkpoint lies in the directory of its job, whose commit log is written (a pin) in the store around it. Anything else: LO3.
  const storeUri = (CHECKPOINT_DIRECTORY.test(directory) ? [parentOf(above), above] : [above]).find(isStoreUri);
  if (storeUri === undefined) {
    throw new Failure("CONFIG_INVALID", {
      retry: "never",
      message: `${name} does not name the directory of a checkpoint or savepoint`,
      remedy: "name a directory that holds a _metadata, for example s3://bucket/savepoints/savepoint-1a2b3c-4d5e6f",
    });
  }
  const path = metadata.slice(storeUri.length + 1);
  const metadataPath = storeUri.startsWith("file:") ? decodeURI(path) : path;
  return { store: await openStore(storeUri), storeUri, metadataPath };
}

/** A bucket, or a directory that is not the root of the file system. */
function isStoreUri(uri: string): boolean {
  return /^[a-z][a-z0-9+.-]*:\/\/.*[^/:]$/iu.test(uri);
}

/** `{namespace}/{job}`, safe as a path on every store: where a job's commit log and checkpoints lie. */
export function jobDirectory(namespace: string, jobName: string): string {
  return `${encodeURIComponent(namespace)}/${encodeURIComponent(jobName)}`;
}

/** What a commit record calls a `_metadata` in this place. */
export function recordedPath(place: CheckpointPlace): string {
  return place.storeUri === undefined ? place.metadataPath : uriOf(place.store, place.metadataPath);
}

/** URI of an object, as people and other programs name it. */
export function uriOf(store: Pick<ObjectStore, "uri">, path: string): string {
  const root = store.uri.replace(/\/+$/u, "");
  return `${root}/${root.startsWith("file:") ? encodeURI(path) : path}`;
}

/** Directory in the place's store that the objects of all parts are relative to; "" is the store's root. */
export function objectsDirectory(place: Pick<CheckpointPlace, "metadataPath">, metadata: CheckpointMetadata): string {
  const own = parentOf(place.metadataPath);
  return metadata.base === "self" ? own : parentOf(own);
}

/** What people call the directory of a `_metadata` that a commit record names. */
export function placeName(store: Pick<ObjectStore, "uri">, path: string): string {
  return (isUri(path) ? path : uriOf(store, path)).replace(/\/_metadata$/u, "");
}

/** Path of an object below a directory that `objectsDirectory` gave. */
export function joinPath(directory: string, object: string): string {
  return directory === "" ? object : `${directory}/${object}`;
}

/** Directory of a `_metadata`, with a slash at its end: all that a savepoint consists of lies below it. */
export function directoryOfMetadata(metadataPath: string): string {
  assert(metadataPath.endsWith(`/${METADATA_NAME}`), "a checkpoint has a directory of its own");
  return metadataPath.slice(0, -METADATA_NAME.length);
}

/** Opens every store once. */
export function cachedOpener(open: StoreOpener): StoreOpener {
  const opened = new Map<string, Promise<ObjectStore>>();
  return (uri) => {
    const known = opened.get(uri);
    if (known !== undefined) return known;
    if (opened.size >= OPEN_STORES_MAX) opened.clear();
    const opening = open(uri);
    opened.set(uri, opening);
    opening.catch(() => opened.delete(uri)); // the caller gets the rejection; the next one tries again
    return opening;
  };
}

function isUri(text: string): boolean {
  return /^[a-z][a-z0-9+.-]*:/iu.test(text);
}

/** Path in the store at `root`, or undefined for what does not lie below it. */
function pathBelow(root: string, uri: string): string | undefined {
  const prefix = `${root.replace(/\/+$/u, "")}/`;
  if (!uri.startsWith(prefix)) return undefined;
  const rest = uri.slice(prefix.length);
  return root.startsWith("file:") ? decodeURI(rest) : rest;
}

function withMetadata(path: string): string {
  const trimmed = path.replace(/\/+$/u, "");
  return trimmed.endsWith(`/${METADATA_NAME}`) ? trimmed : `${trimmed}/${METADATA_NAME}`;
}

function parentOf(path: string): string {
  const at = path.lastIndexOf("/");
  return at < 0 ? "" : path.slice(0, at);
}
