// What readers of the file sink's directory see: published files, never those that begin with a dot.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Names of published files; empty while the directory does not exist. */
export function publishedFiles(directory: string): readonly string[] {
  try {
    return readdirSync(directory)
      .filter((name) => name.startsWith("part-"))
      .toSorted();
  } catch {
    return []; // no task has opened the sink yet
  }
}

/** Contents of all published files. */
export function publishedText(directory: string): string {
  return publishedFiles(directory)
    .map((name) => readFileSync(join(directory, name), "utf8"))
    .join("");
}
