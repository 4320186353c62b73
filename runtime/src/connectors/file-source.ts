// Files as sources: text, NDJSON, CSV with a header, Parquet; once, or watching for new files.
//
// Invariants (tests cite them):
//   FS1. Splits cover every record of the input exactly once: byte ranges that begin and end between lines, or row groups.
//   FS2. The state is the list of unfinished splits with the position of the next record; a restore goes on exactly there.
//   FS3. A record that is not of the declared type never leaves the source: the job fails and names file and position, or
//        (`onError: "skip"`) the record is counted and goes to the dead letters, exactly once.
//   FS4. Input files do not change while a job reads them; one that became shorter is noticed.
//
// Not here: which files there are (file-discovery.ts), bytes to lines (line-reader.ts), Parquet (parquet-reader.ts), values to types (record-shape.ts).

import { assert, Failure } from "@sluice/kit";
import type {
  Barrier,
  CheckpointId,
  Collector,
  Counter,
  OperatorContext,
  OperatorState,
  RestoredOperatorState,
  SourceOperator,
  SourceStatus,
  SubtaskInfo,
  TypeDescriptor,
  TypeInformation,
} from "../model/index.ts";
import { Types } from "../model/index.ts";
import { optionInvalid, shareOf, subtaskRateLimit, type RateLimit, type Source } from "../operators/index.ts";
import { checkCsvType, csvParser } from "./csv.ts";
import { expandPaths, FileWatch, SOURCE_FILES } from "./file-discovery.ts";
import { planFiles, type FileFormat, type FileSplit } from "./file-splits.ts";
import { jsonState, jsonValues, SINK_PENDING, SOURCE_SPLITS } from "./json-state.ts";
import { LineReader } from "./line-reader.ts";
import { localFiles, type LocalFiles } from "./local-files.ts";
import { checkParquetType, ParquetReader } from "./parquet-reader.ts";
import { directoryOf, localPath } from "./paths.ts";
import { PendingFiles } from "./pending-files.ts";
import { jsonConverter, Malformed } from "./record-shape.ts";

export interface FileSourceOptions {
  /** Of the whole source, not of a subtask; undefined: as fast as it goes. */
  readonly ratePerSecond?: number;
  /** What a malformed record does: "fail" (default) the job, or "skip": it is counted and written to the dead letters. */
  readonly onError?: "fail" | "skip";
  /** Where skipped records go, as NDJSON lines {file, position, reason, text}; needed for `onError: "skip"`. */
  readonly deadLetterDirectory?: string;
  /** Text files are cut into splits of about this size. Default 16 MiB. */
  readonly splitBytes?: number;
  /**
   * Look for new files every so many milliseconds, for ever: the job does not end by itself. A file must be complete when it appears
   * under its name: write it under a name that begins with "." or "_", or elsewhere, then rename it. Flink: monitorContinuously.
   */
  readonly monitorContinuouslyMs?: number;
}

export interface CsvOptions extends FileSourceOptions {
  /** One character. Default ",". */
  readonly delimiter?: string;
  /**
   * Cells in quotes may contain line ends. Such a file cannot be cut between lines, so it is read by one subtask as a whole.
   * Default false: a line end ends the record, and a quote open at a line end makes it malformed.
   */
  readonly quotedNewlines?: boolean;
}

/**
 * One path or several; plain or as file:// URLs. A directory means all files below it; * ** ? [] {} make a pattern. Names that begin
 * with "." or "_" are left out of both.
 */
export type Paths = string | readonly string[];

const SPLIT_BYTES = 16 * 1_024 * 1_024;
/** Longest text of a malformed record in a failure's message, and in a dead letter. */
const SHOWN_CHARS = 120;
const LETTER_CHARS = 65_536;

interface Settings {
  readonly paths: readonly string[];
  readonly format: FileFormat;
  readonly type: TypeDescriptor;
  readonly options: FileSourceOptions;
  readonly files: LocalFiles;
}

/** Reads files once, from beginning to end; with `monitorContinuouslyMs` also those that appear later. Flink: FileSource. */
export class FileSource<T> implements Source<T> {
  readonly name = "file source";
  readonly type: TypeInformation<T>;
  readonly #settings: Settings;

  private constructor(type: TypeInformation<T>, settings: Settings) {
    this.type = type;
    this.#settings = settings;
  }

  /** One record per line, empty ones too. */
  static text(paths: Paths, options: FileSourceOptions = {}): FileSource<string> {
    return FileSource.#of(paths, Types.STRING(), { kind: "text" }, options);
  }

