// The store that a URI on the command line means, with its settings from -D and credentials from the environment.
//
// Not here: what is done with it (store.ts, snapshot commands).

import { existsSync, statSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";
import { resolve } from "node:path";

import { Failure } from "@sluice/kit";
import type { ObjectStore, StagedUploads } from "@sluice/kit/env";
import { openStore, openUploads } from "@sluice/runtime/internal/bin";
import { parseConfiguration, s3Settings } from "@sluice/runtime/internal/model";
import type { StoreConfig } from "@sluice/runtime/internal/model";

/** A plain path as its file URI; anything with a scheme as it is. */
export function uriOf(text: string): string {
  return /^[A-Za-z][A-Za-z0-9+.-]*:/.test(text) ? text.replace(/\/+$/, "") : pathToFileURL(resolve(text)).href;
}

/**
 * Opens the store at `uri` (a plain path means file://). `definitions` are those of -D: s3.endpoint and its like.
 * Failure CONFIG_INVALID when settings are missing, INPUT_NOT_FOUND when a local directory does not exist: a question about a
 * place that is not there must not be answered with "nothing".
 */
export async function openStoreAt(text: string, definitions: Readonly<Record<string, string>>): Promise<ObjectStore> {
  const uri = uriOf(text);
  if (uri.startsWith("file:")) {
    const path = fileURLToPath(uri);
    if (!existsSync(path) || !statSync(path).isDirectory()) {
      throw new Failure("INPUT_NOT_FOUND", {
        retry: "never",
        message: `there is no directory ${path}`,
        remedy: "Name the directory that sluice run printed as the place of its checkpoints, or one below it.",
      });
    }
  }
  return await openStore(storeConfig(uri, definitions));
}

/** Uploads in parts at the same place; undefined for a store that has none. */
export async function openUploadsAt(
  text: string,
  definitions: Readonly<Record<string, string>>,
): Promise<StagedUploads | undefined> {
  return await openUploads(storeConfig(uriOf(text), definitions));
}

function storeConfig(uri: string, definitions: Readonly<Record<string, string>>): StoreConfig {
  const configuration = parseConfiguration(
    Object.entries(definitions).map(([key, value]) => ({ key, value, origin: "command line" as const })),
  );
  return { uri, ...s3Settings(configuration) };
}
