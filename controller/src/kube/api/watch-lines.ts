// The stream of a watch: JSON objects, one a line, cut into pieces anywhere, also within a character.
//
// Grammar: stream = { event "\n" }; event = {"type": ADDED | MODIFIED | DELETED | BOOKMARK | ERROR, "object": ...}
//
// Invariants:
//   WL1. However the stream is cut, the events are the same.
//   WL2. A line that is no event is an error, never skipped: what was in it would be missed.
//   WL3. A line longer than LINE_LENGTH_MAX is an error: memory is bounded. (etcd refuses objects above 1.5 MiB.)

import { ApiError } from "./api-error.ts";
import { apiErrorOfStatus } from "./http-request.ts";
import type { WatchEvent } from "./kube-api.ts";
import type { KubeObject, Stored } from "./objects.ts";

const LINE_LENGTH_MAX = 16 * 1024 * 1024;

export class WatchLines {
  readonly #decoder = new TextDecoder("utf-8", { fatal: true });
  #pieces: string[] = [];
  #length = 0;

  /** The events that are complete with this piece. Throws ApiError (WL2, WL3). */
  push(bytes: Uint8Array): WatchEvent[] {
    const events: WatchEvent[] = [];
    let text = this.#decode(bytes);
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n")) {
      const line = this.#pieces.join("") + text.slice(0, end);
      this.#pieces = [];
      this.#length = 0;
      text = text.slice(end + 1);
      if (line.trim() !== "") events.push(eventOf(line));
    }
    if (text !== "") this.#pieces.push(text);
    this.#length += text.length;
    if (this.#length > LINE_LENGTH_MAX) throw unreadable(`a line of more than ${LINE_LENGTH_MAX} characters`);
    return events;
  }

  #decode(bytes: Uint8Array): string {
    try {
      return this.#decoder.decode(bytes, { stream: true });
    } catch {
      throw unreadable("bytes that are not UTF-8");
    }
  }
}

function eventOf(line: string): WatchEvent {
  let parsed: { readonly type?: unknown; readonly object?: unknown };
  try {
    parsed = JSON.parse(line) as typeof parsed;
  } catch {
    throw unreadable("a line that is not JSON");
  }
  const { type, object } = parsed;
  if (type === "ERROR") return { type, error: apiErrorOfStatus(object) };
  const metadata = (object as Partial<KubeObject> | undefined)?.metadata;
  if (metadata?.resourceVersion === undefined) throw unreadable("an object without a version");
  if (type === "BOOKMARK") return { type, resourceVersion: metadata.resourceVersion };
  if (type === "ADDED" || type === "MODIFIED" || type === "DELETED")
    return { type, object: object as Stored<KubeObject> };
  throw unreadable(`an event of the unknown type ${String(type)}`);
}

function unreadable(what: string): ApiError {
  return new ApiError({ status: 0, reason: "Unreadable", message: `the watch sent ${what}`, outcome: "unknown" });
}