  /** One JSON value per line; empty lines are ignored. Members that a ROW type does not declare are dropped. */
  static ndjson<T>(paths: Paths, type: TypeInformation<T>, options: FileSourceOptions = {}): FileSource<T> {
    return FileSource.#of(paths, type, { kind: "ndjson" }, options);
  }

  /** CSV with a header line; columns are found by name, others are ignored. */
  static csv<T extends object>(paths: Paths, type: TypeInformation<T>, options: CsvOptions = {}): FileSource<T> {
    const { delimiter = ",", quotedNewlines = false } = options;
    if (delimiter.length !== 1 || /["\r\n]/.test(delimiter)) {
      throw optionInvalid(
        `FileSource.csv: delimiter is ${JSON.stringify(delimiter)}`,
        "give one character other than a quote or line end",
      );
    }
    checkCsvType(type.descriptor);
    return FileSource.#of(paths, type, { kind: "csv", delimiter, quotedNewlines }, options);
  }

  /** Parquet; columns are found by name, others are not read. */
  static parquet<T extends object>(
    paths: Paths,
    type: TypeInformation<T>,
    options: FileSourceOptions = {},
  ): FileSource<T> {
    checkParquetType(type.descriptor);
    return FileSource.#of(paths, type, { kind: "parquet" }, options);
  }

  static #of<T>(paths: Paths, type: TypeInformation<T>, format: FileFormat, options: FileSourceOptions): FileSource<T> {
    const list = typeof paths === "string" ? [paths] : paths;
    const { ratePerSecond, onError = "fail", deadLetterDirectory, splitBytes = SPLIT_BYTES } = options;
    if (list.length === 0) throw optionInvalid("FileSource: no paths", "name at least one file");
    if (ratePerSecond !== undefined && !(Number.isFinite(ratePerSecond) && ratePerSecond > 0)) {
      throw optionInvalid(`FileSource: ratePerSecond is ${ratePerSecond}`, "give a positive number, or leave it out");
    }
    if (!Number.isSafeInteger(splitBytes) || splitBytes < 1) {
      throw optionInvalid(
        `FileSource: splitBytes is ${splitBytes}`,
        "give a positive number of bytes, or leave it out",
      );
    }
    const { monitorContinuouslyMs: watchMs } = options;
    if (watchMs !== undefined && !(Number.isFinite(watchMs) && watchMs >= 1)) {
      throw optionInvalid(`FileSource: monitorContinuouslyMs is ${watchMs}`, "give milliseconds, or leave it out");
    }
    if ((onError === "skip") !== (deadLetterDirectory !== undefined)) {
      throw optionInvalid(
        onError === "skip"
          ? 'FileSource: onError "skip" without a deadLetterDirectory'
          : 'FileSource: deadLetterDirectory without onError: "skip"',
        "give both or neither: a skipped record is never just lost",
      );
    }
    return new FileSource(type, {
      paths: list.map(localPath),
      format,
      type: type.descriptor,
      options,
      files: localFiles,
    });
  }

