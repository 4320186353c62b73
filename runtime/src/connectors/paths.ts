// Paths that users give: plain, or as file:// URLs.

import { fileURLToPath } from "node:url";
import { optionInvalid } from "../operators/index.ts";

/** The local path of a path or file:// URL. Failure CONFIG_INVALID for any other scheme. */
export function localPath(text: string): string {
  if (text.startsWith("file:")) {
    try {
      return fileURLToPath(text);
    } catch {
      throw optionInvalid(`"${text}" is no valid file URL`, "write file:///absolute/path");
    }
  }
  if (/^[a-z][a-z0-9+.-]+:\/\//i.test(text)) {
    throw optionInvalid(
      `"${text}" is not on a local file system`,
      "use a path or a file:// URL: other stores are not implemented yet",
    );
  }
  return text;
}

/** The same without a trailing slash. */
export function directoryOf(text: string): string {
  const path = localPath(text);
  return path.length > 1 && path.endsWith("/") ? path.slice(0, -1) : path;
}
