// Lines of a byte range of a file, with one chunk read ahead.
//
// Invariants:
//   LR1. `position` is the byte offset behind the current record: reading from there goes on exactly.
//   LR2. Nothing blocks: when the next chunk is not there yet, `advance` says "loading" and `onLoaded` is called later.
//   LR3. Text is valid UTF-8, or the record is malformed.
//
// Not here: what a line means.

import { isUtf8 } from "node:buffer";
import { assert, Failure, toFailure } from "@sluice/kit";
import type { LocalFiles } from "./local-files.ts";
import { Malformed } from "./record-shape.ts";

const CHUNK_BYTES = 256 * 1_024;
/** Longest record; a longer one is taken for a damaged file. */
export const RECORD_BYTES_MAX = 16 * 1_024 * 1_024;

const NEWLINE = 10;
const CARRIAGE_RETURN = 13;
const QUOTE = 34;

interface Chunk {
  readonly bytes: Buffer;
  /** Byte offset of bytes[0] in the file. */
  readonly position: number;
  readonly validUtf8: boolean;
}

export interface LineReaderOptions {
  readonly files: LocalFiles;
  readonly path: string;
  readonly position: number;
  readonly endByte: number;
  /** Line ends inside double quotes belong to the record. */
  readonly quotedNewlines: boolean;
  /** An empty line is a record; default: it is none. */
  readonly keepsEmptyLines?: boolean;
  readonly onLoaded: () => void;
  /** For tests; default 256 KiB. */
  readonly chunkBytes?: number;
}

export class LineReader {
  readonly #options: LineReaderOptions;
  #descriptor: number | undefined;
  #chunk: Chunk | undefined;
  /** Read ahead, exactly behind the last whole line of the chunk. */
  #next: Chunk | undefined;
  #loading = false;
  #closed = false;
  #failure: Failure | undefined;
  #position: number;
  #taken: number;
  /** The current record within the chunk. */
  #from = 0;
  #to = 0;

  constructor(options: LineReaderOptions) {
    this.#options = options;
    this.#position = options.position;
    this.#taken = options.position;
    this.#load(this.#position, this.#chunkBytes);
  }

  /** LR1. */
  get position(): number {
    return this.#position;
  }

  /** Where the current record begins. */
  get takenPosition(): number {
    return this.#taken;
  }