  /** Of a source that watches: none, its subtasks discover everything themselves. */
  async enumerateSplits(): Promise<readonly FileSplit[]> {
    const { files, paths, options } = this.#settings;
    if (options.monitorContinuouslyMs !== undefined) return [];
    return await plan(this.#settings, expandPaths(files, paths, { mayBeNone: false }));
  }

  createOperator(options: { readonly splits: readonly unknown[]; readonly subtask: SubtaskInfo }): SourceOperator {
    const { splits, subtask } = options;
    return new FileSourceOperator(this.#settings, shareOf(splits as readonly FileSplit[], subtask), subtask);
  }
}

function plan({ files, format, type, options }: Settings, paths: readonly string[]): Promise<readonly FileSplit[]> {
  return planFiles({ files, paths, format, type, splitBytes: options.splitBytes ?? SPLIT_BYTES });
}

/** One split being read, as the operator sees it. */
interface RecordReader {
  readonly position: number;
  readonly takenPosition: number;
  advance(): "record" | "loading" | "ended";
  /** The current record. Throws Malformed. */
  parse(): unknown;
  rawText(): string;
  close(): void;
}

interface Progress {
  readonly split: FileSplit;
  position: number;
}

class FileSourceOperator implements SourceOperator {
  readonly #settings: Settings;
  readonly #subtask: SubtaskInfo;
  /** Unfinished splits, the current one first. */
  #progress: Progress[];
  #reader: RecordReader | undefined;
  #context!: OperatorContext;
  #output!: Collector<unknown>;
  #rate: RateLimit | undefined;
  #letters: PendingFiles | undefined;
  #watch: FileWatch | undefined;
  #skipped!: Counter;
  wakeAtMs = Number.POSITIVE_INFINITY;

  constructor(settings: Settings, splits: readonly FileSplit[], subtask: SubtaskInfo) {
    this.#settings = settings;
    this.#subtask = subtask;
    this.#progress = splits.map((split) => ({ split, position: split.start }));
  }

  open(context: OperatorContext, restored: RestoredOperatorState | undefined): void {
    const { options, files } = this.#settings;
    this.#context = context;
    this.#output = context.output;
    this.#skipped = context.metrics.counter("numRecordsSkipped");
    this.#rate = subtaskRateLimit({
      ratePerSecond: options.ratePerSecond,
      parallelism: this.#subtask.parallelism,
      nowMs: context.clock.nowMs(),
    });
    const stored = restored?.states.get(SOURCE_SPLITS);
    const begun = restored?.states.get(SOURCE_FILES);
    if (stored !== undefined) {
      const planned = begun === undefined ? [] : this.#notBegun(jsonValues<string>(begun));
      this.#progress = [...jsonValues<Progress>(stored), ...planned];
    }
    if (options.monitorContinuouslyMs !== undefined) {
      this.#watch = this.#newWatch(options.monitorContinuouslyMs);
      if (stored !== undefined && begun === undefined) throw wasBounded(this.#subtask);
      this.#watch.restore(begun);
    }
    if (options.deadLetterDirectory === undefined) {
      refusePendingLetters(restored, this.#subtask);
      return;
    }
    this.#letters = new PendingFiles({
      files,
      directory: directoryOf(options.deadLetterDirectory),
      extension: ".ndjson",
      header: "",
      subtask: { ...this.#subtask, uid: `${this.#subtask.uid}.dead-letter` },
      checkpointingEnabled: context.checkpointingEnabled,
    });
    this.#letters.open(restored);
  }

  poll(recordsMax: number): SourceStatus {
    let budget = recordsMax;
    if (this.#rate !== undefined && this.#progress.length > 0) {
      budget = this.#rate.available(this.#context.clock.nowMs(), recordsMax);
      if (budget === 0) {
        this.wakeAtMs = this.#rate.nextMs();
        return "idle";
      }
    }
    const granted = budget;
    let status: SourceStatus = "more";
    while (budget > 0) {
      const current = this.#progress[0] ?? this.#discover();
      if (current === undefined) {
        this.wakeAtMs = this.#watch?.nextMs ?? Number.POSITIVE_INFINITY;
        status = this.#watch === undefined ? "finished" : "idle";
        break;
      }
      const reader = (this.#reader ??= this.#open(current));
      const advanced = reader.advance();
      if (advanced === "record") {
        this.#take(reader);
        budget -= 1;
        continue;
      }
      if (advanced === "loading") {
        this.wakeAtMs = Number.POSITIVE_INFINITY;
        status = "idle";
        break;
      }
      reader.close();
      this.#reader = undefined;
      this.#progress.shift();
    }
    this.#rate?.take(granted - budget);
    return status;
  }

  snapshotState(barrier: Barrier): OperatorState | Promise<OperatorState> {
    const current = this.#progress[0];
    if (current !== undefined && this.#reader !== undefined) current.position = this.#reader.position;
    const state = new Map([[SOURCE_SPLITS, jsonState(this.#progress)]]);
    if (this.#watch !== undefined) state.set(SOURCE_FILES, this.#watch.snapshot());
    return this.#letters === undefined
      ? state
      : this.#letters.snapshot(barrier).then((pending) => state.set(SINK_PENDING, pending));
  }

  notifyCheckpointComplete(id: CheckpointId): void | Promise<void> {
    return this.#letters?.complete(id);
  }

  finish(): void {
    this.#letters?.finish();
  }

  async close(succeeded: boolean): Promise<void> {
    this.#reader?.close();
    this.#reader = undefined;
    await this.#letters?.close(succeeded);
  }

  /**
   * It watched when the state was stored, and is bounded now: of the planned splits those of files that nobody had begun. From its first
   * checkpoint on they are in the state like all others, and the list of files is not. A source that watches has no planned splits.
   */
  #notBegun(files: readonly string[]): readonly Progress[] {
    const begun = new Set(files);
    return this.#progress.filter(({ split }) => !begun.has(split.path));
  }

  #newWatch(intervalMs: number): FileWatch {
    const { files, paths } = this.#settings;
    return new FileWatch({
      subtask: this.#subtask,
      intervalMs,
      list: () => expandPaths(files, paths, { mayBeNone: true }),
      plan: (path) => plan(this.#settings, [path]),
      onChange: () => this.#context.wake(),
    });
  }

  /** The first split of a new file, if there is one; the others wait behind it. */
  #discover(): Progress | undefined {
    const fresh = this.#watch?.take(this.#context.clock.nowMs()) ?? [];
    for (const split of fresh) this.#progress.push({ split, position: split.start });
    return this.#progress[0];
  }

  #take(reader: RecordReader): void {
    let record: unknown;
    try {
      record = reader.parse();
    } catch (thrown) {
      this.#refuse(reader, thrown);
      return;
    }
    this.#output.collect(record);
  }

  /** FS3. */
  #refuse(reader: RecordReader, thrown: unknown): void {
    if (!(thrown instanceof Malformed)) throw thrown;
    const file = this.#progress[0]?.split.path ?? "";
    const position = reader.takenPosition;
    const reason = thrown.message;
    const text = reader.rawText();
    if (this.#letters !== undefined) {
      this.#skipped.inc();
      this.#letters.append(`${JSON.stringify({ file, position, reason, text: text.slice(0, LETTER_CHARS) })}\n`);
      return;
    }
    const unit = this.#settings.format.kind === "parquet" ? "row" : "byte";
    const shown = printable(text.length > SHOWN_CHARS ? `${text.slice(0, SHOWN_CHARS)}...` : text);
    throw new Failure("RECORD_MALFORMED", {
      retry: "never",
      message: `${file}, ${unit} ${position}: ${printable(reason)}; it begins: ${shown}`,
      remedy:
        'repair the file, declare another type, or let the source skip such records (onError: "skip" with a deadLetterDirectory)',
    });
  }

  #open(progress: Progress): RecordReader {
    const { files, type } = this.#settings;
    const { split, position } = progress;
    const onLoaded = (): void => this.#context.wake();
    if (split.unit === "rows") {
      checkParquetType(type);
      const reader = new ParquetReader({ files, path: split.path, type, position, endRow: split.end, onLoaded });
      return Object.assign(reader, { parse: () => reader.row() });
    }
    const { format } = this.#settings;
    const quotedNewlines = format.kind === "csv" && format.quotedNewlines;
    const keepsEmptyLines = format.kind === "text";
    const { path, end: endByte } = split;
    const reader = new LineReader({ files, path, position, endByte, quotedNewlines, keepsEmptyLines, onLoaded });
    const parse = this.#parser(split);
    return Object.assign(reader, { parse: () => parse(reader.text()) });
  }

  #parser(split: FileSplit): (text: string) => unknown {
    const { format, type } = this.#settings;
    if (format.kind === "csv") {
      checkCsvType(type);
      assert(split.header !== undefined, "a CSV split carries its header");
      return csvParser({ type, header: split.header, delimiter: format.delimiter });
    }
    if (format.kind === "text") return (text) => text;
    const convert = jsonConverter(type);
    return (text) => convert(parseJson(text));
  }
}

/** Which files a source that did not watch had read is not in its state: watching would read them again. */
function wasBounded({ operatorName, uid }: SubtaskInfo): Failure {
  return new Failure("STATE_INCOMPATIBLE", {
    retry: "never",
    message: `operator "${operatorName}" (uid ${uid}) did not watch for new files when its state was stored, so it is not known which files were read`,
    remedy: "give the watching source a uid of its own, and a directory that holds new files only",
  });
}

/** Dead letters that wait for publication were skipped for good: without their directory they would be lost silently. */
function refusePendingLetters(restored: RestoredOperatorState | undefined, subtask: SubtaskInfo): void {
  const pending = jsonValues<{ readonly files: readonly string[] }>(restored?.states.get(SINK_PENDING));
  const [file] = pending.flatMap(({ files }) => files);
  if (file === undefined) return;
  throw new Failure("STATE_INCOMPATIBLE", {
    retry: "never",
    message: `operator "${subtask.operatorName}" (uid ${subtask.uid}) has dead letters to publish (${file}), but no directory for them`,
    remedy:
      'keep onError: "skip" and the deadLetterDirectory until a checkpoint was taken after the last malformed record',
  });
}

/** Binary input must not reach a terminal: control characters as \\u00xx. */
function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (thrown) {
    throw new Malformed(`it is not JSON: ${(thrown as Error).message}`);
  }
}