  /** Makes the next record the current one, or says why there is none (LR2). Throws what reading threw. */
  advance(): "record" | "loading" | "ended" {
    if (this.#failure !== undefined) throw this.#failure;
    const { endByte } = this.#options;
    for (;;) {
      if (this.#position >= endByte) return "ended";
      const chunk = this.#chunk;
      if (chunk === undefined) return "loading";
      const from = this.#position - chunk.position;
      assert(from >= 0 && from <= chunk.bytes.length, "LR1: the position lies in the chunk");
      let end = this.#recordEnd(chunk.bytes, from);
      if (end < 0 && chunk.position + chunk.bytes.length < endByte) {
        this.#loadBehind(chunk);
        continue;
      }
      const next = end < 0 ? chunk.bytes.length : end + 1;
      if (end < 0) end = chunk.bytes.length;
      if (end > from && chunk.bytes[end - 1] === CARRIAGE_RETURN) end -= 1;
      this.#taken = this.#position;
      this.#position = chunk.position + next;
      if (end === from && this.#options.keepsEmptyLines !== true) continue; // an empty line is no record
      this.#from = from;
      this.#to = end;
      return "record";
    }
  }

  /** The current record's text. Throws Malformed when it is not UTF-8 (LR3). */
  text(): string {
    const { bytes, validUtf8 } = this.#chunk as Chunk;
    if (!validUtf8 && !isUtf8(bytes.subarray(this.#from, this.#to))) throw new Malformed("it is not UTF-8 text");
    return bytes.toString("utf8", this.#from, this.#to);
  }

  /** The current record as well as it can be shown. */
  rawText(): string {
    return (this.#chunk as Chunk).bytes.toString("utf8", this.#from, this.#to);
  }

  close(): void {
    this.#closed = true;
    if (this.#descriptor === undefined || this.#loading) return; // a read under way closes it when it is done
    this.#options.files.close(this.#descriptor);
    this.#descriptor = undefined;
  }

  get #chunkBytes(): number {
    return this.#options.chunkBytes ?? CHUNK_BYTES;
  }

  /** Index of the line end that ends the record at `from`; -1: not in these bytes. */
  #recordEnd(bytes: Buffer, from: number): number {
    let end = bytes.indexOf(NEWLINE, from);
    if (!this.#options.quotedNewlines) return end;
    let quotes = 0;
    for (let at = from; end >= 0; end = bytes.indexOf(NEWLINE, end + 1)) {
      for (; at < end; at += 1) if (bytes[at] === QUOTE) quotes += 1;
      if (quotes % 2 === 0) return end;
    }
    return -1;
  }

  /** The rest of the chunk holds no whole record: the next chunk begins at the position. */
  #loadBehind(chunk: Chunk): void {
    this.#chunk = undefined;
    if (this.#next !== undefined) {
      assert(this.#next.position === this.#position, "LR1: read ahead begins where the last whole line ends");
      this.#chunk = this.#next;
      this.#next = undefined;
      this.#readAhead();
      return;
    }
    if (this.#loading) return; // the chunk that is being read is the one that is needed
    const stuck = chunk.position === this.#position;
    if (stuck && chunk.bytes.length >= RECORD_BYTES_MAX) {
      throw new Failure("RECORD_MALFORMED", {
        retry: "never",
        message: `${this.#options.path}, byte ${this.#position}: a record is longer than ${RECORD_BYTES_MAX} bytes`,
        remedy: this.#options.quotedNewlines ? "look for a quote that is never closed" : "look for missing line ends",
      });
    }
    this.#load(this.#position, stuck ? chunk.bytes.length * 2 : this.#chunkBytes);
  }

  #readAhead(): void {
    const chunk = this.#chunk;
    if (chunk === undefined || this.#options.quotedNewlines) return;
    const position = chunk.position + chunk.bytes.lastIndexOf(NEWLINE) + 1;
    if (
      position > chunk.position &&
      position < this.#options.endByte &&
      chunk.position + chunk.bytes.length < this.#options.endByte
    ) {
      this.#load(position, this.#chunkBytes);
    }
  }

  #load(position: number, lengthBytes: number): void {
    assert(!this.#loading, "one read at a time");
    this.#loading = true;
    this.#read(position, Math.min(lengthBytes, this.#options.endByte - position))
      .then((chunk) => {
        if (this.#chunk === undefined) {
          this.#chunk = chunk;
          this.#loading = false;
          this.#readAhead();
        } else {
          this.#next = chunk;
          this.#loading = false;
        }
      })
      .catch((thrown: unknown) => {
        this.#loading = false;
        this.#failure = toFailure(thrown, "DISK_FAILED", this.#options.path);
      })
      .finally(() => {
        if (this.#closed) this.close();
        else this.#options.onLoaded();
      });
  }

  async #read(position: number, lengthBytes: number): Promise<Chunk> {
    const { files, path, endByte } = this.#options;
    this.#descriptor ??= await files.open(path);
    const bytes = await files.read(this.#descriptor, position, lengthBytes, path);
    if (bytes.length < lengthBytes) {
      throw new Failure("INPUT_NOT_FOUND", {
        retry: "never",
        message: `${path} ends at byte ${position + bytes.length}; it had at least ${endByte} when the job was planned`,
        remedy:
          "do not change input files while a job reads them; start the job again as a new lineage to read the new content",
      });
    }
    return { bytes, position, validUtf8: isUtf8(bytes) };
  }
}
